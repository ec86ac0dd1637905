//! Answers in pieces, by URL and by the call of the API.

use crate::world::{Reply, World};

const PRELUDE: &str = r#"{"statusCode":418,"headers":{"x-a":"1"},"cookies":["a=1","b=2"]}"#;
const URL: &str = "/fn/default/f";
const CALL: &str = "/v1/namespaces/default/functions/f/invoke";

/// What the chunks of a body say, and whether the last one came.
fn chunks(reply: &Reply) -> (String, bool) {
    assert_eq!(reply.header("transfer-encoding"), "chunked");
    let (mut rest, mut text) = (reply.body.as_slice(), String::new());
    loop {
        let Some(end) = rest.windows(2).position(|w| w == b"\r\n") else { return (text, false) };
        let (length, behind) = rest.split_at(end);
        let length = usize::from_str_radix(std::str::from_utf8(length).unwrap(), 16).unwrap();
        if length == 0 {
            return (text, true);
        }
        text.push_str(std::str::from_utf8(&behind[2..2 + length]).unwrap());
        rest = &behind[2 + length + 2..];
    }
}

#[tokio::test]
async fn a_url_answers_with_what_the_function_said_before() {
    let world = World::start().await;
    world.function("f", "stream.reply", PRELUDE).await;
    let asked = world.ask_without_key("GET", URL).header("x-hanshu-timings", "1");
    let reply = asked.send().await;
    assert_eq!(reply.status, 418);
    assert_eq!(chunks(&reply), ("one two ".to_owned(), true));
    assert_eq!((reply.header("x-a"), reply.headers["set-cookie"].len()), ("1", 2));
    assert_eq!(reply.header("content-type"), "application/octet-stream");
    assert!(reply.header("x-hanshu-timings").contains("cold"));
    let head = world.ask_without_key("HEAD", URL).send().await;
    assert_eq!((head.status, head.body.len()), (418, 0));
}

#[tokio::test]
async fn a_call_of_the_api_says_it_and_goes_well() {
    let world = World::start().await;
    world.function("f", "stream.reply", PRELUDE).await;
    let reply = world.ask("POST", CALL).header("x-hanshu-timings", "1").send().await;
    assert_eq!((reply.status, reply.header("x-hanshu-stream")), (200, PRELUDE));
    assert_eq!(chunks(&reply), ("one two ".to_owned(), true));
    assert_eq!(reply.header("x-hanshu-version"), "$LATEST");
    assert_eq!(reply.header("content-type"), "application/octet-stream");
    assert!(reply.header("x-hanshu-timings").contains("cold"));
    assert!(!reply.headers.contains_key("x-a"));
    // What cannot be used is the URL's business alone.
    let prelude = r#"{"statusCode":7}"#;
    world.function("f", "stream.reply", prelude).await;
    let reply = world.ask("POST", CALL).send().await;
    assert_eq!((reply.status, reply.header("x-hanshu-stream")), (200, prelude));
    world.function("f", "stream.reply", &format!("{{\"x\":\"{}\"}}", "y".repeat(9_000))).await;
    assert_eq!(world.ask("POST", CALL).send().await.header("x-hanshu-stream"), "{}");
}

#[tokio::test]
async fn an_answer_that_breaks_off_has_no_last_chunk() {
    let world = World::start().await;
    world.function("f", "stream.cut", "{}").await;
    for asked in [world.ask_without_key("GET", URL), world.ask("POST", CALL)] {
        let reply = asked.send().await;
        assert_eq!((reply.status, chunks(&reply)), (200, ("one two ".to_owned(), false)));
    }
}

#[tokio::test]
async fn what_stands_before_is_checked_before_anything_is_sent() {
    let world = World::start().await;
    for (prelude, word) in [(r#"{"statusCode":7}"#, "statusCode"), ("[]", "object"), ("{", "EOF")] {
        world.function("f", "stream.reply", prelude).await;
        let reply = world.ask_without_key("GET", URL).send().await;
        assert_eq!(reply.status, 502);
        let message = reply.json()["message"].as_str().unwrap().to_owned();
        assert!(message.contains(word), "{message}");
    }
    world.function("f", "stream.reply", r#"{"statusCode":204}"#).await;
    let reply = world.ask_without_key("GET", URL).send().await;
    assert_eq!((reply.status, reply.body.len()), (204, 0));
}
