// Loads a Node.js handler and serves one call at a time over file descriptor 3: ../PROTOCOL.md.
//
// Start at `main`. Then, in the order of a call: `receive` blocks until a frame comes, `serve` reads the call, `run` calls the handler, `Call`
// decides when the answer is due, `send` writes it. `begin` makes the process a function's; one that is started ahead of its function goes through `warm` first.
// Between two calls the process blocks in `read`, so the event loop stands still: work left over goes on with the next call, as on AWS Lambda.
//
// The handler's forms and the errors' shapes are those of AWS Lambda's runtime for Node.js 20. Nothing is required at start that Node
// has not loaded anyway. What the function may replace (JSON, Buffer, console, timers) is taken before its code is loaded.

'use strict';

const { closeSync, existsSync, lstatSync, openSync, readFileSync, readSync, statSync, writeSync, writev } = require('fs');
const Module = require('module');
const { parse, stringify } = JSON;
const { allocUnsafeSlow, byteLength } = Buffer;
const { utf8Slice, utf8Write, latin1Slice } = Buffer.prototype;
const { apply, get } = Reflect;
const { now } = Date;
const { max, min } = Math;
const later = setImmediate;
const proc = process;
const clock = process.hrtime;
const exit = process.exit.bind(process);
const NativeError = Error;
const text = String;

const FD = 3;
const HEADER_BYTES = 8;
const ID_BYTES = 36;
// What a packet holds at most, what one read takes, and what is kept for small answers.
const CHUNK_BYTES = 65536;
// What stands between the id and the body of an answer: time taken, bytes written to standard output and error.
const TOLD_BYTES = 12;
// Where the parts of an INVOKE frame stand: id, deadline, length of extra, extra.
const ID_AT = HEADER_BYTES;
const DEADLINE_AT = ID_AT + ID_BYTES;
const EXTRA_LENGTH_AT = DEADLINE_AT + 8;
const EXTRA_AT = EXTRA_LENGTH_AT + 4;

const INIT = 1;
const INVOKE = 2;
const HELLO = 16;
const READY = 17;
const INIT_ERROR = 18;
const RESPONSE = 19;
const ERROR = 20;
const LAST_ERROR = 21;
const STREAM_START = 22;
const CHUNK = 23;
const STREAM_END = 24;

// What a process that is started ahead tries itself with, and how often: the engine learns shapes in a few rounds. After thirty, first calls of a zygote's children came
// up slower under load, likely because the engine was about to optimise. The event has the names of a function URL's, which
// are looked up in tables that every new one makes a copied process copy a page of.
const WARM_EVENT =
  '{"version":"2.0","routeKey":"$default","rawPath":"/","rawQueryString":"a=b","cookies":["a=b"],"headers":{"accept":"*/*","accept-encoding":"a",' +
  '"content-length":"1","content-type":"a","host":"a","user-agent":"a","x-forwarded-for":"a","x-forwarded-port":"1","x-forwarded-proto":"a"},' +
  '"queryStringParameters":{"a":"b"},"requestContext":{"accountId":"1","apiId":"a","domainName":"a","domainPrefix":"a","http":{"method":"GET",' +
  '"path":"/","protocol":"HTTP/1.1","sourceIp":"1","userAgent":"a"},"requestId":"1","routeKey":"$default","stage":"$default","time":"1",' +
  '"timeEpoch":1795835231785},"pathParameters":null,"stageVariables":null,"body":"a","isBase64Encoded":false,"list":[1,2.5,true,null]}';
const WARM_CALLS = 3;
const WARM_INIT = {
  function: { name: '-', version: '1', arn: '-', memory_mb: 128, log_group: '-', log_stream: '-' },
  environment: ['_X_AMZN_TRACE_ID=1'],
  task_root: __dirname,
};

// What a zygote has loaded for its children: what functions usually require, and globals that Node loads when they are first used. Not `dns`, which takes random
// numbers when it is loaded.
const PRELOADED = (
  'assert async_hooks buffer child_process crypto events fs fs/promises http http2 https module net os path perf_hooks ' +
  'process querystring readline stream stream/promises stream/web string_decoder timers timers/promises tls url util v8 vm worker_threads zlib'
).split(' ');
const GLOBALS = ['fetch', 'Headers', 'Request', 'Response', 'FormData', 'Blob', 'crypto', 'performance', 'TextDecoderStream', 'CompressionStream'];
// Where a zygote finds the spawner, and the library that it is forked with.
const CONTROL = 4;
const LIBRARY = '/var/runtime/zygote/zygote.so';
// What its `wait` returns in a process that cannot be forked, and in a child for which nobody waits yet.
const UNFIT = 1;
const RESTS = 2;
// The most that a seed of Math.random holds, and how far each child goes on from there.
const SEEDS = 2 ** 31 - 1;
const STEPS_BITS = 12;

// Bounds of an error's JSON, so that it fits a frame whatever was thrown.
const MESSAGE_CHARS = 256 * 1024;
const TRACE_LINES = 200;
const TRACE_LINE_CHARS = 4096;

// Exit codes of AWS Lambda's runtime.
const EXIT_REJECTION = 128;
const EXIT_EXCEPTION = 129;

const incoming = allocUnsafeSlow(CHUNK_BYTES);
const outgoing = allocUnsafeSlow(CHUNK_BYTES);
const fixed = {};
// Where frames come from and go to.
let socket = FD;
let handler;
// What makes answers in pieces (stream.js), once the function has asked for it.
let streaming;
// What follows an answer.
let next = serve;
let current = null;
let tracing = false;
// When the call was taken up.
let begun = clock();
// The two output streams, once they are used, and how much of each has been told.
const outputs = { stdout: undefined, stderr: undefined };
const counted = { stdout: 0, stderr: 0 };

// An error of the runtime's own. `cause` lends it its trace.
class RuntimeError extends Error {
  constructor(type, message, cause) {
    super(message);
    this.name = `Runtime.${type}`;
    this.stack = (cause && cause.stack) || `${this.name}: ${message}`;
  }
}

// ---- frames

function readSome(buffer, at, end) {
  for (;;) {
    let n;
    try {
      n = readSync(socket, buffer, at, end - at, null);
    } catch (e) {
      if (e.code === 'EINTR') continue;
      exit(1);
    }
    if (n === 0) exit(0);
    return n;
  }
}

// Blocks until a whole frame is here; returns the buffer that holds it. The socket keeps packets apart and no packet holds parts of two
// frames, so nothing of the next one can be in the buffer: whatever waits in the socket can still be taken back by the daemon.
function receive() {
  let have = 0;
  while (have < HEADER_BYTES) have += readSome(incoming, have, CHUNK_BYTES);
  const total = frameBytes(incoming);
  let frame = incoming;
  if (total > CHUNK_BYTES) {
    frame = allocUnsafeSlow(total);
    frame.set(incoming.subarray(0, have));
  }
  while (have < total) have += readSome(frame, have, total);
  return frame;
}

function frameBytes(frame) {
  return HEADER_BYTES + uint32(frame, 0);
}

function uint32(b, at) {
  return (b[at] | (b[at + 1] << 8) | (b[at + 2] << 16)) + b[at + 3] * 0x1000000;
}

function putUint32(b, at, value) {
  b[at] = value;
  b[at + 1] = value >>> 8;
  b[at + 2] = value >>> 16;
  b[at + 3] = value >>> 24;
}

// Bytes that went through a stream of the process since this was asked last.
function written(name) {
  const stream = outputs[name];
  if (stream === undefined) return 0;
  const before = counted[name];
  counted[name] = stream.bytesWritten;
  return counted[name] - before;
}

// What the daemon is told beside an answer.
function tell(frame, at) {
  const [seconds, nanoseconds] = clock(begun);
  putUint32(frame, at, min(seconds, 1000) * 1000000 + nanoseconds / 1000);
  putUint32(frame, at + 4, written('stdout'));
  putUint32(frame, at + 8, written('stderr'));
}

// Writes a frame, in one system call per packet unless a signal comes between. An answer has an id.
function send(kind, id, body) {
  const told = HEADER_BYTES + id.length;
  const start = id === '' ? told : told + TOLD_BYTES;
  let frame = outgoing;
  // A UTF-16 unit takes at most three bytes in UTF-8.
  if (start + body.length * 3 > CHUNK_BYTES) frame = allocUnsafeSlow(start + byteLength(body));
  for (let i = 0; i < id.length; i++) frame[HEADER_BYTES + i] = id.charCodeAt(i);
  if (id !== '') tell(frame, told);
  const end = start + (body === '' ? 0 : apply(utf8Write, frame, [body, start]));
  putUint32(frame, 0, end - HEADER_BYTES);
  frame[4] = kind;
  frame[5] = frame[6] = frame[7] = 0;
  writeAll(frame, end);
}

function writeAll(frame, end) {
  for (let at = 0; at < end; ) {
    try {
      at += writeSync(socket, frame, at, min(end - at, CHUNK_BYTES));
    } catch (e) {
      if (e.code !== 'EINTR') exit(1);
    }
  }
}

// ---- calls

// One call: whether and how it is answered.
class Call {
  constructor(id, deadline, clientContext, arn) {
    this.id = id;
    this.sent = false;
    // An answer that waits for an empty event loop.
    this.due = null;
    this.promised = false;
    this.called = false;
    // Of a handler that answers in pieces: where it writes them, and whether it has returned.
    this.stream = null;
    this.returned = false;
    this.callback = (error, value) => {
      // Only the first call counts.
      if (this.called) return;
      this.called = true;
      if (error !== undefined && error !== null) this.fail(error);
      else if (this.context.callbackWaitsForEmptyEventLoop === false) this.succeed(value);
      else this.due = { value };
    };
    this.context = {
      callbackWaitsForEmptyEventLoop: true,
      functionVersion: fixed.functionVersion,
      functionName: fixed.functionName,
      memoryLimitInMB: fixed.memoryLimitInMB,
      logGroupName: fixed.logGroupName,
      logStreamName: fixed.logStreamName,
      clientContext,
      identity: undefined,
      invokedFunctionArn: arn,
      awsRequestId: id,
      getRemainingTimeInMillis: () => max(0, deadline - now()),
      succeed: (value) => this.succeed(value),
      fail: (error) => this.fail(error),
      done: (error, value) => {
        if (error !== undefined && error !== null) this.fail(error);
        else this.succeed(value);
      },
    };
  }

  // Answers at once. Only the first answer counts.
  succeed(value) {
    if (this.sent) return;
    if (this.stream !== null) {
      this.stream.end();
      return;
    }
    this.sent = true;
    let body;
    try {
      body = stringify(value);
    } catch (e) {
      const why = describe(e).errorMessage;
      this.end(ERROR, faultJson(new RuntimeError('MarshalError', `Unable to stringify response body: ${why}`)));
      return;
    }
    // Functions and symbols have no JSON either.
    this.end(RESPONSE, body === undefined ? 'null' : body);
  }

  fail(error) {
    if (this.sent) return;
    this.sent = true;
    // What AWS Lambda answers to a failure without a reason.
    const body = faultJson(error === undefined || error === null ? 'handled' : error);
    if (this.stream === null) this.end(ERROR, body);
    else this.stream.abandon(() => this.end(ERROR, body));
  }

  // The handler has returned, or its stream has ended: the call is over when both have.
  whole() {
    if (this.sent || !this.returned || !this.stream.writableFinished) return;
    this.sent = true;
    this.end(STREAM_END, '');
  }

  end(kind, body) {
    current = null;
    send(kind, this.id, body);
    // By way of the event loop: what the call left over gets one turn, and the stack unwinds.
    later(next);
  }

  // The event loop is empty: nothing more can come.
  settle() {
    if (this.due) this.succeed(this.due.value);
    else if (this.promised) {
      const message = 'the event loop is empty but the promise of the handler is not settled: it never will be';
      this.fail(new RuntimeError('NodeJsExit', message));
    } else this.succeed(null);
  }
}

// Waits for a call and starts it. Runs as an immediate, so the event loop goes on when it returns.
function serve() {
  const frame = receive();
  begun = clock();
  if (frame[4] !== INVOKE) exit(1);
  take(frame);
}

function take(frame) {
  const id = apply(latin1Slice, frame, [ID_AT, DEADLINE_AT]);
  const deadline = uint32(frame, DEADLINE_AT) + uint32(frame, DEADLINE_AT + 4) * 0x100000000;
  const eventAt = EXTRA_AT + uint32(frame, EXTRA_LENGTH_AT);
  const end = frameBytes(frame);
  let extra = null;
  let event = {};
  let spoiled;
  try {
    if (eventAt > EXTRA_AT) extra = parse(apply(utf8Slice, frame, [EXTRA_AT, eventAt]));
    if (end > eventAt) event = parse(apply(utf8Slice, frame, [eventAt, end]));
  } catch (e) {
    spoiled = e;
  }
  run(id, deadline, extra, event, spoiled);
}

function run(id, deadline, extra, event, spoiled) {
  let clientContext;
  if (extra !== null) {
    try {
      if (extra.client_context) clientContext = parse(extra.client_context);
    } catch (e) {
      spoiled = spoiled || new RuntimeError('UnmarshalError', `Unable to parse Client Context JSON: ${e.message}`);
    }
  }
  setTrace(extra === null ? undefined : extra.trace);
  const call = new Call(id, deadline, clientContext, extra?.arn ?? fixed.invokedFunctionArn);
  current = call;
  if (spoiled) {
    call.fail(spoiled);
    return;
  }
  try {
    if (streaming !== undefined && streaming.isStreaming(handler)) {
      runInPieces(call, event);
      return;
    }
    const result = handler(event, call.context, call.callback);
    if (isThenable(result)) {
      call.promised = true;
      result.then(call.context.succeed, call.context.fail);
    }
  } catch (e) {
    call.fail(e);
  }
}

// A handler that gets a stream to write its answer to.
function runInPieces(call, event) {
  const stream = new streaming.ResponseStream(call.id);
  call.stream = stream;
  stream.on('finish', () => call.whole());
  stream.on('error', (e) => call.fail(e));
  const returned = () => {
    call.promised = false;
    call.returned = true;
    call.whole();
  };
  const result = handler(event, stream, call.context);
  if (isThenable(result)) {
    call.promised = true;
    result.then(returned, call.context.fail);
  } else returned();
}

// The global object `awslambda`. Functions that never ask for it do not pay for it.
function offerStreams() {
  let own;
  const first = () => {
    streaming = require('./stream.js')({
      kinds: { STREAM_START, CHUNK },
      packetBytes: CHUNK_BYTES,
      stringify,
      write: (parts, done) => writev(socket, parts, null, (e) => (e ? exit(1) : done())),
      writeSync: (frame) => writeAll(frame, frame.length),
    });
    return (own = streaming.awslambda);
  };
  const set = (value) => (own = value);
  Object.defineProperty(globalThis, 'awslambda', { configurable: true, get: () => own ?? first(), set });
}

function isThenable(value) {
  return value !== null && value !== undefined && typeof value.then === 'function';
}

function setTrace(trace) {
  if (trace !== undefined) {
    proc.env._X_AMZN_TRACE_ID = trace;
    tracing = true;
  } else if (tracing) {
    delete proc.env._X_AMZN_TRACE_ID;
    tracing = false;
  }
}

// ---- errors

// An error in the form of AWS Lambda. Never throws, whatever was thrown.
function describe(error) {
  try {
    if (error instanceof NativeError || looksLikeError(error)) {
      return {
        errorType: cut(error.name, TRACE_LINE_CHARS),
        errorMessage: cut(error.message, MESSAGE_CHARS),
        trace: traceOf(error),
      };
    }
    return { errorType: typeof error, errorMessage: cut(error, MESSAGE_CHARS), trace: [] };
  } catch {
    return { errorType: 'Error', errorMessage: 'an error that cannot be shown', trace: [] };
  }
}

function looksLikeError(value) {
  return (
    typeof value === 'object' &&
    value !== null &&
    typeof value.name === 'string' &&
    typeof value.message === 'string' &&
    typeof value.stack === 'string'
  );
}

function cut(value, chars) {
  return text(value).slice(0, chars);
}

// The lines of the stack, without those of this file.
function traceOf(error) {
  if (typeof error.stack !== 'string') return [];
  const lines = error.stack.slice(0, MESSAGE_CHARS).split('\n', TRACE_LINES);
  return lines.filter((line) => !line.includes(__filename)).map((line) => cut(line, TRACE_LINE_CHARS));
}

function faultJson(error) {
  return stringify(describe(error));
}

// Tells the daemon what ended the process, and ends it. The socket is closed first: exiting takes milliseconds, and no call shall be sent into
// them.
function die(error, code) {
  const call = current;
  current = null;
  if (handler === undefined) {
    send(INIT_ERROR, '', faultJson(error));
    code = 1;
  } else if (call !== null && !call.sent) {
    send(LAST_ERROR, call.id, faultJson(error));
  } else {
    const { errorType, errorMessage, trace } = describe(error);
    try {
      writeSync(2, `${trace.length > 0 ? trace.join('\n') : `${errorType}: ${errorMessage}`}\n`);
    } catch {
      // Nobody listens.
    }
  }
  try {
    closeSync(FD);
  } catch {
    // The function has closed it.
  }
  exit(code);
}

// ---- loading

// Finds the handler that `name` (`[folder/]file.export[.export]`) stands for below `root`.
async function load(root, name) {
  if (name.includes('..')) {
    const why = `'${name}' is not a valid handler name. Use absolute paths when specifying root directories in handler names.`;
    throw new RuntimeError('MalformedHandlerName', why);
  }
  const slash = name.lastIndexOf('/') + 1;
  const folder = name.slice(0, slash);
  const dot = name.indexOf('.', slash);
  if (dot < 0) throw new RuntimeError('MalformedHandlerName', `Bad handler '${name}': expected FILE.EXPORT`);
  let found = await loadModule(root, folder, name.slice(slash, dot));
  for (const key of name.slice(dot + 1).split('.')) {
    found = found === undefined || found === null ? undefined : get(Object(found), key);
  }
  if (found === undefined || found === null) {
    throw new RuntimeError('HandlerNotFound', `${name} is undefined or not exported`);
  }
  if (typeof found !== 'function') throw new RuntimeError('HandlerNotFound', `${name} is not a function`);
  return found;
}

function loadModule(root, folder, file) {
  const path = require('path');
  const base = path.resolve(root, folder, file);
  try {
    if (existsSync(base) && isFile(base)) return require(base);
    // A regular file in the root itself is what it is called; anything else may be a link, or behind one.
    const script = lstatSync(`${base}.js`, { throwIfNoEntry: false });
    if (script !== undefined && (script.isFile() || isFile(`${base}.js`))) {
      if (isEsm(path, root, base)) return importFile(`${base}.js`);
      return script.isFile() && folder === '' ? requireFile(`${base}.js`) : require(`${base}.js`);
    }
    if (isFile(`${base}.mjs`)) return importFile(`${base}.mjs`);
    if (isFile(`${base}.cjs`)) return require(`${base}.cjs`);
    return require(require.resolve(file, { paths: [root, path.resolve(root, folder)] }));
  } catch (e) {
    throw loadError(e);
  }
}

// What `require` does with a file, but for the search for it: that it is there and has no other name is known.
function requireFile(file) {
  const made = new Module(file, module);
  require.cache[file] = made;
  made.load(file);
  return made.exports;
}

function isFile(name) {
  return statSync(name, { throwIfNoEntry: false })?.isFile() === true;
}

// Whether `.js` means ESM there: the nearest package.json decides.
function isEsm(path, root, file) {
  for (let folder = path.dirname(file); ; folder = path.dirname(folder)) {
    const manifest = path.join(folder, 'package.json');
    // Asked first: an error that is thrown costs more than all the rest here.
    if (existsSync(manifest)) {
      try {
        return parse(readFileSync(manifest, 'utf8')).type === 'module';
      } catch {
        return false;
      }
    }
    if (folder === root || folder === path.dirname(folder)) return false;
  }
}

async function importFile(file) {
  try {
    return await import(require('url').pathToFileURL(file).href);
  } catch (e) {
    throw loadError(e);
  }
}

// What can go wrong while a module is found and compiled has types of its own; what it throws itself stays as it is.
function loadError(e) {
  if (e instanceof SyntaxError) return new RuntimeError('UserCodeSyntaxError', text(e), e);
  const code = typeof e === 'object' && e !== null ? e.code : undefined;
  if (code === 'MODULE_NOT_FOUND' || code === 'ERR_MODULE_NOT_FOUND') {
    const lines = text(e).split('\n').filter((line) => !line.includes(__filename));
    return new RuntimeError('ImportModuleError', lines.join('\n'), e);
  }
  return e;
}

// Makes the modules of layers visible to `require`, as AWS Lambda's NODE_PATH does.
function addLayers(root) {
  if (proc.env.NODE_PATH || !existsSync('/opt/nodejs')) return;
  const major = proc.versions.node.split('.')[0];
  proc.env.NODE_PATH = `/opt/nodejs/node${major}/node_modules:/opt/nodejs/node_modules:${root}/node_modules:${root}`;
  Module._initPaths();
}

// ---- started ahead of the function

// Takes the way of a call, from INIT by way of the code on disk, in both forms of modules, to the answer, so that a function's first call finds everything loaded and
// compiled. Reading and writing end at a device, and what it leaves behind is undone, but for the four threads that read files for the engine and that a module
// of ours stays known by its URL; nothing here takes random numbers.
async function warm(calls) {
  const call = frameOf(INVOKE, EXTRA_AT, WARM_EVENT);
  socket = openSync('/dev/zero', 'r+');
  for (let n = 0; n < calls; n++) {
    for (const form of ['ahead.handler', 'ahead-module.handler']) {
      receive();
      await begin(frameOf(INIT, HEADER_BYTES, stringify({ ...WARM_INIT, handler: form })));
      setTrace('2');
      setTrace();
      send(READY, '', '');
      // By way of the event loop, as calls go.
      await new Promise((answered) => {
        next = answered;
        later(() => {
          receive();
          take(call);
        });
      });
    }
    delete require.cache[require.resolve('./ahead.js')];
    module.children.pop();
  }
  closeSync(socket);
  [socket, next, handler] = [FD, serve, undefined];
  // The streams and what formats their text, without a word.
  require('util').format('%s %o', proc.stdout && proc.stderr && '', { a: ['b'] });
}

function frameOf(kind, at, body) {
  const frame = allocUnsafeSlow(at + body.length).fill(0);
  putUint32(frame, 0, frame.length - HEADER_BYTES);
  frame[4] = kind;
  frame.latin1Write(body, at);
  return frame;
}

// Becomes the function's process: what `exec` would have given it.
function adopt(init) {
  for (const variable of init.environment) {
    const at = variable.indexOf('=');
    proc.env[variable.slice(0, at)] = variable.slice(at + 1);
  }
  proc.chdir(init.task_root);
}

// ---- forked

// Loads what functions usually want, without taking a random number.
function preload() {
  // After a full collection, or when a context is gone, V8 plans another collection for some seconds later. It would fall into the first call of each child.
  require('v8').setFlagsFromString(`--gc-memory-reducer-start-delay-ms=${2 ** 31 - 1}`);
  for (const name of PRELOADED) require(name);
  for (const name of GLOBALS) globalThis[name];
  structuredClone({ a: [1] });
}

// Waits to be forked, and returns in children alone: whether this one will lie ready, so that it has time to become warm.
function fork() {
  const library = { exports: {} };
  proc.dlopen(library, LIBRARY);
  const { setFlagsFromString } = require('v8');
  // What is garbage would be copied, what is moved later is written to.
  setFlagsFromString('--expose-gc');
  const collect = require('vm').runInNewContext('gc');
  setFlagsFromString('--no-expose-gc');
  for (let n = 0; n < 3; n++) collect();
  send(HELLO, '', '');
  const told = library.exports.wait(CONTROL);
  if (told === UNFIT) exit(1);
  Object.defineProperty(proc, 'pid', { ...Object.getOwnPropertyDescriptor(proc, 'pid'), value: 2 });
  reseed(setFlagsFromString);
  return told === RESTS;
}

// Math.random takes its state from a seed when it is first used, which is here. The seed has 31 bits; where each child begins in its sequence adds some.
function reseed(setFlagsFromString) {
  const bytes = allocUnsafeSlow(8);
  const source = openSync('/dev/urandom', 'r');
  readSync(source, bytes, 0, 8, null);
  closeSync(source);
  setFlagsFromString(`--random-seed=${1 + (uint32(bytes, 0) % SEEDS)}`);
  for (let n = uint32(bytes, 4) % 2 ** STEPS_BITS; n >= 0; n--) Math.random();
}

// ---- the process

// Makes what is printed leave the process at once, as a file's would: Node keeps what a pipe does not take at the moment, and here it would
// keep it until the next call. Looked at when first used: the streams cost a millisecond that most functions need not pay.
function writeThrough(name) {
  const { get: open, ...property } = Object.getOwnPropertyDescriptor(proc, name);
  let stream;
  const first = () => {
    stream = apply(open, proc, []);
    stream?._handle?.setBlocking?.(true);
    outputs[name] = stream;
    return stream;
  };
  Object.defineProperty(proc, name, { ...property, get: () => stream || first() });
}

// What Node says of the end of promises, of the process, and of the event loop.
function listen() {
  proc.on('uncaughtException', (e) => die(e, EXIT_EXCEPTION));
  proc.on('unhandledRejection', (reason) => {
    const why = describe(reason);
    const message = why.trace.length > 0 ? `${why.errorType}: ${why.errorMessage}` : why.errorMessage;
    die(new RuntimeError('UnhandledPromiseRejection', message, reason), EXIT_REJECTION);
  });
  proc.on('beforeExit', () => {
    if (current !== null) current.settle();
    else if (handler === undefined) {
      die(new RuntimeError('NodeJsExit', 'the event loop is empty but the module is not loaded: it awaits what never comes'));
    }
  });
}

async function main() {
  writeThrough('stdout');
  writeThrough('stderr');
  offerStreams();
  listen();
  const mode = proc.argv[2];
  if (mode === 'ahead' || mode === 'zygote') {
    proc.argv.pop();
    if (mode === 'zygote') preload();
    await warm(WARM_CALLS);
    // A copy has to take hold of the memory that the way of a call writes to.
    if (mode === 'zygote' && fork()) await warm(1);
  }
  send(HELLO, '', '');
  try {
    await begin(receive());
  } catch (e) {
    die(e);
  }
  send(READY, '', '');
  later(serve);
}

// Becomes a function's process, by an INIT frame, and loads its code.
async function begin(frame) {
  const init = parse(apply(utf8Slice, frame, [HEADER_BYTES, frameBytes(frame)]));
  fixed.functionName = init.function.name;
  fixed.functionVersion = init.function.version;
  fixed.invokedFunctionArn = init.function.arn;
  fixed.memoryLimitInMB = text(init.function.memory_mb);
  fixed.logGroupName = init.function.log_group;
  fixed.logStreamName = init.function.log_stream;

  if (init.environment !== undefined) adopt(init);
  addLayers(init.task_root);
  handler = await load(init.task_root, init.handler);
}

main();
