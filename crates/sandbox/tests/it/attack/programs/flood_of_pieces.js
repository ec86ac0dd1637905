// An answer in pieces without end, each in itself well-formed.
const fs = require('fs');
const frame = (kind, data) => {
  const bytes = Buffer.concat([Buffer.alloc(8), Buffer.from(context.awsRequestId), data]);
  bytes.writeUInt32LE(bytes.length - 8, 0);
  bytes[4] = kind;
  return bytes;
};
fs.writeSync(3, frame(22, Buffer.from('{}')));
const piece = frame(23, Buffer.alloc(65000));
for (;;) fs.writeSync(3, piece);
