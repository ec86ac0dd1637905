//! Components: what requests they see, what becomes of their responses.

use model::invocation::{FailureKind, Outcome};
use model::ports::{Patience, Turn};
use serde_json::{Value, json};

use super::guests::Guest;
use super::run::{AMPLE, once, sandboxes, start, told, version};
use crate::support::{World, invocation};
use crate::{Place, Test};

pub(super) fn tests() -> Vec<Test> {
    macro_rules! tests {
        ($($name:ident,)*) => {
            vec![$(Test {
                name: concat!("wasm-http::", stringify!($name)).into(),
                place: Place::Shared,
                run: Box::new(|world| Box::pin(async move { $name(&world).await })),
            },)*]
        };
    }
    tests![
        a_request_arrives_as_it_was,
        a_response_is_an_answer_with_all_there_is,
        a_long_response_goes_out_in_pieces,
        a_response_that_never_comes_is_a_failure,
        a_response_that_is_not_finished_is_a_failure,
        an_exit_behind_the_first_piece_is_the_outcome,
        nobody_is_reached,
        an_exit_is_no_response,
    ]
}

/// A request, as function URLs word it.
fn request(target: &str, body: &str) -> Value {
    json!({
        "version": "2.0", "rawPath": target, "rawQueryString": "a=1", "cookies": ["c=2"],
        "headers": {"host": "hello.example", "x-own": "mine", "connection": "close"},
        "requestContext": {"http": {"method": "PUT", "sourceIp": "192.0.2.7"}},
        "body": body, "isBase64Encoded": false,
    })
}

async fn asked(world: &World, target: &str, body: &str) -> Outcome {
    once(world, Guest::Component.package(), &request(target, body), AMPLE).await
}

fn answer(outcome: Outcome) -> Value {
    serde_json::from_slice(&outcome.result.expect("it answers")).unwrap()
}

async fn a_request_arrives_as_it_was(world: &World) {
    let reply = answer(asked(world, "/request", "hello").await);
    let seen: Value = serde_json::from_str(reply["body"].as_str().unwrap()).unwrap();
    assert_eq!(seen["method"], "PUT");
    assert_eq!(seen["target"], "/request?a=1");
    assert_eq!(seen["authority"], "hello.example");
    assert_eq!(seen["body"], "hello");
    // Without what concerns a connection only; with the call's id, and who asked.
    let mut headers = seen["headers"].clone();
    assert!(headers.as_object_mut().unwrap().remove("x-hanshu-request-id").is_some());
    let expected = json!({
        "cookie": "c=2", "x-own": "mine", "x-forwarded-for": "192.0.2.7",
        "x-forwarded-host": "hello.example", "x-forwarded-proto": "http",
    });
    assert_eq!(headers, expected);
}

async fn a_response_is_an_answer_with_all_there_is(world: &World) {
    let reply = answer(asked(world, "/request", "").await);
    assert_eq!(reply["statusCode"], 200);
    assert_eq!(reply["headers"], json!({"x-seen": "yes"}));
    // An error of HTTP is an answer to whoever asked by HTTP.
    let event = json!({"op": "throw", "text": "no"}).to_string();
    assert_eq!(answer(asked(world, "/", &event).await)["statusCode"], 500);
}

async fn a_long_response_goes_out_in_pieces(world: &World) {
    let sandbox = sandboxes(world).await;
    let version = version(&sandbox, Guest::Component.package(), 64).await;
    let mut instance = start(&sandbox, version).await.unwrap();
    let event = json!({"op": "big", "bytes": 10 << 20}).to_string();
    assert!(instance.hand(&invocation(request("/", &event).to_string(), AMPLE)));
    let returned = &mut |_: &[_]| {};
    let turn = instance.outcome(Patience { limit: AMPLE, returned }).await;
    let Turn::Streams { prelude, .. } = turn else { panic!("{turn:?}") };
    let prelude: Value = serde_json::from_slice(&prelude).unwrap();
    assert_eq!(prelude["statusCode"], 200);
    let (pieces, mut parts) = tokio::sync::mpsc::channel(4);
    let taker = model::stream::Taker::Caller { pieces: &pieces, keep_bytes: 0 };
    let mut stream = std::pin::pin!(instance.stream(taker));
    let end = loop {
        tokio::select! {
            end = &mut stream => break end,
            part = parts.recv() => assert!(part.is_some()),
        }
    };
    assert!(end.outcome.result.is_ok(), "{end:?}");
    assert_eq!(end.bytes, (10 << 20) + 2);
}

async fn a_response_that_never_comes_is_a_failure(world: &World) {
    let (kind, words) = told(asked(world, "/nothing", "").await);
    assert_eq!(kind, FailureKind::Protocol, "{words}");
    assert!(words.contains("without a response"), "{words}");
}

async fn a_response_that_is_not_finished_is_a_failure(world: &World) {
    let (kind, words) = told(asked(world, "/unfinished", "").await);
    assert_eq!(kind, FailureKind::Protocol, "{words}");
    assert!(words.contains("did not finish"), "{words}");
}

async fn an_exit_behind_the_first_piece_is_the_outcome(world: &World) {
    let event = json!({"pieces": 2, "bytes": 2, "then": "exit"});
    let (kind, words) = told(once(world, Guest::Component.package(), &event, AMPLE).await);
    assert_eq!(kind, FailureKind::Exited);
    assert!(words.contains("exit status 1"), "{words}");
}

async fn nobody_is_reached(world: &World) {
    let reply = answer(asked(world, "/outgoing", "").await);
    assert!(reply["body"].as_str().unwrap().contains("HttpRequestDenied"), "{reply}");
}

async fn an_exit_is_no_response(world: &World) {
    for (code, words) in [(0, "without providing a reason"), (77, "exit status 1")] {
        let event = json!({"op": "exit", "code": code});
        let (kind, said) = told(once(world, Guest::Component.package(), &event, AMPLE).await);
        assert_eq!(kind, FailureKind::Exited, "{said}");
        assert!(said.contains(words), "{said}");
    }
}
