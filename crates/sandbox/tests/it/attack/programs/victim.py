# The other function: has secrets in every place there is, and says how it is.
import os
import socket
import subprocess
import sys

TOKEN = os.environ["TOKEN"]
held = TOKEN.encode() * 4
PLACES = ["/tmp/secret", "/dev/shm/secret"]
calls = 0
for place in PLACES:
    with open(place, "w") as f:
        f.write(TOKEN)
doors = [socket.socket(socket.AF_UNIX), socket.socket(socket.AF_INET)]
doors[0].bind("\0" + os.environ["DOOR"])
doors[1].bind(("127.0.0.1", 0))
for door in doors:
    door.listen()
    door.setblocking(False)
child = subprocess.Popen([sys.executable, "-I", "-S", "-c", "import time; time.sleep(9999)", TOKEN])


def needs():
    program = subprocess.Popen(["/var/task/attack", "well"], stdout=subprocess.PIPE)
    said = []
    for line in program.stdout:
        if line == b".\n":
            break
        said.append(line.decode().strip())
    program.kill()
    program.wait()
    return said


def visits():
    count = 0
    for door in doors:
        try:
            door.accept()
            count += 1
        except BlockingIOError:
            pass
    return count


def handler(event, context):
    global calls
    if event != "well":
        scope = {"said": [], "arguments": dict(a.split("=", 1) for a in event["arguments"])}
        exec(event["text"], scope)
        return scope["said"]
    calls += 1
    return {
        "calls": calls,
        "kept": [open(place).read() == TOKEN for place in [*PLACES, "/opt/secret"]],
        "layer": open("/opt/shared").read(),
        "child": child.poll() is None,
        "visits": visits(),
        "needs": needs(),
    }
