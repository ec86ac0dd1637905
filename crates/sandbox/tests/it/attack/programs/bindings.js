// The ways out that Node.js itself has: its process, its debugger, its native modules, its file system.
const fs = require('fs');
const os = require('os');
const attempt = (what, act) => {
  try {
    act();
    said.push(`${what}: done`);
  } catch (e) {
    said.push(`${what}: ${e.code === 'ERR_SYSTEM_ERROR' ? e.info.code : e.code}`);
  }
};
attempt('become root', () => process.setuid(0));
attempt('become root, effectively', () => process.seteuid(0));
attempt('join a group', () => process.setgroups([0]));
attempt('signal the daemon', () => process.kill(Number(pairs.daemon), 'SIGKILL'));
attempt('debug the daemon', () => process._debugProcess(Number(pairs.daemon)));
attempt('debug the first process', () => process._debugProcess(1));
attempt('priority of the daemon', () => os.setPriority(Number(pairs.daemon), 19));
attempt('load a module from memory', () => process.dlopen({ exports: {} }, '/proc/1/exe'));
attempt('the bootstrap', () => fs.appendFileSync('/var/runtime/nodejs/bootstrap.js', 'x'));
attempt('the runtime', () => fs.appendFileSync(process.execPath, 'x'));
attempt('own code', () => fs.appendFileSync('/var/task/index.js', 'x'));
attempt('the daemon\'s folder', () => fs.readdirSync(pairs.folder));
attempt('the daemon\'s memory', () => fs.openSync(`/proc/${pairs.daemon}/mem`));
attempt('the first process\'s memory', () => fs.openSync('/proc/1/mem'));
