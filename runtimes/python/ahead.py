"""What a process runs before it has a function: `handler`, to be warm (bootstrap.py), and `prove`, for the daemon, which tries the first of each
class before it gives one to a function."""


def handler(event, context):
    """Takes the way of a call."""
    return event


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
    return {
        "variable": os.environ.get(event["variable"]),
        "folder": os.getcwd(),
        "code": os.path.exists("ahead.py"),
        "layers": len(os.listdir("/opt")),
        "written": any(writes(path) for path in ("/var/task/x", "/opt/x")),
        "tmp_bytes": tmp.f_blocks * tmp.f_frsize,
    }
