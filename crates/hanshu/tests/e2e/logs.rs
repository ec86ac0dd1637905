//! What functions write: kept, searched, followed; floods are counted and hurt nobody.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{Daemon, eventually};

const PATIENCE: Duration = Duration::from_secs(15);

fn texts(lines: &[Value]) -> Vec<&str> {
    lines.iter().map(|l| l["text"].as_str().unwrap()).collect()
}

#[test]
fn lines_have_time_call_version_and_stream() {
    let daemon = Daemon::start();
    let code = "console.log('loading');
        exports.handler = async (event) => {
            console.log('first of ' + event.n);
            console.error('second of ' + event.n);
            process.stdout.write('no newline at the end');
            return 1;
        };";
    daemon.node("talker", code, &json!({}));
    let one = daemon.invoke("talker", r#"{"n":1}"#);
    let two = daemon.invoke("talker", r#"{"n":2}"#);
    let id = |reply: &crate::harness::http::Reply| {
        reply.header("x-hanshu-request-id").unwrap().to_owned()
    };
    let of_call = |id: &str| {
        eventually("the call's lines are stored", PATIENCE, || {
            let lines = daemon.logs("talker", &format!("&request={id}"));
            (lines.len() >= 3).then_some(lines)
        })
    };
    let lines = of_call(&id(&one));
    let mut seen = texts(&lines);
    seen.sort_unstable();
    assert_eq!(seen, ["first of 1", "no newline at the end", "second of 1"]);
    for line in &lines {
        assert_eq!(line["request_id"], id(&one));
        assert_eq!(line["version"], "$LATEST");
        let stderr = line["text"] == "second of 1";
        assert_eq!(line["stream"], if stderr { "stderr" } else { "stdout" });
        assert!(line["time"].as_str().unwrap().ends_with('Z'), "{line}");
    }
    assert!(texts(&of_call(&id(&two))).contains(&"first of 2"));
    let loading = daemon.logs("talker", "&contains=LOADING");
    assert_eq!(texts(&loading), ["loading"], "upper and lower case alike");
    let one = daemon.http.get("/v1/namespaces/default/functions/talker/logs?limit=1").json();
    assert_eq!(one["items"].as_array().unwrap().len(), 1);
}

#[test]
fn prints_of_python_are_lines() {
    let daemon = Daemon::start();
    let code = "import sys\ndef handler(event, context):\n    print('to stdout')\n    print('to stderr', file=sys.stderr)\n    print('two\\nlines')\n";
    daemon.python("printer", code, &json!({}));
    daemon.invoke("printer", "{}").result();
    let lines = eventually("the lines are stored", PATIENCE, || {
        let lines = daemon.logs("printer", "");
        (lines.len() >= 4).then_some(lines)
    });
    let mut seen = texts(&lines);
    seen.sort_unstable();
    assert_eq!(seen, ["lines", "to stderr", "to stdout", "two"]);
}

#[test]
fn a_timeout_is_in_the_log() {
    let daemon = Daemon::start();
    let code = "exports.handler = async () => { console.log('before'); for (;;) {} };";
    daemon.node("stuck", code, &json!({ "timeout_ms": 700 }));
    let reply = daemon.invoke("stuck", "{}");
    reply.failed("timeout");
    let id = reply.header("x-hanshu-request-id").unwrap();
    eventually("both lines are stored", PATIENCE, || {
        let lines = daemon.logs("stuck", &format!("&request={id}"));
        let said = lines.iter().any(|l| {
            l["stream"] == "platform" && l["text"].as_str().unwrap().contains("timed out")
        });
        (said && texts(&lines).contains(&"before")).then_some(())
    });
}

#[test]
fn a_line_of_300_kb_is_cut_and_said() {
    let daemon = Daemon::start();
    let code = "exports.handler = async () => { console.log('x'.repeat(300 * 1024)); console.log('after'); return 1; };";
    daemon.node("long", code, &json!({}));
    daemon.invoke("long", "{}").result();
    let lines = eventually("the lines are stored", PATIENCE, || {
        let lines = daemon.logs("long", "");
        texts(&lines).contains(&"after").then_some(lines)
    });
    let long = texts(&lines).iter().map(|t| t.len()).max().unwrap();
    assert_eq!(long, 256 * 1024);
    let said = lines.iter().find(|l| l["stream"] == "platform").expect("the cut is said");
    let dropped = (300 - 256) * 1024;
    assert!(said["text"].as_str().unwrap().contains(&dropped.to_string()), "{}", said["text"]);
}

#[test]
fn a_flood_is_counted_and_hurts_nobody() {
    let daemon = Daemon::start();
    let code = "const fs = require('fs');
        const chunk = Buffer.from(('y'.repeat(99) + '\\n').repeat(10000));
        exports.handler = async () => {
            for (let i = 0; i < 100; i++) {
                for (let at = 0; at < chunk.length;) {
                    try { at += fs.writeSync(1, chunk, at); } catch (e) { if (e.code !== 'EAGAIN') throw e; }
                }
            }
            console.log('done with it');
            return 'survived';
        };";
    daemon.node("flood", code, &json!({ "timeout_ms": 60_000 }));
    daemon.node("other", "exports.handler = async () => 'well';", &json!({}));
    daemon.invoke("other", "{}").result();
    thread::scope(|scope| {
        let flood = scope.spawn(|| {
            let start = Instant::now();
            let result = daemon.invoke("flood", "{}").result();
            (start.elapsed(), result)
        });
        // Others are served meanwhile.
        for _ in 0..20 {
            let start = Instant::now();
            assert_eq!(daemon.invoke("other", "{}").result(), json!("well"));
            assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
            thread::sleep(Duration::from_millis(50));
        }
        let (took, result) = flood.join().unwrap();
        assert_eq!(result, json!("survived"));
        assert!(took < Duration::from_secs(30), "the function was held up for {took:?}");
    });
    eventually("what was dropped is said", PATIENCE, || {
        let lines = daemon.logs("flood", "&contains=dropped");
        let said: u64 = lines
            .iter()
            .filter(|l| l["stream"] == "platform")
            .filter_map(|l| l["text"].as_str()?.split(' ').next()?.parse::<u64>().ok())
            .sum();
        // 100 MB less what the rate lets through in so short a time.
        (said > 20_000_000).then_some(())
    });
}

#[test]
fn a_live_tail_shows_what_comes() {
    let daemon = Daemon::start();
    daemon.node(
        "live",
        "exports.handler = async (e) => { console.log('line ' + e.n); };",
        &json!({}),
    );
    daemon.invoke("live", r#"{"n":0}"#).result();
    eventually("the first line is stored", PATIENCE, || {
        (daemon.logs("live", "").len() == 1).then_some(())
    });
    let events = daemon.http.tail("live", "");
    let caller = |daemon: &Daemon| {
        for n in 1..=3 {
            daemon.invoke("live", &json!({ "n": n }).to_string()).result();
        }
    };
    let seen: Vec<String> = thread::scope(|scope| {
        scope.spawn(|| caller(&daemon));
        let text = |data: String| {
            let line: Value = serde_json::from_str(&data).unwrap();
            line["text"].as_str().unwrap().to_owned()
        };
        events.take(4).map(text).collect()
    });
    assert_eq!(seen, ["line 0", "line 1", "line 2", "line 3"]);
}

#[test]
fn the_command_line_follows() {
    let daemon = Daemon::start();
    daemon.node(
        "live",
        "exports.handler = async (e) => { console.log('line ' + e.n); };",
        &json!({}),
    );
    let mut command = daemon.command(&["logs", "live", "-f", "--output", "json"]);
    let mut follower = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines();
    thread::sleep(Duration::from_millis(500));
    daemon.invoke("live", r#"{"n":7}"#).result();
    let line: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
    assert_eq!(line["text"], "line 7");
    follower.kill().unwrap();
    follower.wait().unwrap();
}
