const net = require('net');
const dgram = require('dgram');

exports.handler = ({ op, address, port }) =>
  new Promise((resolve) => {
    const timer = setTimeout(() => resolve(['error timeout', 2]), 2000);
    const done = (said) => (clearTimeout(timer), resolve([said.trim(), 0]));
    if (op === 'udp') {
      const socket = dgram.createSocket('udp4');
      socket.on('error', (e) => done(`error ${e.code}`));
      socket.on('message', (bytes) => (done(String(bytes)), socket.close()));
      socket.send('who', port, address, (e) => e && done(`error ${e.code}`));
    } else {
      const socket = net.connect(port, address, () => socket.write('who\n'));
      socket.on('error', (e) => done(`error ${e.code}`));
      socket.on('data', (bytes) => done(String(bytes)));
    }
  });
