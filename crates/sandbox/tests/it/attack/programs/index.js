// The hostile function in Node.js: runs what the event says and returns the lines that it said.
'use strict';
const fs = require('fs');
const { spawn } = require('child_process');

// As it was when this was loaded: before the first call, with nobody waiting for an answer.
const atLoad = fs.readFileSync('/proc/self/status', 'utf8');
const AsyncFunction = (async () => {}).constructor;

exports.handler = async (event, context) => {
  if (event.text !== undefined) {
    const said = [];
    const pairs = Object.fromEntries(event.arguments.map((a) => [a.slice(0, a.indexOf('=')), a.slice(a.indexOf('=') + 1)]));
    await new AsyncFunction('said', 'pairs', 'atLoad', 'require', 'context', event.text)(said, pairs, atLoad, require, context);
    return said;
  }
  // With the frame socket, which a careless function could hand down.
  const program = spawn('/var/task/attack', [event.c, ...event.arguments], { stdio: ['ignore', 'pipe', 'inherit', 3] });
  let text = '';
  return new Promise((done) => {
    program.stdout.on('data', (data) => {
      text += data;
      if (!text.endsWith('\n.\n') && text !== '.\n') return;
      program.unref();
      done(text.split('\n').slice(0, -2));
    });
    program.on('close', (code, signal) => done([...text.split('\n').slice(0, -1), `ended: ${code ?? signal}`]));
  });
};
