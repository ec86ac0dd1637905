# Names of what belongs to others.
import os
import socket


def names(what, found):
    said.append("%s: %s" % (what, " ".join(sorted(found)) or "none"))


def lines(path):
    try:
        with open(path) as f:
            return f.read().splitlines()[1:]
    except OSError:
        return []


# 1 watches over it, 2 is this process; the list itself is read by nobody else.
names("processes of others", {p for p in os.listdir("/proc") if p.isdigit()} - {"1", str(os.getpid())})
names("host name", [socket.gethostname()])
names("shared memory", os.listdir("/dev/shm"))
names("shared memory by number", lines("/proc/sysvipc/shm"))
names("abstract sockets", [line for line in lines("/proc/net/unix") if "@" in line])
names("interfaces", [name for _, name in socket.if_nameindex()])
with open("/proc/self/mountinfo") as f:
    points = {line.split()[4] for line in f}
names("mounts of the host", [p for p in points if p.startswith(("/home", "/sys", "/run", "/boot", "/mnt", "/host"))])
