"""A machine on a network: ADDRESSES (separated by commas, "-" for none) and ports, every one by TCP and UDP.

A client sends a line: "who" is answered with the address it reached, "get N" with N bytes, "put N" with a line once N bytes came. A request of HTTP
is answered by its path: "/who", "/redirect" (to the host's loopback), "/drip" (slowly), "/endless" (a body), "/fields" (header fields) and
"/silence" have no end. Questions to a name server are answered from NAMES; "moves.test" is another address each time.
With addresses, it first waits for the interface eth1 and gives it them.
"""
import contextlib
import itertools
import socket
import subprocess
import sys
import threading
import time


NAMES = {
    "internet.test": ["93.184.216.34"],
    "loopback.test": ["127.0.0.1"],
    "metadata.test": ["169.254.169.254"],
    "both.test": ["127.0.0.1", "10.1.2.3", "93.184.216.34"],
}
moves = itertools.cycle(["93.184.216.34", "127.0.0.1"])


def http(connection, file, path):
    while file.readline().strip():
        pass
    head = b"HTTP/1.1 200 OK\r\n"
    if path == "/redirect":
        file.write(b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:9000/who\r\ncontent-length: 0\r\n\r\n")
    elif path == "/drip":
        file.write(head + b"\r\n")
        while True:
            file.write(b".")
            file.flush()
            time.sleep(0.05)
    elif path == "/endless":
        file.write(head + b"\r\n")
        while True:
            file.write(b"e" * 65536)
    elif path == "/fields":
        file.write(head)
        while True:
            file.write(b"x-field: " + b"f" * 1000 + b"\r\n")
    elif path == "/silence":
        time.sleep(3600)
    else:
        body = connection.getsockname()[0].encode()
        file.write(head + b"content-length: %d\r\n\r\n" % len(body) + body)


def named(question):
    """The answer of a name server; None if that was no question."""
    if len(question) < 17 or question[2:12] != bytes([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]):
        return None
    labels, at = [], 12
    while question[at]:
        labels.append(question[at + 1:at + 1 + question[at]].decode())
        at += 1 + question[at]
    name = ".".join(labels).lower()
    addresses = [next(moves)] if name == "moves.test" else NAMES.get(name, [])
    code = 0x80 if addresses else 0x83
    answer = question[:2] + bytes([0x81, code, 0, 1, 0, len(addresses), 0, 0, 0, 0]) + question[12:]
    for address in addresses:
        answer += bytes([0xC0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4]) + socket.inet_aton(address)
    return answer


def serve(connection):
    with connection, contextlib.suppress(OSError, UnicodeDecodeError):
        file = connection.makefile("rwb")
        line = file.readline().decode().strip()
        command, _, number = line.partition(" ")
        if line.endswith("HTTP/1.1"):
            http(connection, file, line.split(" ")[1])
        elif command == "get":
            file.write(b"x" * int(number))
        elif command == "put":
            left = int(number)
            while left > 0:
                left -= len(file.read(min(left, 65536))) or left
            file.write(b"done\n")
        else:
            file.write(connection.getsockname()[0].encode() + b"\n")
        file.flush()


def tcp(port):
    listener = socket.create_server(("0.0.0.0", port))
    def accept():
        while True:
            threading.Thread(target=serve, args=[listener.accept()[0]], daemon=True).start()
    threading.Thread(target=accept, daemon=True).start()


def udp(address, port):
    # One socket for each address: an answer has to come from where the question went.
    bound = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    bound.bind((address, port))
    def answer():
        while True:
            said, sender = bound.recvfrom(2048)
            bound.sendto(named(said) or address.encode() + b"\n", sender)
    threading.Thread(target=answer, daemon=True).start()


def main(addresses, *ports):
    addresses = [] if addresses == "-" else addresses.split(",")
    if addresses:
        while subprocess.run(["ip", "link", "show", "eth1"], capture_output=True).returncode:
            time.sleep(0.02)
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        for address in addresses:
            subprocess.run(["ip", "address", "add", address, "dev", "eth1"], check=True)
        subprocess.run(["ip", "link", "set", "eth1", "up"], check=True)
    for port in map(int, ports):
        tcp(port)
        for address in addresses:
            udp(address.split("/")[0], port)
    print("ready", flush=True)
    sys.stdin.read()


main(*sys.argv[1:])
