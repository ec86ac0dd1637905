//! An alias that moves under load: no call fails, and each reaches a version that was in the route while it ran.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{Daemon, eventually};

const MOVES: usize = 120;
const CALLERS: usize = 4;
const RELEASE: &str = "exports.handler = async () => process.env.AWS_LAMBDA_FUNCTION_VERSION;";

/// A route from when it was asked for until it was acknowledged.
#[derive(Debug)]
struct Move {
    sent: Instant,
    acknowledged: Instant,
    route: BTreeSet<u64>,
}

#[derive(Debug)]
struct Call {
    begun: Instant,
    ended: Instant,
    version: u64,
}

fn release(daemon: &Daemon, n: usize) -> u64 {
    daemon.node("f", RELEASE, &json!({ "environment": { "N": n.to_string() } }));
    daemon.publish("f")
}

fn set(daemon: &Daemon, route: &[u64]) -> Move {
    let sent = Instant::now();
    let target = |version: &u64| json!({ "version": version.to_string(), "weight": 1 });
    let targets: Vec<Value> = route.iter().map(target).collect();
    daemon.alias("f:live", &json!({ "targets": targets }));
    Move { sent, acknowledged: Instant::now(), route: route.iter().copied().collect() }
}

#[test]
fn every_call_reaches_a_version_of_the_route_of_its_time() {
    let daemon = Daemon::start();
    let mut versions: VecDeque<u64> = (0..3).map(|n| release(&daemon, n)).collect();
    let mut moves = vec![set(&daemon, &[1])];
    let (calls, over) = (Mutex::new(Vec::new()), AtomicBool::new(false));
    thread::scope(|scope| {
        let callers: Vec<_> =
            (0..CALLERS).map(|_| scope.spawn(|| call(&daemon, &calls, &over))).collect();
        for n in 0..MOVES {
            // By turns to one version, to another, and to two at once.
            let at = |n: usize| versions[n % versions.len()];
            let route = if n % 3 == 2 { vec![at(n), at(n + 1)] } else { vec![at(n)] };
            moves.push(set(&daemon, &route));
            if n % 6 == 5 {
                versions.push_back(release(&daemon, 100 + n));
                let old = *versions.iter().find(|v| !route.contains(v)).unwrap();
                let path = format!("/v1/namespaces/default/functions/f/versions/{old}");
                assert_eq!(daemon.http.delete(&path).status, 204);
                versions.retain(|v| *v != old);
            }
            let enough = calls.lock().unwrap().len() + CALLERS + 2;
            eventually("calls go on", Duration::from_secs(20), || {
                let failed = callers.iter().any(thread::ScopedJoinHandle::is_finished);
                (failed || calls.lock().unwrap().len() >= enough).then_some(())
            });
        }
        over.store(true, Ordering::Relaxed);
    });
    let calls = calls.into_inner().unwrap();
    assert_eq!(moves.len(), MOVES + 1);
    assert!(calls.len() > CALLERS * MOVES, "hardly anything was called: {}", calls.len());
    let strict = calls.iter().filter(|call| check(call, &moves) == 1).count();
    assert!(
        strict * 10 > calls.len(),
        "hardly any call ran between two moves: {strict} of {}",
        calls.len()
    );
    let reached: BTreeSet<u64> = calls.iter().map(|call| call.version).collect();
    assert!(reached.len() > 10, "{reached:?}");
}

fn call(daemon: &Daemon, calls: &Mutex<Vec<Call>>, over: &AtomicBool) {
    while !over.load(Ordering::Relaxed) {
        let begun = Instant::now();
        let reply = daemon.http.get("/fn/default/f:live/");
        let ended = Instant::now();
        let version = reply.result().as_str().unwrap().parse().unwrap();
        calls.lock().unwrap().push(Call { begun, ended, version });
    }
}

/// Checks a call against the routes there may have been while it ran, and tells how many those were: a route may hold from when it is asked
/// for until the next one is acknowledged.
#[track_caller]
fn check(call: &Call, moves: &[Move]) -> usize {
    let held = |(at, this): &(usize, &Move)| {
        this.sent <= call.ended
            && moves.get(at + 1).is_none_or(|next| next.acknowledged >= call.begun)
    };
    let possible: Vec<&Move> = moves.iter().enumerate().filter(held).map(|(_, m)| m).collect();
    assert!(possible.iter().any(|m| m.route.contains(&call.version)), "{call:?}: {possible:?}");
    possible.len()
}
