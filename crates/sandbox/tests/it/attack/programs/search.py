# Looks for secrets wherever a process can look, and says where it found which. Says nothing if it found nothing.
import os
import re
import stat

SECRET = re.compile(arguments["prefix"].encode() + rb"[0-9a-f-]{36}")
# The system's own, thousands of files that are everybody's.
PUBLIC = re.compile(r"/(proc|sys|usr|lib|lib32|lib64|bin|sbin|var/runtime)(/|$)")
LARGEST = 64 << 20


def look(where, data):
    found = SECRET.search(data)
    if found:
        said.append("%s: %s" % (where, found.group().decode()))


def read(path, limit=1 << 20):
    try:
        # Pipes and sockets would wait.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as f:
            return f.read(limit) or b""
    except OSError:
        return b""


def files(top):
    for folder, folders, names in os.walk(top):
        folders[:] = [f for f in folders if not PUBLIC.match(os.path.join(folder, f))]
        for name in names:
            path = os.path.join(folder, name)
            try:
                regular = stat.S_ISREG(os.stat(path).st_mode)
            except OSError:
                continue
            if regular:
                look(path, read(path))


def memory(pid):
    try:
        with open("/proc/%s/maps" % pid) as maps, open("/proc/%s/mem" % pid, "rb", 0) as mem:
            for line in maps:
                where, rights = line.split()[:2]
                first, last = (int(n, 16) for n in where.split("-"))
                if "r" not in rights or last - first > LARGEST:
                    continue
                try:
                    mem.seek(first)
                    look("memory of %s" % pid, mem.read(last - first))
                except (OSError, OverflowError, ValueError):
                    pass
    except OSError:
        pass


secret = arguments["folder"].lstrip("/")
pids = [pid for pid in os.listdir("/proc") if pid.isdigit()]
for pid in pids + [arguments["daemon"]]:
    proc = "/proc/" + pid
    look("environment of " + pid, read(proc + "/environ"))
    look("command line of " + pid, read(proc + "/cmdline"))
    for root in ["root", "cwd", "task/%s/root" % pid, "root/../../..", "cwd/../../.."]:
        for guess in ["tmp/secret", "dev/shm/secret", secret + "/daemon secret"]:
            look("%s of %s" % (root, pid), read("%s/%s/%s" % (proc, root, guess)))
    try:
        descriptors = os.listdir(proc + "/fd")
    except OSError:
        descriptors = []
    for fd in descriptors:
        try:
            target = os.readlink("%s/fd/%s" % (proc, fd))
        except OSError:
            continue
        # The own ones are this program's: a read would take from the runtime.
        if target.startswith("/") and not target.startswith("/dev/"):
            look("descriptor %s of %s" % (fd, pid), read("%s/fd/%s" % (proc, fd)))
            look("folder above descriptor %s of %s" % (fd, pid), read("%s/fd/%s/../daemon secret" % (proc, fd)))
    memory(pid)
files("/")
# Wherever a name may lead that is not listed.
for base in ["", "/var/task/../../..", "/proc/self/cwd/../../../..", "/dev/fd/../../root/..", "//", "/tmp/../.."]:
    look("a guess below %s" % base, read("%s/%s/daemon secret" % (base, secret)))
for kind in ["shm", "sem", "msg"]:
    look("old shared memory", read("/proc/sysvipc/" + kind))
look("mounts", read("/proc/self/mountinfo"))
look("sockets", read("/proc/net/unix"))
