// The contract suite's handler that answers in pieces (model::suites::sandbox).
'use strict';

exports.handler = awslambda.streamifyResponse(async (event, stream) => {
  stream = awslambda.HttpResponseStream.from(stream, { statusCode: 201, headers: { 'x-said': 'before' } });
  const write = async (n) => {
    const piece = Buffer.alloc(event.bytes, 97 + (n % 26));
    await new Promise((written) => stream.write(piece, written));
    console.log(`wrote ${n + 1}`);
  };
  for (let n = 0; n < event.pieces; n++) await write(n);
  if (event.then === 'throw') throw new Error('half-way');
  if (event.then === 'exit') process.exit(7);
  if (event.then === 'never') await new Promise(() => setInterval(() => {}, 1000));
  for (let n = event.pieces; event.then === 'endless'; n++) await write(n);
  stream.end();
});
