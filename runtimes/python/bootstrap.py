"""Loads a Python handler and serves one call at a time over file descriptor 3: ../PROTOCOL.md.

Start at `main`. Then, in the order of a call: `receive` blocks until a frame comes, `serve` reads the call, `run` calls the handler, `send` writes
the answer. `begin` makes the process a function's. One that is started ahead of its function goes through `warm` first. Between two calls the process blocks in `read`; threads of the function go on, as far as they hold no lock that it needs.

Context, errors and log lines are those of AWS Lambda's runtime for Python. To start fast this file imports built-in modules only: `json`
alone, with `re` below it, would double the time to the first call. It runs with `-I -S -B`: no host packages, no byte code written.
"""

import builtins
import posix
import sys
import time

# Where this file and its like lie.
FOLDER = __file__.rpartition("/")[0]
FD = 3
HEADER_BYTES = 8
# What a packet holds at most, and what one read takes.
CHUNK_BYTES = 65536
# Where the parts of an INVOKE frame stand: id, deadline, length of extra, extra.
ID_AT = 8
DEADLINE_AT = 44
EXTRA_LENGTH_AT = 52
EXTRA_AT = 56

INIT = 1
INVOKE = 2
HELLO = 16
READY = 17
INIT_ERROR = 18
RESPONSE = 19
ERROR = 20
STREAM_END = 24

# Bounds of an error's JSON, so that it fits a frame whatever was raised: a character takes at most 12 bytes, as two escapes.
MESSAGE_CHARS = 256 * 1024
TYPE_CHARS = 1024
TRACE_ENTRIES = 200
TRACE_ENTRY_CHARS = 1024

# What a zygote has loaded for its children: what functions usually import. None of it keeps what it finds in the environment.
PRELOADED = (
    "argparse asyncio base64 bisect calendar collections concurrent.futures contextlib copy csv ctypes dataclasses datetime decimal "
    "email.message enum functools gzip hashlib heapq hmac html http.client http.cookies inspect io itertools json logging math mimetypes "
    "operator os pathlib pickle platform queue random re secrets select shutil signal socket ssl statistics string struct subprocess "
    "tempfile textwrap threading time traceback types typing unicodedata urllib.error urllib.parse urllib.request uuid weakref "
    "xml.etree.ElementTree zipfile zlib zoneinfo"
).split()
# Where a zygote finds the spawner, and the library that it is forked with.
CONTROL = 4
LIBRARY = "/var/runtime/zygote/zygote.so"
# What its `wait` returns in a process that cannot be forked, and in a child for which nobody waits yet.
UNFIT = 1
RESTS = 2

# What a process that is started ahead tries itself with, and how often: the interpreter specialises code after a few rounds. The event is like a function URL's.
WARM_EVENT = (
    b'{"version":"2.0","routeKey":"$default","rawPath":"/","rawQueryString":"a=b","cookies":["a=b"],"headers":{"accept":"*/*","host":"a",'
    b'"content-length":"1","content-type":"a","user-agent":"a"},"queryStringParameters":{"a":"b"},"requestContext":{"accountId":"1","apiId":"a",'
    b'"domainName":"a","domainPrefix":"a","http":{"method":"GET","path":"/","protocol":"HTTP/1.1","sourceIp":"1","userAgent":"a"},"requestId":"1",'
    b'"routeKey":"$default","stage":"$default","time":"1","timeEpoch":1795835231785},"pathParameters":null,"stageVariables":null,"body":"a",'
    b'"isBase64Encoded":false,"list":[1,2.5,true,null]}'
)
WARM_CALLS = 10
WARM_INIT = (
    '{"handler":"ahead.handler","task_root":"%s","environment":["_X_AMZN_TRACE_ID=1"],"function":'
    '{"name":"-","version":"1","arn":"-","memory_mb":128,"log_group":"-","log_stream":"-"}}'
)

JSON_SPACE = " \t\n\r"
LARGEST_LENGTH = 0xFFFFFFFF
# Stands for the bytes written to standard output and error: Python's own streams are the function's to replace, and are left as they are.
UNCOUNTED = b"\xff" * 8


class Fault(Exception):
    """An error of the runtime's own."""

    def __init__(self, kind, message, trace=()):
        super().__init__(message)
        self.kind = "Runtime." + kind
        self.trace = list(trace)


class Identity:
    """`context.identity`: no Cognito here, so both are `None`."""

    __slots__ = ("cognito_identity_id", "cognito_identity_pool_id")

    def __init__(self):
        self.cognito_identity_id = None
        self.cognito_identity_pool_id = None


class Record:
    """Attributes from JSON: the client context and its client."""

    def __init__(self, names, values):
        for name in names:
            setattr(self, name, values.get(name))


class LambdaContext:
    """The handler's second argument. What is the same in every call is an attribute of the class."""

    function_name = None
    function_version = None
    invoked_function_arn = None
    memory_limit_in_mb = None
    log_group_name = None
    log_stream_name = None

    def __init__(self, request_id, deadline_ms, client_context, arn):
        if arn is not None:
            self.invoked_function_arn = arn
        self.aws_request_id = request_id
        self.client_context = client_context
        self.identity = Identity()
        self._epoch_deadline_time_in_ms = deadline_ms

    def get_remaining_time_in_millis(self, now=time.time):
        """Milliseconds until the call times out; never negative."""
        return max(self._epoch_deadline_time_in_ms - int(now() * 1000), 0)

    def log(self, message):
        """Writes to standard output, as it stands."""
        sys.stdout.write(str(message))

    def __repr__(self):
        names = (
            "aws_request_id",
            "log_group_name",
            "log_stream_name",
            "function_name",
            "memory_limit_in_mb",
            "function_version",
            "invoked_function_arn",
            "client_context",
            "identity",
        )
        return "LambdaContext([%s])" % ",".join("%s=%s" % (n, getattr(self, n)) for n in names)


# ---- frames


def receive(read=posix.read, readv=posix.readv, leave=posix._exit):
    """Blocks until a whole frame is here.

    The socket keeps packets apart and no packet holds parts of two frames, so nothing of the next one can be in what is read: whatever waits in
    the socket can still be taken back by the daemon.
    """
    try:
        data = read(FD, CHUNK_BYTES)
        while len(data) < HEADER_BYTES:
            more = read(FD, CHUNK_BYTES) if data else b""
            if not more:
                leave(0)
            data += more
        total = HEADER_BYTES + int.from_bytes(data[:4], "little")
        have = len(data)
        if have < total:
            frame = bytearray(total)
            view = memoryview(frame)
            view[:have] = data
            while have < total:
                n = readv(FD, (view[have:],))
                if n == 0:
                    leave(0)
                have += n
            view.release()
            data = frame
        return data
    except ConnectionError:
        # The daemon went away with a frame of ours unread. Raising would wait for the function's threads first.
        leave(0)


def send(kind, prefix, body, most=CHUNK_BYTES, writev=posix.writev, leave=posix._exit):
    """Writes a frame, in one system call per packet unless a signal comes between. Before the body of an answer stand its id and what is told of it."""
    # A length that does not fit is over every limit: the daemon ends this process when it has read the header.
    length = min(len(prefix) + len(body), LARGEST_LENGTH)
    head = length.to_bytes(4, "little") + bytes((kind, 0, 0, 0)) + prefix
    try:
        if len(head) + len(body) <= most:
            sent = writev(FD, (head, body))
        else:
            sent = writev(FD, (head, memoryview(body)[: most - len(head)]))
        while sent < len(head) + len(body):
            at = max(sent - len(head), 0)
            sent += writev(FD, (head[sent:], memoryview(body)[at : at + most - len(head)]))
    except OSError:
        leave(1)


# ---- JSON


def _default(value):
    """What is no JSON: decimals become numbers, as they do on AWS Lambda."""
    decimal = sys.modules.get("decimal")
    if decimal is not None and isinstance(value, decimal.Decimal):
        number = float(value)
        # Whole numbers keep every digit.
        return int(value) if number.is_integer() and abs(number) < 1e300 else number
    raise TypeError("Object of type %s is not JSON serializable" % type(value).__name__)


def make_codec():
    """Returns `decode(text)` and `encode(value)`: those of `json`, without importing it."""

    class Options:
        strict = True
        object_hook = None
        object_pairs_hook = None
        parse_float = float
        parse_int = int
        parse_constant = float

    try:
        import _json

        # Asks for each option it knows: another Python may know more.
        scan = _json.make_scanner(Options)
        encoder, quote, quote_ascii = _json.make_encoder, _json.encode_basestring, _json.encode_basestring_ascii
    except (ImportError, AttributeError):
        return plain_codec()

    def decode(text):
        text = text.strip(JSON_SPACE)
        try:
            value, end = scan(text, 0)
        except StopIteration:
            end = -1
        if end != len(text):
            import json

            # Says what is wrong and where.
            value = json.loads(text)
        return value

    def encode(value):
        # The last three: keys are not sorted, none is skipped, NaN and infinity are refused, for they are no JSON.
        try:
            chunks = encoder({}, _default, quote, None, ": ", ", ", False, False, False)(value, 0)
            return "".join(chunks).encode()
        except UnicodeEncodeError:
            # Half of a surrogate pair: it can be escaped, but is no UTF-8.
            chunks = encoder({}, _default, quote_ascii, None, ": ", ", ", False, False, False)(value, 0)
            return "".join(chunks).encode()

    return decode, encode


def plain_codec():
    """For an interpreter whose `json` has other insides, or none in C."""
    import json

    def encode(value):
        options = {"default": _default, "allow_nan": False}
        try:
            return json.dumps(value, ensure_ascii=False, **options).encode()
        except UnicodeEncodeError:
            return json.dumps(value, **options).encode()

    return json.loads, encode


decode, encode = make_codec()


# ---- errors

TYPE_NAME = type.__dict__["__name__"].__get__


def describe(error, request_id=""):
    """An error in the form of AWS Lambda, as JSON. Never raises, whatever was raised."""
    if isinstance(error, Fault):
        kind, trace = error.kind, error.trace
    else:
        # Not `type(error).__name__`: a metaclass may have put code of its own there.
        kind, trace = TYPE_NAME(type(error)), user_frames(error)
    try:
        message = str(error)
    except BaseException:
        message = "an error that cannot be shown"
    return encode(
        {
            "errorMessage": message[:MESSAGE_CHARS],
            "errorType": kind[:TYPE_CHARS],
            "requestId": request_id,
            "stackTrace": [entry[:TRACE_ENTRY_CHARS] for entry in trace],
        }
    )


def user_frames(error):
    """The formatted frames of the traceback, without this file's and the import system's."""
    try:
        import traceback

        own = FOLDER + "/"
        frames = [
            frame
            for frame in traceback.extract_tb(error.__traceback__, limit=-TRACE_ENTRIES)
            if not frame.filename.startswith(own) and not frame.filename.startswith("<frozen importlib")
        ]
        return traceback.format_list(frames)
    except BaseException:
        return []


# ---- loading


def load(name):
    """Finds the handler that `name` (`[package/]module.function`) stands for."""
    module_name, dot, function = name.rpartition(".")
    if not dot or not module_name or not function:
        raise Fault(
            "MalformedHandlerName", "Bad handler '%s': not enough values to unpack (expected 2, got 1)" % name
        )
    if module_name.split(".")[0] in sys.builtin_module_names:
        raise Fault(
            "BuiltInModuleConflict", "Cannot use built-in module %s as a handler module" % module_name
        )
    dotted = module_name.replace("/", ".")
    if "" in dotted.split("."):
        raise Fault("MalformedHandlerName", "Bad handler '%s': expected [PACKAGE/]MODULE.FUNCTION" % name)
    try:
        __import__(dotted)
    except ImportError as e:
        raise Fault(
            "ImportModuleError", "Unable to import module '%s': %s" % (module_name, e), user_frames(e)
        ) from None
    except SyntaxError as e:
        where = '  File "%s" Line %s\n    %s' % (e.filename, e.lineno, e.text)
        raise Fault(
            "UserCodeSyntaxError", "Syntax error in module '%s': %s" % (module_name, e), [where]
        ) from None
    found = getattr(sys.modules.get(dotted), function, None)
    if found is None:
        raise Fault("HandlerNotFound", "Handler '%s' missing on module '%s'" % (function, module_name))
    if not callable(found):
        raise Fault("HandlerNotFound", "Handler '%s' on module '%s' is not a function" % (function, module_name))
    return found


class Quitter:
    """`exit` and `quit`, which `site` would have made."""

    def __init__(self, name):
        self.name = name

    def __repr__(self):
        return "Use %s() to exit" % self.name

    def __call__(self, code=None):
        raise SystemExit(code)


class LoggingHook:
    """Sets logging up at the moment somebody imports it: AWS Lambda's root handler costs nothing where it is not used."""

    def find_spec(self, name, path=None, target=None):
        """The import system's question; answered for `logging` alone."""
        if name != "logging":
            return None
        for finder in sys.meta_path:
            spec = None if finder is self else finder.find_spec(name, path, target)
            if spec is not None:
                break
        else:
            return None
        execute = spec.loader.exec_module

        def exec_module(module):
            execute(module)
            # Who only asks where `logging` is must not use the hook up.
            if self in sys.meta_path:
                sys.meta_path.remove(self)
                set_up_logging(module)

        spec.loader.exec_module = exec_module
        return spec


def set_up_logging(logging):
    """The root handler of AWS Lambda: `[LEVEL]`, time in UTC, request id and message, by tabs, on standard output."""

    class Handler(logging.Handler):
        def emit(self, record):
            try:
                record.aws_request_id = request_in_progress
                text = self.format(record)
                # A traceback, or a format that the function has set, ends without one.
                sys.stdout.write(text if text.endswith("\n") else text + "\n")
            except Exception:
                self.handleError(record)

    formatter = logging.Formatter(
        "[%(levelname)s]\t%(asctime)s.%(msecs)03dZ\t%(aws_request_id)s\t%(message)s", "%Y-%m-%dT%H:%M:%S"
    )
    formatter.converter = time.gmtime
    handler = Handler()
    handler.setFormatter(formatter)
    logging.getLogger().addHandler(handler)


# ---- calls

request_in_progress = ""
traced = False
# Parts of the runtime that few functions need.
loaded = {}


def set_trace(trace):
    """Keeps `_X_AMZN_TRACE_ID` in step with the call."""
    global traced
    if trace is None and not traced:
        return
    import os

    traced = trace is not None
    if traced:
        os.environ["_X_AMZN_TRACE_ID"] = trace
    else:
        os.environ.pop("_X_AMZN_TRACE_ID", None)


def read_client_context(text):
    """`context.client_context` from its JSON, or `None`."""
    if not text:
        return None
    try:
        values = decode(text)
        client = values.get("client")
        names = ("installation_id", "app_title", "app_version_name", "app_version_code", "app_package_name")
        context = Record(("custom", "env"), values)
        context.client = Record(names, client) if client else None
        return context
    except Exception as e:
        raise Fault("LambdaContextUnmarshalError", "Unable to parse Client Context JSON: %s" % e) from None


def streams(answer):
    """What sends an answer in pieces (stream.py), if it is one."""
    kind = type(answer)
    if not hasattr(kind, "__next__") and not hasattr(kind, "__anext__"):
        return None
    if "stream" not in loaded:
        import _frozen_importlib
        import _frozen_importlib_external

        # Not by way of `sys.path`: the name is the function's to use.
        spec = _frozen_importlib_external.spec_from_file_location("stream", FOLDER + "/stream.py")
        loaded["stream"] = _frozen_importlib.module_from_spec(spec)
        spec.loader.exec_module(loaded["stream"])
    return loaded["stream"]


def run(handler, frame):
    """Runs one call. Returns the kind and the body of the answer."""
    global request_in_progress
    request_id = str(frame[ID_AT:DEADLINE_AT], "ascii")
    request_in_progress = request_id
    event_at = EXTRA_AT + int.from_bytes(frame[EXTRA_LENGTH_AT:EXTRA_AT], "little")
    try:
        try:
            extra = decode(str(frame[EXTRA_AT:event_at], "utf-8")) if event_at > EXTRA_AT else {}
            event = decode(str(frame[event_at:], "utf-8")) if len(frame) > event_at else {}
        except Exception as e:
            raise Fault("UnmarshalError", "Unable to unmarshal input: %s" % e) from None
        set_trace(extra.get("trace"))
        deadline_ms = int.from_bytes(frame[DEADLINE_AT:EXTRA_LENGTH_AT], "little")
        client_context = read_client_context(extra.get("client_context"))
        context = LambdaContext(request_id, deadline_ms, client_context, extra.get("arn"))
        answer = handler(event, context)
        try:
            if isinstance(answer, bytes):
                # Passed on as it is, if it is what it has to be.
                decode(str(answer, "utf-8"))
                return RESPONSE, answer
            return RESPONSE, encode(answer)
        except Exception as e:
            stream = streams(answer)
            if stream is None:
                raise Fault("MarshalError", "Unable to marshal response: %s" % e) from None
        # What is no JSON may still come in pieces.
        stream.run(answer, stream.Pieces(bytes(frame[ID_AT:DEADLINE_AT]), send, encode, CHUNK_BYTES))
        return STREAM_END, b""
    except SystemExit:
        raise
    except BaseException as e:
        return ERROR, describe(e, request_id)


def flush(streams):
    """Hands on what was printed without a line end, also by way of streams that the function has put in their place."""
    for stream in (getattr(sys, "stdout", None), getattr(sys, "stderr", None), *streams):
        try:
            stream.flush()
        except Exception:
            # The function has closed or broken it.
            pass


def tell(begun):
    """What the daemon is told beside an answer: the time taken in microseconds, and that what was printed is not counted."""
    taken = min((time.monotonic_ns() - begun) // 1000, LARGEST_LENGTH)
    return taken.to_bytes(4, "little") + UNCOUNTED


def serve(handler, streams):
    """Serves calls until the daemon closes the socket."""
    while True:
        frame = receive()
        begun = time.monotonic_ns()
        if frame[4] != INVOKE:
            posix._exit(1)
        kind, body = run(handler, frame)
        flush(streams)
        send(kind, bytes(frame[ID_AT:DEADLINE_AT]) + tell(begun), body)
        # Nothing of the call stays in memory while the process waits.
        del frame, body


def module_path(root):
    """Where modules are looked for before the runtime's own: the code, the function's `PYTHONPATH`, which `-I` has kept Python from, the layers."""
    own = str(posix.environ.get(b"PYTHONPATH", b""), "utf-8", "surrogateescape").split(":")
    libraries = "/opt/python/lib/python%d.%d/site-packages" % sys.version_info[:2]
    # Relative folders would follow the working directory. Each once, at its first place.
    return dict.fromkeys([root, *(folder for folder in own if folder[:1] == "/"), libraries, "/opt/python"])


def prepare():
    """Makes the interpreter what handlers expect; returns the streams to flush after each call."""
    builtins.exit = Quitter("exit")
    builtins.quit = Quitter("quit")
    if "logging" in sys.modules:
        set_up_logging(sys.modules["logging"])
    else:
        sys.meta_path.insert(0, LoggingHook())
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)
    return sys.stdout, sys.stderr


def begin(frame, preloaded=()):
    """Becomes the function's process, by an INIT frame: all but its code. Returns the handler's name."""
    if frame[4] != INIT:
        posix._exit(1)
    init = decode(str(frame[HEADER_BYTES:], "utf-8"))
    function = init["function"]
    LambdaContext.function_name = function["name"]
    LambdaContext.function_version = function["version"]
    LambdaContext.invoked_function_arn = function["arn"]
    LambdaContext.memory_limit_in_mb = str(function["memory_mb"])
    LambdaContext.log_group_name = function["log_group"]
    LambdaContext.log_stream_name = function["log_stream"]
    if "environment" in init:
        adopt(init)
    path = module_path(init["task_root"])
    if preloaded:
        hide_shadowed(preloaded, path)
    sys.path[:0] = path
    # Processes that the function starts have no business on the socket.
    posix.set_inheritable(FD, False)
    return init["handler"]


def warm(calls, streams, preloaded=()):
    """Takes the way of a call, from INIT by way of the code on disk to the answer, so that a function's first call finds everything loaded.

    Nothing is read or written, and what it leaves behind is undone.
    """
    global request_in_progress
    path = sys.path[:]
    body = (WARM_INIT % FOLDER).encode()
    frame = len(body).to_bytes(4, "little") + bytes((INIT, 0, 0, 0)) + body
    handler = load(begin(receive(read=lambda fd, size: frame), preloaded))
    length = EXTRA_AT - HEADER_BYTES + len(WARM_EVENT)
    frame = length.to_bytes(4, "little") + bytes((INVOKE, 0, 0, 0)) + b"0" * 36 + bytes(12) + WARM_EVENT
    for _ in range(calls):
        frame = receive(read=lambda fd, size: frame)
        kind, body = run(handler, frame)
        flush(streams)
        send(kind, frame[ID_AT:DEADLINE_AT] + tell(0), body, writev=lambda fd, parts: sum(map(len, parts)))
    request_in_progress = ""
    sys.path[:] = path
    del sys.modules["ahead"]
    sys.path_importer_cache.pop(FOLDER, None)
    abandon("_X_AMZN_TRACE_ID")


def adopt(init):
    """Becomes the function's process: what `exec` would have given it. `os` makes its `environ` of `posix.environ` when it is loaded; a zygote has it."""
    os = sys.modules.get("os")
    for variable in init["environment"]:
        name, _, value = variable.partition("=")
        name, value = name.encode(), value.encode()
        posix.putenv(name, value)
        posix.environ[name] = value
        if os is not None:
            os.environb[name] = value
    posix.chdir(init["task_root"])


def abandon(name):
    """Takes back a variable that was adopted."""
    os = sys.modules.get("os")
    posix.unsetenv(name)
    posix.environ.pop(name.encode(), None)
    if os is not None:
        os.environb.pop(name.encode(), None)


def preload():
    """Loads what functions usually import; returns the names of these modules, and how each begins."""
    before = set(sys.modules)
    for name in PRELOADED:
        try:
            __import__(name)
        except ImportError:
            # Not every interpreter has all of them.
            pass
    names = [name for name in sys.modules if name not in before]
    return names, frozenset(name.partition(".")[0] for name in names)


def hide_shadowed(preloaded, path):
    """Forgets what was loaded ahead if the function brings a module of such a name: its own comes first, for the standard library as well."""
    for folder in path:
        try:
            names = {entry.partition(".")[0] for entry in posix.listdir(folder)}
        except OSError:
            continue
        modules, beginnings = preloaded
        if not beginnings.isdisjoint(names):
            for name in modules:
                sys.modules.pop(name, None)
            sys.meta_path.insert(0, LoggingHook())
            return


def fork():
    """Waits to be forked, and returns in children alone, as `os.fork` does there: what has to be new in each is registered with it."""
    import gc

    external = sys.modules["_frozen_importlib_external"]
    loader = external.ExtensionFileLoader("zygote", LIBRARY)
    spec = sys.modules["_frozen_importlib"].ModuleSpec("zygote", loader, origin=LIBRARY)
    library = loader.create_module(spec)
    gc.collect()
    # What is there already is not written to by the children's collections, and so stays shared.
    gc.freeze()
    send(HELLO, b"", b"")
    told = library.wait(CONTROL)
    if told == UNFIT:
        posix._exit(1)
    threading = sys.modules.get("threading")
    if threading is not None:
        threading.main_thread()._set_native_id()
    return told == RESTS


def main():
    """Start-up, then calls."""
    mode = sys.argv[1:]
    ahead = mode in (["ahead"], ["zygote"])
    preloaded = ()
    if ahead:
        sys.argv.pop()
        sys.orig_argv.pop()
    if mode == ["zygote"]:
        preloaded = preload()
    streams = prepare()
    if ahead:
        warm(WARM_CALLS, streams, preloaded)
    # A copy has to take hold of the memory that the way of a call writes to.
    if mode == ["zygote"] and fork():
        warm(1, streams, preloaded)
    send(HELLO, b"", b"")
    name = begin(receive(), preloaded)
    try:
        handler = load(name)
    except SystemExit:
        raise
    except BaseException as e:
        flush(streams)
        send(INIT_ERROR, b"", describe(e))
        posix._exit(1)
    flush(streams)
    send(READY, b"", b"")
    serve(handler, streams)


if __name__ == "__main__":
    main()
