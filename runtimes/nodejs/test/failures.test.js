// Handlers that fail while they run.

'use strict';

const assert = require('node:assert/strict');
const { test } = require('node:test');
const { withCode, KIND } = require('./harness');

// handler → errorType, errorMessage; the instance serves on.
const cases = [
  ['throws', `() => { throw new TypeError('boom') }`, 'TypeError', 'boom'],
  ['rejects', `async () => { throw new RangeError('no') }`, 'RangeError', 'no'],
  ['calls back an error', `(e, c, cb) => cb(new Error('cb'))`, 'Error', 'cb'],
  ['calls back a string', `(e, c, cb) => cb('plain')`, 'string', 'plain'],
  ['context.fail', `(e, c) => c.fail(new Error('failed'))`, 'Error', 'failed'],
  ['context.fail without a reason', `(e, c) => c.fail()`, 'string', 'handled'],
  ['rejects with nothing', `() => Promise.reject()`, 'string', 'handled'],
  ['throws null', `() => { throw null }`, 'string', 'handled'],
  ['throws a number', `() => { throw 42 }`, 'number', '42'],
  ['throws an object', `() => { throw { a: 1 } }`, 'object', '[object Object]'],
  ['throws a symbol', `() => { throw Symbol('s') }`, 'symbol', 'Symbol(s)'],
  ['throws what cannot be shown', `() => { throw { toString() { throw 1 } } }`, 'Error', 'an error that cannot be shown'],
  ['throws an error class of its own', `() => { class A extends Error {}; const e = new A('a'); e.name = 'My.Error'; throw e }`, 'My.Error', 'a'],
  ['throws what looks like an error', `() => { throw { name: 'N', message: 'M', stack: 'N: M' } }`, 'N', 'M'],
  ['throws an error of another realm', `() => { require('vm').runInNewContext('throw new SyntaxError("vm")') }`, 'SyntaxError', 'vm'],
  ['throws after it called back', `(e, c, cb) => { cb(null, 1); throw new Error('after') }`, 'Error', 'after'],
  ['never settles', `() => new Promise(() => {})`, 'Runtime.NodeJsExit', /never will be/],
  ['returns a BigInt', `async () => 1n`, 'Runtime.MarshalError', /BigInt/],
  ['returns a cycle', `async () => { const a = {}; a.a = a; return a }`, 'Runtime.MarshalError', /circular/],
  ['calls back a cycle', `(e, c, cb) => { const a = {}; a.a = a; cb(null, a) }`, 'Runtime.MarshalError', /circular/],
  ['throws in toJSON', `async () => ({ toJSON() { throw new Error('toJSON') } })`, 'Runtime.MarshalError', /toJSON/],
];

for (const [name, handler, type, message] of cases) {
  test(name, () =>
    withCode(`exports.handler = (...a) => globalThis.ok ? Promise.resolve('ok') : (${handler})(...a);
      exports.other = 1; const h = exports.handler;
      exports.handler = (event, ...a) => { globalThis.ok = event.ok; return h(event, ...a) }`, async (instance) => {
      const { error } = await instance.call();
      assert.deepEqual(Object.keys(error), ['errorType', 'errorMessage', 'trace']);
      assert.equal(error.errorType, type);
      if (typeof message === 'string') assert.equal(error.errorMessage, message);
      else assert.match(error.errorMessage, message);
      assert.equal((await instance.call('{"ok":true}')).value, 'ok');
    }));
}

test('the trace shows the function and not the bootstrap', () =>
  withCode(`function deep() { throw new Error('deep') }\nexports.handler = () => deep();`, async (instance) => {
    const { trace } = (await instance.call()).error;
    assert.equal(trace[0], 'Error: deep');
    assert.match(trace[1], /at deep .*index\.js:1/);
    assert.ok(!trace.some((line) => line.includes('bootstrap.js')), trace);
  }));

test('huge errors are cut', () =>
  withCode(`exports.handler = () => { throw new Error('x'.repeat(20e6)) }`, async (instance) => {
    const { error } = await instance.call();
    assert.ok(JSON.stringify(error).length < 2e6);
  }));

test('an event that is no JSON', () =>
  withCode(`exports.handler = async (event) => event`, async (instance) => {
    assert.equal((await instance.call('{"a":')).error.errorType, 'SyntaxError');
    assert.equal((await instance.call('{}', { extra: '{"client_context":"{"}' })).error.errorType, 'Runtime.UnmarshalError');
    assert.deepEqual((await instance.call('1')).value, 1);
  }));

async function endsWith(instance, code, event) {
  const answer = await instance.call(event);
  const result = await instance.exited;
  assert.equal(result.code, code, instance.stderr);
  return answer;
}

test('an uncaught exception is the answer, then the process ends', () =>
  withCode(
    `exports.handler = async () => { setTimeout(() => { throw new TypeError('late') }, 1); await new Promise(() => setInterval(() => {}, 1000)) }`,
    async (instance) => {
      const { error, last } = await endsWith(instance, 129);
      assert.equal(last, true);
      assert.equal(error.errorType, 'TypeError');
      assert.equal(error.errorMessage, 'late');
    },
  ));

test('an unhandled rejection is the answer, then the process ends', () =>
  withCode(
    `exports.handler = (e, c, cb) => { Promise.reject(new Error('lost')); setTimeout(cb, 1000) }`,
    async (instance) => {
      const { error, last } = await endsWith(instance, 128);
      assert.equal(last, true);
      assert.equal(error.errorType, 'Runtime.UnhandledPromiseRejection');
      assert.equal(error.errorMessage, 'Error: lost');
      assert.match(error.trace[1], /index\.js/);
    },
  ));

test('an exception after the answer ends the process and is said', () =>
  withCode(
    `exports.handler = async () => { setImmediate(() => { throw new Error('afterwards') }); return 1 }`,
    async (instance) => {
      assert.equal((await instance.call()).value, 1);
      const { code } = await instance.exited;
      assert.equal(code, 129);
      assert.match(instance.stderr, /afterwards/);
    },
  ));

test('exit codes and signals are the process\'s own', async () => {
  await withCode(`exports.handler = () => process.exit(3)`, async (instance) => {
    assert.deepEqual(await endsWith(instance, 3), { ended: true });
  });
  await withCode(`exports.handler = () => { process.exitCode = 7; process.exit() }`, async (instance) => {
    assert.deepEqual(await endsWith(instance, 7), { ended: true });
  });
  await withCode(`exports.handler = () => process.kill(process.pid, 'SIGKILL')`, async (instance) => {
    assert.deepEqual(await instance.call(), { ended: true });
    assert.equal((await instance.exited).signal, 'SIGKILL');
  });
});

test('an answer over the limit is announced as it is', () =>
  withCode(`exports.handler = async () => 'x'.repeat(7 * 1024 * 1024)`, async (instance) => {
    instance.send('{}');
    const answer = await instance.next();
    assert.equal(answer.kind, KIND.RESPONSE);
    assert.equal(answer.body.length, 7 * 1024 * 1024 + 2);
  }));
