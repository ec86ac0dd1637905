"""Which function a handler's name stands for, what happens when there is none, and what the code finds around it."""

import os
import pathlib
import sys
import tempfile
import threading
import unittest

from harness import PATIENCE_SECONDS, Ended, Instance, started

ANSWER = "def handler(event, context):\n    return %r\n"


class Found(unittest.TestCase):
    def answer(self, files, handler):
        with Instance(files, handler) as instance:
            self.assertIsNone(instance.ready())
            return instance.value()

    def test_modules_and_packages(self):
        self.assertEqual(self.answer({"app.py": ANSWER % "top"}, "app.handler"), "top")
        self.assertEqual(self.answer({"pkg/mod.py": ANSWER % "dot"}, "pkg.mod.handler"), "dot")
        self.assertEqual(self.answer({"pkg/deep/mod.py": ANSWER % "slash"}, "pkg/deep/mod.handler"), "slash")
        self.assertEqual(self.answer({"pkg/__init__.py": ANSWER % "init"}, "pkg.handler"), "init")

    def test_names_that_are_not_ascii(self):
        self.assertEqual(self.answer({"函数.py": "def 处理(e, c): return 'found'"}, "函数.处理"), "found")

    def test_the_functions_modules_go_before_the_standard_library(self):
        files = {"app.py": "import secrets\ndef handler(e, c): return secrets.mine", "secrets.py": "mine = True"}
        self.assertEqual(self.answer(files, "app.handler"), True)


class Missing(unittest.TestCase):
    def load_error(self, files, handler="app.handler"):
        with Instance(files, handler) as instance:
            error = instance.ready()
            self.assertIsNotNone(error)
            self.assertEqual(list(error), ["errorMessage", "errorType", "requestId", "stackTrace"])
            self.assertNotIn("bootstrap.py", str(error))
            self.assertEqual(instance.exit_code(), 1)
            return error

    def assert_error(self, kind, message, files, handler="app.handler"):
        error = self.load_error(files, handler)
        self.assertEqual((error["errorType"], error["errorMessage"]), (kind, message))

    def test_no_such_thing(self):
        app = {"app.py": "other = 1"}
        self.assert_error(
            "Runtime.ImportModuleError", "Unable to import module 'absent': No module named 'absent'", app, "absent.handler"
        )
        self.assert_error("Runtime.HandlerNotFound", "Handler 'handler' missing on module 'app'", app)
        self.assert_error(
            "Runtime.HandlerNotFound", "Handler 'other' on module 'app' is not a function", app, "app.other"
        )
        self.assertEqual(self.load_error(app, "app")["errorType"], "Runtime.MalformedHandlerName")
        self.assertEqual(self.load_error(app, "app.")["errorType"], "Runtime.MalformedHandlerName")
        self.assertEqual(self.load_error(app, "")["errorType"], "Runtime.MalformedHandlerName")
        for outside in ("./app.handler", "/app.handler", "../app.handler", "a//b.handler"):
            self.assertEqual(self.load_error(app, outside)["errorType"], "Runtime.MalformedHandlerName", outside)
        self.assertEqual(self.load_error(app, ".handler")["errorType"], "Runtime.MalformedHandlerName")
        self.assertEqual(self.load_error(app, "sys.exit")["errorType"], "Runtime.BuiltInModuleConflict")

    def test_a_missing_dependency_says_who_wanted_it(self):
        error = self.load_error({"app.py": "\nimport absent_package\n"})
        self.assertEqual(error["errorType"], "Runtime.ImportModuleError")
        self.assertIn("No module named 'absent_package'", error["errorMessage"])
        self.assertRegex(error["stackTrace"][0], r'app\.py", line 2')

    def test_host_packages_are_out_of_reach(self):
        self.assertIn("pip", self.load_error({"app.py": "import pip"})["errorMessage"])

    def test_syntax_errors_say_where(self):
        error = self.load_error({"app.py": "x = 1\ndef handler(:\n"})
        self.assertEqual(error["errorType"], "Runtime.UserCodeSyntaxError")
        self.assertTrue(error["errorMessage"].startswith("Syntax error in module 'app': "), error)
        self.assertRegex(error["stackTrace"][0], r'app\.py" Line 2')

    def test_code_that_raises_while_it_loads(self):
        error = self.load_error({"app.py": "def f():\n    raise LookupError('at load')\nf()"})
        self.assertEqual((error["errorType"], error["errorMessage"]), ("LookupError", "at load"))
        self.assertEqual(len(error["stackTrace"]), 2)

    def test_code_that_raises_what_is_no_exception_while_it_loads(self):
        error = self.load_error({"app.py": "class Own(BaseException): pass\nraise Own('at load')"})
        self.assertEqual((error["errorType"], error["errorMessage"]), ("Own", "at load"))

    def test_code_that_prints_while_it_fails_to_load(self):
        with Instance({"app.py": "print('why', end='')\n1 / 0"}) as instance:
            self.assertEqual(instance.ready()["errorType"], "ZeroDivisionError")
            self.assertEqual(instance.stop(), (1, "why", ""))

    def test_code_that_exits_while_it_loads(self):
        with Instance({"app.py": "import sys; sys.exit(6)"}) as instance:
            with self.assertRaises(Ended):
                instance.ready()
            self.assertEqual(instance.exit_code(), 6)


class Surroundings(unittest.TestCase):
    def test_start_loads_next_to_nothing(self):
        code = "import sys\nloaded = sorted(sys.modules)\ndef handler(event, context):\n    return loaded"
        with started(code) as instance:
            loaded = instance.value()
        for name in ("json", "re", "logging", "traceback", "os", "collections", "importlib"):
            self.assertNotIn(name, loaded)

    def test_the_module_path(self):
        with started("import sys\ndef handler(event, context):\n    return sys.path") as instance:
            path = instance.value()
            libraries = "/opt/python/lib/python%d.%d/site-packages" % sys.version_info[:2]
            self.assertEqual(path[:3], [instance.root, libraries, "/opt/python"])
            own = str(pathlib.Path(__file__).resolve().parent.parent)
            self.assertFalse(own in path or "" in path, path)

    def test_the_functions_own_module_path_comes_before_that_of_layers(self):
        code = "import sys\ndef handler(event, context):\n    import greeting\n    return [greeting.text, sys.path]"
        with tempfile.TemporaryDirectory() as folder:
            pathlib.Path(folder, "greeting.py").write_text("text = 'hello'")
            own = ":".join([folder, "relative", "", "/opt/python", folder, "/nowhere"])
            with started(code, env={"PYTHONPATH": own}) as instance:
                text, path = instance.value()
                libraries = "/opt/python/lib/python%d.%d/site-packages" % sys.version_info[:2]
                expected = [instance.root, folder, "/opt/python", "/nowhere", libraries]
                self.assertEqual((text, path[:5]), ("hello", expected))
                self.assertEqual([path.count("/opt/python"), path.count("relative"), path.count("")], [1, 0, 0])

    def test_what_site_would_have_made(self):
        with started("def handler(event, context):\n    return [repr(exit), repr(quit)]") as instance:
            self.assertEqual(instance.value(), ["Use exit() to exit", "Use quit() to exit"])

    def test_files_are_utf_8_whatever_the_locale(self):
        code = """
            def handler(event, context):
                with open(__file__) as file:
                    return file.encoding
        """
        for env in ({}, {"LANG": "C"}, {"LANG": "en_US.UTF-8"}):
            with started(code, env=env) as instance:
                self.assertEqual(instance.value().lower(), "utf-8", env)

    def test_child_processes_do_not_inherit_the_socket(self):
        code = """
            import subprocess
            def handler(event, context):
                return subprocess.run(['/bin/sh', '-c', 'test -e /proc/self/fd/3'], close_fds=False).returncode
        """
        with started(code) as instance:
            self.assertEqual(instance.value(), 1)


class Output(unittest.TestCase):
    def output(self, code, calls=1, request_ids=(None,)):
        with started(code) as instance:
            for request_id in request_ids * calls:
                instance.value(request_id=request_id)
            return instance.stop()

    def test_what_is_printed_leaves_with_the_call(self):
        code = """
            import sys
            print('loading', end='')
            def handler(event, context):
                print('line\\nno end é \\ud800', end='')
                print('to stderr', file=sys.stderr)
        """
        _, out, err = self.output(code)
        self.assertEqual(out, "loadingline\nno end é \\ud800")
        self.assertEqual(err, "to stderr\n")

    def assert_printed_before_the_answer(self, statement, expected):
        """After the answer all of it is in the pipe: no other call, no end of the process has to press it out."""
        code = f"import io, os, sys\ndef handler(event, context):\n    {statement}\n"
        with started(code) as instance:
            printed = bytearray()

            def read():
                while len(printed) < len(expected):
                    printed.extend(os.read(instance.process.stdout.fileno(), 1 << 20) or b"end of file")

            reader = threading.Thread(target=read, daemon=True)
            reader.start()
            instance.value()
            reader.join(PATIENCE_SECONDS)
            self.assertEqual(bytes(printed), expected)

    def test_what_is_printed_comes_before_the_answer(self):
        self.assert_printed_before_the_answer("print('no end', end='')", b"no end")
        self.assert_printed_before_the_answer("print('x' * 300_000)", b"x" * 300_000 + b"\n")
        self.assert_printed_before_the_answer("sys.stdout.buffer.write(b'raw')", b"raw")
        wrap = "sys.stdout = io.TextIOWrapper(sys.stdout.buffer); print('wrapped')"
        self.assert_printed_before_the_answer(wrap, b"wrapped\n")

    def test_replaced_streams_do_no_harm(self):
        code = """
            import io, sys
            sys.stdout.close()
            sys.stdout = io.StringIO()
            def handler(event, context):
                print('nobody sees this')
        """
        self.assertEqual(self.output(code, calls=2)[1], "")

    def test_streams_taken_away_do_no_harm(self):
        self.assertEqual(self.output("import sys\ndel sys.stdout\nsys.stderr = None\ndef handler(e, c): pass", calls=2), (0, "", ""))

    def log_lines(self, files, calls=1):
        with Instance(files) as instance:
            self.assertIsNone(instance.ready())
            for _ in range(calls):
                instance.value()
            _, out, err = instance.stop()
        self.assertEqual(err, "")
        return [tuple(line.split("\t")[::3]) for line in out.splitlines()]

    def test_logging_imported_by_a_library(self):
        library = "import logging\ndef say(text): logging.getLogger(__name__).warning(text)"
        app = "import library\ndef handler(event, context): library.say('from the library')"
        lines = self.log_lines({"app.py": app, "library.py": library}, calls=2)
        self.assertEqual(lines, [("[WARNING]", "from the library")] * 2)

    def test_logging_imported_in_a_call(self):
        app = """
            def handler(event, context):
                import logging
                logging.info('below the level')
                logging.warning('seen once')
        """
        self.assertEqual(self.log_lines({"app.py": app}), [("[WARNING]", "seen once")])

    def test_logging_looked_for_before_it_is_imported(self):
        app = """
            import importlib.util
            assert importlib.util.find_spec('logging') is not None
            assert importlib.util.find_spec('absent') is None
            import logging
            def handler(event, context):
                logging.warning('set up')
        """
        self.assertEqual(self.log_lines({"app.py": app}), [("[WARNING]", "set up")])

    def test_logging_imported_again_is_not_set_up_again(self):
        app = """
            import importlib, logging
            importlib.reload(logging)
            logging.captureWarnings(True)
            def handler(event, context):
                return len(logging.getLogger().handlers)
        """
        with started(app) as instance:
            self.assertLessEqual(instance.value(), 1)

    def test_logging_an_exception(self):
        code = """
            import logging
            def handler(event, context):
                try:
                    1 / 0
                except ZeroDivisionError:
                    logging.exception('why')
        """
        out = self.output(code)[1]
        self.assertRegex(out, r"^\[ERROR\]\t.*\twhy\nTraceback \(most recent call last\):\n")
        self.assertTrue(out.endswith("ZeroDivisionError: division by zero\n"), out)

    def test_logging_in_a_format_of_the_functions_own(self):
        code = """
            import logging
            for handler in logging.getLogger().handlers:
                handler.setFormatter(logging.Formatter('%(levelname)s %(aws_request_id)s %(message)s'))
            def handler(event, context):
                logging.error('one')
                logging.error('two')
        """
        request_id = "0192f5a0-0000-7000-8000-00000000000d"
        out = self.output(code, request_ids=(request_id,))[1]
        self.assertEqual(out, f"ERROR {request_id} one\nERROR {request_id} two\n")

    def test_logging_is_set_up_for_who_imports_it(self):
        code = """
            import logging
            logging.basicConfig(level=logging.DEBUG)  # without effect: there is a handler already
            logging.warning('while loading')
            logger = logging.getLogger('mine')
            def handler(event, context):
                logger.info('below the level')
                logger.error('one %s', 'two')
                logging.getLogger().setLevel(logging.INFO)
                logger.info('now seen')
        """
        request_id = "0192f5a0-0000-7000-8000-00000000000c"
        _, out, err = self.output(code, request_ids=(request_id,))
        lines = [line.split("\t") for line in out.splitlines()]
        self.assertEqual(
            [[level, who, text] for level, _, who, text in lines],
            [
                ["[WARNING]", "", "while loading"],
                ["[ERROR]", request_id, "one two"],
                ["[INFO]", request_id, "now seen"],
            ],
        )
        for _, stamp, _, _ in lines:
            self.assertRegex(stamp, r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")
        self.assertEqual(err, "")


if __name__ == "__main__":
    unittest.main()
