// Which file and export a handler's name stands for, and what happens when there is none.

'use strict';

const assert = require('node:assert/strict');
const { test } = require('node:test');
const { withFiles } = require('./harness');

const answer = (value) => `exports.handler = async () => ${JSON.stringify(value)}`;
const esm = (value) => `export const handler = async () => ${JSON.stringify(value)}`;

// name → files, handler, what it answers.
const found = {
  'index.js': [{ 'index.js': answer('js') }, 'index.handler', 'js'],
  '.cjs': [{ 'index.cjs': answer('cjs') }, 'index.handler', 'cjs'],
  '.mjs': [{ 'index.mjs': esm('mjs') }, 'index.handler', 'mjs'],
  'a file without an extension': [{ index: answer('bare') }, 'index.handler', 'bare'],
  '.js goes before .mjs': [{ 'index.mjs': esm('mjs'), 'index.js': answer('js') }, 'index.handler', 'js'],
  'a link is the file that it leads to': [
    {
      'lib/real.js': "exports.handler = async () => `${require('path').basename(__filename)} ${require('./other')}`",
      'lib/other.js': "module.exports = 'other'",
      'index.js': { link: 'lib/real.js' },
    },
    'index.handler',
    'real.js other',
  ],
  'one that requires itself gets the same': [
    { 'index.js': "exports.handler = async () => require('./index.js') === exports && require.main.children.length" },
    'index.handler',
    1,
  ],
  'type module': [{ 'package.json': '{"type":"module"}', 'index.js': esm('module') }, 'index.handler', 'module'],
  'type module above': [{ 'package.json': '{"type":"module"}', 'src/index.js': esm('above') }, 'src/index.handler', 'above'],
  'type commonjs below type module': [
    { 'package.json': '{"type":"module"}', 'src/package.json': '{}', 'src/index.js': answer('inner') },
    'src/index.handler',
    'inner',
  ],
  'a broken package.json means CommonJS': [{ 'package.json': '{', 'index.cjs': answer('cjs') }, 'index.handler', 'cjs'],
  'top-level await': [
    { 'index.mjs': `const v = await new Promise((r) => setTimeout(r, 5, 'awaited')); export const handler = async () => v` },
    'index.handler',
    'awaited',
  ],
  'folders and nested exports': [
    { 'dir/deep/file.js': `exports.a = { b: async () => 'nested' }` },
    'dir/deep/file.a.b',
    'nested',
  ],
  'exports of a function': [
    { 'index.js': `module.exports = () => {}; module.exports.handler = async () => 'fn'` },
    'index.handler',
    'fn',
  ],
  'a class instance': [
    { 'index.js': `class H { async handler() { return 'method' } } module.exports = new H()` },
    'index.handler',
    'method',
  ],
  'node_modules from CommonJS': [
    { 'index.js': `exports.handler = async () => require('dep')`, 'node_modules/dep/index.js': `module.exports = 'dep'` },
    'index.handler',
    'dep',
  ],
  'node_modules from ESM': [
    {
      'index.mjs': `import dep from 'dep'; export const handler = async () => dep`,
      'node_modules/dep/package.json': '{"main":"m.js"}',
      'node_modules/dep/m.js': `module.exports = 'esm dep'`,
    },
    'index.handler',
    'esm dep',
  ],
  'a handler in a package': [
    { 'node_modules/ready-made/index.js': answer('package') },
    'ready-made.handler',
    'package',
  ],
};

for (const [name, [files, handler, expected]] of Object.entries(found)) {
  test(name, () =>
    withFiles(files, handler, async (instance) => {
      assert.equal(await instance.ready(), null);
      assert.equal((await instance.call()).value, expected);
    }));
}

// name → files, handler, errorType, errorMessage.
const missing = {
  'no such file': [{}, 'index.handler', 'Runtime.ImportModuleError', /Cannot find module 'index'/],
  'no such export': [{ 'index.js': '' }, 'index.handler', 'Runtime.HandlerNotFound', 'index.handler is undefined or not exported'],
  'no such nested export': [{ 'index.js': 'exports.a = 1' }, 'index.a.b.c', 'Runtime.HandlerNotFound', /undefined/],
  'an export that is no function': [{ 'index.js': 'exports.handler = 1' }, 'index.handler', 'Runtime.HandlerNotFound', 'index.handler is not a function'],
  'no dot': [{ 'index.js': '' }, 'index', 'Runtime.MalformedHandlerName', /FILE\.EXPORT/],
  'leading out': [{ 'index.js': '' }, '../index.handler', 'Runtime.MalformedHandlerName', /not a valid handler name/],
  'a missing dependency': [{ 'index.js': `require('absent')` }, 'index.handler', 'Runtime.ImportModuleError', /Cannot find module 'absent'/],
  'a missing dependency of ESM': [{ 'index.mjs': `import 'absent'` }, 'index.handler', 'Runtime.ImportModuleError', /absent/],
  'a syntax error': [{ 'index.js': 'exports.handler = (' }, 'index.handler', 'Runtime.UserCodeSyntaxError', /^SyntaxError: /],
  'a syntax error in ESM': [{ 'index.mjs': 'export const = 1' }, 'index.handler', 'Runtime.UserCodeSyntaxError', /^SyntaxError: /],
  'throws at load': [{ 'index.js': `throw new RangeError('at load')` }, 'index.handler', 'RangeError', 'at load'],
  'throws at load in ESM': [{ 'index.mjs': `throw new RangeError('at load')` }, 'index.handler', 'RangeError', 'at load'],
  'throws a string at load': [{ 'index.js': `throw 'text'` }, 'index.handler', 'string', 'text'],
  'rejects while loading': [
    { 'index.mjs': `Promise.reject(new Error('early')); await new Promise((r) => setTimeout(r, 500)); export const handler = 1` },
    'index.handler',
    'Runtime.UnhandledPromiseRejection',
    'Error: early',
  ],
  'awaits what never comes': [{ 'index.mjs': `await new Promise(() => {})` }, 'index.handler', 'Runtime.NodeJsExit', /never comes/],
};

for (const [name, [files, handler, type, message]] of Object.entries(missing)) {
  test(name, () =>
    withFiles(files, handler, async (instance) => {
      const error = await instance.ready();
      assert.deepEqual(Object.keys(error), ['errorType', 'errorMessage', 'trace']);
      assert.equal(error.errorType, type);
      if (typeof message === 'string') assert.equal(error.errorMessage, message);
      else assert.match(error.errorMessage, message);
      assert.ok(!JSON.stringify(error).includes('bootstrap.js'), JSON.stringify(error));
      assert.equal((await instance.exited).code, 1);
    }));
}

test('a syntax error says where it is', () =>
  withFiles({ 'index.js': `\n\nlet let = 1` }, 'index.handler', async (instance) => {
    const { trace } = await instance.ready();
    assert.match(trace[0], /index\.js:3/);
  }));

test('process.exit while loading is the code of the process', () =>
  withFiles({ 'index.js': `process.exit(5)` }, 'index.handler', async (instance) => {
    await assert.rejects(instance.ready(), /expected READY, got null/);
    assert.equal((await instance.exited).code, 5);
  }));

test('NODE_PATH is left alone if it is set', () =>
  withFiles(
    { 'index.js': `exports.handler = async () => process.env.NODE_PATH` },
    'index.handler',
    async (instance) => {
      assert.equal(await instance.ready(), null);
      assert.equal((await instance.call()).value, '/elsewhere');
    },
    { env: { NODE_PATH: '/elsewhere' } },
  ));
