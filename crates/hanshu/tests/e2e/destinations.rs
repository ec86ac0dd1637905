//! Who is told what became of an asynchronous call: a function, a webhook.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::harness::{Daemon, Start, eventually};

const LATER: [(&str, &str); 1] = [("x-hanshu-invocation", "async")];
const PATIENCE: Duration = Duration::from_secs(60);

/// A request that came to a receiver.
#[derive(Debug)]
struct Got {
    line: String,
    headers: HashMap<String, String>,
    body: Vec<u8>,
}

/// Listens, and answers with these statuses, one a connection; then it is gone.
fn receiver(statuses: &'static [u16]) -> (u16, Receiver<Got>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (sender, got) = sync_channel(statuses.len());
    thread::spawn(move || {
        for status in statuses {
            let (stream, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(stream);
            let mut lines = Vec::new();
            loop {
                let mut line = String::new();
                reader.read_line(&mut line).unwrap();
                match line.trim_end() {
                    "" => break,
                    line => lines.push(line.to_owned()),
                }
            }
            let line = lines.remove(0);
            let headers = lines.iter().filter_map(|line| line.split_once(": "));
            let headers: HashMap<_, _> =
                headers.map(|(k, v)| (k.to_ascii_lowercase(), v.to_owned())).collect();
            let mut body = vec![0; headers["content-length"].parse().unwrap()];
            reader.read_exact(&mut body).unwrap();
            let answer = format!("HTTP/1.1 {status} x\r\ncontent-length: 0\r\n\r\n");
            reader.get_mut().write_all(answer.as_bytes()).unwrap();
            sender.send(Got { line, headers, body }).unwrap();
        }
    });
    (port, got)
}

/// HMAC-SHA256 (RFC 2104) with a key of at most 64 bytes.
fn hmac(key: &[u8], text: &[u8]) -> [u8; 32] {
    let mut block = [0; 64];
    block[..key.len()].copy_from_slice(key);
    let inner = Sha256::new().chain_update(block.map(|b| b ^ 0x36)).chain_update(text).finalize();
    Sha256::new().chain_update(block.map(|b| b ^ 0x5c)).chain_update(inner).finalize().into()
}

fn enqueue(daemon: &Daemon, function: &str) -> String {
    let reply = daemon.http.invoke(function, br#"{"n":1}"#, &LATER);
    assert_eq!(reply.status, 202, "{}", reply.text());
    reply.json()["request_id"].as_str().unwrap().to_owned()
}

/// The call once what tells of its end stands so.
fn told(daemon: &Daemon, id: &str, state: &str) -> Value {
    let path = format!("/v1/namespaces/default/calls/{id}");
    eventually("the end is told", PATIENCE, || {
        let call = daemon.http.get(&path).json();
        (call["destination"]["state"] == state).then_some(call)
    })
}

#[test]
fn the_end_of_a_call_is_told_though_the_daemon_is_killed_in_between() {
    let (port, got) = receiver(&[503, 204]);
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let start = || {
        Start::dev().set("HANSHU_WEBHOOKS_ALLOW", &format!("127.0.0.1:{port}")).on(&data).start()
    };
    let mut daemon = start();
    daemon.node("sink", "exports.handler = async (e) => e;", &json!({}));
    daemon.node("fails", "exports.handler = async () => { throw new Error('no'); };", &json!({}));
    daemon.node("works", "exports.handler = async (e) => e.n + 1;", &json!({}));
    let set = |daemon: &Daemon, fields: &[&str]| daemon.cli(&[&["config", "set"], fields].concat());
    set(&daemon, &["fails", "async.attempts=1", "async.on_failure.function=sink"]).ok();
    let webhook = format!("async.on_success.webhook=http://127.0.0.1:{port}/hook?a=b");
    let hooked = ["works", &webhook, "async.on_success.secret=HOOK_KEY"];
    let refused = set(&daemon, &hooked);
    assert!(refused.err.contains("async.on_success.secret 'HOOK_KEY' is not there"), "{refused:?}");
    let key = dir.path().join("key");
    std::fs::write(&key, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
    set(&daemon, &["works", &format!("secret.HOOK_KEY=@{}", key.display())]).ok();
    set(&daemon, &hooked).ok();
    let queue = json!({ "async": { "on_success": { "queue": "q" } } });
    let patched =
        daemon.http.json("PATCH", "/v1/namespaces/default/functions/works/config", &queue);
    assert!(patched.text().contains("async.on_success.queue is not possible"), "{patched:?}");

    let (failed, worked) = (enqueue(&daemon, "fails"), enqueue(&daemon, "works"));
    let first = got.recv_timeout(PATIENCE).unwrap();
    // An attempt that is cut has no error to tell.
    eventually("the call fails", PATIENCE, || {
        let call = daemon.http.get(&format!("/v1/namespaces/default/calls/{failed}")).json();
        (call["state"] == "dead").then_some(())
    });
    daemon.kill();
    let daemon = start();
    let second = got.recv_timeout(PATIENCE).unwrap();
    assert_eq!((&*first.line, &first.line), ("POST /hook?a=b HTTP/1.1", &second.line));
    let (id, time) = (&second.headers["webhook-id"], &second.headers["webhook-timestamp"]);
    assert_eq!(id, &first.headers["webhook-id"]);
    let key = STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
    let text = [format!("{id}.{time}.").as_bytes(), &second.body].concat();
    let signed = format!("v1,{}", STANDARD.encode(hmac(&key, &text)));
    assert_eq!(second.headers["webhook-signature"], signed);
    let body: Value = serde_json::from_slice(&second.body).unwrap();
    assert_eq!(body["requestContext"]["requestId"], worked);
    assert_eq!(
        (&body["requestContext"]["condition"], &body["responsePayload"]),
        (&json!("Success"), &json!(2))
    );
    assert_eq!(told(&daemon, &worked, "succeeded")["destination"]["id"], *id);

    let call = told(&daemon, &failed, "succeeded");
    assert_eq!(
        (&call["state"], &call["destination"]["function"]),
        (&json!("dead"), &json!("sink"))
    );
    let id = call["destination"]["id"].as_str().unwrap();
    let event = &daemon.http.get(&format!("/v1/namespaces/default/calls/{id}")).json()["result"];
    assert_eq!(event["requestContext"]["condition"], "RetriesExhausted");
    assert_eq!(event["responsePayload"]["errorMessage"], "no");
    assert!(daemon.cli(&["calls", "show", &failed]).ok().contains("told to"));

    // The daemon itself is out of reach, and that is said.
    let own = format!("async.on_success.webhook={}/v1/health", daemon.url());
    set(&daemon, &["works", &own, "async.on_success.secret=HOOK_KEY"]).ok();
    let id = enqueue(&daemon, "works");
    let path = format!("/v1/namespaces/default/calls/{id}");
    eventually("the webhook is refused", PATIENCE, || {
        let call = daemon.http.get(&path).json();
        let message = call["destination"]["message"].as_str()?;
        message.contains("webhooks.allow").then_some(())
    });
}
