// The contract suite's handler (model::suites::sandbox): does what the event says.
'use strict';
const fs = require('fs');
const net = require('net');
const { spawn } = require('child_process');

let count = 0;
let longest = 0;
const kept = [];
const forever = () => new Promise(() => setInterval(() => {}, 1000));

// A process that runs `code` with `marker` on its command line.
function child(code, marker) {
  return spawn(process.execPath, ['-e', code, marker], { stdio: ['ignore', 'pipe', 'ignore'], detached: true });
}

const ops = {
  echo: (e) => e.value,
  count: () => ++count,
  throw: (e) => { throw new RangeError(e.text); },
  print: (e) => { console.log(e.text); return null; },
  flood: (e) => {
    const line = Buffer.from('x'.repeat(1023) + '\n');
    for (let i = 0; i < e.bytes / line.length; i++) {
      let at = 0;
      while (at < line.length) at += fs.writeSync(1, line, at);
    }
    return e.bytes;
  },
  big: (e) => 'z'.repeat(e.bytes),
  unserialisable: () => { const a = {}; a.a = a; return a; },
  busy: () => { for (;;); },
  never: forever,
  children: async (e) => {
    const inner = `console.log("up"); setInterval(() => {}, 1000)`;
    const outer = `const c = require("child_process").spawn(process.execPath, ["-e", ${JSON.stringify(inner)}, ${JSON.stringify(e.marker)}],
      { stdio: ["ignore", "pipe", "ignore"], detached: true });
      c.stdout.once("data", () => console.log("up")); setInterval(() => {}, 1000)`;
    const c = child(outer, e.marker);
    await new Promise((done) => c.stdout.once('data', done));
    return e.then === 'return' ? 2 : forever();
  },
  forks: async (e) => {
    const bomb = `const { spawn } = require("child_process"); setInterval(() => { try {
      for (let i = 0; i < 50; i++) spawn("/bin/sh", ["-c", "while :; do sh -c 'while :; do :; done' " + process.argv[1] + " & done"]).on("error", () => {});
      } catch {} }, 1)`;
    child(bomb, e.marker).on('error', () => {});
    return forever();
  },
  exit: (e) => process.exit(e.code),
  signal: async (e) => { process.kill(process.pid, e.signal); return forever(); },
  memory: () => { for (;;) kept.push(Buffer.alloc(1 << 20, kept.length & 255)); },
  connect: (e) => new Promise((done, fail) => {
    net.connect(e.port, '127.0.0.1').once('connect', () => done('connected')).once('error', fail);
  }),
  write: (e) => { fs.writeFileSync(e.path, e.text); return null; },
  read: (e) => fs.readFileSync(e.path, 'utf8'),
  list: (e) => fs.readdirSync(e.path),
  import: (e) => require(e.name).text,
  environment: () => ({ ...process.env }),
  tick: () => {
    let last = Date.now();
    longest = 0;
    setInterval(() => { const now = Date.now(); longest = Math.max(longest, now - last); last = now; }, 1);
    return null;
  },
  // The look that comes after a pause may be due still.
  pause: async () => { await new Promise((done) => setTimeout(done, 20)); return longest; },
};

exports.handler = async (event) => ops[event.op](event);
