'use strict';

const express = require('express');
const { WebSocketServer } = require('ws');

const app = express();
app.use(express.json());
let visits = 0;

app.get('/', (request, response) => {
  visits += 1;
  response.json({ message: `Hello, ${request.query.name ?? 'world'}`, visits });
});

// Server-sent events: each is with the client as soon as it is written.
app.get('/ticks', async (request, response) => {
  response.set('content-type', 'text/event-stream');
  for (let n = 1; n <= 3; n++) {
    response.write(`data: ${n}\n\n`);
    await new Promise((go) => setTimeout(go, 100));
  }
  response.end();
});

// Whatever is no HTTP request comes here: direct calls, and what other triggers send.
app.post('/events', (request, response) => response.json({ message: `Hello, ${request.body.name}` }));

const server = app.listen(process.env.PORT);

// A WebSocket: what comes goes back.
new WebSocketServer({ server, path: '/echo' }).on('connection', (socket) => {
  socket.on('message', (data, isBinary) => socket.send(data, { binary: isBinary }));
});
