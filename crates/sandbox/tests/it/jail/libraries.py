# What Python and its own libraries ask of the kernel, each answered by True or by what went wrong.
import asyncio
import concurrent.futures
import ctypes
import fcntl
import getpass
import hashlib
import http.client
import http.server
import mmap
import multiprocessing
import multiprocessing.shared_memory
import os
import select
import shutil
import signal
import socket
import sqlite3
import ssl
import subprocess
import tempfile
import threading
import time
import zoneinfo


def square(n):
    return n * n


def threads():
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        return list(pool.map(square, range(20)))[-1] == 361


def programs():
    done = subprocess.run(["sh", "-c", "read x; echo $x; exit 3"], input=b"x\n", capture_output=True)
    return (done.stdout, done.returncode) == (b"x\n", 3) and os.system("true") == 0


def forked_pool():
    with multiprocessing.get_context("fork").Pool(2) as pool:
        return pool.map(square, range(5)) == [0, 1, 4, 9, 16]


def queue_between_processes():
    context = multiprocessing.get_context("fork")
    queue, lock = context.Queue(), context.Lock()
    with lock:
        child = context.Process(target=queue.put, args=(7,))
        child.start()
        told = queue.get(timeout=20)
    child.join()
    return told == 7


def shared_memory():
    memory = multiprocessing.shared_memory.SharedMemory(create=True, size=4096)
    child = os.fork()
    if child == 0:
        memory.buf[0] = 9
        os._exit(0)
    os.waitpid(child, 0)
    told = memory.buf[0]
    memory.close()
    memory.unlink()
    return told == 9


def server_and_client():
    server = http.server.HTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    client = http.client.HTTPConnection("localhost", server.server_port)
    client.request("GET", "/nothing-here")
    told = client.getresponse().status
    server.shutdown()
    return told == 404


def loop():
    async def run():
        server = await asyncio.start_server(lambda r, w: w.close(), "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        reader, _ = await asyncio.open_connection("127.0.0.1", port)
        child = await asyncio.create_subprocess_exec("sh", "-c", "exit 4")
        return await reader.read() == b"" and await child.wait() == 4

    return asyncio.run(run())


def certificates():
    context = ssl.create_default_context()
    there = any(os.scandir("/etc/ssl/certs")) or context.cert_store_stats()["x509_ca"] > 0
    return there and hashlib.scrypt(b"a", salt=b"b", n=2, r=1, p=1) != b""


def database():
    with sqlite3.connect("/tmp/db") as db:
        db.execute("pragma journal_mode=wal")
        db.execute("create table t (n)")
        db.execute("insert into t values (1)")
        return db.execute("select count(*) from t").fetchone() == (1,)


def files():
    with tempfile.TemporaryDirectory() as folder:
        a, b = os.path.join(folder, "a"), os.path.join(folder, "b")
        with open(a, "w") as f:
            f.write("x" * 100)
            fcntl.flock(f, fcntl.LOCK_EX)
            fcntl.lockf(f, fcntl.LOCK_EX)
            os.posix_fallocate(f.fileno(), 0, 1000)
            os.fsync(f.fileno())
        shutil.copy2(a, b)
        shutil.copytree(folder, "/tmp/tree")
        os.mkfifo(os.path.join(folder, "pipe"))
        os.truncate(b, 10)
        with tempfile.TemporaryFile() as unnamed, mmap.mmap(-1, 4096) as area:
            unnamed.write(b"x")
            area[0] = 1
        with open("/tmp/tree/b") as f, open("/dev/null", "w") as nowhere:
            shutil.copyfileobj(f, nowhere)
        return os.path.getsize(b) == 10 and len(os.listdir("/tmp/tree")) == 2


def readiness():
    ours, theirs = socket.socketpair()
    poll = select.epoll()
    poll.register(ours, select.EPOLLIN)
    theirs.send(b"x")
    return poll.poll(5)[0][0] == ours.fileno() and select.select([ours], [], [], 5)[0] == [ours]


def alarms():
    rang = threading.Event()
    previous = signal.signal(signal.SIGALRM, lambda *_: rang.set())
    signal.setitimer(signal.ITIMER_REAL, 0.01)
    end = time.monotonic() + 5
    while not rang.is_set() and time.monotonic() < end:
        time.sleep(0.01)
    signal.signal(signal.SIGALRM, previous)
    return rang.is_set()


def memory_file():
    fd = os.memfd_create("x")
    os.write(fd, b"#!/bin/sh\nexit 5\n")
    return os.fstat(fd).st_size == 17


CHECKS = {
    "threads": threads,
    "programs": programs,
    "a pool of forked processes": forked_pool,
    "a queue and a lock between processes": queue_between_processes,
    "shared memory": shared_memory,
    "a server and a client on loopback": server_and_client,
    "an event loop with a child": loop,
    "certificates": certificates,
    "a database": database,
    "files": files,
    "readiness": readiness,
    "alarms": alarms,
    "a file in memory": memory_file,
    "a call into C": lambda: ctypes.CDLL(None).getpid() == os.getpid(),
    "processors": lambda: (os.cpu_count() or 0) > 0 and len(os.sched_getaffinity(0)) > 0,
    "the user": lambda: getpass.getuser() == "sbx_user",
    "names": lambda: socket.getaddrinfo("localhost", 80) != [],
    "time zones": lambda: zoneinfo.ZoneInfo("Europe/Zurich").key == "Europe/Zurich",
}


def handler(event, context):
    told = {}
    for what, check in CHECKS.items():
        try:
            told[what] = check()
        except Exception as e:
            told[what] = repr(e)
    return told
