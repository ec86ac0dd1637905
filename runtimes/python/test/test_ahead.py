"""Processes that are started ahead of their function: what it finds is what a plain start gives it."""

import json
import unittest

from harness import Instance

SEEN = """
    import os
    import subprocess
    import sys

    def handler(event, context):
        return {
            "event": event,
            "name": context.function_name,
            "own": os.environ.get("OWN"),
            "inherited": subprocess.check_output(["/bin/sh", "-c", 'printf %s "$OWN"']).decode(),
            "folder": os.getcwd() == os.path.dirname(__file__),
            "argv": len(sys.argv),
            "path": sys.path.index(os.getcwd()),
            "loaded": [name for name in sys.modules if "ahead" in name],
            "finders": [folder for folder in sys.path_importer_cache if folder.endswith("runtimes/python")],
        }
"""


def seen(**options):
    with Instance({"app.py": SEEN}, **options) as instance:
        assert instance.ready() is None
        return instance.value(b'{"a":1}')


class Ahead(unittest.TestCase):
    """Each test starts processes of its own."""

    def test_a_function_finds_what_a_plain_start_gives_it(self):
        env = {"OWN": "a=b ü"}
        plain = seen(env=env)
        self.assertIn("a=b ü", json.dumps(plain, ensure_ascii=False))
        self.assertEqual(seen(env=env, ahead=True), plain)

    def test_a_module_of_the_functions_own_may_be_called_like_ours(self):
        files = {"ahead.py": "def handler(event, context): return 'the function'"}
        with Instance(files, "ahead.handler", ahead=True) as instance:
            self.assertIsNone(instance.ready())
            self.assertEqual(instance.value(), "the function")

    def test_code_that_cannot_be_loaded_is_told(self):
        with Instance({}, ahead=True) as instance:
            self.assertIn("app", instance.ready()["errorMessage"])


if __name__ == "__main__":
    unittest.main()
