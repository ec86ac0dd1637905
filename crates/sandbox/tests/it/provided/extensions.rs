//! Extensions from layers: they start before the runtime, hear of its calls, and end after it.

use std::sync::Arc;

use bytes::Bytes;
use model::function::Version;
use model::ids::{FunctionKey, RequestId};
use model::invocation::{Failure, FailureKind};
use model::ports::{Image, LogQuery, Logs as _, Sandbox as _, StartFailed};
use serde_json::{Value, json};

use super::{AMPLE, fails, works};
use crate::kits::provided::bootstrap;
use crate::support::{self, World, attach, in_runtime, invocation, version, zip_with_modes};
use crate::{Place, Test};

pub(super) fn tests() -> Vec<Test> {
    macro_rules! tests {
        ($($name:ident,)*) => {
            vec![$(Test {
                name: concat!("extensions::", stringify!($name)).into(),
                place: Place::Shared,
                run: Box::new(|world| Box::pin(async move { $name(&world).await })),
            },)*]
        };
    }
    tests![
        they_begin_before_the_runtime_and_end_behind_it,
        they_hear_of_calls_and_one_that_is_slow_holds_the_next_one_up,
        one_that_cannot_start_is_an_init_failure,
        one_that_ends_takes_the_instance_along,
        what_is_in_the_runtime_registers_before_the_first_call,
        what_is_not_in_order_is_refused,
    ]
}

/// A function of its own, so that its lines are told from those of others, with such extensions.
async fn function(
    world: &World,
    extensions: &[(&str, &[u8], u32)],
) -> (FunctionKey, Arc<dyn Image>) {
    let package = zip_with_modes(&[("bootstrap", bootstrap(), 0o755), ("polite", b"", 0o644)]);
    let info = world.sandbox.check_package(package).await.unwrap();
    let name = format!("f{}", RequestId::generate());
    let version = version(&world.sandbox, &name, info.digest, [].into());
    let mut version: Version =
        Arc::unwrap_or_clone(in_runtime(&world.sandbox, &version, "provided"));
    let layers: Vec<Bytes> = extensions
        .iter()
        .map(|(name, bytes, mode)| {
            zip_with_modes(&[(&format!("extensions/{name}"), *bytes, *mode)])
        })
        .collect();
    attach(&*world.sandbox, &mut version, &layers).await;
    (version.key.clone(), world.sandbox.prepare(Arc::new(version)).await.unwrap())
}

/// One whose extensions have these names.
async fn with(world: &World, names: &[&str]) -> (FunctionKey, Arc<dyn Image>) {
    let all: Vec<_> = names.iter().map(|name| (*name, bootstrap(), 0o755)).collect();
    function(world, &all).await
}

async fn lines(world: &World, key: &FunctionKey) -> Vec<String> {
    let lines = world.logs.query(LogQuery::newest(key.clone(), 100)).await.unwrap();
    lines.into_iter().map(|line| line.text.clone()).collect()
}

/// Where the line that begins so is.
fn at(lines: &[String], begins: &str) -> usize {
    let found = lines.iter().position(|line| line.starts_with(begins));
    found.unwrap_or_else(|| panic!("no line begins with {begins:?}: {lines:#?}"))
}

async fn they_begin_before_the_runtime_and_end_behind_it(world: &World) {
    let (key, image) = with(world, &["one", "last-one"]).await;
    let mut instance = image.start().await.unwrap();
    works(&mut *instance).await;
    instance.stop().await;
    let lines = lines(world, &key).await;
    let name = &key.name;
    let about = format!(
        r#"{{"functionName":"{name}","functionVersion":"$LATEST","handler":"main.handler","accountId":"000000000000"}}"#
    );
    for extension in ["one", "last-one"] {
        let registered = at(&lines, &format!("{extension} registered 200"));
        let (_, body) = lines[registered].split_once(" 200 ").unwrap();
        let [body, about] = [body, &about].map(|text| serde_json::from_str::<Value>(text).unwrap());
        assert_eq!(body, about);
        assert!(registered < at(&lines, "runtime begins"), "{lines:#?}");
        let heard = at(&lines, &format!(r#"{extension} hears 200 {{"deadlineMs":"#));
        assert!(
            at(&lines, "runtime ends") < at(&lines, &format!("{extension} ends")),
            "{lines:#?}"
        );
        assert_eq!(lines[heard].contains("INVOKE"), extension == "one", "{lines:#?}");
    }
    let last = lines.iter().rfind(|line| line.starts_with("last-one hears")).unwrap();
    assert!(last.contains(r#""eventType":"SHUTDOWN","shutdownReason":"spindown""#), "{last}");
    // Nobody is killed: the last one had time for its last word.
    assert_eq!(lines.last().unwrap(), "last-one ends");
}

async fn they_hear_of_calls_and_one_that_is_slow_holds_the_next_one_up(world: &World) {
    let (key, image) = with(world, &["slow", "one"]).await;
    let mut instance = image.start().await.unwrap();
    let mut call = invocation(json!({"op": "print", "text": "called"}).to_string(), AMPLE);
    call.context.trace = Some("Root=1-x".into());
    for _ in 0..2 {
        support::run(&mut *instance, &call).await.result.unwrap();
    }
    // Nobody waits until one has said that it hears of a call, but it says so before it hears of the end.
    instance.stop().await;
    let lines = lines(world, &key).await;
    let hears = |line: &&String| line.starts_with("one hears 200") && line.contains("INVOKE");
    let heard: Vec<_> = lines.iter().filter(hears).collect();
    assert_eq!(heard.len(), 2, "{lines:#?}");
    let (_, event) = heard[0].split_once(" 200 ").unwrap();
    let event: Value = serde_json::from_str(event.strip_suffix(" true").unwrap()).unwrap();
    assert_eq!(event["requestId"], call.id.to_string());
    assert_eq!(event["tracing"], json!({"type": "X-Amzn-Trace-Id", "value": "Root=1-x"}));
    assert!(event["deadlineMs"].is_u64() && event["invokedFunctionArn"].is_string(), "{event}");
    let called = lines.iter().rposition(|line| line == "called").unwrap();
    assert!(at(&lines, "slow is done") < called, "{lines:#?}");
}

async fn refused(image: &dyn Image, kind: FailureKind, word: &str) {
    let Err(StartFailed::Function(Failure { kind: found, payload })) = image.start().await else {
        panic!("it starts, or the platform is at fault");
    };
    let text = String::from_utf8(payload.to_vec()).unwrap();
    assert!(found == kind && text.contains(word), "{found:?}: {text}");
}

async fn one_that_cannot_start_is_an_init_failure(world: &World) {
    for (extensions, word) in [
        (("cannot", bootstrap(), 0o755), "no way"),
        (("ends", bootstrap(), 0o755), "Extension.Crash"),
        (("one", bootstrap(), 0o644), "Extension.LaunchError"),
        (("one", &b"no program"[..], 0o755), "xec format error"),
    ] {
        let (_, image) = function(world, &[extensions]).await;
        refused(&*image, FailureKind::Init, word).await;
    }
    let many: Vec<String> = (0..11).map(|n| format!("e{n}")).collect();
    let files: Vec<_> = many.iter().map(|name| format!("extensions/{name}")).collect();
    let files: Vec<_> = files.iter().map(|name| (name.as_str(), &b"x"[..], 0o755)).collect();
    let package = zip_with_modes(&[("bootstrap", bootstrap(), 0o755)]);
    let info = world.sandbox.check_package(package).await.unwrap();
    let version = version(&world.sandbox, "many", info.digest, [].into());
    let mut version = Arc::unwrap_or_clone(in_runtime(&world.sandbox, &version, "provided"));
    attach(&*world.sandbox, &mut version, &[zip_with_modes(&files)]).await;
    let image = world.sandbox.prepare(Arc::new(version)).await.unwrap();
    refused(&*image, FailureKind::Init, "Extension.TooManyExtensions").await;
}

async fn one_that_ends_takes_the_instance_along(world: &World) {
    for (name, word) in [
        ("crashes", "extension /opt/extensions/crashes ended: exit status: 3"),
        ("gives-up", "Extension.Tired"),
    ] {
        let (_, image) = with(world, &[name]).await;
        let mut instance = image.start().await.unwrap();
        let call = invocation(json!({"op": "never"}).to_string(), AMPLE);
        fails(support::run(&mut *instance, &call).await, FailureKind::Exited, word);
        assert!(!instance.alive(), "{name}");
    }
}

fn ask(path: &str, headers: &str, body: &str) -> String {
    super::post(&format!("/2020-01-01/extension/{path}"), headers, body)
}

async fn what_is_in_the_runtime_registers_before_the_first_call(world: &World) {
    let name = "Lambda-Extension-Name: inside\r\n";
    let asks = [
        ask("register", "", "{}"),
        ask("register", name, "no json"),
        ask("register", name, r#"{"events":["SHUTDOWN"]}"#),
        ask("register", name, r#"{"events":["INVOKE"]}"#),
        ask("register", name, r#"{"events":["INVOKE"]}"#),
    ];
    let all = asks.iter().flat_map(|ask| [json!(["send", "1", ask]), json!(["receive", "1"])]);
    let early = json!(all.collect::<Vec<_>>()).to_string();
    let files = [("early", early.as_bytes())];
    let image = super::image(world, &files, None).await;
    // It never asks for an event, so it never starts; and the time for that is ten seconds.
    let started = tokio::time::timeout(std::time::Duration::from_secs(2), image.start()).await;
    assert!(started.is_err(), "it starts without its extension: {started:?}");
    let said = super::lines(world).await;
    let said = said.iter().rfind(|line| line.starts_with("[{")).expect("it says what came");
    let reads: Vec<Value> = serde_json::from_str(said).unwrap();
    for (read, name) in reads.iter().zip([
        "Extension.InvalidExtensionName",
        "InvalidRequestFormat",
        "Extension.InvalidEventType",
    ]) {
        super::is_error(read, 403, name);
    }
    assert_eq!(reads[3]["status"], 200);
    super::is_error(&reads[4], 403, "Extension.InvalidExtensionState");
}

async fn what_is_not_in_order_is_refused(world: &World) {
    let mut instance = super::start(world).await;
    let next = |headers: &str| {
        format!("GET /2020-01-01/extension/event/next HTTP/1.1\r\nHost: x\r\n{headers}\r\n")
    };
    let id = "Lambda-Extension-Identifier: 93e1a2c4-5b57-4a4e-9f0e-000000000000\r\n";
    let of_type = format!("{id}Lambda-Extension-Function-Error-Type: Extension.X\r\n");
    let asks = [
        (ask("register", "Lambda-Extension-Name: late\r\n", "{}"), "Extension.RegistrationClosed"),
        (next(""), "Extension.MissingExtensionIdentifier"),
        (next("Lambda-Extension-Identifier: x\r\n"), "Extension.InvalidExtensionIdentifier"),
        (next(id), "Extension.UnknownExtensionIdentifier"),
        (ask("init/error", id, ""), "Extension.MissingHeader"),
        (ask("exit/error", &of_type, ""), "Extension.UnknownExtensionIdentifier"),
    ];
    let all = asks.iter().flat_map(|(ask, _)| [json!(["send", "1", ask]), json!(["receive", "1"])]);
    let reads = super::steps(&mut *instance, json!(all.collect::<Vec<_>>())).await;
    for (read, (_, name)) in reads.iter().zip(asks) {
        super::is_error(read, 403, name);
    }
    works(&mut *instance).await;
}
