//! `bench web`: a request of a web server through its function URL, against the same server asked directly.

use std::net::SocketAddr;

use anyhow::Result;
use serde_json::json;

use super::Setup;
use super::daemon::{Daemon, url};
use super::http::request;
use super::language::NODE;
use super::load::Load;
use super::report::{Bound, Table, Verdict};
use super::stats::{Pair, Round, Spread, interleave, median};
use super::warm::plain_server;
use crate::say::say;

/// Promised: µs that a proxied request takes longer than a direct one, one connection, p50.
const ADDED_US: Bound = Bound::AtMost(60.0);
/// Connections of the second measurement, of which only figures are shown.
const MANY: usize = 32;

/// The server: started by the daemon with its port, by the bench without one.
const SERVER: &str = "require('http').createServer((q, s) => s.end('Hello world'))\
    .listen(process.env.PORT ?? 0, '127.0.0.1', function () { console.log(this.address().port) })";

/// Measures one connection and many.
pub(crate) fn run(setup: &Setup) -> Result<Vec<Verdict>> {
    say!("bench web: {} rounds of {} s", setup.options.rounds, setup.options.seconds);
    let daemon = Daemon::start(&setup.hanshu, &setup.folder("web")?)?;
    let name = "bench-web";
    let version = daemon.api()?.runtime_version(&NODE)?;
    // With the weight of an ordinary process, which the baseline has.
    let handler = format!("node {}", NODE.file);
    let config = json!({ "runtime": "web", "handler": handler, "cpu_weight": 100 });
    daemon.api()?.deploy_code(name, &NODE, SERVER.as_bytes(), &config)?;
    daemon.api()?.hello(name, "")?;
    let (plain, address) = plain_server(&NODE.interpreter(&version)?, SERVER)?;
    let mut table = Table::new(&["", "p50 µs", "p99 µs", "requests/s"]);
    let one = measure(setup, (daemon.address, name), address, 1, &mut table)?;
    measure(setup, (daemon.address, name), address, MANY, &mut table)?;
    plain.stop()?;
    daemon.stop()?;
    table.print();
    Ok(vec![Verdict {
        name: "web server, 1 connection, p50 above the same server's, asked directly".into(),
        measured: added(&one),
        unit: "µs",
        bound: ADDED_US,
    }])
}

fn measure(
    setup: &Setup,
    (daemon, name): (SocketAddr, &str),
    plain: SocketAddr,
    connections: usize,
    table: &mut Table,
) -> Result<Pair> {
    let subject =
        Load { address: daemon, request: request("GET", &url(name), "", b""), connections };
    let baseline = Load { address: plain, request: request("GET", "/", "", b""), connections };
    let (rounds, turn) = (setup.options.rounds, setup.turn());
    // Once unmeasured: instances start, compilers warm up.
    subject.run(turn)?;
    baseline.run(turn)?;
    let pair = interleave(rounds, || subject.run(turn), || baseline.run(turn))?;
    let plural = if connections == 1 { "" } else { "s" };
    table.rounds(&format!("web server, {connections} connection{plural}"), &pair.subject);
    table.rounds("  the same, directly", &pair.baseline);
    Ok(pair)
}

/// Per round, what the subject's p50 is above the baseline's, in µs.
fn added(pair: &Pair) -> Spread {
    let p50 = |round: &Round| median(&round.latencies).as_secs_f64() * 1e6;
    Spread::of(pair.subject.iter().zip(&pair.baseline).map(|(s, b)| p50(s) - p50(b)).collect())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_is_added_is_taken_round_by_round() {
        let rounds = |all: [u64; 3]| {
            let round =
                |us| Round { latencies: vec![Duration::from_micros(us)], ..Round::default() };
            all.map(round).to_vec()
        };
        let pair = Pair { subject: rounds([100, 250, 90]), baseline: rounds([60, 200, 70]) };
        let added = added(&pair);
        assert!((added.median - 40.0).abs() < 1e-6, "{added:?}");
        assert!((added.low - 20.0).abs() < 1e-6 && (added.high - 50.0).abs() < 1e-6, "{added:?}");
    }
}
