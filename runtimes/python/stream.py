"""Answers in pieces: what an iterator or an asynchronous one gives goes out as it comes. Loaded when a handler first returns one.

Each write is one packet and blocks while the caller reads slower than the function writes. An asynchronous iterator's event loop goes on meanwhile; it is
the same in all calls of the process, for what functions keep of one belongs to it.
"""

HEADER_BYTES = 8
STREAM_START = 22
CHUNK = 23
# A piece at most.
PIECE_BYTES = 65536

loop = None


class Pieces:
    """Where the pieces of one answer go."""

    def __init__(self, request_id, send, encode, packet_bytes):
        self.request_id = request_id
        self.send = send
        self.encode = encode
        self.most = packet_bytes - HEADER_BYTES - len(request_id)
        self.started = False

    def start(self, prelude):
        """Begins the answer, unless it has begun."""
        if self.started:
            return
        body = self.encode(prelude)
        if len(body) > self.most:
            raise ValueError("what stands before the pieces has %d bytes: too many" % len(body))
        self.started = True
        self.send(STREAM_START, self.request_id, body)

    def put(self, item):
        """Sends what the iterator gave: status and headers if it came first and is a dictionary, else bytes or text."""
        if isinstance(item, dict) and not self.started:
            self.start(item)
            return
        if isinstance(item, str):
            item = item.encode()
        elif not isinstance(item, (bytes, bytearray, memoryview)):
            raise TypeError("a piece of an answer is bytes or str, not %s" % type(item).__name__)
        self.start({})
        view = memoryview(item).cast("B")
        for at in range(0, len(view), PIECE_BYTES):
            self.send(CHUNK, self.request_id, view[at : at + PIECE_BYTES], most=2 * PIECE_BYTES)


def run(answer, pieces):
    """Sends all that the iterator gives. Raises what it raises."""
    if hasattr(type(answer), "__anext__"):
        run_async(answer, pieces)
    else:
        try:
            for item in answer:
                pieces.put(item)
        finally:
            close = getattr(answer, "close", None)
            if close is not None:
                close()
    pieces.start({})


def run_async(answer, pieces):
    """The same for an asynchronous iterator."""
    global loop
    import asyncio

    async def drive():
        try:
            async for item in answer:
                await loop.run_in_executor(None, pieces.put, item)
        finally:
            close = getattr(answer, "aclose", None)
            if close is not None:
                await close()

    if loop is None or loop.is_closed():
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
    loop.run_until_complete(drive())
