# What the process was allowed when its code was loaded, and what it is now: the same.
WANTED = ["NoNewPrivs", "CapEff", "CapBnd", "CapPrm", "Seccomp"]
for when, status in [("at load", AT_LOAD), ("now", open("/proc/self/status").read())]:
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    said.extend("%s %s: %s" % (name, when, fields[name].strip()) for name in WANTED)
