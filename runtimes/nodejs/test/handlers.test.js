// The forms of handlers, what they are given and how they may answer.

'use strict';

const assert = require('node:assert/strict');
const { test } = require('node:test');
const { withCode } = require('./harness');

const cases = [
  ['callback', `(event, context, callback) => callback(null, event.n + 1)`, 2],
  ['callback later', `(e, c, callback) => { setTimeout(() => callback(null, 'late'), 5) }`, 'late'],
  ['async', `async (event) => ({ n: event.n })`, { n: 1 }],
  ['async that waits', `async () => { await new Promise((r) => setTimeout(r, 5)); return 'waited' }`, 'waited'],
  ['async over real I/O', `async () => (await require('fs/promises').readFile(__filename, 'utf8')).length > 0`, true],
  ['promise', `() => Promise.resolve([1, 2])`, [1, 2]],
  ['thenable', `() => ({ then: (ok) => ok('then') })`, 'then'],
  ['context.succeed', `(event, context) => context.succeed('ok')`, 'ok'],
  ['context.done', `(event, context) => context.done(null, 'done')`, 'done'],
  ['undefined', `async () => undefined`, null],
  ['a function as answer', `async () => () => 1`, null],
  ['never answering with an empty event loop', `() => {}`, null],
  ['a value returned without a promise is not the answer', `() => 'ignored'`, null],
  ['the first of two callbacks counts after it was sent', `(e, c, cb) => { c.callbackWaitsForEmptyEventLoop = false; cb(null, 1); cb(null, 2) }`, 1],
  ['the first of two callbacks counts while it waits', `(e, c, cb) => { cb(null, 1); cb(null, 2); cb(new Error('3')) }`, 1],
  ['a late second callback changes nothing', `(e, c, cb) => { cb(null, 1); setTimeout(cb, 2, null, 2) }`, 1],
  ['callback and promise: the first counts', `async (e, c) => { c.succeed('first'); return 'second' }`, 'first'],
  ['non-ASCII', `async () => 'naïve 函数 🎉'`, 'naïve 函数 🎉'],
  ['this is not needed', `async function () { return typeof arguments[2] }`, 'function'],
];

for (const [name, handler, expected] of cases) {
  test(name, () =>
    withCode(`exports.handler = ${handler}`, async (instance) => {
      // Twice: the first call must leave everything in order for the second.
      for (let i = 0; i < 2; i++) {
        assert.deepEqual(await instance.call('{"n":1}'), { value: expected, text: JSON.stringify(expected) });
      }
    }));
}

test('the hello of the examples', () =>
  withCode(
    `exports.handler = function (event, context, callback) {
      var response = { isBase64Encoded: false, headers: {}, statusCode: 200, body: 'Hello world' };
      callback(null, response);
    };`,
    async (instance) => {
      for (let i = 0; i < 100; i++) {
        const { value } = await instance.call();
        assert.deepEqual(value, { isBase64Encoded: false, headers: {}, statusCode: 200, body: 'Hello world' });
      }
    },
  ));

test('context has all its fields and methods', () =>
  withCode(
    `exports.handler = async (event, context) => ({
      ...context,
      own: Object.keys(context),
      remaining: context.getRemainingTimeInMillis(),
      trace: process.env._X_AMZN_TRACE_ID,
    })`,
    async (instance) => {
      const extra = JSON.stringify({ trace: 'Root=1', client_context: '{"custom":{"a":1}}', hops: 1 });
      const { value } = await instance.call('{}', { id: '0192f5a0-0000-7000-8000-00000000000a', extra });
      assert.equal(value.awsRequestId, '0192f5a0-0000-7000-8000-00000000000a');
      assert.equal(value.functionName, 'hello');
      assert.equal(value.functionVersion, '$LATEST');
      assert.equal(value.invokedFunctionArn, 'arn:aws:lambda:local:000000000000:function:hello');
      assert.equal(value.memoryLimitInMB, '128');
      assert.equal(value.logGroupName, '/aws/lambda/hello');
      assert.equal(value.logStreamName, 'stream-1');
      assert.equal(value.callbackWaitsForEmptyEventLoop, true);
      assert.deepEqual(value.clientContext, { custom: { a: 1 } });
      assert.equal(value.trace, 'Root=1');
      assert.ok(value.remaining > 1000 && value.remaining <= 3000, value.remaining);
      for (const name of ['identity', 'done', 'succeed', 'fail', 'getRemainingTimeInMillis']) {
        assert.ok(value.own.includes(name), name);
      }
      // The next call has neither.
      const next = (await instance.call()).value;
      assert.equal(next.clientContext, undefined);
      assert.equal(next.trace, undefined);
      assert.equal((await instance.call('{}', { deadline: 5 })).value.remaining, 0);
    },
  ));

test('a call may have a name of its own', () =>
  withCode(`exports.handler = async (event, context) => context.invokedFunctionArn`, async (instance) => {
    const fixed = 'arn:aws:lambda:local:000000000000:function:hello';
    for (const [extra, arn] of [[{ arn: `${fixed}:live` }, `${fixed}:live`], [{ hops: 1 }, fixed]]) {
      assert.equal((await instance.call('{}', { extra: JSON.stringify(extra) })).value, arn);
    }
    assert.equal((await instance.call()).value, fixed);
  }));

test('an empty event means {}', () =>
  withCode(`exports.handler = async (event) => event`, async (instance) => {
    assert.deepEqual((await instance.call('')).value, {});
    assert.deepEqual((await instance.call('[1]')).value, [1]);
    assert.deepEqual((await instance.call('null')).value, null);
  }));

test('a callback waits for the event loop by default', () =>
  withCode(
    `exports.handler = (event, context, callback) => {
      context.callbackWaitsForEmptyEventLoop = event.wait;
      const answer = { log: ['called'] };
      setTimeout(() => answer.log.push('timer'), 20);
      callback(null, answer);
    }`,
    async (instance) => {
      assert.deepEqual((await instance.call('{"wait":true}')).value.log, ['called', 'timer']);
      assert.deepEqual((await instance.call('{"wait":false}')).value.log, ['called']);
    },
  ));

test('work left over goes on with the next call', () =>
  withCode(
    `let ticks = 0;
    exports.handler = async (event) => {
      if (event.start) setInterval(() => ticks++, 1);
      else await new Promise((r) => setTimeout(r, 10));
      return ticks;
    }`,
    async (instance) => {
      assert.equal((await instance.call('{"start":true}')).value, 0);
      await new Promise((resolve) => setTimeout(resolve, 100));
      // Had the loop run in between, there would be dozens.
      const { value } = await instance.call();
      assert.ok(value > 0 && value < 40, value);
    },
  ));

test('large events and answers pass', () =>
  withCode(`exports.handler = async (event) => event`, async (instance) => {
    for (const size of [65536 - 60, 65536, 70_000, 1 << 20, 6 * 1024 * 1024 - 2]) {
      const { value } = await instance.call(JSON.stringify('x'.repeat(size)));
      assert.equal(value.length, size);
      assert.equal((await instance.call(JSON.stringify('é'.repeat(size / 2 - 10)))).value.length, size / 2 - 10);
    }
    assert.equal((await instance.call('"small again"')).value, 'small again');
  }));

test('the function may replace what it likes', () =>
  withCode(
    `console.log = console.error = () => { throw new Error('no console') };
    JSON.parse = JSON.stringify = () => { throw new Error('no JSON') };
    Buffer.allocUnsafeSlow = Buffer.byteLength = () => { throw new Error('no Buffer') };
    Object.defineProperty(process, 'stdout', { value: null });
    const fs = require('fs');
    fs.readSync = fs.writeSync = () => { throw new Error('no fs') };
    Date.now = () => 0;
    setImmediate = () => { throw new Error('no immediates') };
    exports.handler = (event, context, callback) => callback(null, event)`,
    async (instance) => {
      for (let i = 0; i < 3; i++) assert.deepEqual((await instance.call('{"a":1}')).value, { a: 1 });
      const big = JSON.stringify('x'.repeat(200_000));
      assert.equal((await instance.call(big)).value.length, 200_000);
    },
  ));

test('output goes to the pipes as it is', () =>
  withCode(
    `exports.handler = async () => { console.log('one\\ntwo'); console.error('three'); process.stdout.write('no end') }`,
    async (instance) => {
      await instance.call();
      await instance.stop();
      assert.equal(instance.stdout, 'one\ntwo\nno end');
      assert.equal(instance.stderr, 'three\n');
      // `withCode` stops once more.
      instance.stop = async () => {};
    },
  ));

// The pipes take less than this at once; after the answer the process stands still, so nothing could follow.
for (const [name, print] of [
  ['stdout', `console.log('x'.repeat(300_000))`],
  ['stderr', `console.error('x'.repeat(300_000))`],
  ['stdout', `process.stdout.write('x'.repeat(300_000)); console.log()`],
]) {
  test(`a long text on ${name} is in the pipe before the answer: ${print}`, () =>
    withCode(`exports.handler = async () => { ${print} }`, async (instance) => {
      // Nobody reads for a while: the pipe is full long before the end.
      instance.child[name].pause();
      setTimeout(() => instance.child[name].resume(), 100);
      assert.equal((await instance.call()).value, null);
      // What is in the pipe still has to be read here.
      for (let i = 0; i < 200 && instance[name].length < 300_001; i++) await new Promise((resolve) => setTimeout(resolve, 10));
      assert.equal(instance[name].length, 300_001);
    }));
}

test('streams that are looked at late, kept or replaced', () =>
  withCode(
    `const { stdout } = process;
    exports.handler = async (event) => {
      if (event.replace) Object.defineProperty(process, 'stdout', { value: null, configurable: true });
      return [process.stdout === stdout, process.stderr === process.stderr, stdout.writable, Object.keys(process).includes('stdout')];
    }`,
    async (instance) => {
      assert.deepEqual((await instance.call()).value, [true, true, true, true]);
      assert.deepEqual((await instance.call('{"replace":true}')).value, [false, true, true, true]);
    },
  ));

test('the end of the socket ends the process at once', () =>
  withCode(`setInterval(() => {}, 1000); exports.handler = async () => 1`, async (instance) => {
    await instance.call();
    const { code } = await instance.stop();
    assert.equal(code, 0);
    instance.stop = async () => {};
  }));

test('time and output of each call are told', () =>
  withCode(
    `exports.handler = async (event) => {
       if (event.out) process.stdout.write('x'.repeat(event.out));
       if (event.err) console.error('y'.repeat(event.err));
       if (event.ms) await new Promise((r) => setTimeout(r, event.ms));
     }`,
    async (instance) => {
      for (const [event, out, err] of [['{}', 0, 0], ['{"out":70000}', 70000, 0], ['{"out":3,"err":4}', 3, 5], ['{"err":1}', 0, 2]]) {
        await instance.call(event);
        assert.deepEqual(instance.told.slice(1), [out, err], event);
        assert.ok(instance.told[0] < 3e6, `${instance.told[0]} µs`);
      }
      await instance.call('{"ms":50}');
      assert.ok(instance.told[0] >= 49000, `${instance.told[0]} µs`);
    },
  ));
