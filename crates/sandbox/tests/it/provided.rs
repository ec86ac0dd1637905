//! The Runtime API, spoken as official clients do not: what is out of order, too large, too slow, too much. The executable is the contract suite's.

mod clients;
mod extensions;

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use model::invocation::{Failure, FailureKind, Outcome};
use model::limits::RESPONSE_BYTES;
use model::network::NetworkPolicy;
use model::ports::{
    Image, Instance, LogQuery, Logs as _, Patience, Sandbox as _, StartFailed, Turn,
};
use model::stream::Taker;
use serde_json::{Value, json};

use crate::kits::provided::bootstrap;
use crate::support::{self, World, in_runtime, invocation, version, zip_with_modes};
use crate::{Place, Test};

/// Time for a call that is expected to answer.
const AMPLE: Duration = Duration::from_secs(20);
const RUNTIME: &str = "/2018-06-01/runtime";

pub(crate) fn tests() -> Vec<Test> {
    macro_rules! tests {
        ($($name:ident,)*) => {
            vec![$(Test {
                name: concat!("runtime-api::", stringify!($name)).into(),
                place: Place::Shared,
                run: Box::new(|world| Box::pin(async move { $name(&world).await })),
            },)*]
        };
    }
    let extensions = extensions::tests();
    let own = tests![
        a_call_has_all_its_headers,
        what_there_is_not_is_not_found,
        an_answer_to_another_call_is_refused,
        an_answer_too_many_is_refused_and_reaches_nobody,
        a_call_that_comes_after_the_last_is_not_begun,
        a_call_that_is_run_can_be_fetched_again,
        an_init_error_comes_too_late,
        an_answer_before_the_first_call_is_refused,
        an_end_at_the_start_is_an_exit,
        too_large_an_answer_is_refused_whether_announced_or_not,
        an_error_need_not_be_json,
        an_unknown_mode_is_refused_and_fails_the_call,
        a_stream_without_prelude_has_its_content_type,
        a_prelude_may_come_in_parts_and_has_its_limit,
        a_prelude_makes_a_stream_and_trailers_an_error_without_a_mode,
        an_answer_that_breaks_off_ends_the_instance,
        telemetry_is_said_not_to_be_there,
        heads_have_a_limit,
        a_head_that_does_not_come_to_its_end_is_cut_off,
        connections_have_a_limit_and_others_wait,
        requests_in_a_row_are_answered_in_order,
        a_half_closed_connection_loses_no_call,
        the_listener_is_in_the_functions_network_alone,
        nothing_is_inherited,
        a_function_with_a_network_has_it_as_well,
    ];
    own.into_iter().chain(extensions).chain(clients::tests()).collect()
}

async fn image(world: &World, files: &[(&str, &[u8])], network: Option<&str>) -> Arc<dyn Image> {
    let files = files.iter().map(|(name, bytes)| (*name, *bytes, 0o644));
    let files: Vec<_> = [("bootstrap", bootstrap(), 0o755)].into_iter().chain(files).collect();
    let info = world.sandbox.check_package(zip_with_modes(&files)).await.unwrap();
    let version = version(&world.sandbox, "provided", info.digest, [].into());
    let mut version = Arc::unwrap_or_clone(in_runtime(&world.sandbox, &version, "provided.al2"));
    if let Some(mode) = network {
        version.config.network = serde_json::from_value::<NetworkPolicy>(json!(mode)).unwrap();
    }
    world.sandbox.prepare(Arc::new(version)).await.unwrap()
}

async fn start(world: &World) -> Box<dyn Instance> {
    image(world, &[], None).await.start().await.unwrap()
}

async fn call(instance: &mut dyn Instance, event: Value) -> Outcome {
    support::run(instance, &invocation(event.to_string(), AMPLE)).await
}

async fn value(instance: &mut dyn Instance, event: Value) -> Value {
    serde_json::from_slice(&call(instance, event).await.result.unwrap()).unwrap()
}

/// What is read in the course of the steps.
async fn steps(instance: &mut dyn Instance, steps: Value) -> Vec<Value> {
    let reads = value(instance, json!({"op": "steps", "steps": steps})).await;
    reads.as_array().unwrap().clone()
}

/// The call that is answered by the steps themselves.
async fn answered(instance: &mut dyn Instance, steps: Value) -> Outcome {
    call(instance, json!({"op": "answer", "steps": steps})).await
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")
}

fn post(path: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!("POST {path} HTTP/1.1\r\nHost: x\r\n{headers}Content-Length: {length}\r\n\r\n{body}")
}

fn next() -> String {
    get(&format!("{RUNTIME}/invocation/next"))
}

/// To the call that is run.
fn to_call(what: &str, headers: &str, body: &str) -> String {
    post(&format!("{RUNTIME}/invocation/{{id}}/{what}"), headers, body)
}

/// The error in an answer.
fn error(read: &Value) -> (u64, String) {
    assert_eq!(read["header"]["Content-Type"], "application/json", "{read}");
    let body: Value = serde_json::from_str(read["body"].as_str().unwrap()).unwrap();
    assert!(body["errorMessage"].is_string(), "{read}");
    (read["status"].as_u64().unwrap(), body["errorType"].as_str().unwrap().to_owned())
}

fn is_error(read: &Value, status: u64, error_type: &str) {
    assert_eq!(error(read), (status, error_type.to_owned()), "{read}");
}

fn fails(outcome: Outcome, kind: FailureKind, word: &str) {
    let Failure { kind: found, payload } = outcome.result.unwrap_err();
    let text = String::from_utf8(payload.to_vec()).unwrap();
    assert!(found == kind && text.contains(word), "{found:?}: {text}");
}

async fn works(instance: &mut dyn Instance) {
    assert_eq!(value(instance, json!({"op": "echo", "value": [1]})).await, json!([1]));
}

async fn a_call_has_all_its_headers(world: &World) {
    let mut instance = start(world).await;
    let again = json!({"op": "steps", "steps": [["send", "1", next()], ["receive", "1"]]});
    let mut call = invocation(again.to_string(), AMPLE);
    call.context.trace = Some("Root=1-5f35ae12-0c0fec141ab77a00bc047aa2".into());
    call.context.client_context = Some("{\n \"custom\": {}}".into());
    call.context.arn = Some("arn:aws:lambda:local:0:function:f:live".into());
    let body = support::run(&mut *instance, &call).await.result.unwrap();
    let reads: Value = serde_json::from_slice(&body).unwrap();
    let (header, now) = (&reads[0]["header"], std::time::UNIX_EPOCH.elapsed().unwrap());
    for (name, text) in [
        ("Lambda-Runtime-Aws-Request-Id", call.id.to_string().as_str()),
        ("Lambda-Runtime-Trace-Id", "Root=1-5f35ae12-0c0fec141ab77a00bc047aa2"),
        ("Lambda-Runtime-Client-Context", "{  \"custom\": {}}"),
        ("Lambda-Runtime-Invoked-Function-Arn", "arn:aws:lambda:local:0:function:f:live"),
        ("Content-Type", "application/json"),
    ] {
        assert_eq!(header[name], text, "{name}");
    }
    let deadline = header["Lambda-Runtime-Deadline-Ms"].as_str().unwrap().parse().unwrap();
    let left = Duration::from_millis(deadline).saturating_sub(now);
    assert!(left <= AMPLE && left > AMPLE / 2, "{left:?}");
    assert_eq!(reads[0]["body"], again.to_string());
    // What there is not is not said, and the name is the version's own.
    let reads = steps(&mut *instance, json!([["send", "1", next()], ["receive", "1"]])).await;
    let header = &reads[0]["header"];
    assert!(header.get("Lambda-Runtime-Trace-Id").is_none(), "{header}");
    let arn = header["Lambda-Runtime-Invoked-Function-Arn"].as_str().unwrap();
    assert!(arn.ends_with(":provided"), "{arn}");
}

async fn what_there_is_not_is_not_found(world: &World) {
    let mut instance = start(world).await;
    let ask = [
        get("/"),
        get(&format!("{RUNTIME}/invocation/next/")),
        get("/2015-03-31/functions"),
        post(&format!("{RUNTIME}/invocation/next"), "", ""),
        get(&format!("{RUNTIME}/init/error")),
        get("/2018-06-01/ping"),
    ];
    let all: Vec<_> =
        ask.iter().flat_map(|ask| [json!(["send", "1", ask]), json!(["receive", "1"])]).collect();
    let reads = steps(&mut *instance, json!(all)).await;
    let statuses: Vec<_> = reads.iter().map(|read| read["status"].as_u64().unwrap()).collect();
    assert_eq!(statuses, [404, 404, 404, 405, 405, 200]);
    assert_eq!(reads[5]["body"], "pong");
}

async fn an_answer_to_another_call_is_refused(world: &World) {
    let mut instance = start(world).await;
    let mut all = Vec::new();
    for id in ["93e1a2c4-5b57-4a4e-9f0e-000000000000", "x", ""] {
        for what in ["response", "error"] {
            let path = format!("{RUNTIME}/invocation/{id}/{what}");
            all.extend([json!(["send", "1", post(&path, "", "1")]), json!(["receive", "1"])]);
        }
    }
    for read in steps(&mut *instance, json!(all)).await {
        is_error(&read, 400, "InvalidRequestID");
    }
    works(&mut *instance).await;
}

async fn an_answer_too_many_is_refused_and_reaches_nobody(world: &World) {
    let mut instance = start(world).await;
    // The first of them is the call's answer. What the others get is told by the next call.
    let second = to_call("response", "", "\"second\"");
    let all = json!([
        ["send", "1", to_call("response", "", "\"first\"")],
        ["receive", "1"],
        ["send", "0", second],
    ]);
    let body = answered(&mut *instance, all).await.result.unwrap();
    assert_eq!(body, "\"first\"");
    // Its own connection gets an answer that it does not expect, and so a client in order ends.
    fails(call(&mut *instance, json!({"op": "count"})).await, FailureKind::Exited, "exit");
    let mut instance = start(world).await;
    for what in ["response", "error"] {
        let all = json!([
            ["send", "1", to_call("response", "", "1")],
            ["receive", "1"],
            ["send", "1", to_call(what, "", "2")],
            ["receive", "1"],
        ]);
        assert_eq!(answered(&mut *instance, all).await.result.unwrap(), "1");
        works(&mut *instance).await;
    }
}

async fn a_call_that_comes_after_the_last_is_not_begun(world: &World) {
    let mut instance = start(world).await;
    // It answers, and ends a while later, for it cannot ask for a call any more.
    let all = json!([
        ["send", "1", to_call("response", "", "1")],
        ["receive", "1"],
        ["sleep", "300"],
        ["close", "0"],
    ]);
    assert_eq!(answered(&mut *instance, all).await.result.unwrap(), "1");
    assert!(instance.unbegun().is_none());
    let late = json!({"op": "count"});
    fails(call(&mut *instance, late.clone()).await, FailureKind::Exited, "exit");
    assert_eq!(instance.unbegun().unwrap().payload, late.to_string());
    let mut instance = start(world).await;
    fails(call(&mut *instance, json!({"op": "exit"})).await, FailureKind::Exited, "exit");
    assert!(instance.unbegun().is_none());
}

async fn a_call_that_is_run_can_be_fetched_again(world: &World) {
    let mut instance = start(world).await;
    let all =
        json!([["send", "1", next()], ["receive", "1"], ["send", "2", next()], ["receive", "2"]]);
    let reads = steps(&mut *instance, all.clone()).await;
    let event = json!({"op": "steps", "steps": all}).to_string();
    assert!(reads.iter().all(|read| read["body"] == event), "{reads:?}");
    assert_eq!(reads[0]["header"], reads[1]["header"]);
}

async fn an_init_error_comes_too_late(world: &World) {
    let mut instance = start(world).await;
    let late = post(&format!("{RUNTIME}/init/error"), "", "{}");
    let reads = steps(&mut *instance, json!([["send", "1", late], ["receive", "1"]])).await;
    is_error(&reads[0], 403, "InvalidStateTransition");
    let message = "State transition from Running to InitError failed for runtime. Error: State transition is not allowed";
    assert!(reads[0]["body"].as_str().unwrap().contains(message), "{reads:?}");
    works(&mut *instance).await;
}

/// Lines of the function.
async fn lines(world: &World) -> Vec<String> {
    let key =
        version(&world.sandbox, "provided", model::ids::Digest::of(b""), [].into()).key.clone();
    let lines = world.logs.query(LogQuery::newest(key, 100)).await.unwrap();
    lines.into_iter().map(|line| line.text.clone()).collect()
}

async fn an_answer_before_the_first_call_is_refused(world: &World) {
    let early = post(
        &format!("{RUNTIME}/invocation/93e1a2c4-5b57-4a4e-9f0e-000000000000/response"),
        "",
        "1",
    );
    let early = json!([["send", "1", early], ["receive", "1"]]).to_string();
    let image = image(world, &[("early", early.as_bytes())], None).await;
    let mut instance = image.start().await.unwrap();
    works(&mut *instance).await;
    let said = lines(world).await;
    let said = said.iter().rfind(|line| line.starts_with("[{")).expect("it says what came");
    is_error(&serde_json::from_str::<Value>(said).unwrap()[0], 400, "InvalidRequestID");
}

async fn an_end_at_the_start_is_an_exit(world: &World) {
    // A connection that the daemon closes, with an answer that the client does not expect.
    for early in [json!([["send", "0", "nonsense\r\n\r\n"], ["receive", "0"]])] {
        let early = early.to_string();
        let image = image(world, &[("early", early.as_bytes())], None).await;
        match image.start().await {
            Err(StartFailed::Function(failure)) => assert_eq!(failure.kind, FailureKind::Exited),
            other => panic!("{other:?}"),
        }
    }
}

async fn too_large_an_answer_is_refused_whether_announced_or_not(world: &World) {
    let most = RESPONSE_BYTES;
    for what in ["response", "error"] {
        let mut instance = start(world).await;
        let path = format!("{RUNTIME}/invocation/{{id}}/{what}");
        let head =
            format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", most + 1);
        let outcome =
            answered(&mut *instance, json!([["send", "1", head], ["receive", "1"]])).await;
        fails(outcome, FailureKind::ResponseTooLarge, "exceeded maximum allowed payload size");
        works(&mut *instance).await;
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n",
            most + 1
        );
        let all = json!([
            ["send", "1", head],
            ["repeat", "1", format!("x{}", most + 1)],
            ["within", "1", "5000"]
        ]);
        let outcome = answered(&mut *instance, all).await;
        fails(outcome, FailureKind::ResponseTooLarge, &format!("({most} bytes)"));
        works(&mut *instance).await;
    }
}

async fn an_error_need_not_be_json(world: &World) {
    let mut instance = start(world).await;
    for (headers, body, word) in [
        ("", "plain \u{1f600}", "\"plain 😀\""),
        ("", "", "Runtime.Unknown"),
        ("Lambda-Runtime-Function-Error-Type: Function.Odd\r\n", "no json", "Function.Odd"),
        (
            "",
            "{\"errorType\":\"Own\",\"errorMessage\":\"m\"}",
            "{\"errorType\":\"Own\",\"errorMessage\":\"m\"}",
        ),
    ] {
        let all = json!([["send", "1", to_call("error", headers, body)], ["receive", "1"]]);
        fails(answered(&mut *instance, all).await, FailureKind::Handler, word);
    }
    works(&mut *instance).await;
}

async fn an_unknown_mode_is_refused_and_fails_the_call(world: &World) {
    let mut instance = start(world).await;
    let mode = "Lambda-Runtime-Function-Response-Mode: buffered\r\n";
    let all = json!([["send", "1", to_call("response", mode, "1")], ["receive", "1"]]);
    let outcome = answered(&mut *instance, all).await;
    fails(outcome, FailureKind::Handler, "Runtime.InvalidResponseModeHeader");
    works(&mut *instance).await;
}

/// What stands before the pieces of an answer, and the pieces together.
async fn streamed(instance: &mut dyn Instance, steps: Value) -> (Bytes, Outcome) {
    let event = json!({"op": "answer", "steps": steps});
    assert!(instance.hand(&invocation(event.to_string(), AMPLE)));
    let returned = &mut |_: &[_]| {};
    match instance.outcome(Patience { limit: AMPLE, returned }).await {
        Turn::Streams { prelude, .. } => (prelude, instance.stream(Taker::Whole).await.outcome),
        Turn::Over(outcome) => panic!("no stream: {outcome:?}"),
    }
}

fn streaming(headers: &str) -> String {
    format!(
        "POST {RUNTIME}/invocation/{{id}}/response HTTP/1.1\r\nHost: x\r\nLambda-Runtime-Function-Response-Mode: streaming\r\n{headers}Transfer-Encoding: chunked\r\n\r\n"
    )
}

fn chunk(bytes: &str) -> String {
    format!("{:x}\r\n{bytes}\r\n", bytes.len())
}

const PRELUDED: &str = "Content-Type: application/vnd.awslambda.http-integration-response\r\n";

async fn a_stream_without_prelude_has_its_content_type(world: &World) {
    let mut instance = start(world).await;
    for (headers, prelude) in
        [("", "{}"), ("Content-Type: text/csv\r\n", r#"{"headers":{"content-type":"text/csv"}}"#)]
    {
        let text = streaming(headers) + &chunk("a,b") + "0\r\n\r\n";
        let all = json!([["send", "1", text], ["receive", "1"]]);
        let (said, outcome) = streamed(&mut *instance, all).await;
        assert_eq!(said, prelude);
        assert_eq!(outcome.result.unwrap(), "a,b");
    }
    works(&mut *instance).await;
}

async fn a_prelude_may_come_in_parts_and_has_its_limit(world: &World) {
    let mut instance = start(world).await;
    let parts =
        chunk("{\"statusCode\":") + &chunk("204}\0\0\0") + &chunk("\0\0\0\0\0fi") + &chunk("rst");
    let all = json!([["send", "1", streaming(PRELUDED) + &parts + "0\r\n\r\n"], ["receive", "1"]]);
    let (prelude, outcome) = streamed(&mut *instance, all).await;
    assert_eq!(prelude, "{\"statusCode\":204}");
    assert_eq!(outcome.result.unwrap(), "first");
    for body in [chunk("{}") + "0\r\n\r\n", chunk(&"x".repeat(70_000)) + "0\r\n\r\n"] {
        let all = json!([["send", "1", streaming(PRELUDED) + &body], ["within", "1", "5000"]]);
        let outcome = answered(&mut *instance, all).await;
        fails(outcome, FailureKind::Handler, "Runtime.InvalidResponsePrelude");
    }
    works(&mut *instance).await;
}

async fn a_prelude_makes_a_stream_and_trailers_an_error_without_a_mode(world: &World) {
    let mut instance = start(world).await;
    let without = |headers: &str| {
        streaming(headers).replace("Lambda-Runtime-Function-Response-Mode: streaming\r\n", "")
    };
    let text = without(PRELUDED) + &chunk("{\"statusCode\":201}\0\0\0\0\0\0\0\0all") + "0\r\n\r\n";
    let all = json!([["send", "1", text], ["receive", "1"]]);
    let (prelude, outcome) = streamed(&mut *instance, all).await;
    assert_eq!(
        (&prelude[..], &outcome.result.unwrap()[..]),
        (&b"{\"statusCode\":201}"[..], &b"all"[..])
    );
    let whole = without("Trailer: Lambda-Runtime-Function-Error-Type\r\n") + &chunk("[1]");
    let all = json!([["send", "1", whole.clone() + "0\r\n\r\n"], ["receive", "1"]]);
    assert_eq!(answered(&mut *instance, all).await.result.unwrap(), "[1]");
    let end = "0\r\nLambda-Runtime-Function-Error-Type: Function.Late\r\n\r\n";
    let all = json!([["send", "1", whole + end], ["receive", "1"]]);
    fails(answered(&mut *instance, all).await, FailureKind::Handler, "Function.Late");
    works(&mut *instance).await;
}

/// Of one that goes on, so that it has to be ended.
async fn an_answer_that_breaks_off_ends_the_instance(world: &World) {
    for head in [
        format!(
            "POST {RUNTIME}/invocation/{{id}}/response HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhalf"
        ),
        format!(
            "POST {RUNTIME}/invocation/{{id}}/error HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhalf"
        ),
        streaming("") + "ffff\r\nhalf",
        streaming("") + "no number\r\nhalf",
    ] {
        let mut instance = start(world).await;
        let outcome = answered(
            &mut *instance,
            json!([["send", "1", head], ["close", "1"], ["sleep", "9999"]]),
        )
        .await;
        fails(outcome, FailureKind::Protocol, "Runtime broke the protocol");
        assert!(!instance.alive());
    }
}

async fn telemetry_is_said_not_to_be_there(world: &World) {
    let mut instance = start(world).await;
    for (path, name) in [
        ("/2022-07-01/telemetry", "Telemetry.NotSupported"),
        ("/2020-08-15/logs", "Logs.NotSupported"),
    ] {
        let ask = post(path, "", "{}").replace("POST", "PUT");
        let reads = steps(&mut *instance, json!([["send", "1", ask], ["receive", "1"]])).await;
        is_error(&reads[0], 202, name);
    }
}

async fn heads_have_a_limit(world: &World) {
    let mut instance = start(world).await;
    let many: String = (0..110).map(|n| format!("x-{n}: 1\r\n")).collect();
    let long = format!("x: {}\r\n", "y".repeat(100_000));
    for headers in [many, long] {
        let ask = format!("GET /2018-06-01/ping HTTP/1.1\r\nHost: x\r\n{headers}\r\n");
        let reads = steps(&mut *instance, json!([["send", "1", ask], ["receive", "1"]])).await;
        // The connection may be cut off while the rest is still sent.
        let refused = reads[0]["status"] == 431 || reads[0]["error"].is_string();
        assert!(refused, "{:.40}: {reads:?}", headers);
        works(&mut *instance).await;
    }
}

async fn a_head_that_does_not_come_to_its_end_is_cut_off(world: &World) {
    let mut instance = start(world).await;
    let all = json!([["send", "1", "GET /2018-06-01/ping HT"], ["within", "1", "15000"]]);
    let reads = steps(&mut *instance, all).await;
    let error = reads[0]["error"].as_str().unwrap();
    assert!(!error.contains("timeout"), "{error}");
    works(&mut *instance).await;
}

async fn connections_have_a_limit_and_others_wait(world: &World) {
    let mut instance = start(world).await;
    let ask = get("/2018-06-01/ping");
    let names: Vec<String> = (1..40).map(|n| n.to_string()).collect();
    let mut all: Vec<Value> = names.iter().map(|name| json!(["send", name, ask])).collect();
    all.extend(names.iter().map(|name| json!(["within", name, "200"])));
    // Those that were served make room for the others.
    all.extend(names.iter().take(30).map(|name| json!(["close", name])));
    all.push(json!(["within", "39", "5000"]));
    let reads = steps(&mut *instance, json!(all)).await;
    let (last, first) = reads.split_last().unwrap();
    let served = first.iter().filter(|read| read["status"] == 200).count();
    // Its own is one of 32.
    assert_eq!(served, 31, "{first:?}");
    assert_eq!(last["status"], 200, "{last}");
    works(&mut *instance).await;
}

async fn requests_in_a_row_are_answered_in_order(world: &World) {
    let mut instance = start(world).await;
    let ask = get("/2018-06-01/ping") + &get("/nothing") + &next() + &get("/2018-06-01/ping");
    let mut all = vec![json!(["send", "1", ask])];
    all.extend((0..4).map(|_| json!(["receive", "1"])));
    let reads = steps(&mut *instance, json!(all)).await;
    let statuses: Vec<_> = reads.iter().map(|read| read["status"].as_u64().unwrap()).collect();
    assert_eq!(statuses, [200, 404, 200, 200]);
    // And where the first of them has to wait.
    let all = json!([
        ["send", "1", to_call("response", "", "1") + &next() + &get("/2018-06-01/ping")],
        ["receive", "1"],
        ["shut", "1"],
    ]);
    assert_eq!(answered(&mut *instance, all).await.result.unwrap(), "1");
    works(&mut *instance).await;
}

async fn a_half_closed_connection_loses_no_call(world: &World) {
    let mut instance = start(world).await;
    for _ in 0..5 {
        let all = json!([
            ["send", "1", to_call("response", "", "1")],
            ["receive", "1"],
            ["send", "1", next()],
            ["shut", "1"],
            ["send", "2", next()],
            ["close", "2"],
        ]);
        assert_eq!(answered(&mut *instance, all).await.result.unwrap(), "1");
        works(&mut *instance).await;
    }
}

async fn the_listener_is_in_the_functions_network_alone(world: &World) {
    let mut one = start(world).await;
    let mut other = start(world).await;
    let api = value(&mut *one, json!({"op": "environment"})).await;
    assert_eq!(api["AWS_LAMBDA_RUNTIME_API"], "127.0.0.1:9001");
    // The address is free outside, and both have it.
    drop(TcpListener::bind("127.0.0.1:9001").expect("nobody listens there on the host"));
    for instance in [&mut one, &mut other] {
        assert_eq!(
            value(&mut **instance, json!({"op": "connect", "port": 9001})).await,
            "connected"
        );
    }
}

async fn nothing_is_inherited(world: &World) {
    let mut instance = start(world).await;
    assert_eq!(value(&mut *instance, json!({"op": "inherited"})).await, json!([]));
}

async fn a_function_with_a_network_has_it_as_well(world: &World) {
    let mut instance = image(world, &[], Some("egress")).await.start().await.unwrap();
    works(&mut *instance).await;
    instance.stop().await;
}
