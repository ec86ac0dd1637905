# The daemon's environment: what of it was handed down, and what would tell it.
import os

OWN = {"PATH", "LANG", "TZ", "HOME", "LD_LIBRARY_PATH", "PYTHONPATH", "NODE_PATH", "_HANDLER", "LD_PRELOAD"}
handed = [n for n in os.environ if n not in OWN and not n.startswith(("AWS_", "LAMBDA_", "_X_AMZN_", "HANSHU_"))]
said.append("variables of the daemon: %s" % (" ".join(handed) or "none"))
tell = []
for pid in {"1", arguments["daemon"], str(os.getppid())}:
    for name in ["environ", "auxv", "mem", "cmdline"]:
        # The first process shows a command line to nobody but itself: an empty one.
        try:
            if open("/proc/%s/%s" % (pid, name), "rb").read(1) and name != "cmdline":
                tell.append(pid + " " + name)
        except OSError:
            pass
said.append("files that tell them: %s" % (" ".join(tell) or "none"))
