//! `bench warm`: warm calls of a trivial handler, through a function's URL and without HTTP ([`calls`]).
//!
//! Node.js against a plain `node` HTTP hello and against the same hello on [`workerd`]; Python against its own bootstrap driven over a socket pair with the
//! same event, because Python has no HTTP server that would be a fair one.

use std::net::SocketAddr;

use anyhow::{Context as _, Result};

use super::Setup;
use super::bare::{Bare, Program};
use super::child::Running;
use super::daemon::{Daemon, url};
use super::http::request;
use super::language::{Language, NODE, PYTHON};
use super::load::Load;
use super::report::{Bound, Table, Verdict};
use super::stats::{Pair, interleave};
use super::{calls, workerd};
use crate::say::say;
use crate::shell;

/// Promised: p50 with one connection, by the baseline's.
const P50_RATIO: Bound = Bound::AtMost(3.0);
/// Promised: answers per second with [`MANY`] connections, by those of a plain `node` server, of `workerd`, and of a bare process in Python.
const NODE_RATIO: Bound = Bound::AtLeast(0.8);
const WORKERD_RATIO: Bound = Bound::AtLeast(1.0);
const PYTHON_RATIO: Bound = Bound::AtLeast(0.6);
/// Connections of the second measurement.
const MANY: usize = 32;

/// The plain server: what one would write without a platform.
const NODE_HELLO: &str = "require('http').createServer((q, s) => s.end('Hello world'))\
    .listen(0, '127.0.0.1', function () { console.log(this.address().port) })";

/// The event of a `GET` through a function's URL, as the gateway makes it.
const EVENT: &str = r#"{"version":"2.0","routeKey":"$default","rawPath":"/","rawQueryString":"","headers":{"host":"127.0.0.1"},"requestContext":{"accountId":"000000000000","apiId":"bench","domainName":"127.0.0.1","domainPrefix":"127","http":{"method":"GET","path":"/","protocol":"HTTP/1.1","sourceIp":"127.0.0.1","userAgent":""},"requestId":"00000000-0000-7000-8000-000000000000","routeKey":"$default","stage":"$default","time":"01/Jan/2026:00:00:00 +0000","timeEpoch":1767225600000},"isBase64Encoded":false}"#;

/// Measures both languages.
pub(crate) fn run(setup: &mut Setup) -> Result<Vec<Verdict>> {
    say!("bench warm: {} rounds of {} s", setup.options.rounds, setup.options.seconds);
    let daemon = Daemon::start(&setup.hanshu, &setup.folder("warm")?)?;
    let mut table = Table::new(&["", "p50 µs", "p99 µs", "requests/s"]);
    let mut verdicts = node(setup, &daemon, &mut table)?;
    verdicts.extend(python(setup, &daemon, &mut table)?);
    verdicts.extend(calls::run(setup, &daemon, &mut table)?);
    daemon.stop()?;
    table.print();
    Ok(verdicts)
}

fn node(setup: &Setup, daemon: &Daemon, table: &mut Table) -> Result<Vec<Verdict>> {
    let name = deploy(daemon, &NODE)?;
    let version = daemon.api()?.runtime_version(&NODE)?;
    let (plain, address) = plain_server(&NODE.interpreter(&version)?, NODE_HELLO)?;
    let mut verdicts = Vec::new();
    for connections in [1, MANY] {
        let subject = function_load(daemon, &name, connections);
        let baseline = Load { address, request: request("GET", "/", "", b""), connections };
        // Once unmeasured: instances start, compilers warm up.
        subject.run(setup.turn())?;
        baseline.run(setup.turn())?;
        let (rounds, turn) = (setup.options.rounds, setup.turn());
        let pair = interleave(rounds, || subject.run(turn), || baseline.run(turn))?;
        add(table, &mut verdicts, &NODE, "plain node server", connections, &pair);
    }
    plain.stop()?;
    verdicts.push(against_workerd(setup, &function_load(daemon, &name, MANY), table)?);
    Ok(verdicts)
}

/// The same hello on the same processors, in turn.
fn against_workerd(setup: &Setup, subject: &Load, table: &mut Table) -> Result<Verdict> {
    let (server, address) = workerd::start(&setup.folder("workerd")?)?;
    let request = request("GET", "/", "", b"");
    let baseline = Load { address, request, connections: subject.connections };
    baseline.run(setup.turn())?;
    let (rounds, turn) = (setup.options.rounds, setup.turn());
    let pair = interleave(rounds, || subject.run(turn), || baseline.run(turn))?;
    server.stop()?;
    table.rounds("nodejs function, beside workerd", &pair.subject);
    table.rounds("  workerd", &pair.baseline);
    let title = format!("nodejs, {MANY} connections, requests/s by workerd's");
    Ok(Verdict::rate_ratio(&title, &pair, WORKERD_RATIO))
}

fn python(setup: &mut Setup, daemon: &Daemon, table: &mut Table) -> Result<Vec<Verdict>> {
    let name = deploy(daemon, &PYTHON)?;
    let version = daemon.api()?.runtime_version(&PYTHON)?;
    let program = Program::new(&PYTHON, &version)?;
    let folder = setup.folder("warm-python")?;
    std::fs::write(folder.join(PYTHON.file), PYTHON.hello("bare")?)?;
    let mut bare = Bare::start(&mut setup.slot, &program, &folder)?;
    let (rounds, turn) = (setup.options.rounds, setup.turn());
    let mut verdicts = Vec::new();
    for connections in [1, MANY] {
        let subject = function_load(daemon, &name, connections);
        subject.run(turn)?;
        bare.load(EVENT.as_bytes(), turn)?;
        let pair = interleave(rounds, || subject.run(turn), || bare.load(EVENT.as_bytes(), turn))?;
        add(table, &mut verdicts, &PYTHON, "bare framed process", connections, &pair);
    }
    Ok(verdicts)
}

fn add(
    table: &mut Table,
    verdicts: &mut Vec<Verdict>,
    language: &Language,
    baseline: &str,
    connections: usize,
    pair: &Pair,
) {
    let name = language.name;
    let plural = if connections == 1 { "" } else { "s" };
    table.rounds(&format!("{name} function, {connections} connection{plural}"), &pair.subject);
    table.rounds(&format!("  {baseline}"), &pair.baseline);
    verdicts.push(if connections == 1 {
        Verdict::latency_ratio(
            &format!("{name}, 1 connection, p50 by the baseline's"),
            pair,
            P50_RATIO,
        )
    } else {
        let title = format!("{name}, {connections} connections, requests/s by the baseline's");
        let bound = if name == NODE.name { NODE_RATIO } else { PYTHON_RATIO };
        Verdict::rate_ratio(&title, pair, bound)
    });
}

fn deploy(daemon: &Daemon, language: &Language) -> Result<String> {
    let name = format!("bench-{}", language.name);
    let mut api = daemon.api()?;
    api.deploy(&name, language, "warm")?;
    api.hello(&name, "")?;
    Ok(name)
}

fn function_load(daemon: &Daemon, name: &str, connections: usize) -> Load {
    let request = request("GET", &url(name), "", b"");
    Load { address: daemon.address, request, connections }
}

/// Starts a server that is this text, and says on which port it listens.
pub(super) fn plain_server(node: &std::path::Path, text: &str) -> Result<(Running, SocketAddr)> {
    let mut command = shell::command(node);
    let (running, line) = Running::start_server(command.args(["-e", text]))?;
    let port: u16 = line.parse().with_context(|| format!("expected a port, got {line:?}"))?;
    Ok((running, SocketAddr::from(([127, 0, 0, 1], port))))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::bench::http::Connection;

    #[test]
    fn the_plain_server_answers_alone_and_under_load() {
        let (plain, address) = plain_server("node".as_ref(), NODE_HELLO).unwrap();
        let hello = request("GET", "/", "", b"");
        let answer = Connection::open(address).unwrap().call(&hello).unwrap();
        assert_eq!((answer.status, answer.text()), (200, "Hello world".to_owned()));
        for connections in [1, 4] {
            let load = Load { address, request: hello.clone(), connections };
            let round = load.run(Duration::from_millis(100)).unwrap();
            assert!(round.latencies.len() > connections, "{}", round.latencies.len());
        }
        plain.stop().unwrap();
    }

    #[test]
    fn the_event_is_json_of_payload_version_2() {
        let event: serde_json::Value = serde_json::from_str(EVENT).unwrap();
        assert_eq!(event["version"], "2.0");
        assert_eq!(event["requestContext"]["http"]["method"], "GET");
    }
}
