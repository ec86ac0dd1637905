//! What is executed, and what is said when nothing comes of it.

use model::function::FunctionConfig;
use model::invocation::{Failure, FailureKind};
use model::ports::StartFailed;

use super::{get, image, reply};
use crate::support::World;

const NODE: &[u8] = b"
const { createServer } = require('node:http');
createServer((request, response) => response.end('node ' + request.url + ' ' + process.argv[2]))
  .listen(process.env.PORT);
";
const PYTHON: &[u8] = b"
import os, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(('python ' + self.path + ' ' + sys.argv[1]).encode())

ThreadingHTTPServer((os.environ['HOST'], int(os.environ['PORT'])), Handler).serve_forever()
";
const SCRIPT: &[u8] = b"#!/bin/sh\nexec node server.js \"$1\"\n";

pub(super) async fn interpreters_are_found(world: &World) {
    for (handler, said) in [
        ("node server.js $PORT", "node /x 8080"),
        ("python server.py 'a b'", "python /x a b"),
        ("python3.11 server.py ${PORT}1", "python /x 80801"),
        ("sh run.sh c", "node /x c"),
        ("env node server.js d", "node /x d"),
    ] {
        let files = [("server.js", NODE), ("server.py", PYTHON), ("run.sh", SCRIPT)];
        let image = image(world, &files, |config| config.handler = handler.into()).await;
        let mut instance = image.start().await.unwrap_or_else(|e| panic!("{handler}: {e:?}"));
        assert_eq!(reply(&mut *instance, &get("/x")).await["body"], said, "{handler}");
    }
}

pub(super) async fn the_port_is_the_functions_own(world: &World) {
    let image = image(world, &[("server.js", NODE)], |config| {
        config.handler = "node server.js $PORT".into();
        config.environment.insert("PORT".into(), "3000".into());
    });
    let mut instance = image.await.start().await.unwrap();
    assert_eq!(reply(&mut *instance, &get("/x")).await["body"], "node /x 3000");
}

async fn failure(
    world: &World,
    file: &str,
    change: impl FnOnce(&mut FunctionConfig),
) -> (FailureKind, String) {
    let image = image(world, &[(file, b"")], change).await;
    match image.start().await {
        Err(StartFailed::Function(Failure { kind, payload })) => {
            (kind, String::from_utf8(payload.to_vec()).unwrap())
        }
        other => panic!("{other:?}"),
    }
}

pub(super) async fn a_server_that_does_not_listen_is_told_what_was_expected(world: &World) {
    let deaf = failure(world, "deaf", |config| config.readiness_path = Some("/ready".into()));
    let unready = failure(world, "unready", |config| config.readiness_path = Some("/ready".into()));
    let ((deaf, elsewhere), (unready, asked)) = tokio::join!(deaf, unready);
    assert_eq!((deaf, unready), (FailureKind::InitTimeout, FailureKind::InitTimeout));
    for word in ["127.0.0.1:8080", "listening elsewhere"] {
        assert!(elsewhere.contains(word), "{word}: {elsewhere}");
    }
    assert!(asked.contains("GET /ready") && asked.contains("503"), "{asked}");
}

pub(super) async fn a_server_takes_calls_when_it_says_that_it_is_ready(world: &World) {
    let image = image(world, &[], |config| config.readiness_path = Some("/ready".into())).await;
    let mut instance = image.start().await.unwrap();
    assert_eq!(reply(&mut *instance, &get("/ready")).await["body"], "4");
}

pub(super) async fn a_server_that_ends_says_its_last_lines(world: &World) {
    let (kind, text) = failure(world, "throws", |_| {}).await;
    assert_eq!(kind, FailureKind::Init);
    for word in ["port 8080", "exit status 3", "not today"] {
        assert!(text.contains(word), "{word}: {text}");
    }
}

pub(super) async fn what_is_not_there_is_named(world: &World) {
    for (handler, word) in [
        ("no-such-thing --port 1", "no-such-thing"),
        ("/bin/no-such-thing", "o such file"),
        ("bootstrap 'x", "quote"),
    ] {
        let (kind, text) = failure(world, "x", |config| config.handler = handler.into()).await;
        assert!(kind == FailureKind::Init && text.contains(word), "{handler}: {text}");
    }
}
