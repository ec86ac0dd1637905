// Threads that compute, a thread that waits for what never comes, and a main thread that no timer reaches.
const { Worker } = require('worker_threads');
for (let i = 0; i < 3; i++) new Worker('for (;;);', { eval: true });
for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP', 'SIGUSR2']) process.on(signal, () => {});
Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
