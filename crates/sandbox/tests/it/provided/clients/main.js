#!/usr/bin/env node
// A runtime in plain Node.js.
const [host, port] = process.env.AWS_LAMBDA_RUNTIME_API.split(':');
const api = `http://${host}:${port}/2018-06-01/runtime`;
const error = JSON.stringify({ errorType: 'Node.Error', errorMessage: 'not today' });
const post = (path, body) => fetch(api + path, { method: 'POST', body });

async function serve() {
  if (process.env._HANDLER === 'main.broken') {
    await post('/init/error', error);
    process.exit(1);
  }
  for (;;) {
    const next = await fetch(`${api}/invocation/next`);
    const call = `/invocation/${next.headers.get('lambda-runtime-aws-request-id')}`;
    const deadline = Number(next.headers.get('lambda-runtime-deadline-ms'));
    const event = await next.json();
    const answer = JSON.stringify({ event, left: deadline - Date.now() });
    await (event.op === 'fail' ? post(`${call}/error`, error) : post(`${call}/response`, answer));
  }
}

serve();
