"""A machine on a network: ADDRESSES (separated by commas, "-" for none) and ports, every one by TCP and UDP.

A client sends a line: "who" is answered with the address it reached, "get N" with N bytes, "put N" with a line once N bytes came.
With addresses, it first waits for the interface eth1 and gives it them.
"""
import socket
import subprocess
import sys
import threading
import time


def serve(connection):
    with connection:
        file = connection.makefile("rwb")
        command, _, number = file.readline().decode().strip().partition(" ")
        if command == "get":
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
            _, sender = bound.recvfrom(2048)
            bound.sendto(address.encode() + b"\n", sender)
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
