// Answers in pieces.

'use strict';

const assert = require('node:assert/strict');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { test } = require('node:test');
const { withCode } = require('./harness');

const streams = (body) => `exports.handler = awslambda.streamifyResponse(${body})`;
const joined = ({ pieces }) => Buffer.concat(pieces).toString();

const cases = [
  ['pieces', `async (event, out) => { out.write('a'); out.write(Buffer.from('b')); out.end('c') }`, {}, 'abc'],
  ['nothing', `async (event, out) => { out.end() }`, {}, ''],
  ['no end', `async (event, out) => { out.write('a') }`, {}, 'a'],
  ['no promise', `(event, out) => { setTimeout(() => out.end('late'), 5) }`, {}, 'late'],
  ['a content type', `async (event, out) => { out.setContentType('text/plain'); out.end('x') }`, { headers: { 'content-type': 'text/plain' } }, 'x'],
  [
    'metadata',
    `async (event, out) => {
      const to = awslambda.HttpResponseStream.from(out, { statusCode: 201, headers: { 'x-a': 'b' }, cookies: ['c=d'] });
      to.write(event.text); to.end();
    }`,
    { statusCode: 201, headers: { 'x-a': 'b' }, cookies: ['c=d'] },
    'naïve 函数',
  ],
  ['a pipeline', `async (event, out) => { await require('stream/promises').pipeline(require('stream').Readable.from(['x', 'y', 'z']), out) }`, {}, 'xyz'],
  ['text in another encoding', `async (event, out) => { out.end('6869', 'hex') }`, {}, 'hi'],
  ['a return that is not the answer', `async (event, out) => { out.end('x'); return 'ignored' }`, {}, 'x'],
  ['context', `async (event, out, context) => { out.end(String(context.getRemainingTimeInMillis() > 0) + typeof context.awsRequestId) }`, {}, 'truestring'],
  ['context.succeed', `(event, out, context) => { out.write('x'); context.succeed() }`, {}, 'x'],
];

for (const [name, handler, prelude, expected] of cases) {
  test(name, () =>
    withCode(streams(handler), async (instance) => {
      for (let i = 0; i < 2; i++) {
        const answer = await instance.stream('{"text":"naïve 函数"}');
        assert.deepEqual(answer.prelude, prelude);
        assert.equal(answer.error, undefined);
        assert.equal(joined(answer), expected);
      }
    }));
}

test('large and many writes arrive whole, in packets', () =>
  withCode(
    streams(`async (event, out) => {
      out.write(Buffer.alloc(200000, 'a'));
      for (let i = 0; i < 3000; i++) out.write('b');
      out.end(Buffer.alloc(65536, 'c'));
    }`),
    async (instance) => {
      const answer = await instance.stream();
      assert.equal(joined(answer), 'a'.repeat(200000) + 'b'.repeat(3000) + 'c'.repeat(65536));
      assert.ok(answer.pieces.every((piece) => piece.length > 0 && piece.length <= 65536));
      assert.ok(answer.pieces.length < 3000, 'small writes go together');
    },
  ));

test('an error before the first piece is an error of the call', () =>
  withCode(streams(`async () => { throw new TypeError('early') }`), async (instance) => {
    const { error } = await instance.stream();
    assert.deepEqual([error.errorType, error.errorMessage], ['TypeError', 'early']);
  }));

for (const [name, body] of [
  ['a rejection', `out.write('a'); throw new TypeError('half-way')`],
  ['a broken source', `await require('stream/promises').pipeline(async function* () { yield 'a'; throw new TypeError('half-way') }, out)`],
  ['a destroyed stream', `out.write('a'); out.destroy(new TypeError('half-way')); await new Promise(() => setInterval(() => {}, 1000))`],
]) {
  test(`${name} behind the first piece cuts the answer, and the process goes on`, () =>
    withCode(`let n = 0; ${streams(`async (event, out) => { if (n++ > 0) { out.end('next'); return } ${body} }`)}`, async (instance) => {
      const answer = await instance.stream();
      assert.equal(joined(answer), 'a');
      assert.deepEqual([answer.error.errorType, answer.error.errorMessage], ['TypeError', 'half-way']);
      assert.equal(joined(await instance.stream()), 'next');
    }));
}

test('metadata that cannot be sent is an error', () =>
  withCode(
    streams(`async (event, out) => { awslambda.HttpResponseStream.from(out, { headers: { a: 'x'.repeat(70000) } }); out.end('x') }`),
    async (instance) => {
      const { error } = await instance.stream();
      assert.equal(error.errorType, 'RangeError');
    },
  ));

test('while nobody reads, the function is told to wait and its event loop goes on', async () => {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'stream-test-'));
  const ticks = path.join(folder, 'ticks');
  const code = streams(`async (event, out) => {
    const fs = require('fs');
    let written = 0;
    const tick = setInterval(() => fs.writeFileSync(event.ticks, String(written)), 5);
    const piece = Buffer.alloc(50000);
    for (let i = 0; i < 200; i++) {
      if (!out.write(piece)) await new Promise((go) => out.once('drain', go));
      written = i + 1;
    }
    clearInterval(tick);
    out.end();
  }`);
  await withCode(code, async (instance) => {
    let held = 0;
    const answer = await instance.stream(JSON.stringify({ ticks }), async () => {
      if (held++ > 0) return;
      instance.socket.pause();
      // Until the function stands still: its event loop says so, five times over.
      for (let same = 0, before = ''; same < 5; ) {
        await new Promise((go) => setTimeout(go, 20));
        fs.rmSync(ticks, { force: true });
        while (!fs.existsSync(ticks)) await new Promise((go) => setTimeout(go, 5));
        const now = fs.readFileSync(ticks, 'utf8');
        same = now !== '' && now === before ? same + 1 : 0;
        before = now;
        assert.ok(Number(now) < 100, `${now} pieces were written that nobody has read`);
      }
      instance.socket.resume();
    });
    assert.equal(joined(answer).length, 200 * 50000);
  });
  fs.rmSync(folder, { recursive: true });
});

test('functions may put something else in its place', () =>
  withCode(`globalThis.awslambda = 7; exports.handler = async () => awslambda`, async (instance) => {
    assert.deepEqual((await instance.call()).value, 7);
  }));
