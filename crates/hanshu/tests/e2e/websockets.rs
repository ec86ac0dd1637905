//! WebSockets of web servers. What passes is looked at by nobody, and so mostly not by these tests: a socket's bytes are plain text here. Real clients and servers: `web.rs`.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::{Daemon, Start, eventually};

const SOON: Duration = Duration::from_secs(60);

const SERVER: &str = r"
const { createServer } = require('node:http');
const me = require('node:crypto').randomUUID();
const server = createServer((request, response) => response.end(JSON.stringify(request.headers)));
server.on('upgrade', (request, socket) => {
  socket.on('error', () => {}).on('end', () => socket.end()).on('close', () => console.log('gone'));
  if (request.url === '/no') return socket.end('HTTP/1.1 403 Forbidden\r\nContent-Length: 5\r\n\r\nnever');
  socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n');
  socket.write(`Sec-WebSocket-Accept: ${request.headers['sec-websocket-key']}\r\n\r\n${me}\n`);
  socket.on('data', (bytes) => (bytes.toString() === 'bye' ? socket.end('farewell') : socket.write(bytes)));
});
server.listen(process.env.PORT);
";

fn deploy(daemon: &Daemon, name: &str, extra: &Value) {
    let mut config = json!({
        "runtime": "web", "handler": "node server.js", "timeout_ms": 60_000, "memory_mb": 256,
    });
    for (key, value) in extra.as_object().unwrap() {
        config[key] = value.clone();
    }
    let reply = daemon.put(name, &[("server.js", SERVER)], &config);
    assert!(reply.status == 200 || reply.status == 201, "{reply:?}");
}

/// A client.
struct Socket {
    stream: TcpStream,
    heard: Vec<u8>,
}

impl Socket {
    fn ask(daemon: &Daemon, path: &str) -> Self {
        let mut stream = daemon.http.connect();
        write!(
            stream,
            "GET /fn/default/{path} HTTP/1.1\r\nhost: x\r\nconnection: keep-alive, Upgrade\r\n\
             upgrade: websocket\r\nsec-websocket-key: a key\r\nsec-websocket-version: 13\r\n\r\n"
        )
        .unwrap();
        Self { stream, heard: Vec::new() }
    }

    /// One that the function has agreed to, and what its instance calls itself.
    fn open(daemon: &Daemon, path: &str) -> (Self, String) {
        let mut socket = Self::ask(daemon, path);
        let head = socket.hear_until("\r\n\r\n").to_ascii_lowercase();
        assert!(head.starts_with("http/1.1 101 switching protocols\r\n"), "{head}");
        for line in ["connection: upgrade", "upgrade: websocket", "sec-websocket-accept: a key"] {
            assert!(head.contains(&format!("\r\n{line}\r\n")), "{line}: {head}");
        }
        assert!(head.contains("\r\nx-hanshu-request-id: "), "{head}");
        let instance = socket.hear_until("\n");
        (socket, instance)
    }

    fn say(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).unwrap();
    }

    fn hear_until(&mut self, end: &str) -> String {
        let mut seen = 0;
        loop {
            let fresh = self.heard.get(seen..).unwrap_or_default();
            if let Some(at) = fresh.windows(end.len()).position(|w| w == end.as_bytes()) {
                let rest = self.heard.split_off(seen + at + end.len());
                return String::from_utf8(std::mem::replace(&mut self.heard, rest)).unwrap();
            }
            seen = self.heard.len().saturating_sub(end.len());
            let mut buffer = [0; 64 << 10];
            let n = self.stream.read(&mut buffer).unwrap();
            assert!(n > 0, "it ended: {}", String::from_utf8_lossy(&self.heard));
            self.heard.extend_from_slice(&buffer[..n]);
        }
    }

    fn echoes(&mut self, text: &str) {
        self.say(text);
        assert_eq!(self.hear_until(text), text);
    }

    /// What is said before the daemon closes it.
    fn hear_to_the_end(mut self) -> String {
        self.stream.read_to_end(&mut self.heard).unwrap();
        String::from_utf8(self.heard).unwrap()
    }
}

fn counts(daemon: &Daemon, function: &str, text: &str) -> usize {
    daemon.logs(function, "").iter().filter(|line| line["text"] == text).count()
}

#[test]
fn bytes_pass_until_one_side_ends() {
    let mut daemon = Daemon::start();
    deploy(&daemon, "talk", &json!({ "instance_concurrency": 2 }));
    deploy(&daemon, "brief", &json!({ "timeout_ms": 2_000 }));
    daemon.node(
        "plain",
        "exports.handler = async (event) => event.headers.upgrade ?? 'none';",
        &json!({}),
    );

    let (mut first, one) = Socket::open(&daemon, "talk/");
    for n in 0..1_000 {
        first.echoes(&format!("message {n}."));
    }
    let large = "x".repeat(8 << 20) + "!";
    std::thread::scope(|scope| {
        let (mut writing, large) = (first.stream.try_clone().unwrap(), large.as_bytes());
        scope.spawn(move || writing.write_all(large).unwrap());
        assert!(first.hear_until("!").as_bytes() == large);
    });
    // Each has a place in an instance while it is open.
    let (second, same) = Socket::open(&daemon, "talk/");
    let (third, other) = Socket::open(&daemon, "talk/");
    assert!(one == same && one != other, "{one} {same} {other}");
    // The server ends; and the client, which the server hears.
    first.say("bye");
    assert_eq!(first.hear_to_the_end(), "farewell");
    drop((second, third));
    eventually("the server hears that its clients are gone", SOON, || {
        daemon.http.get("/fn/default/talk/");
        (counts(&daemon, "talk", "gone") >= 3).then_some(())
    });

    // A refusal is an answer, on a connection that goes on.
    let mut refused = Socket::ask(&daemon, "talk/no");
    let head = refused.hear_until("never");
    assert!(head.starts_with("HTTP/1.1 403 "), "{head}");
    refused.say("GET /fn/default/talk/ HTTP/1.1\r\nhost: again\r\n\r\n");
    assert!(refused.hear_until("}").contains("\"host\":\"again\""));
    // Other protocols are not asked for, and other functions are asked as if there were none.
    let headers = [("connection", "upgrade"), ("upgrade", "h2c")];
    let told = daemon.http.send("GET", "/fn/default/talk/", &headers, ()).json();
    assert!(told.get("upgrade").is_none(), "{told}");
    let mut plain = Socket::ask(&daemon, "plain");
    assert!(plain.hear_until("\"none\"").starts_with("HTTP/1.1 200 "));

    // The function's timeout is its longest time, which is no failure.
    let (mut brief, instance) = Socket::open(&daemon, "brief/");
    brief.echoes("hello");
    assert_eq!(brief.hear_to_the_end(), "");
    assert_eq!(Socket::open(&daemon, "brief/").1, instance, "the instance goes on");
    let text = "the WebSocket was closed after 2.00 seconds, the function's timeout";
    eventually("the log says so", SOON, || (counts(&daemon, "brief", text) == 1).then_some(()));

    // So does one whose function has changed, and one of a daemon that stops, to its end.
    let (mut last, old) = Socket::open(&daemon, "talk/");
    deploy(&daemon, "talk", &json!({ "timeout_ms": 50_000 }));
    assert_ne!(Socket::open(&daemon, "talk/").1, old);
    last.echoes("still here");
    daemon.signal(Signal::TERM);
    eventually("no more connections", SOON, || {
        TcpStream::connect(daemon.url().strip_prefix("http://").unwrap()).err()
    });
    last.echoes("still here");
    last.say("bye");
    assert_eq!(last.hear_to_the_end(), "farewell");
    assert!(daemon.ended().success());
}

#[test]
fn one_on_which_nothing_passes_is_closed_on_both_sides() {
    let daemon = Start::dev().set("HANSHU_SERVER_WEBSOCKET_IDLE_SECONDS", "1").start();
    deploy(&daemon, "talk", &json!({}));
    let (mut socket, _) = Socket::open(&daemon, "talk/");
    socket.echoes("hello");
    assert_eq!(socket.hear_to_the_end(), "");
    eventually("the server hears of it", SOON, || {
        daemon.http.get("/fn/default/talk/");
        (counts(&daemon, "talk", "gone") == 1).then_some(())
    });
}
