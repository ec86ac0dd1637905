# The hostile function in Python: runs what the event says and returns the lines that it said.
import subprocess

# As it was when this was loaded: before the first call, with nobody waiting for an answer.
AT_LOAD = open("/proc/self/status").read()
kept = []


def handler(event, context):
    if "text" in event:
        scope = dict(globals(), said=[], context=context)
        scope["arguments"] = dict(a.split("=", 1) for a in event["arguments"])
        exec(event["text"], scope)
        return scope["said"]
    # With the frame socket, which a careless function could hand down.
    program = subprocess.Popen(
        ["/var/task/attack", event["c"], *event["arguments"]],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        pass_fds=[3],
    )
    kept.append(program)
    said = []
    for line in program.stdout:
        if line == b".\n":
            return said
        said.append(line.decode().rstrip("\n"))
    return said + ["ended: %d" % program.wait()]
