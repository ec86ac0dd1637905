// Processes that are started ahead of their function: what it finds is what a plain start gives it.

'use strict';

const assert = require('node:assert/strict');
const { test } = require('node:test');

const { Instance } = require('./harness');

const SEEN = `
const children = require('child_process');
exports.handler = async (event, context) => ({
  event,
  name: context.functionName,
  own: process.env.OWN,
  inherited: children.execFileSync('/bin/sh', ['-c', 'printf %s "$OWN"']).toString(),
  folder: process.cwd() === __dirname,
  argv: process.argv.length,
  loaded: Object.keys(require.cache).filter((file) => file.includes('ahead')),
  children: require.main.children.map((child) => child.filename === __filename),
  printed: [process.stdout.bytesWritten, process.stderr.bytesWritten],
  paths: module.paths[0] === __dirname + '/node_modules',
});`;

async function seen(options) {
  const instance = new Instance({ 'index.js': SEEN }, 'index.handler', options);
  assert.equal(await instance.ready(), null);
  const { value } = await instance.call('{"a":1}');
  await instance.stop();
  return value;
}

test('a function finds what a plain start gives it', async () => {
  const env = { OWN: 'a=b ü' };
  const plain = await seen({ env });
  assert.equal(plain.inherited, 'a=b ü');
  assert.deepEqual(await seen({ env, ahead: true }), plain);
});

const MODULE = `
import children from 'node:child_process';
export const handler = async (event, context) => ({
  event,
  name: context.functionName,
  own: process.env.OWN,
  inherited: children.execFileSync('/bin/sh', ['-c', 'printf %s "$OWN"']).toString(),
  here: import.meta.url === 'file://' + process.cwd() + '/index.mjs',
});`;

test('a module of the other form finds what a plain start gives it', async () => {
  const env = { OWN: 'a=b ü' };
  const both = [];
  for (const ahead of [false, true]) {
    const instance = new Instance({ 'index.mjs': MODULE }, 'index.handler', { env, ahead });
    assert.equal(await instance.ready(), null);
    both.push((await instance.call('{"a":1}')).value);
    await instance.stop();
  }
  assert.equal(both[0].inherited, 'a=b ü');
  assert.equal(both[0].here, true);
  assert.deepEqual(both[1], both[0]);
});

test('what is printed is told with the call that printed it', async () => {
  const code = "exports.handler = async () => console.log('twelve bytes')";
  const instance = new Instance({ 'index.js': code }, 'index.handler', { ahead: true });
  assert.equal(await instance.ready(), null);
  for (let n = 0; n < 2; n++) {
    await instance.call();
    assert.equal(instance.told[1], 13);
  }
  await instance.stop();
});

test('random numbers differ', async () => {
  const code = "exports.handler = async () => [Math.random(), require('crypto').randomUUID()]";
  const drawn = new Set();
  for (let n = 0; n < 3; n++) {
    const instance = new Instance({ 'index.js': code }, 'index.handler', { ahead: true });
    assert.equal(await instance.ready(), null);
    for (const value of (await instance.call()).value) drawn.add(value);
    await instance.stop();
  }
  assert.equal(drawn.size, 6);
});

test('code that cannot be loaded is told', async () => {
  const instance = new Instance({}, 'index.handler', { ahead: true });
  assert.match((await instance.ready()).errorMessage, /index/);
  await instance.stop();
});
