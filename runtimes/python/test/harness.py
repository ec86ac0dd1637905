"""Starts the bootstrap as the daemon does, over a socket pair on file descriptor 3."""

import json
import os
import pathlib
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import textwrap
import time
import uuid

BOOTSTRAP = pathlib.Path(__file__).resolve().parent.parent / "bootstrap.py"
INIT, INVOKE, HELLO, READY, INIT_ERROR, RESPONSE, ERROR = 1, 2, 16, 17, 18, 19, 20
STREAM_START, CHUNK, STREAM_END = 22, 23, 24
# Nothing in these tests takes longer unless it hangs.
PATIENCE_SECONDS = 20


class Ended(Exception):
    """The process closed the socket."""


def frame(kind, payload):
    """The bytes of one frame."""
    return struct.pack("<IB3x", len(payload), kind) + payload


def invoke(request_id, deadline_ms, extra, event):
    """The payload of an INVOKE frame."""
    return request_id.encode() + struct.pack("<QI", deadline_ms, len(extra)) + extra + event


class Instance:
    """One process with code in a fresh task root; `files` are name → content. `ahead`: started without the function and its variables."""

    def __init__(self, files, handler="app.handler", env=None, ahead=False):
        self.folder = tempfile.TemporaryDirectory(prefix="bootstrap-test-")
        self.root = self.folder.name
        for name, content in files.items():
            path = pathlib.Path(self.root, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(textwrap.dedent(content).encode() if isinstance(content, str) else content)
        ours, theirs = socket.socketpair()
        ours.settimeout(PATIENCE_SECONDS)
        self.socket = ours

        def place():
            if theirs.fileno() == 3:
                os.set_inheritable(3, True)
            else:
                os.dup2(theirs.fileno(), 3)

        # The interpreter itself: a shim on the PATH would cost more than the test.
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-B", str(BOOTSTRAP), *(["ahead"] if ahead else [])],
            cwd="/" if ahead else self.root,
            env={} if ahead else env or {},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            close_fds=False,
            preexec_fn=place,
        )
        theirs.close()
        function = {
            "name": "hello",
            "version": "$LATEST",
            "arn": "arn:aws:lambda:local:000000000000:function:hello",
            "memory_mb": 128,
            "log_group": "/aws/lambda/hello",
            "log_stream": "stream-1",
        }
        init = {"handler": handler, "task_root": self.root, "function": function}
        if ahead:
            init["environment"] = ["%s=%s" % pair for pair in (env or {}).items()]
        self.send_frame(INIT, json.dumps(init).encode())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def send_frame(self, kind, payload):
        self.socket.sendall(frame(kind, payload))

    def receive_exactly(self, count):
        data = bytearray()
        while len(data) < count:
            try:
                more = self.socket.recv(count - len(data))
            except ConnectionResetError:
                more = b""
            if not more:
                raise Ended
            data += more
        return bytes(data)

    def next(self):
        """The next frame: kind and payload."""
        length, kind = struct.unpack("<IB3x", self.receive_exactly(8))
        return kind, self.receive_exactly(length)

    def ready(self):
        """Waits until the code is loaded; returns the error if it could not be."""
        kind, payload = self.next()
        assert (kind, payload) == (HELLO, b""), (kind, payload)
        kind, payload = self.next()
        if kind == INIT_ERROR:
            return json.loads(payload)
        assert (kind, payload) == (READY, b""), (kind, payload)
        return None

    def send(self, event=b"{}", request_id=None, deadline_ms=None, extra=b""):
        request_id = request_id or str(uuid.uuid4())
        deadline_ms = int(time.time() * 1000) + 3000 if deadline_ms is None else deadline_ms
        self.send_frame(INVOKE, invoke(request_id, deadline_ms, extra, event))
        return request_id

    def call_raw(self, event=b"{}", **options):
        """One call; the kind and the bytes of the answer."""
        request_id = self.send(event, **options)
        kind, payload = self.next()
        assert payload[:36].decode() == request_id
        self.told = struct.unpack("<3I", payload[36:48])
        return kind, payload[48:]

    def value(self, event=b"{}", **options):
        """The answer of a call that must succeed."""
        kind, body = self.call_raw(event, **options)
        assert kind == RESPONSE, body
        return json.loads(body)

    def error(self, event=b"{}", **options):
        """The error of a call that must fail."""
        kind, body = self.call_raw(event, **options)
        assert kind == ERROR, body
        return json.loads(body)

    def stream(self, event=b"{}"):
        """One call that is answered in pieces: what stands before them, they, and the error behind them or `None`."""
        request_id = self.send(event)
        prelude, pieces = None, []
        while True:
            kind, payload = self.next()
            assert payload[:36].decode() == request_id, payload
            if kind == STREAM_END:
                assert len(payload) == 48, payload
                return prelude, pieces, None
            if kind == ERROR:
                return prelude, pieces, json.loads(payload[48:])
            if prelude is None:
                assert kind == STREAM_START, (kind, payload)
                prelude = json.loads(payload[36:])
            else:
                assert kind == CHUNK and 36 < len(payload) <= 65536 + 36, (kind, len(payload))
                pieces.append(payload[36:])

    def exit_code(self):
        """Waits for the end of a process that ends by itself."""
        return self.process.wait(PATIENCE_SECONDS)

    def stop(self):
        """Closes the socket; returns exit code, standard output and standard error."""
        if self.folder is None:
            return None
        self.socket.close()
        try:
            out, err = self.process.communicate(timeout=PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGKILL)
            raise
        self.folder.cleanup()
        self.folder = None
        return self.process.returncode, out.decode(), err.decode()


def started(code, **options):
    """An instance of one file with a `handler`, loaded."""
    instance = Instance({"app.py": code}, **options)
    error = instance.ready()
    assert error is None, error
    return instance
