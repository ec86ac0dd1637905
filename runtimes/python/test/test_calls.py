"""Calls: what a handler is given, how it may answer and how it may fail."""

import json
import time
import unittest

import harness
from harness import Ended, started

# The longest payload of a frame.
FRAME_BYTES = 6 * 1024 * 1024 + 64 * 1024


class Answers(unittest.TestCase):
    def answer(self, expression, event=b"{}", before=""):
        code = f"{before}\ndef handler(event, context):\n    return {expression}\n"
        with started(code) as instance:
            # Twice: the first call must leave everything in order for the second.
            first = instance.call_raw(event)
            self.assertEqual(instance.call_raw(event), first)
            self.assertEqual(first[0], harness.RESPONSE, first[1])
            return first[1].decode()

    def test_values(self):
        self.assertEqual(self.answer("{'a': [1, 2.5, None, True]}"), '{"a": [1, 2.5, null, true]}')
        self.assertEqual(self.answer("event['n'] + 1", b' {"n": 1}\n'), "2")
        self.assertEqual(self.answer("None"), "null")
        self.assertEqual(self.answer("(1, 'x')"), '[1, "x"]')
        self.assertEqual(self.answer("{1: 2, None: 3, True: 4}"), '{"1": 4, "null": 3}')

    def test_text_stays_as_it_is(self):
        self.assertEqual(self.answer("'naïve 函数 🎉'"), '"naïve 函数 🎉"')
        self.assertEqual(self.answer("event", '"\\ud83c\\udf89 \\u0000"'.encode()), '"🎉 \\u0000"')
        # Half a surrogate pair has no UTF-8.
        self.assertEqual(self.answer("'\\ud800é'"), '"\\ud800\\u00e9"')

    def test_decimals_are_numbers(self):
        before = "from decimal import Decimal"
        values = "[Decimal('1'), Decimal('1.5'), Decimal(12345678901234567890), {'d': Decimal('-0.25')}]"
        self.assertEqual(self.answer(values, before=before), '[1, 1.5, 12345678901234567890, {"d": -0.25}]')

    def test_bytes_pass_if_they_are_json(self):
        self.assertEqual(self.answer("b'{\"a\":1}'"), '{"a":1}')

    def test_an_empty_event_means_an_empty_object(self):
        self.assertEqual(self.answer("event", b""), "{}")
        self.assertEqual(self.answer("event", b"null"), "null")

    def test_large_events_and_answers(self):
        with started("def handler(event, context):\n    return event") as instance:
            for size in (65536 - 58, 65536, 70_000, 1 << 20, 6 * 1024 * 1024 - 2):
                self.assertEqual(len(instance.value(json.dumps("x" * size).encode())), size)
            self.assertEqual(instance.value(b'"small again"'), "small again")

    def test_an_answer_over_the_limit_is_announced_as_it_is(self):
        with started("def handler(event, context):\n    return 'x' * 7340032") as instance:
            kind, body = instance.call_raw()
            self.assertEqual((kind, len(body)), (harness.RESPONSE, 7340032 + 2))

    def test_state_stays(self):
        with started("n = 0\ndef handler(e, c):\n    global n\n    n += 1\n    return n") as instance:
            self.assertEqual([instance.value() for _ in range(3)], [1, 2, 3])

    def test_not_a_number_is_read_but_never_sent(self):
        self.assertEqual(self.answer("[str(n) for n in event]", b"[NaN, Infinity, -Infinity]"), '["nan", "inf", "-inf"]')

    def test_half_surrogates_are_escaped_wherever_they_are(self):
        self.assertEqual(self.answer("{'\\udfff': ['é', '\\ud800']}"), '{"\\udfff": ["\\u00e9", "\\ud800"]}')

    def test_nesting_as_deep_as_the_interpreter_reads(self):
        self.assertEqual(self.answer("event", b"[" * 500 + b"]" * 500), "[" * 500 + "]" * 500)

    def test_threads_go_on_between_calls(self):
        code = """
            import threading, time
            n = 0
            def count():
                global n
                while True:
                    time.sleep(0.001)
                    n += 1
            def handler(event, context):
                if event == 'start':
                    threading.Thread(target=count).start()
                return n
        """
        with started(code) as instance:
            before = instance.value(b'"start"')
            time.sleep(0.1)
            self.assertGreater(instance.value(), before)

    def test_an_exception_in_a_thread_is_said_and_does_no_harm(self):
        code = """
            import threading
            def fail():
                raise ValueError('in a thread')
            def handler(event, context):
                thread = threading.Thread(target=fail)
                thread.start()
                thread.join()
                return 'ok'
        """
        with started(code) as instance:
            self.assertEqual([instance.value(), instance.value()], ["ok", "ok"])
            self.assertIn("ValueError: in a thread", instance.stop()[2])

    def test_callables_of_all_kinds(self):
        code = """
            class Handler:
                def __call__(self, event, context):
                    return 'called'
            handler = Handler()
        """
        with started(code) as instance:
            self.assertEqual(instance.value(), "called")


class Context(unittest.TestCase):
    NAMES = (
        "function_name function_version invoked_function_arn memory_limit_in_mb aws_request_id "
        "log_group_name log_stream_name"
    ).split()

    def test_attributes(self):
        code = """
            import os
            def handler(event, context):
                client = context.client_context
                return {
                    **{name: getattr(context, name) for name in %r},
                    'identity': [context.identity.cognito_identity_id, context.identity.cognito_identity_pool_id],
                    'client': client and [client.custom, client.env, client.client.app_title, client.client.installation_id],
                    'trace': os.environ.get('_X_AMZN_TRACE_ID'),
                    'remaining': context.get_remaining_time_in_millis(),
                    'repr': repr(context),
                }
        """ % (self.NAMES,)
        with started(code) as instance:
            request_id = "0192f5a0-0000-7000-8000-00000000000a"
            client = json.dumps({"custom": {"a": 1}, "client": {"app_title": "t"}})
            extra = json.dumps({"trace": "Root=1", "client_context": client, "hops": 2}).encode()
            got = instance.value(request_id=request_id, extra=extra)
            self.assertEqual(
                [got[name] for name in self.NAMES],
                [
                    "hello",
                    "$LATEST",
                    "arn:aws:lambda:local:000000000000:function:hello",
                    "128",
                    request_id,
                    "/aws/lambda/hello",
                    "stream-1",
                ],
            )
            self.assertEqual(got["identity"], [None, None])
            self.assertEqual(got["client"], [{"a": 1}, None, "t", None])
            self.assertEqual(got["trace"], "Root=1")
            self.assertTrue(1000 < got["remaining"] <= 3000, got["remaining"])
            self.assertIn("aws_request_id=" + request_id, got["repr"])
            got = instance.value(deadline_ms=5)
            self.assertEqual((got["client"], got["trace"], got["remaining"]), (None, None, 0))

    def test_a_call_may_have_a_name_of_its_own(self):
        code = "def handler(event, context):\n    return [context.invoked_function_arn, repr(context)]"
        fixed = "arn:aws:lambda:local:000000000000:function:hello"
        with started(code) as instance:
            for extra, arn in [({"arn": fixed + ":live"}, fixed + ":live"), ({"hops": 1}, fixed), ({}, fixed)]:
                got, shown = instance.value(extra=json.dumps(extra).encode())
                self.assertEqual(got, arn)
                self.assertIn("invoked_function_arn=%s," % arn, shown)

    def test_the_remaining_time_falls(self):
        code = """
            import time
            def handler(event, context):
                first = context.get_remaining_time_in_millis()
                time.sleep(0.05)
                return [first, context.get_remaining_time_in_millis()]
        """
        with started(code) as instance:
            first, second = instance.value()
            self.assertTrue(0 < second <= first - 49, (first, second))

    def test_log_writes_to_standard_output_as_it_stands(self):
        with started("def handler(event, context):\n    context.log('a é')\n    context.log(1)") as instance:
            instance.value()
            self.assertEqual(instance.stop()[1], "a é1")

    def test_a_broken_client_context(self):
        with started("def handler(event, context):\n    return 1") as instance:
            error = instance.error(extra=b'{"client_context": "{"}')
            self.assertEqual(error["errorType"], "Runtime.LambdaContextUnmarshalError")
            self.assertEqual(instance.value(), 1)


class Failures(unittest.TestCase):
    def failure(self, statement, event=b"{}", before=""):
        code = f"{before}\ndef handler(event, context):\n    if event == 'ok': return 'ok'\n    {statement}\n"
        with started(code) as instance:
            request_id = "0192f5a0-0000-7000-8000-00000000000b"
            error = instance.error(event, request_id=request_id)
            self.assertEqual(list(error), ["errorMessage", "errorType", "requestId", "stackTrace"])
            self.assertEqual(error["requestId"], request_id)
            self.assertEqual(instance.value(b'"ok"'), "ok")
            return error

    def assert_failure(self, kind, message, statement, **options):
        error = self.failure(statement, **options)
        self.assertEqual((error["errorType"], error["errorMessage"]), (kind, message))

    def test_exceptions(self):
        self.assert_failure("ValueError", "boom", "raise ValueError('boom')")
        self.assert_failure("KeyError", "'absent'", "event['absent']")
        self.assert_failure("ZeroDivisionError", "division by zero", "1 / 0")
        self.assert_failure("Own", "", "raise Own", before="class Own(Exception): pass")
        self.assert_failure("StopIteration", "", "next(iter(()))")
        self.assert_failure("KeyboardInterrupt", "", "raise KeyboardInterrupt")
        self.assert_failure("Own", "base", "raise Own('base')", before="class Own(BaseException): pass")
        self.assert_failure("ValueError", "é 🎉", "raise ValueError('é 🎉')")
        shy = "class Shy(Exception):\n    def __str__(self): raise RuntimeError"
        self.assert_failure("Shy", "an error that cannot be shown", "raise Shy", before=shy)

    def test_the_trace_shows_the_function_and_not_the_bootstrap(self):
        error = self.failure("deep()", before="def deep():\n    raise ValueError('x')")
        handler, deep = error["stackTrace"]
        self.assertRegex(handler, r'^  File ".*/app\.py", line 5, in handler\n    deep\(\)\n')
        self.assertRegex(deep, r'^  File ".*/app\.py", line 2, in deep\n')

    def test_an_error_has_the_name_of_its_class_whatever_the_class_says(self):
        sly = """
class Meta(type):
    __name__ = property(lambda cls: 1 / 0)
class Sly(Exception, metaclass=Meta): pass
"""
        self.assert_failure("Sly", "", "raise Sly", before=sly)
        self.assert_failure("ValueError", "\ud800", "raise ValueError('\\ud800')")

    def test_endless_recursion(self):
        error = self.failure("again()", before="def again():\n    again()")
        self.assertEqual(error["errorType"], "RecursionError")
        self.assertLessEqual(len(error["stackTrace"]), 200)

    def test_huge_errors_are_cut(self):
        error = self.failure("raise ValueError('x' * 20_000_000)")
        self.assertLess(len(error["errorMessage"]), 1_000_000)
        # The longest form of everything: two escapes a character, in every line of the longest trace.
        # Two functions in turn, for the lines of one would be shown once.
        long = " # " + "🎉" * 5000
        again = f"def again(n):\n    other(n - 1) if n else fail(){long}\ndef other(n):\n    again(n - 1){long}"
        fail = "def fail(): raise type('🎉' * 100_000, (Exception,), {})('\\ud800' + '🎉' * 1_000_000)"
        code = f"{again}\n{fail}\ndef handler(event, context):\n    again(300)\n"
        with started(code) as instance:
            kind, body = instance.call_raw()
        self.assertEqual(kind, harness.ERROR)
        self.assertLess(len(body), FRAME_BYTES - 36)
        self.assertIn(b'"stackTrace": ["', body)

    def test_answers_that_are_no_json(self):
        for expression, message in [
            ("{1, 2}", "Object of type set is not JSON serializable"),
            ("[b'{}']", "Object of type bytes is not JSON serializable"),
            ("bytearray(b'{}')", "Object of type bytearray is not JSON serializable"),
            ("__import__('datetime').date(2000, 1, 1)", "Object of type date is not JSON serializable"),
            ("[object()]", "Object of type object is not JSON serializable"),
            ("{(1, 2): 3}", "keys must be str, int, float, bool or None, not tuple"),
            ("float('nan')", "Out of range float values are not JSON compliant"),
            ("float('inf')", "Out of range float values are not JSON compliant"),
            ("__import__('decimal').Decimal('NaN')", "Out of range float values are not JSON compliant"),
        ]:
            error = self.failure("return " + expression)
            self.assertEqual(error["errorType"], "Runtime.MarshalError", expression)
            self.assertTrue(error["errorMessage"].startswith("Unable to marshal response: " + message), error)
        for circular in ("a = []; a.append(a)", "a = {}; a['a'] = [a]"):
            error = self.failure(circular + "; return a")
            self.assertEqual(error["errorType"], "Runtime.MarshalError")
            self.assertIn("Circular reference", error["errorMessage"])
        error = self.failure("a = []\n    for _ in range(200_000): a = [a]\n    return a")
        self.assertEqual(error["errorType"], "Runtime.MarshalError")
        for answer in ("b'{'", "b'\\xff'"):
            self.assertEqual(self.failure("return " + answer)["errorType"], "Runtime.MarshalError")
        self.assertEqual(self.failure("return later()", before="async def later(): pass")["errorType"], "Runtime.MarshalError")

    def test_events_that_are_no_json(self):
        for event in (b'{"a":', b"{} x", b"\xff", b"{'a': 1}", b"[" * 100_000):
            error = self.failure("return event", event=event)
            self.assertEqual(error["errorType"], "Runtime.UnmarshalError", event[:20])
            self.assertTrue(error["errorMessage"].startswith("Unable to unmarshal input: "), error)


class Exits(unittest.TestCase):
    def exit_code(self, statement, before=""):
        with started(f"{before}\ndef handler(event, context):\n    {statement}\n") as instance:
            with self.assertRaises(Ended):
                instance.call_raw()
            return instance.exit_code()

    def test_codes_are_the_functions_own(self):
        self.assertEqual(self.exit_code("sys.exit(3)", "import sys"), 3)
        self.assertEqual(self.exit_code("exit(4)"), 4)
        self.assertEqual(self.exit_code("quit()"), 0)
        self.assertEqual(self.exit_code("os._exit(5)", "import os"), 5)
        self.assertEqual(self.exit_code("raise SystemExit('no number')"), 1)

    def test_a_signal(self):
        self.assertEqual(self.exit_code("os.kill(os.getpid(), 9)", "import os"), -9)

    def test_the_end_of_the_socket_ends_the_process_at_once(self):
        code = """
            import threading, time
            threading.Thread(target=time.sleep, args=(100,)).start()
            def handler(event, context): pass
        """
        with started(code) as instance:
            start = time.monotonic()
            self.assertEqual(instance.stop()[0], 0)
            self.assertLess(time.monotonic() - start, 10)

    def test_so_does_its_end_before_an_answer_is_read(self):
        code = """
            import threading, time
            threading.Thread(target=time.sleep, args=(100,)).start()
            def handler(event, context):
                print('called')
        """
        with started(code) as instance:
            instance.send()
            # Printed, so the answer comes next; nobody reads it.
            self.assertEqual(instance.process.stdout.readline(), b"called\n")
            time.sleep(0.1)
            start = time.monotonic()
            self.assertEqual(instance.stop()[::2], (0, ""))
            self.assertLess(time.monotonic() - start, 10)

    def test_the_end_in_the_middle_of_a_frame(self):
        for part in (b"\x10", b"\x10\x00\x00\x00\x02\x00\x00\x00", b"\x00\x00\x10\x00\x02\x00\x00\x00abc"):
            with started("def handler(event, context): pass") as instance:
                instance.socket.sendall(part)
                self.assertEqual(instance.stop(), (0, "", ""))

    def test_a_frame_that_comes_in_pieces(self):
        with started("def handler(event, context):\n    return event") as instance:
            frame = harness.frame(harness.INVOKE, harness.invoke("0" * 36, 0, b"", b'"in pieces"'))
            for at in range(0, len(frame), 3):
                instance.socket.sendall(frame[at : at + 3])
                time.sleep(0.002)
            kind, payload = instance.next()
            self.assertEqual((kind, payload[:36], payload[48:]), (harness.RESPONSE, b"0" * 36, b'"in pieces"'))

    def test_time_is_told_and_output_is_not(self):
        code = "import time\ndef handler(event, context):\n    time.sleep(event)\n    print('x')"
        with started(code) as instance:
            instance.value(b"0.05")
            taken, out, err = instance.told
            self.assertTrue(50_000 <= taken < 3_000_000, taken)
            self.assertEqual((out, err), (0xFFFFFFFF, 0xFFFFFFFF))
            instance.value(b"0")
            self.assertLess(instance.told[0], 50_000)

    def test_a_frame_of_another_kind_ends_the_process(self):
        with started("def handler(event, context): pass") as instance:
            instance.send_frame(harness.INIT, b"{}")
            self.assertEqual(instance.exit_code(), 1)


if __name__ == "__main__":
    unittest.main()
