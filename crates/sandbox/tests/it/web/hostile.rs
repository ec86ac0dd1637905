//! Servers that do not keep to HTTP. What one does wrong costs one call its answer, and nobody else anything.

use std::time::Instant;

use model::invocation::FailureKind;
use model::ports::Instance;

use super::{SHORT, call, fails, get, image, reply};
use crate::support::{World, invocation, run};

async fn server(world: &World, steps: &str) -> Box<dyn Instance> {
    image(world, &[("raw", steps.as_bytes())], |_| {}).await.start().await.unwrap()
}

const OK: &str = "HTTP/1.1 200 OK\\r\\n";

pub(super) async fn what_is_no_answer_fails_one_call_alone(world: &World) {
    let line = "X-Long: ".to_owned() + &"x".repeat(1_000) + "\\r\\n";
    for (what, steps) in [
        ("an end", "head\nclose".to_owned()),
        ("a reset", "head\nreset".to_owned()),
        ("an end before the request", "close".to_owned()),
        ("something else", "head\nsend \"220 mail.example.org ESMTP\\r\\n\\r\\n\"\nhang".to_owned()),
        ("half a head", format!("head\nsend \"{OK}X-A:\"\nclose")),
        ("a head without end", format!("head\nsend \"{OK}\"\nrepeat 100000 \"{line}\"\nhang")),
        ("headers without end", format!("head\nsend \"{OK}\"\nrepeat 100000 \"A: b\\r\\n\"\nhang")),
        (
            "two lengths",
            format!("head\nsend \"{OK}Content-Length: 1\\r\\nContent-Length: 2\\r\\n\\r\\nab\"\nhang"),
        ),
        ("no length", format!("head\nsend \"{OK}Content-Length: x\\r\\n\\r\\nab\"\nhang")),
        ("an endless name", format!("head\nsend \"{OK}\"\nrepeat 100000000 \"x\"")),
        ("a status beyond all", "head\nsend \"HTTP/1.1 99999 No\\r\\n\\r\\n\"\nhang".to_owned()),
        ("another version", "head\nsend \"HTTP/2.0 200 OK\\r\\n\\r\\n\"\nhang".to_owned()),
        (
            "a protocol that nobody asked for",
            "head\nsend \"HTTP/1.1 101 Switching Protocols\\r\\nConnection: upgrade\\r\\nUpgrade: x\\r\\n\\r\\n\"\nhang"
                .to_owned(),
        ),
    ] {
        let mut instance = server(world, &steps).await;
        for _ in 0..3 {
            let outcome = call(&mut *instance, &get("/")).await;
            let failure = outcome.result.expect_err(what);
            assert_eq!(failure.kind, FailureKind::Protocol, "{what}: {failure:?}");
            assert!(instance.alive(), "{what}: it serves others");
        }
        instance.stop().await;
    }
}

pub(super) async fn what_has_no_end_ends_at_the_deadline(world: &World) {
    // A minute, if nothing ends it.
    let drip = "sleep 50\nsend \"x\"\n".repeat(1_200);
    for (what, steps) in [
        ("silence", "head\nhang".to_owned()),
        ("a head that drips", format!("head\nsend \"{OK}X-A: \"\n{drip}")),
        (
            "a body that drips",
            format!("head\nsend \"{OK}Content-Length: 2000\\r\\n\\r\\n\"\n{drip}"),
        ),
        (
            "word that an answer will come",
            "head\nrepeat 100000000 \"HTTP/1.1 100 Continue\\r\\n\\r\\n\"".to_owned(),
        ),
    ] {
        let mut instance = server(world, &steps).await;
        let begun = Instant::now();
        let outcome = run(&mut *instance, &invocation(get("/").to_string(), SHORT)).await;
        fails(outcome, FailureKind::Timeout, "timed out after 0.70");
        assert!(begun.elapsed() < SHORT * 40, "{what}: {:?}", begun.elapsed());
        assert!(!instance.alive(), "{what}");
    }
}

pub(super) async fn what_is_odd_but_right_passes(world: &World) {
    for (what, steps, body) in [
        (
            "hints before the answer",
            format!(
                "head\nsend \"HTTP/1.1 103 Early Hints\\r\\nLink: x\\r\\n\\r\\n{OK}Content-Length: 2\\r\\n\\r\\nok\"\nclose"
            ),
            "ok",
        ),
        (
            "more than it says",
            format!("head\nsend \"{OK}Content-Length: 2\\r\\n\\r\\nok!!!!\"\nclose"),
            "ok",
        ),
        ("no length and an end", format!("head\nsend \"{OK}\\r\\nok\"\nclose"), "ok"),
        (
            "chunks",
            format!(
                "head\nsend \"{OK}Transfer-Encoding: chunked\\r\\n\\r\\n1;x=y\\r\\no\\r\\n1\\r\\nk\\r\\n0\\r\\nX-T: 1\\r\\n\\r\\n\"\nclose"
            ),
            "ok",
        ),
        ("nothing", "head\nsend \"HTTP/1.1 204 No Content\\r\\n\\r\\n\"\nclose".to_owned(), ""),
        (
            "lines without returns",
            "head\nsend \"HTTP/1.1 200 OK\\nContent-Length: 2\\n\\nok\"\nclose".to_owned(),
            "ok",
        ),
    ] {
        let mut instance = server(world, &steps).await;
        for _ in 0..3 {
            assert_eq!(reply(&mut *instance, &get("/")).await["body"], body, "{what}");
        }
        instance.stop().await;
    }
}

pub(super) async fn an_answer_that_nobody_asked_for_answers_nobody(world: &World) {
    let answer = |word: &str| format!("{OK}Content-Length: {}\\r\\n\\r\\n{word}", word.len());
    let mine = answer("mine");
    for (what, before, behind) in [
        ("with the first one", "", format!("{mine}{}", answer("stolen"))),
        ("before the request", "send \"x\"\n", mine.clone()),
    ] {
        let raw = format!("{before}head\nsend \"{behind}\"\nhang");
        let mut instance = server(world, &raw).await;
        for _ in 0..5 {
            // Whatever is wrong with a connection, it has no second call.
            let outcome = call(&mut *instance, &get("/")).await;
            let text = outcome.result.unwrap_or_else(|failure| failure.payload);
            let text = String::from_utf8_lossy(&text);
            assert!(!text.contains("stolen"), "{what}: {text}");
            assert!(before.is_empty() == text.contains("mine"), "{what}: {text}");
            assert!(instance.alive(), "{what}");
        }
        instance.stop().await;
    }
}

pub(super) async fn an_answer_that_is_not_as_long_as_it_says_is_not_whole(world: &World) {
    for (what, steps) in [
        (
            "too short",
            format!("head\nsend \"{OK}Content-Length: 9\\r\\n\\r\\nok\"\nsleep 50\nclose"),
        ),
        (
            "no last chunk",
            format!(
                "head\nsend \"{OK}Transfer-Encoding: chunked\\r\\n\\r\\n2\\r\\nok\\r\\n\"\nsleep 50\nclose"
            ),
        ),
        (
            "a chunk of no size",
            format!(
                "head\nsend \"{OK}Transfer-Encoding: chunked\\r\\n\\r\\n2\\r\\nok\\r\\nzz\\r\\n\"\nhang"
            ),
        ),
    ] {
        let mut instance = server(world, &steps).await;
        let outcome = call(&mut *instance, &get("/")).await;
        let failure = outcome.result.expect_err(what);
        assert_eq!(failure.kind, FailureKind::Protocol, "{what}: {failure:?}");
        assert!(instance.alive(), "{what}");
        instance.stop().await;
    }
    let huge = format!("head\nsend \"{OK}\\r\\n\"\nrepeat 100000 \"{}\"\nclose", "x".repeat(1_000));
    let mut instance = server(world, &huge).await;
    let outcome = call(&mut *instance, &get("/")).await;
    fails(outcome, FailureKind::ResponseTooLarge, "6291456 bytes");
}
