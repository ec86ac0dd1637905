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


def tricks(address, port):
    """Ways around an address filter that need no rights; names of those that got an answer."""
    def answered(level, option, value):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.settimeout(0.5)
            try:
                s.setsockopt(level, option, value)
                s.sendto(b"who", (address, port))
                return s.recv(100)
            except OSError:
                return None
    # Loose source routes (RFC 791): to a public address, and from there on; and the other way round.
    def by(hop, to):
        return bytes([131, 11, 4]) + socket.inet_aton(hop) + socket.inet_aton(to) + b"\0"
    ways = {
        "device lo": (socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo"),
        "device eth0": (socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0"),
        "source route": (socket.IPPROTO_IP, socket.IP_OPTIONS, by("93.184.216.34", address)),
        "no route": (socket.SOL_SOCKET, socket.SO_DONTROUTE, 1),
        "foreign source": (socket.IPPROTO_IP, 15, 1),
        "mark": (socket.SOL_SOCKET, 36, 1),
    }
    return [name for name, way in ways.items() if answered(*way)]


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
    if op == "flood":
        sent = 0
        for _ in range(event["count"]):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
                try:
                    s.sendto(b"who", (event["address"], event["port"]))
                    sent += 1
                except OSError:
                    pass
        return sent
    if op == "tricks":
        return tricks(event["address"], event["port"])
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
