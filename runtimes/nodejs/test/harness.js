// Starts the bootstrap as the daemon does, over a socket pair on file descriptor 3.

'use strict';

const { spawn } = require('node:child_process');
const { randomUUID } = require('node:crypto');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');

const BOOTSTRAP = path.join(__dirname, '..', 'bootstrap.js');
const KIND = {
  INIT: 1,
  INVOKE: 2,
  HELLO: 16,
  READY: 17,
  INIT_ERROR: 18,
  RESPONSE: 19,
  ERROR: 20,
  LAST_ERROR: 21,
  STREAM_START: 22,
  CHUNK: 23,
  STREAM_END: 24,
};
// Frames that say how the call went; and those that name the call and have nothing more before their body.
const TOLD = [KIND.RESPONSE, KIND.ERROR, KIND.LAST_ERROR, KIND.STREAM_END];
const NAMED = [...TOLD, KIND.STREAM_START, KIND.CHUNK];
// Nothing in these tests takes longer unless it hangs.
const PATIENCE_MS = 20_000;

function frame(kind, ...parts) {
  const payload = Buffer.concat(parts.map((part) => Buffer.from(part)));
  const head = Buffer.alloc(8);
  head.writeUInt32LE(payload.length, 0);
  head[4] = kind;
  return Buffer.concat([head, payload]);
}

class Instance {
  // `files`: name → content, or `{ link }` to another file, written into a fresh task root. `ahead`: started without the function and its variables, which come with INIT.
  constructor(files, handler, { env = {}, ahead = false } = {}) {
    this.root = fs.mkdtempSync(path.join(os.tmpdir(), 'bootstrap-test-'));
    for (const [name, content] of Object.entries(files)) {
      const file = path.join(this.root, name);
      fs.mkdirSync(path.dirname(file), { recursive: true });
      if (typeof content === 'object') fs.symlinkSync(content.link, file);
      else fs.writeFileSync(file, content);
    }
    this.child = spawn(process.execPath, ahead ? [BOOTSTRAP, 'ahead'] : [BOOTSTRAP], {
      cwd: ahead ? os.tmpdir() : this.root,
      env: { PATH: process.env.PATH, ...(ahead ? {} : env) },
      stdio: ['ignore', 'pipe', 'pipe', 'pipe'],
    });
    this.stdout = '';
    this.stderr = '';
    this.child.stdout.on('data', (data) => (this.stdout += data));
    this.child.stderr.on('data', (data) => (this.stderr += data));
    this.exited = new Promise((resolve) => {
      this.child.on('close', (code, signal) => resolve({ code, signal }));
    });
    this.socket = this.child.stdio[3];
    this.received = Buffer.alloc(0);
    this.waiting = [];
    this.socket.on('data', (data) => {
      this.received = Buffer.concat([this.received, data]);
      this.wake();
    });
    this.socket.on('end', () => ((this.ended = true), this.wake()));
    this.socket.on('error', () => ((this.ended = true), this.wake()));
    this.init(handler, ahead ? env : undefined);
  }

  init(handler, env) {
    const init = {
      environment: env && Object.entries(env).map(([name, value]) => `${name}=${value}`),
      handler,
      task_root: this.root,
      function: {
        name: 'hello',
        version: '$LATEST',
        arn: 'arn:aws:lambda:local:000000000000:function:hello',
        memory_mb: 128,
        log_group: '/aws/lambda/hello',
        log_stream: 'stream-1',
      },
    };
    this.socket.write(frame(KIND.INIT, JSON.stringify(init)));
  }

  wake() {
    for (const wake of this.waiting.splice(0)) wake();
  }

  // The next frame as `{kind, id, told, body}`, or `null` at the end of the stream.
  async next() {
    const timer = setTimeout(() => this.child.kill('SIGKILL'), PATIENCE_MS);
    try {
      for (;;) {
        const have = this.received;
        const total = have.length >= 8 ? 8 + have.readUInt32LE(0) : Infinity;
        if (have.length >= total) {
          this.received = have.subarray(total);
          const kind = have[4];
          const answer = TOLD.includes(kind);
          const named = NAMED.includes(kind);
          const id = named ? have.toString('latin1', 8, 44) : '';
          const told = answer ? [44, 48, 52].map((at) => have.readUInt32LE(at)) : [];
          const bytes = have.subarray(answer ? 56 : named ? 44 : 8, total);
          return { kind, id, told, bytes, body: bytes.toString('utf8') };
        }
        if (this.ended) return null;
        await new Promise((resolve) => this.waiting.push(resolve));
      }
    } finally {
      clearTimeout(timer);
    }
  }

  // Waits until the code is loaded; returns the error if it could not be.
  async ready() {
    const hello = await this.next();
    if (hello?.kind !== KIND.HELLO) throw new Error(`expected HELLO, got ${JSON.stringify(hello)}: ${this.stderr}`);
    const ready = await this.next();
    if (ready?.kind === KIND.INIT_ERROR) return JSON.parse(ready.body);
    if (ready?.kind !== KIND.READY) throw new Error(`expected READY, got ${JSON.stringify(ready)}: ${this.stderr}`);
    return null;
  }

  send(event, { id = randomUUID(), deadline = Date.now() + 3000, extra = '' } = {}) {
    const fixed = Buffer.alloc(12);
    fixed.writeBigUInt64LE(BigInt(deadline), 0);
    fixed.writeUInt32LE(Buffer.byteLength(extra), 8);
    this.socket.write(frame(KIND.INVOKE, id, fixed, extra, event === undefined ? '' : event));
    return id;
  }

  // One call with an event as JSON text: `{value}`, `{error}`, or `{ended: true}`.
  async call(event = '{}', options = {}) {
    const id = this.send(event, options);
    const answer = await this.next();
    if (answer === null) return { ended: true };
    if (answer.id !== id) throw new Error(`expected an answer to ${id}, got ${answer.id}`);
    const body = JSON.parse(answer.body);
    if (answer.kind === KIND.LAST_ERROR) return { error: body, last: true };
    this.told = answer.told;
    return answer.kind === KIND.ERROR ? { error: body } : { value: body, text: answer.body };
  }

  // One call that is answered in pieces: `{prelude, pieces, error?}`. `onPiece` may hold the reading up.
  async stream(event = '{}', onPiece = () => {}) {
    const id = this.send(event);
    const start = await this.next();
    if (start?.kind === KIND.ERROR) return { error: JSON.parse(start.body), pieces: [] };
    if (start?.kind !== KIND.STREAM_START || start.id !== id) throw new Error(`expected a stream, got ${JSON.stringify(start)}`);
    const pieces = [];
    for (;;) {
      const frame = await this.next();
      if (frame?.id !== id) throw new Error(`expected a piece of ${id}, got ${JSON.stringify(frame)}`);
      const prelude = JSON.parse(start.body);
      if (frame.kind === KIND.STREAM_END) return { prelude, pieces };
      if (frame.kind === KIND.ERROR) return { prelude, pieces, error: JSON.parse(frame.body) };
      if (frame.kind !== KIND.CHUNK) throw new Error(`expected a piece, got ${JSON.stringify(frame)}`);
      pieces.push(frame.bytes);
      await onPiece(frame.bytes);
    }
  }

  async stop() {
    this.socket.end();
    const timer = setTimeout(() => this.child.kill('SIGKILL'), PATIENCE_MS);
    const result = await this.exited;
    clearTimeout(timer);
    fs.rmSync(this.root, { recursive: true });
    return result;
  }
}

// Starts an instance of one CommonJS file, runs `body`, stops it; a load error fails the test.
async function withCode(code, body, options) {
  await withFiles({ 'index.js': code }, 'index.handler', async (instance) => {
    const error = await instance.ready();
    if (error !== null) throw new Error(JSON.stringify(error));
    await body(instance);
  }, options);
}

async function withFiles(files, handler, body, options) {
  const instance = new Instance(files, handler, options);
  try {
    await body(instance);
  } finally {
    await instance.stop();
  }
}

module.exports = { KIND, Instance, withCode, withFiles };
