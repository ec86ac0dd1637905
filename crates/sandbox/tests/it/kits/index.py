# The contract suite's handler (model::suites::sandbox): does what the event says.
import os
import socket
import subprocess
import sys
import threading
import time

served = 0
longest = 0
kept = []

INNER = "import time; print('up', flush=True); time.sleep(9999)"
OUTER = """
import subprocess, sys, time
c = subprocess.Popen([sys.executable, '-I', '-S', '-c', %r, sys.argv[1]], stdout=subprocess.PIPE, start_new_session=True)
c.stdout.readline()
print('up', flush=True)
time.sleep(9999)
""" % INNER


def forever():
    while True:
        time.sleep(1)


def count(e):
    global served
    served += 1
    return served


def throw(e):
    raise ValueError(e["text"])


def flood(e):
    line = b"x" * 1023 + b"\n"
    for _ in range(e["bytes"] // len(line)):
        at = 0
        while at < len(line):
            at += os.write(1, line[at:])
    return e["bytes"]


def busy(e):
    while True:
        pass


def children(e):
    c = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", OUTER, e["marker"]],
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    c.stdout.readline()
    return 2 if e.get("then") == "return" else forever()


def forks(e):
    while True:
        try:
            os.fork()
        except OSError:
            pass


def signal(e):
    os.kill(os.getpid(), e["signal"])
    forever()


def memory(e):
    while True:
        kept.append(bytearray(b"x") * (1 << 20))


def connect(e):
    with socket.create_connection(("127.0.0.1", e["port"]), timeout=5):
        return "connected"


def write(e):
    with open(e["path"], "w") as f:
        f.write(e["text"])


def read(e):
    with open(e["path"]) as f:
        return f.read()


def tick(e):
    global longest
    longest = 0

    def look(last):
        global longest
        while True:
            time.sleep(0.001)
            now = time.time()
            longest, last = max(longest, now - last), now

    threading.Thread(target=look, args=[time.time()], daemon=True).start()


def pause(e):
    # The look that comes after a pause may be due still.
    time.sleep(0.02)
    return int(longest * 1000)


OPS = {
    "echo": lambda e: e["value"],
    "count": count,
    "throw": throw,
    "print": lambda e: print(e["text"]),
    "flood": flood,
    "big": lambda e: "z" * e["bytes"],
    "unserialisable": lambda e: object(),
    "busy": busy,
    "never": lambda e: forever(),
    "children": children,
    "forks": forks,
    "exit": lambda e: os._exit(e["code"]),
    "signal": signal,
    "memory": memory,
    "connect": connect,
    "write": write,
    "read": read,
    "list": lambda e: os.listdir(e["path"]),
    "import": lambda e: __import__(e["name"]).text,
    "environment": lambda e: dict(os.environ),
    "tick": tick,
    "pause": pause,
}


def handler(event, context):
    return OPS[event["op"]](event)
