// A real client: Node.js's own. `node --experimental-websocket client.mjs URL`: asks for `/echo`, checks what comes back, closes.
const socket = new WebSocket(process.argv[2]);
const heard = [];
let wake;
socket.onmessage = ({ data }) => {
  heard.push(data);
  wake?.();
};
const failed = new Promise((_, fail) => {
  socket.onerror = ({ message }) => fail(new Error(`it failed: ${message}`));
});
const next = async () => {
  while (heard.length === 0) await new Promise((go) => (wake = go));
  return heard.shift();
};
const talk = async () => {
  await new Promise((opened) => (socket.onopen = opened));
  for (let n = 0; n < 1000; n++) {
    socket.send(`message ${n}`);
    if ((await next()) !== `message ${n}`) throw new Error(`message ${n} is another`);
  }
  // Longer than any buffer on the way.
  const large = 'grün '.repeat(200_000);
  for (let n = 0; n < 3; n++) socket.send(large);
  for (let n = 0; n < 3; n++) if ((await next()) !== large) throw new Error('a large one is another');
  const closed = new Promise((done) => (socket.onclose = done));
  socket.close(4000, 'enough');
  const { code, reason, wasClean } = await closed;
  console.log(JSON.stringify({ code, reason, wasClean }));
};
await Promise.race([talk(), failed]);
