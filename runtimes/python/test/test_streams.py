"""Answers in pieces."""

import unittest

import harness
from harness import started

HALF_WAY = """
calls = 0
def handler(event, context):
    global calls
    calls += 1
    yield "a"
    if calls == 1:
        raise KeyError("half-way")
"""


class Streams(unittest.TestCase):
    def stream(self, body, before="", event=b"{}"):
        code = "%s\ndef handler(event, context):\n    %s\n" % (before, body)
        with started(code) as instance:
            first = instance.stream(event)
            self.assertEqual(instance.stream(event), first)
            self.assertIsNone(first[2])
            return first[0], b"".join(first[1])

    def test_generators(self):
        self.assertEqual(self.stream("yield 'a'; yield b'b'; yield bytearray(b'c'); yield memoryview(b'd')"), ({}, b"abcd"))
        self.assertEqual(self.stream("yield from ()"), ({}, b""))
        self.assertEqual(self.stream("yield event['text']", event='{"text": "naïve 函数"}'.encode()), ({}, "naïve 函数".encode()))
        self.assertEqual(self.stream("yield ''; yield b''"), ({}, b""))

    def test_what_stands_before_the_pieces(self):
        prelude = {"statusCode": 201, "headers": {"x-a": "b"}, "cookies": ["c=d"]}
        self.assertEqual(self.stream("yield %r; yield 'x'" % prelude), (prelude, b"x"))
        self.assertEqual(self.stream("yield %r" % prelude), (prelude, b""))

    def test_any_iterator(self):
        self.assertEqual(self.stream("return (str(n) for n in range(3))"), ({}, b"012"))
        self.assertEqual(self.stream("return map(str, [1, 2])"), ({}, b"12"))
        self.assertEqual(self.stream("return open(__file__, 'rb')")[1][:4], b"\ndef")

    def test_asynchronous_generators(self):
        before = """
import asyncio
loops = set()
async def pieces():
    loops.add(asyncio.get_running_loop())
    yield {"statusCode": 202}
    for n in range(3):
        await asyncio.sleep(0.001)
        yield str(n)
    yield str(len(loops))
"""
        self.assertEqual(self.stream("return pieces()", before), ({"statusCode": 202}, b"0121"))

    def test_the_event_loop_goes_on_while_nobody_reads(self):
        code = """
import asyncio
async def tick(ticks):
    while True:
        await asyncio.sleep(0.001)
        ticks.append(1)
async def handler(event, context):
    ticks = []
    ticking = asyncio.ensure_future(tick(ticks))
    yield bytes(4_000_000)
    yield "!" if ticks else "?"
    ticking.cancel()
"""
        with started(code) as instance:
            instance.send()
            import time

            time.sleep(0.3)
            last = b""
            while True:
                kind, payload = instance.next()
                if kind == harness.STREAM_END:
                    break
                last = payload[36:]
            self.assertEqual(last, b"!")

    def test_large_pieces_are_cut_into_packets(self):
        prelude, body = self.stream("yield 'a' * 200_000; yield b'b' * (65536 - 44); yield 'c'")
        self.assertEqual(body, b"a" * 200_000 + b"b" * (65536 - 44) + b"c")

    def test_an_error_before_the_first_piece_is_an_error_of_the_call(self):
        with started("def handler(event, context):\n    raise KeyError('early')\n    yield 1") as instance:
            error = instance.error()
            self.assertEqual((error["errorType"], error["errorMessage"]), ("KeyError", "'early'"))
            self.assertEqual(len(error["stackTrace"]), 1, "the frames of the runtime are not the function's")

    def test_an_error_behind_it_cuts_the_answer_and_the_process_goes_on(self):
        with started(HALF_WAY) as instance:
            prelude, pieces, error = instance.stream()
            self.assertEqual((prelude, pieces, error["errorType"]), ({}, [b"a"], "KeyError"))
            self.assertEqual(instance.stream(), ({}, [b"a"], None))

    def test_what_is_no_piece_is_an_error(self):
        for item, kind in (("1", "TypeError"), ("None", "TypeError"), ("{1}", "TypeError"), ("{'a': 'x' * 70000}", "ValueError")):
            with started("def handler(event, context):\n    yield %s" % item) as instance:
                self.assertEqual(instance.error()["errorType"], kind, item)
        with started("def handler(event, context):\n    yield 'a'\n    yield {}") as instance:
            self.assertEqual(instance.stream()[2]["errorType"], "TypeError")

    def test_a_generator_is_closed(self):
        code = """
def handler(event, context):
    try:
        yield "a"
        yield 1
    finally:
        print("closed")
"""
        instance = started(code)
        self.assertEqual(instance.stream()[2]["errorType"], "TypeError")
        self.assertIn("closed", instance.stop()[1])

    def test_a_module_of_the_function_may_have_the_same_name(self):
        with harness.Instance({"app.py": "import stream\ndef handler(e, c): yield stream.text", "stream.py": "text = 'mine'"}) as instance:
            self.assertIsNone(instance.ready())
            self.assertEqual(instance.stream(), ({}, [b"mine"], None))


if __name__ == "__main__":
    unittest.main()
