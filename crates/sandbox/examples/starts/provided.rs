//! An executable that brings its own runtime: first calls of instances, and calls of a warm one in turn with the same executable started bare, which asks a
//! server for its calls that does nothing else: the floor of its client.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::json;

use crate::jailed::{Jailed, Subject};
use crate::{Fallible, PAUSE, calls, nanos};

/// First calls before any is timed.
const UNTIMED: usize = 10;
/// How often the daemon's housekeeping wakes.
const TICK: Duration = Duration::from_secs(1);
/// Rounds of warm calls.
const ROUNDS: usize = 10;

/// Prints `{"first_ns": [..], "start_ns": [..]}`: of first calls, from the start asked for until the answer, and until it could be called; and `{"call_ns": [..],
/// "floor_ns": [..]}` for each round of warm calls.
pub(crate) async fn run(cache: &Path, samples: usize, each: usize, program: &Path) -> Fallible {
    let subject = Subject {
        path: String::new(),
        runtime: "provided",
        handler: "bootstrap",
        file: "bootstrap",
        code: std::fs::read(program)?,
    };
    let jailed = Jailed::open(subject, cache).await?;
    // As a daemon has it, which does something every now and then: else each call's deadline is the next thing to wake for, and is told to whoever waits.
    #[expect(clippy::disallowed_methods, reason = "ends with the program")]
    let ticking = tokio::spawn(async {
        loop {
            tokio::time::sleep(TICK).await;
        }
    });
    let event = calls::event();
    let (mut first, mut start) = (Vec::new(), Vec::new());
    for n in 0..UNTIMED + samples {
        std::thread::sleep(PAUSE);
        let begun = Instant::now();
        let started = jailed.image.start().await;
        let mut instance = started.map_err(|e| format!("the start failed: {e:?}"))?;
        let ready = begun.elapsed();
        calls::call(&mut *instance, &event).await?;
        if n >= UNTIMED {
            start.push(nanos(ready));
            first.push(nanos(begun.elapsed()));
        }
        instance.stop().await;
    }
    println!("{}", json!({ "first_ns": first, "start_ns": start }));
    let started = jailed.image.start().await;
    let mut instance = started.map_err(|e| format!("the start failed: {e:?}"))?;
    let mut bare = Bare::start(program, &event)?;
    for n in 0..calls::UNTIMED {
        calls::call(&mut *instance, &event).await.map_err(|e| format!("call {n}: {e}"))?;
        bare.call()?;
    }
    for _ in 0..ROUNDS {
        let (mut calls, mut floor) = (Vec::new(), Vec::new());
        let (own, event) = (each, event.clone());
        // As the daemon does it: by a task.
        #[expect(clippy::disallowed_methods, reason = "the only task, and waited for")]
        let row = tokio::spawn(async move {
            let mut took = Vec::with_capacity(own);
            for _ in 0..own {
                match calls::call(&mut *instance, &event).await {
                    Ok(call) => took.push(nanos(call)),
                    Err(error) => return (instance, Err(error)),
                }
            }
            (instance, Ok(took))
        });
        let (back, took) = row.await?;
        instance = back;
        calls.extend(took?);
        for _ in 0..each {
            floor.push(nanos(bare.call()?));
        }
        println!("{}", json!({ "call_ns": calls, "floor_ns": floor }));
    }
    instance.stop().await;
    ticking.abort();
    drop(bare);
    jailed.close().await
}

/// The executable without a sandbox, and the server that it asks.
#[derive(Debug)]
struct Bare {
    child: Child,
    connection: TcpStream,
    /// What a call is answered with.
    call: Vec<u8>,
    buffer: Vec<u8>,
}

const ACCEPTED: &[u8] =
    b"HTTP/1.1 202 Accepted\r\ncontent-type: application/json\r\ncontent-length: 15\r\n\r\n{\"status\":\"OK\"}";

impl Bare {
    fn start(program: &Path, event: &Bytes) -> Fallible<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        #[expect(clippy::disallowed_methods, reason = "the same executable, bare")]
        let child = Command::new(program)
            .env_clear()
            .env("AWS_LAMBDA_RUNTIME_API", listener.local_addr()?.to_string())
            .env("AWS_LAMBDA_FUNCTION_NAME", "bare")
            .env("AWS_LAMBDA_FUNCTION_VERSION", "1")
            .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128")
            .env("AWS_LAMBDA_LOG_GROUP_NAME", "bare")
            .env("AWS_LAMBDA_LOG_STREAM_NAME", "bare")
            .spawn()?;
        let (connection, _) = listener.accept()?;
        connection.set_nodelay(true)?;
        let mut call = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\
             lambda-runtime-aws-request-id: 00000000-0000-7000-8000-000000000000\r\n\
             lambda-runtime-invoked-function-arn: arn:aws:lambda:local:000000000000:function:bare\r\n\
             lambda-runtime-deadline-ms: 4102444800000\r\ncontent-length: {}\r\n\r\n",
            event.len()
        )
        .into_bytes();
        call.extend_from_slice(event);
        let mut bare = Self { child, connection, call, buffer: vec![0; 64 * 1024] };
        bare.read()?;
        Ok(bare)
    }

    /// One call, from the moment when it is sent until it is answered, acknowledged, and the next one is asked for: as long as a call takes that comes right behind
    /// another one, which has to wait for that as well.
    fn call(&mut self) -> Fallible<Duration> {
        let begun = Instant::now();
        self.connection.write_all(&self.call)?;
        self.read()?;
        self.connection.write_all(ACCEPTED)?;
        self.read()?;
        Ok(begun.elapsed())
    }

    /// Reads one request, with its body if it announces one.
    fn read(&mut self) -> Fallible {
        let mut filled = 0;
        loop {
            let room = self.buffer.get_mut(filled..).unwrap_or_default();
            let read = self.connection.read(room)?;
            if read == 0 {
                return Err("the executable has ended".into());
            }
            filled += read;
            let text = String::from_utf8_lossy(self.buffer.get(..filled).unwrap_or_default())
                .to_ascii_lowercase();
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            let length: usize = length.and_then(|n| n.trim().parse().ok()).unwrap_or(0);
            let chunked = head.contains("transfer-encoding: chunked");
            if if chunked { body.ends_with("0\r\n\r\n") } else { body.len() >= length } {
                return Ok(());
            }
        }
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        // The only errors are that it has ended, and that it has been reaped.
        self.child.kill().unwrap_or_default();
        self.child.wait().map(drop).unwrap_or_default();
    }
}
