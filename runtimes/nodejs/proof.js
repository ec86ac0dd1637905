// What the daemon asks the first process of each class, before it gives one to a function.

'use strict';

const fs = require('fs');

exports.prove = async ({ variable, thoroughly }) => ({
  broken: thoroughly ? await broken() : [],
  variable: process.env[variable],
  folder: process.cwd(),
  code: fs.existsSync('proof.js'),
  layers: fs.readdirSync('/opt').length,
  written: ['/var/task/x', '/opt/x'].some(writes),
  tmp_bytes: (({ blocks, bsize }) => blocks * bsize)(fs.statfsSync('/tmp')),
});

function writes(file) {
  try {
    fs.writeFileSync(file, '');
    return true;
  } catch {
    return false;
  }
}

// Tries what a copy of a process may have lost; gives name and error of what does not work.
async function broken() {
  const found = [];
  for (const [name, trial] of Object.entries(trials)) {
    let timer;
    const late = new Promise((_, reject) => {
      timer = setTimeout(() => reject(new Error('takes too long')), 5000);
    });
    try {
      await Promise.race([Promise.resolve().then(trial), late]);
    } catch (e) {
      found.push(`${name}: ${e && e.message}`);
    }
    clearTimeout(timer);
  }
  return found;
}

function check(holds, ...what) {
  if (!holds) throw new Error(`unexpected: ${require('util').inspect(what)}`);
}

// Adds two numbers.
const WASM = Buffer.from(
  '0061736d0100000001070160027f7f017f030201000707010361646400000a09010700200020016a0b',
  'hex',
);

const trials = {
  process() {
    check(process.pid === 2 && process.ppid === 1, process.pid, process.ppid);
  },
  compiler() {
    const fibonacci = (n) => (n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2));
    check(fibonacci(25) === 75025);
  },
  collector() {
    const kept = [];
    for (let n = 0; n < 300000; n++) {
      const one = { a: n, b: [n, n + 1], c: `x${n}` };
      if (n % 4 === 0) kept.push(one);
    }
    check(kept.length === 75000 && kept.at(-1).b[1] === 299997);
  },
  async files() {
    await fs.promises.writeFile('/tmp/trial', 'x');
    check((await fs.promises.readFile('/tmp/trial', 'utf8')) === 'x');
    await fs.promises.unlink('/tmp/trial');
  },
  async pool() {
    const crypto = require('crypto');
    const derive = require('util').promisify(crypto.pbkdf2);
    const keys = await Promise.all([1, 2, 3, 4, 5, 6].map((n) => derive('a', `${n}`, 1000, 32, 'sha256')));
    check(new Set(keys.map(String)).size === 6);
    const zipped = await require('util').promisify(require('zlib').gzip)('x'.repeat(10000));
    check(require('zlib').gunzipSync(zipped).length === 10000);
    check((await crypto.webcrypto.subtle.digest('SHA-256', Buffer.from('x'))).byteLength === 32);
  },
  async timers() {
    await new Promise((done) => setImmediate(() => process.nextTick(() => setTimeout(done, 5))));
  },
  async network() {
    const server = require('http').createServer((request, response) => response.end('here'));
    await new Promise((done) => server.listen(0, '127.0.0.1', done));
    const answer = await fetch(`http://127.0.0.1:${server.address().port}`);
    check((await answer.text()) === 'here');
    server.closeAllConnections();
    await new Promise((done) => server.close(done));
  },
  async tls() {
    const { Duplex } = require('stream');
    const hello = await new Promise((done) => {
      const socket = new Duplex({ read() {}, write: (chunk, _, next) => (done(chunk), next()) });
      require('tls').connect({ socket, servername: 'localhost' }).on('error', () => {});
    });
    check(hello[0] === 22, hello);
  },
  async helpers() {
    const { Worker } = require('worker_threads');
    const helper = new Worker("require('worker_threads').parentPort.postMessage(6 * 7)", { eval: true });
    check((await require('events').once(helper, 'message'))[0] === 42);
    await helper.terminate();
  },
  async children() {
    const { execFile, spawnSync } = require('child_process');
    const { stdout } = await require('util').promisify(execFile)('/bin/sh', ['-c', 'echo $PPID']);
    check(stdout === '2\n', stdout);
    check(spawnSync('/bin/sh', ['-c', 'exit 3']).status === 3);
  },
  async wasm() {
    check(new WebAssembly.Instance(new WebAssembly.Module(WASM)).exports.add(2, 3) === 5);
    check((await WebAssembly.instantiate(WASM)).instance.exports.add(3, 4) === 7);
  },
  async signals() {
    const got = require('events').once(process, 'SIGUSR2');
    process.kill(process.pid, 'SIGUSR2');
    check((await got)[0] === 'SIGUSR2');
  },
  async modules() {
    check(typeof (await import('fs/promises')).readFile === 'function');
    await fs.promises.writeFile('/tmp/trial.mjs', 'export default 5');
    check((await import('/tmp/trial.mjs')).default === 5);
    await fs.promises.unlink('/tmp/trial.mjs');
  },
  async messages() {
    check(structuredClone(new Map([[1, 2]])).get(1) === 2);
    check(Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 5) === 'timed-out');
    const { port1, port2 } = new MessageChannel();
    const got = new Promise((done) => (port1.onmessage = done));
    port2.postMessage(9);
    check((await got).data === 9);
    port1.close();
  },
  descriptors() {
    const links = fs.readdirSync('/proc/self/fd').map((fd) => {
      try {
        return fs.readlinkSync(`/proc/self/fd/${fd}`);
      } catch {
        return '';
      }
    });
    const known = /^(pipe:|socket:|anon_inode:\[event|\/dev\/null$|$)/;
    check(links.every((link) => known.test(link)), links);
    check(links.filter((link) => link.startsWith('socket:')).length === 1, links);
    const maps = fs.readFileSync('/proc/self/maps', 'utf8').split('\n');
    const shared = maps.filter((line) => line.split(' ')[1]?.[3] === 's');
    check(shared.length === 0, shared);
  },
};
