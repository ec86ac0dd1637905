import errno
import socket
import time


def ask(kind, address, port, line):
    if kind == "udp":
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.settimeout(2)
            s.connect((address, port))
            s.send(line.encode())
            return s.recv(100).decode().strip()
    with socket.create_connection((address, port), timeout=2) as s:
        s.settimeout(60)
        s.sendall(line.encode() + b"\n")
        if line.startswith("put"):
            s.sendall(b"x" * int(line.split()[1]))
        answer = b""
        while part := s.recv(1 << 16):
            answer += part
        return str(len(answer)) if line.startswith("get") else answer.decode().strip()


def handler(event, context):
    op = event["op"]
    if op == "read":
        return open(event["path"]).read()
    if op == "own":
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.connect(("9.9.9.9", 9))
            return s.getsockname()[0]
    if op == "raw":
        try:
            socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        except PermissionError:
            return "refused"
        return "opened"
    if op == "ipv6":
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as s:
            s.connect((event["address"], 53))
            s.send(b"who")
            return "sent"
    begun = time.monotonic()
    try:
        said = ask(op, event["address"], event["port"], event.get("line", "who"))
    except OSError as e:
        said = "error " + (errno.errorcode.get(e.errno) or type(e).__name__)
    return [said, time.monotonic() - begun]
