// What the process was allowed when its code was loaded, and what it is now: the same.
const now = require('fs').readFileSync('/proc/self/status', 'utf8');
for (const [when, status] of [['at load', atLoad], ['now', now]]) {
  for (const name of ['NoNewPrivs', 'CapEff', 'CapBnd', 'CapPrm', 'Seccomp']) {
    said.push(`${name} ${when}: ${new RegExp(`^${name}:\\s*(\\S+)$`, 'm').exec(status)[1]}`);
  }
}
