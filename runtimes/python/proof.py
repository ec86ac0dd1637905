"""What the daemon asks the first process of each class, before it gives one to a function."""


def prove(event, context):
    """Says what a function would find."""
    import os

    def writes(path):
        try:
            with open(path, "w"):
                return True
        except OSError:
            return False

    tmp = os.statvfs("/tmp")
    seen = {"broken": broken()} if event.get("thoroughly") else {}
    return seen | {
        "variable": os.environ.get(event["variable"]),
        "folder": os.getcwd(),
        "code": os.path.exists("proof.py"),
        "layers": len(os.listdir("/opt")),
        "written": any(writes(path) for path in ("/var/task/x", "/opt/x")),
        "tmp_bytes": tmp.f_blocks * tmp.f_frsize,
    }


def broken():
    """Tries what a copy of a process may have lost; returns name and error of what does not work."""
    found = []
    for name, trial in (
        ("threads", threads),
        ("processes", processes),
        ("event loop", event_loop),
        ("signals", signals),
        ("TLS", tls),
        ("collector", collector),
        ("files", files),
        ("descriptors", descriptors),
    ):
        try:
            trial()
        except BaseException as e:
            found.append("%s: %r" % (name, e))
    return found


def threads():
    import queue
    import threading
    from concurrent.futures import ThreadPoolExecutor

    assert threading.active_count() == 1 and threading.current_thread() is threading.main_thread()
    assert threading.main_thread().native_id == threading.get_native_id()
    got = queue.Queue()
    helper = threading.Thread(target=lambda: got.put(sum(range(1000))))
    helper.start()
    assert got.get(timeout=5) == 499500
    helper.join(5)
    assert not helper.is_alive()
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda n: n * n, range(50)))[-1] == 2401
    timer = threading.Event()
    threading.Timer(0.01, timer.set).start()
    assert timer.wait(5)


def processes():
    import os
    import subprocess

    assert os.getpid() == 2 and os.getppid() == 1
    ran = subprocess.run(["/bin/sh", "-c", "echo $PPID; exit 3"], capture_output=True, timeout=5)
    assert (ran.stdout, ran.returncode) == (b"2\n", 3), ran
    child = os.fork()
    if child == 0:
        os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


def event_loop():
    import asyncio

    async def both():
        done = await asyncio.gather(asyncio.sleep(0.01, 1), asyncio.to_thread(lambda: 2))
        process = await asyncio.create_subprocess_exec("/bin/sh", "-c", "true")
        return done, await process.wait()

    assert asyncio.run(both()) == ([1, 2], 0)


def signals():
    import os
    import signal

    got = []
    before = signal.signal(signal.SIGUSR1, lambda number, frame: got.append(number))
    os.kill(os.getpid(), signal.SIGUSR1)
    signal.signal(signal.SIGUSR1, before)
    assert got == [signal.SIGUSR1]
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == set()


def tls():
    import ssl

    context = ssl.create_default_context()
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
    try:
        client.do_handshake()
    except ssl.SSLWantReadError:
        pass
    assert outgoing.read()[:1] == b"\x16"


def collector():
    import gc

    for _ in range(50_000):
        ring = []
        ring.append(ring)
    del ring
    assert gc.collect() >= 0
    assert len([{"a": n} for n in range(100_000)]) == 100_000


def files():
    import tempfile

    with tempfile.TemporaryFile() as file:
        file.write(b"x")
        file.seek(0)
        assert file.read() == b"x"


def descriptors():
    import os

    # The last is the folder's that is read.
    assert sorted(map(int, os.listdir("/proc/self/fd"))) == [0, 1, 2, 3, 4]
    shared = [line for line in open("/proc/self/maps") if line.split()[1][3] == "s"]
    assert shared == [], shared
