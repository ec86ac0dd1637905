//! `bench stream`: an answer in pieces through a function's URL, against a plain `node` server that writes the same: time to the first byte, bytes per second, and
//! what the daemon grows while they pass.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::json;

use super::Setup;
use super::daemon::{Daemon, url};
use super::http::request;
use super::language::{Language, NODE, PYTHON};
use super::report::{Bound, Table, Verdict, micros};
use super::stats::{Pair, Round, Spread, interleave, median, percentile, pooled};
use super::warm::plain_server;
use crate::say::say;

/// Promised: p50 to the first byte, by the plain server's.
const FIRST_RATIO: Bound = Bound::AtMost(4.0);
/// Promised: bytes per second, by the plain server's.
const RATE_RATIO: Bound = Bound::AtLeast(0.15);
/// Promised: MB (10^6 bytes) that the daemon's memory grows by while a gigabyte passes.
const GROWTH_MB: Bound = Bound::AtMost(16.0);
/// Of the measurement of bytes per second, in MiB.
const LARGE_MIB: u32 = 256;
/// Of the measurement of memory, in MiB.
const HUGE_MIB: u32 = 1024;
/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(300);
/// What one read takes at most.
const READ_BYTES: usize = 256 * 1024;

/// Writes as many pieces of 64 KiB as the query says sixteenths of a MiB, and as fast as they are taken.
const NODE_STREAM: &str = "const piece = Buffer.alloc(65536, 'z');
const { once } = require('events');
exports.handler = awslambda.streamifyResponse(async (event, stream) => {
  for (let n = Number(event.rawQueryString); n > 0; n--) if (!stream.write(piece)) await once(stream, 'drain');
  stream.end();
});
";
const PYTHON_STREAM: &str = "piece = b'z' * 65536
def handler(event, context):
    for n in range(int(event['rawQueryString'])):
        yield piece
";
/// The same without a platform.
const PLAIN: &str = "const piece = Buffer.alloc(65536, 'z'); const { once } = require('events');
require('http').createServer(async (q, s) => {
  for (let n = Number(q.url.split('?')[1]); n > 0; n--) if (!s.write(piece)) await once(s, 'drain');
  s.end();
}).listen(0, '127.0.0.1', function () { console.log(this.address().port) })";

/// Measures both languages.
pub(crate) fn run(setup: &Setup) -> Result<Vec<Verdict>> {
    let (rounds, samples) = (setup.options.rounds, setup.options.samples);
    say!("bench stream: {rounds} rounds of {LARGE_MIB} MiB, {samples} first bytes a round");
    let daemon = Daemon::start(&setup.hanshu, &setup.folder("stream")?)?;
    let version = daemon.api()?.runtime_version(&NODE)?;
    let (plain, address) = plain_server(&NODE.interpreter(&version)?, PLAIN)?;
    let mut table = Table::new(&["", "first byte p50 µs", "p99 µs", "MB/s"]);
    let mut verdicts = Vec::new();
    for (language, code) in [(&NODE, NODE_STREAM), (&PYTHON, PYTHON_STREAM)] {
        let name = format!("bench-stream-{}", language.name);
        let config = json!({
            "runtime": language.runtime, "handler": language.handler, "timeout_ms": 300_000,
        });
        daemon.api()?.deploy_code(&name, language, code.as_bytes(), &config)?;
        let subject = Source { address: daemon.address, path: url(&name) };
        let baseline = Source { address, path: "/".to_owned() };
        verdicts.extend(measure(setup, language, &subject, &baseline, &mut table)?);
        verdicts.push(growth(&daemon, language, &subject)?);
    }
    plain.stop()?;
    daemon.stop()?;
    table.print();
    Ok(verdicts)
}

fn measure(
    setup: &Setup,
    language: &Language,
    subject: &Source,
    baseline: &Source,
    table: &mut Table,
) -> Result<Vec<Verdict>> {
    let (rounds, samples) = (setup.options.rounds, setup.options.samples);
    // Once unmeasured: instances start, compilers warm up.
    for source in [subject, baseline] {
        source.large()?;
        source.first_bytes(samples)?;
    }
    let first =
        interleave(rounds, || subject.first_bytes(samples), || baseline.first_bytes(samples))?;
    let large = interleave(rounds, || subject.large(), || baseline.large())?;
    row(table, language.name, &first.subject, &large.subject);
    row(table, "  plain node server", &first.baseline, &large.baseline);
    let by = |name: &str, pair: &Pair, of: &dyn Fn(&Round) -> f64, bound| Verdict {
        name: format!("{}, {name} by the plain server's", language.name),
        measured: pair.ratio(of),
        unit: "×",
        bound,
    };
    let p50 = |round: &Round| median(&round.latencies).as_secs_f64();
    Ok(vec![
        by("first byte, p50", &first, &p50, FIRST_RATIO),
        by("bytes/s", &large, &Round::rate, RATE_RATIO),
    ])
}

fn row(table: &mut Table, name: &str, first: &[Round], large: &[Round]) {
    let all = pooled(first);
    let bytes = f64::from(LARGE_MIB << 20);
    let rate = Spread::of(large.iter().map(|round| round.rate() * bytes / 1e6).collect());
    table.row(vec![
        name.to_owned(),
        micros(median(&all)),
        micros(percentile(&all, 99)),
        format!("{:.0}", rate.median),
    ]);
}

/// What the daemon's resident memory grows by while a gigabyte passes.
fn growth(daemon: &Daemon, language: &Language, subject: &Source) -> Result<Verdict> {
    let id = daemon.id();
    // The highest mark begins anew (proc(5), clear_refs).
    fs::write(format!("/proc/{id}/clear_refs"), "5").context("cannot reset the highest mark")?;
    let before = highest_kib(id)?;
    subject.fetch(HUGE_MIB)?;
    let grown = highest_kib(id)?.saturating_sub(before);
    let name = format!("{}, memory that the daemon grows by while 1 GiB passes", language.name);
    let measured = Spread::of(vec![f64::from(grown) * 1024.0 / 1e6]);
    Ok(Verdict { name, measured, unit: "MB", bound: GROWTH_MB })
}

fn highest_kib(id: u32) -> Result<u32> {
    let status = fs::read_to_string(format!("/proc/{id}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.strip_suffix("kB"));
    line.context("no VmHWM")?.trim().parse().context("VmHWM is no number")
}

/// Where bytes come from.
#[derive(Debug)]
struct Source {
    address: SocketAddr,
    path: String,
}

impl Source {
    /// Asks for so many pieces, and reads until the answer has begun to come; the rest of it is in the connection.
    fn open(&self, pieces: u32) -> Result<(TcpStream, Duration, usize)> {
        let begin = Instant::now();
        let mut stream = TcpStream::connect(self.address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        let path = format!("{}?{pieces}", self.path);
        stream.write_all(&request("GET", &path, "Connection: close\r\n", b""))?;
        let mut read = Vec::new();
        let mut buffer = vec![0; READ_BYTES];
        // Behind the head stands the size of the first chunk; only then a byte of the answer.
        while !read.windows(2).any(|two| two == b"\nz") {
            let n = stream.read(&mut buffer)?;
            if n == 0 {
                bail!("no answer: {}", String::from_utf8_lossy(&read));
            }
            read.extend_from_slice(buffer.get(..n).unwrap_or_default());
        }
        Ok((stream, begin.elapsed(), read.len()))
    }

    /// Reads an answer of so many MiB.
    fn fetch(&self, mebibytes: u32) -> Result<Duration> {
        let begin = Instant::now();
        let (mut stream, _, mut read) = self.open(mebibytes * 16)?;
        let mut buffer = vec![0; READ_BYTES];
        loop {
            match stream.read(&mut buffer)? {
                0 => break,
                n => read += n,
            }
        }
        let expected = usize::try_from(mebibytes << 20)?;
        if read < expected {
            bail!("the answer broke off: {read} of {expected} bytes");
        }
        Ok(begin.elapsed())
    }

    fn large(&self) -> Result<Round> {
        let elapsed = self.fetch(LARGE_MIB)?;
        Ok(Round { latencies: vec![elapsed], elapsed })
    }

    fn first_bytes(&self, samples: usize) -> Result<Round> {
        let mut round = Round::default();
        for _ in 0..samples {
            let (mut stream, first, _) = self.open(1)?;
            std::io::copy(&mut stream, &mut std::io::sink())?;
            round.latencies.push(first);
            round.elapsed += first;
        }
        Ok(round)
    }
}
