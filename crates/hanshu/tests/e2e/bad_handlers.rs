//! Functions that cannot be loaded, fail or misbehave: the caller gets the error in the function's own language, and the next
//! call is none the worse.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::Daemon;

const SHORT: u64 = 1_000;

/// A daemon with a well-behaved function, to be called after each bad one.
struct Bench(Daemon);

impl Bench {
    fn new() -> Self {
        let daemon = Daemon::start();
        daemon.node("good", "exports.handler = async () => 'good';", &json!({}));
        Self(daemon)
    }

    #[track_caller]
    fn node(&self, code: &str, kind: &str) -> Value {
        self.0.node("bad", code, &json!({ "timeout_ms": 3 * SHORT }));
        self.fails(kind)
    }

    #[track_caller]
    fn python(&self, code: &str, kind: &str) -> Value {
        self.0.python("bad", code, &json!({ "timeout_ms": 3 * SHORT }));
        self.fails(kind)
    }

    /// Twice: whatever the first failure did to the instance, the second call meets the same.
    #[track_caller]
    fn fails(&self, kind: &str) -> Value {
        let first = self.0.invoke("bad", "{}").failed(kind);
        let second = self.0.invoke("bad", "{}").failed(kind);
        assert_eq!(first["errorType"], second["errorType"]);
        assert_eq!(self.0.invoke("good", "{}").result(), json!("good"));
        first
    }
}

#[track_caller]
fn told(error: &Value, error_type: &str, part: &str) {
    assert_eq!(error["errorType"], error_type, "{error}");
    assert!(error["errorMessage"].as_str().unwrap().contains(part), "{error}");
}

#[test]
fn a_handler_that_names_no_file_or_export() {
    let bench = Bench::new();
    let files = [
        ("index.js", "exports.handler = async () => 1;"),
        ("main.py", "def handler(e, c): return 1\n"),
    ];
    for (runtime, handler, error_type, part) in [
        ("nodejs20", "nowhere.handler", "Runtime.ImportModuleError", "nowhere"),
        ("nodejs20", "index.nothing", "Runtime.HandlerNotFound", "nothing"),
        ("python3.11", "nowhere.handler", "Runtime.ImportModuleError", "nowhere"),
        ("python3.11", "main.nothing", "Runtime.HandlerNotFound", "nothing"),
    ] {
        let config = json!({ "runtime": runtime, "handler": handler, "timeout_ms": 9_000 });
        let reply = bench.0.put("bad", &files, &config);
        assert!([200, 201].contains(&reply.status), "{reply:?}");
        told(&bench.fails("init"), error_type, part);
    }
}

#[test]
fn a_syntax_error() {
    let bench = Bench::new();
    let error = bench.node("exports.handler = async ( => 1;", "init");
    assert_eq!(error["errorType"], "Runtime.UserCodeSyntaxError", "{error}");
    let error = bench.python("def handler(event, context)\n    return 1\n", "init");
    assert_eq!(error["errorType"], "Runtime.UserCodeSyntaxError", "{error}");
}

#[test]
fn code_that_throws_at_load() {
    let bench = Bench::new();
    let error = bench.node("throw new RangeError('at load');", "init");
    told(&error, "RangeError", "at load");
    let error = bench.python("raise ValueError('at load')\n", "init");
    told(&error, "ValueError", "at load");
}

#[test]
fn code_that_never_finishes_loading() {
    let bench = Bench::new();
    bench.0.node("bad", "for (;;) {}", &json!({}));
    let start = Instant::now();
    bench.0.invoke("bad", "{}").failed("init-timeout");
    let took = start.elapsed();
    assert!((Duration::from_secs(9)..Duration::from_secs(20)).contains(&took), "{took:?}");
    assert_eq!(bench.0.invoke("good", "{}").result(), json!("good"));
}

#[test]
fn a_handler_that_throws_or_rejects() {
    let bench = Bench::new();
    for code in [
        "exports.handler = () => { throw new TypeError('on purpose'); };",
        "exports.handler = async () => { throw new TypeError('on purpose'); };",
        "exports.handler = () => Promise.reject(new TypeError('on purpose'));",
        "exports.handler = (event, context, callback) => callback(new TypeError('on purpose'));",
    ] {
        let error = bench.node(code, "handler");
        told(&error, "TypeError", "on purpose");
        assert!(error["trace"].as_array().is_some_and(|t| !t.is_empty()), "{error}");
    }
    let error =
        bench.node("exports.handler = (e, c, callback) => callback('plain text');", "handler");
    assert!(error["errorMessage"].as_str().unwrap().contains("plain text"), "{error}");
    let error =
        bench.python("def handler(event, context):\n    raise KeyError('on purpose')\n", "handler");
    told(&error, "KeyError", "on purpose");
    let trace = error["stackTrace"].as_array().unwrap();
    assert!(trace.iter().any(|t| t.as_str().unwrap().contains("main.py")), "{error}");
}

#[test]
fn a_handler_that_never_answers_is_destroyed_in_time() {
    let bench = Bench::new();
    let forms: [(&str, &str); 4] = [
        ("node", "exports.handler = () => new Promise(() => setInterval(() => {}, 1000));"),
        ("node", "exports.handler = () => { for (;;) {} };"),
        ("python", "import time\ndef handler(event, context):\n    time.sleep(600)\n"),
        (
            "python",
            "import signal\nfor s in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM):\n    signal.signal(s, signal.SIG_IGN)\n\
             def handler(event, context):\n    while True: pass\n",
        ),
    ];
    for (language, code) in forms {
        let extra = json!({ "timeout_ms": SHORT });
        match language {
            "node" => bench.0.node("bad", code, &extra),
            _ => bench.0.python("bad", code, &extra),
        }
        let start = Instant::now();
        let error = bench.0.invoke("bad", "{}").failed("timeout");
        let took = start.elapsed();
        assert!(took >= Duration::from_millis(SHORT), "{took:?}");
        assert!(took < Duration::from_millis(SHORT + 5_000), "{took:?}: {code}");
        assert!(
            error["errorMessage"].as_str().unwrap().contains("1.00"),
            "names the timeout: {error}"
        );
        assert_eq!(bench.0.invoke("good", "{}").result(), json!("good"));
    }
}

#[test]
fn a_timeout_takes_child_processes_with_it() {
    let bench = Bench::new();
    // A marker that no other process on this machine has in its arguments.
    let marker = format!("86{}.25", std::process::id());
    let code = format!(
        "import subprocess, time\ndef handler(event, context):\n    subprocess.Popen(['python3', '-c', 'import time; time.sleep({marker})'], start_new_session=True)\n    time.sleep(600)\n"
    );
    // The interpreter may have another name inside: the function's own is always there.
    let code = code.replace("'python3'", "__import__('sys').executable");
    bench.0.python("bad", &code, &json!({ "timeout_ms": 2 * SHORT }));
    bench.0.invoke("bad", "{}").failed("timeout");
    crate::harness::eventually("the child is gone", Duration::from_secs(5), || {
        let survivors = std::fs::read_dir("/proc").unwrap().filter_map(|e| {
            let line = std::fs::read(e.ok()?.path().join("cmdline")).ok()?;
            String::from_utf8_lossy(&line).contains(&marker).then_some(())
        });
        (survivors.count() == 0).then_some(())
    });
}

#[test]
fn a_handler_that_calls_back_twice_is_heard_once() {
    let bench = Bench::new();
    let code = "exports.handler = (event, context, callback) => { callback(null, event.n); callback(null, 'again'); };";
    bench.0.node("twice", code, &json!({}));
    for n in 0..5 {
        assert_eq!(bench.0.invoke("twice", &json!({ "n": n }).to_string()).result(), json!(n));
    }
    let late = "exports.handler = (event, context, callback) => {
        context.callbackWaitsForEmptyEventLoop = false;
        callback(null, event.n);
        setTimeout(() => callback(null, 'late'), 5);
    };";
    bench.0.node("late", late, &json!({}));
    for n in 0..5 {
        assert_eq!(bench.0.invoke("late", &json!({ "n": n }).to_string()).result(), json!(n));
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_handler_that_exits() {
    let bench = Bench::new();
    let error = bench.node("exports.handler = () => process.exit(3);", "exited");
    assert!(error["errorMessage"].as_str().unwrap().contains('3'), "{error}");
    let error =
        bench.python("import os\ndef handler(event, context):\n    os._exit(3)\n", "exited");
    assert!(error["errorMessage"].as_str().unwrap().contains('3'), "{error}");
    let error =
        bench.python("import sys\ndef handler(event, context):\n    sys.exit(4)\n", "exited");
    assert!(error["errorMessage"].as_str().unwrap().contains('4'), "{error}");
}

#[test]
fn a_handler_that_is_killed_by_a_signal() {
    let bench = Bench::new();
    let error = bench.node("exports.handler = () => process.abort();", "exited");
    assert!(error["errorMessage"].as_str().unwrap().contains("signal"), "{error}");
    for how in ["os.kill(os.getpid(), 9)", "os.abort()"] {
        let code = format!("import os\ndef handler(event, context):\n    {how}\n");
        let error = bench.python(&code, "exited");
        assert!(error["errorMessage"].as_str().unwrap().contains("signal"), "{how}: {error}");
    }
}

#[test]
fn an_answer_that_is_no_json() {
    let bench = Bench::new();
    let error = bench.node("exports.handler = async () => ({ big: 1n });", "handler");
    assert!(!error["errorMessage"].as_str().unwrap().is_empty(), "{error}");
    let circular = "exports.handler = async () => { const a = {}; a.a = a; return a; };";
    bench.node(circular, "handler");
    let error = bench.python("def handler(event, context):\n    return {1, 2}\n", "handler");
    assert_eq!(error["errorType"], "Runtime.MarshalError", "{error}");
    // What JSON has no word for is null, as on AWS Lambda.
    bench.0.node("nothing", "exports.handler = async () => undefined;", &json!({}));
    assert_eq!(bench.0.invoke("nothing", "{}").result(), Value::Null);
}

#[test]
fn an_answer_of_seven_megabytes() {
    let bench = Bench::new();
    let code = "exports.handler = async () => 'x'.repeat(7 * 1024 * 1024);";
    let error = bench.node(code, "response-too-large");
    assert!(error["errorMessage"].as_str().unwrap().contains("6291456"), "{error}");
    bench.python(
        "def handler(event, context):\n    return 'x' * (7 * 1024 * 1024)\n",
        "response-too-large",
    );
    // Right at the limit is fine.
    bench.0.node(
        "most",
        "exports.handler = async () => 'x'.repeat(6 * 1024 * 1024 - 2);",
        &json!({}),
    );
    assert_eq!(bench.0.invoke("most", "{}").result().as_str().unwrap().len(), 6 * 1024 * 1024 - 2);
}

#[test]
fn more_memory_than_allowed() {
    let bench = Bench::new();
    let hog = "exports.handler = async () => {
        const held = [];
        for (let i = 0; i < 64; i++) held.push(Buffer.alloc(16 << 20, 1));
        return held.length;
    };";
    bench.0.node("bad", hog, &json!({ "memory_mb": 128 }));
    bench.0.invoke("bad", "{}").failed("memory-exceeded");
    assert_eq!(bench.0.invoke("good", "{}").result(), json!("good"));
}
