//! Answers in pieces: when they arrive, who waits for whom, how they end.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::process::Stdio;
use std::time::Duration;

use serde_json::json;

use crate::harness::{Daemon, eventually};

/// For what happens soon on any machine.
const SOON: Duration = Duration::from_secs(60);
const MIB: usize = 1 << 20;
/// What the daemon may hold more of while a gigabyte passes, in KiB.
const GROWTH_KIB: u64 = 16 << 10;

/// A request of a function's URL, as a plain connection.
fn open(daemon: &Daemon, function: &str) -> TcpStream {
    let mut stream = daemon.http.connect();
    write!(stream, "GET /fn/default/{function} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        .unwrap();
    stream
}

/// Reads until `text` has come.
fn read_until(stream: &mut TcpStream, text: &str) -> String {
    let (mut read, mut buffer) = (String::new(), [0; 4096]);
    while !read.contains(text) {
        let n = stream.read(&mut buffer).unwrap();
        assert!(n > 0, "the answer ended: {read}");
        read.push_str(&String::from_utf8_lossy(&buffer[..n]));
    }
    read
}

fn logged(daemon: &Daemon, function: &str, text: &str) -> Option<()> {
    let lines = daemon.logs(function, "");
    lines.iter().any(|line| line["text"].as_str().unwrap().contains(text)).then_some(())
}

#[test]
fn the_first_piece_arrives_while_the_handler_runs() {
    let daemon = Daemon::start();
    let node = "exports.handler = awslambda.streamifyResponse(async (event, stream) => {
        stream = awslambda.HttpResponseStream.from(stream, { statusCode: 201, headers: { 'content-type': 'text/plain' } });
        stream.write('first');
        await new Promise(() => setInterval(() => {}, 1000));
    })";
    let python = "import time
def handler(event, context):
    yield {'statusCode': 201, 'headers': {'content-type': 'text/plain'}}
    yield 'first'
    time.sleep(3600)
";
    daemon.node("node", node, &json!({}));
    daemon.python("python", python, &json!({}));
    for function in ["node", "python"] {
        // It never returns: whoever waited for its end would see nothing.
        let mut stream = open(&daemon, function);
        let read = read_until(&mut stream, "first").to_ascii_lowercase();
        assert!(read.starts_with("http/1.1 201 "), "{read}");
        assert!(read.contains("content-type: text/plain\r\n"), "{read}");
        assert!(read.contains("transfer-encoding: chunked\r\n"), "{read}");
    }
}

/// A number of the daemon's `/proc` status, in KiB.
fn status_kib(daemon: &Daemon, name: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.id())).unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix(name)).unwrap();
    line.trim_matches([':', ' ', '\t', 'k', 'B']).parse().unwrap()
}

#[test]
fn a_gigabyte_passes_and_the_daemon_does_not_grow() {
    let daemon = Daemon::start();
    let code = "const { pipeline } = require('stream/promises');
    exports.handler = awslambda.streamifyResponse(async (event, stream) => {
        const piece = Buffer.alloc(1 << 20, 'x');
        await pipeline(function* () { for (let n = Number(event.rawQueryString); n > 0; n--) yield piece }, stream);
    })";
    daemon.node("big", code, &json!({ "timeout_ms": 300_000 }));
    let fetch = |mebibytes: usize| {
        let url = format!("{}/fn/default/big?{mebibytes}", daemon.url());
        let body = ureq::get(&url).call().unwrap().into_body();
        std::io::copy(&mut body.into_reader(), &mut std::io::sink()).unwrap()
    };
    assert_eq!(fetch(8), 8 << 20);
    // The highest mark begins anew (proc(5), clear_refs).
    fs::write(format!("/proc/{}/clear_refs", daemon.id()), "5").unwrap();
    let before = status_kib(&daemon, "VmHWM");
    assert_eq!(fetch(1024), 1 << 30);
    let grown = status_kib(&daemon, "VmHWM").saturating_sub(before);
    assert!(grown < GROWTH_KIB, "{grown} KiB more than the {before} before");
}

#[test]
fn a_client_that_does_not_read_slows_the_function_and_loses_nothing() {
    let daemon = Daemon::start();
    let code = "const { once } = require('events');
    exports.handler = awslambda.streamifyResponse(async (event, stream) => {
        const piece = Buffer.alloc(1 << 20, 'x');
        for (let n = 1; n <= 64; n++) {
            if (!stream.write(piece)) await once(stream, 'drain');
            console.log(`wrote ${n}.`);
        }
        stream.end('last');
    })";
    daemon.node("f", code, &json!({ "timeout_ms": 300_000 }));
    let mut stream = open(&daemon, "f");
    read_until(&mut stream, "xxx");
    // Sockets hold some megabytes, the daemon less than one. The function stands still once nothing more fits.
    let wrote = || daemon.logs("f", "&contains=wrote").len();
    let mut before = 0;
    eventually("the function waits", SOON, || {
        std::thread::sleep(Duration::from_millis(500));
        let now = wrote();
        let still = now > 0 && now == before;
        before = now;
        still.then_some(())
    });
    assert!(before < 32, "{before} MiB were taken of it that nobody has read");
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    assert!(rest.len() > 63 * MIB && rest.ends_with(b"last\r\n0\r\n\r\n"), "{}", rest.len());
}

#[test]
fn an_answer_that_breaks_off_is_seen_to() {
    let daemon = Daemon::start();
    let node = |how: &str| {
        format!(
            "exports.handler = awslambda.streamifyResponse(async (event, stream) => {{
                await new Promise((written) => stream.write('piece', written));
                {how}
            }})"
        )
    };
    for (name, how, log) in [
        ("throws", "throw new Error('half-way')", "half-way"),
        ("exits", "process.exit(7)", "exit status 7"),
        ("hangs", "await new Promise(() => setInterval(() => {}, 1000))", "timed out"),
    ] {
        daemon.node(name, &node(how), &json!({ "timeout_ms": 3_000 }));
        let mut stream = open(&daemon, name);
        let mut answer = String::new();
        // The end of the connection; a reset would be one as well.
        stream.read_to_string(&mut answer).unwrap_or_default();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{name}: {answer}");
        assert!(answer.contains("piece"), "{name}: {answer}");
        assert!(!answer.contains("\r\n0\r\n"), "{name}: it looks whole: {answer}");
        eventually("the log says why", SOON, || logged(&daemon, name, log));
        let done = daemon.cli(&["invoke", name]);
        assert_eq!((done.code, done.out.as_str()), (1, "piece"), "{name}: {}", done.err);
        assert!(done.err.contains("broke off"), "{}", done.err);
    }
}

#[test]
fn a_client_that_goes_away_does_not_end_the_function() {
    let daemon = Daemon::start();
    let code = "const { once } = require('events');
    exports.handler = awslambda.streamifyResponse(async (event, stream) => {
        for (let n = 0; n < 64; n++) if (!stream.write(Buffer.alloc(1 << 20, 'x'))) await once(stream, 'drain');
        stream.end();
        console.log('written to the end');
    })";
    daemon.node("f", code, &json!({ "timeout_ms": 300_000 }));
    let mut stream = open(&daemon, "f");
    read_until(&mut stream, "xxx");
    stream.shutdown(Shutdown::Both).unwrap();
    drop(stream);
    eventually("it runs to its end", SOON, || logged(&daemon, "f", "written to the end"));
    // The instance is as good as before.
    assert_eq!(daemon.http.get("/fn/default/f").body.len(), 64 * MIB);
}

#[test]
fn the_command_line_shows_pieces_as_they_come() {
    let daemon = Daemon::start();
    let code = "import time
def handler(event, context):
    yield 'first'
    if event:
        time.sleep(3600)
    yield b' second'
";
    daemon.python("f", code, &json!({ "timeout_ms": 300_000 }));
    let done = daemon.cli(&["invoke", "f", "--timings"]);
    assert_eq!((done.code, done.out.as_str()), (0, "first second"), "{}", done.err);
    assert!(done.err.contains("handler"), "{}", done.err);
    let document = daemon.cli(&["invoke", "f", "--output", "json"]).json();
    assert_eq!(document["result"], "first second");
    // This one never ends, and something of it is seen.
    let mut command = daemon.command(&["invoke", "f", "--payload", "1"]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut piece = [0; 5];
    child.stdout.take().unwrap().read_exact(&mut piece).unwrap();
    assert_eq!(&piece, b"first");
    child.kill().unwrap();
    child.wait().unwrap();
}
