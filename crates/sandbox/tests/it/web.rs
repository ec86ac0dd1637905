//! Web servers: how requests reach them and answers come back ([`requests`]), bodies in pieces ([`uploads`]), connections that change their protocol ([`websockets`]), several at once
//! ([`crowds`]), what is started ([`commands`]), and servers that do not keep to HTTP ([`hostile`]). The server in Go is the contract suite's.

mod commands;
mod crowds;
mod hostile;
mod requests;
mod uploads;
mod websockets;

use std::sync::Arc;
use std::time::Duration;

use model::function::FunctionConfig;
use model::invocation::{Failure, FailureKind, Outcome};
use model::ports::{Image, Instance, Patience, Sandbox as _, Turn};
use model::stream::Taker;
use serde_json::{Value, json};

use crate::kits::web::server;
use crate::support::{World, in_runtime, version, zip_with_modes};
use crate::{Place, Test};

/// Time for a call that is expected to answer.
const AMPLE: Duration = Duration::from_secs(20);
/// Time for one that is not.
const SHORT: Duration = Duration::from_millis(700);

pub(crate) fn tests() -> Vec<Test> {
    macro_rules! tests {
        ($($module:ident::$name:ident,)*) => {
            vec![$(Test {
                name: concat!("web-server::", stringify!($name)).into(),
                place: Place::Shared,
                run: Box::new(|world| Box::pin(async move { $module::$name(&world).await })),
            },)*]
        };
    }
    tests![
        requests::a_request_arrives_as_it_was_sent,
        requests::nobody_else_says_who_asks,
        requests::an_answer_comes_back_as_it_was,
        requests::an_event_that_cannot_be_sent_is_refused,
        requests::a_server_that_goes_on_hears_that_its_client_is_gone,
        requests::connections_are_used_again_and_again,
        requests::a_connection_that_ended_meanwhile_loses_no_request,
        requests::the_server_is_in_the_functions_network_alone,
        requests::a_function_with_a_network_has_it_as_well,
        requests::nothing_is_inherited,
        uploads::a_body_comes_in_while_its_answer_goes_out,
        uploads::a_client_that_does_not_send_is_no_fault_of_the_functions,
        uploads::a_server_that_does_not_read_is_not_read_for,
        websockets::bytes_pass_both_ways,
        websockets::a_server_may_refuse,
        websockets::whoever_ends_it_ends_it_for_both,
        websockets::a_server_may_say_what_it_wants_and_no_more_is_read_than_is_taken,
        crowds::many_are_served_at_once,
        crowds::lines_belong_to_a_call_that_is_alone,
        crowds::a_call_that_is_late_ends_nobody_elses,
        crowds::an_end_of_the_process_is_everybodys,
        crowds::a_crowd_freezes_when_it_is_gone,
        commands::interpreters_are_found,
        commands::the_port_is_the_functions_own,
        commands::a_server_that_does_not_listen_is_told_what_was_expected,
        commands::a_server_takes_calls_when_it_says_that_it_is_ready,
        commands::a_server_that_ends_says_its_last_lines,
        commands::what_is_not_there_is_named,
        hostile::what_is_no_answer_fails_one_call_alone,
        hostile::what_has_no_end_ends_at_the_deadline,
        hostile::what_is_odd_but_right_passes,
        hostile::an_answer_that_nobody_asked_for_answers_nobody,
        hostile::an_answer_that_is_not_as_long_as_it_says_is_not_whole,
    ]
}

/// An image of the files, with the server as `bootstrap`.
async fn image(
    world: &World,
    files: &[(&str, &[u8])],
    change: impl FnOnce(&mut FunctionConfig),
) -> Arc<dyn Image> {
    let files = files.iter().map(|(name, bytes)| (*name, *bytes, 0o644));
    let files: Vec<_> = [("bootstrap", server(), 0o755)].into_iter().chain(files).collect();
    let info = world.sandbox.check_package(zip_with_modes(&files)).await.unwrap();
    let version = version(&world.sandbox, "web", info.digest, [].into());
    let mut version = Arc::unwrap_or_clone(in_runtime(&world.sandbox, &version, "web"));
    version.config.handler = "bootstrap".into();
    change(&mut version.config);
    // Each test's lines are its own.
    let name = format!("web-{}", model::ids::RequestId::generate());
    version.key.name = name.parse().unwrap();
    world.sandbox.prepare(Arc::new(version)).await.unwrap()
}

async fn start(world: &World) -> Box<dyn Instance> {
    image(world, &[], |_| {}).await.start().await.unwrap()
}

/// The event of a request, as function URLs make it.
fn request(method: &str, path: &str, headers: Value, more: Value) -> Value {
    let mut event = json!({
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": "",
        "headers": headers,
        "requestContext": {"http": {"method": method, "path": path, "sourceIp": "192.0.2.7"}},
        "isBase64Encoded": false,
    });
    for (key, value) in more.as_object().unwrap() {
        event[key] = value.clone();
    }
    event
}

fn get(path: &str) -> Value {
    request("GET", path, json!({"host": "example.org"}), json!({}))
}

async fn call(instance: &mut dyn Instance, event: &Value) -> Outcome {
    let invocation = crate::support::invocation(event.to_string(), AMPLE);
    crate::support::run(instance, &invocation).await
}

/// The reply to a request, in one piece even if it comes in several.
async fn reply(instance: &mut dyn Instance, event: &Value) -> Value {
    let invocation = crate::support::invocation(event.to_string(), AMPLE);
    assert!(instance.hand(&invocation), "an instance that has no call takes one");
    let returned = &mut |_: &[_]| {};
    match instance.outcome(Patience { limit: AMPLE, returned }).await {
        Turn::Over(outcome) => serde_json::from_slice(&outcome.result.unwrap()).unwrap(),
        Turn::Streams { prelude, .. } => {
            let mut reply: Value = serde_json::from_slice(&prelude).unwrap();
            let body = instance.stream(Taker::Whole).await.outcome.result.unwrap();
            reply["body"] = json!(std::str::from_utf8(&body).unwrap());
            reply
        }
    }
}

/// What the server tells of a request.
async fn echoed(instance: &mut dyn Instance, event: &Value) -> Value {
    let reply = reply(instance, event).await;
    serde_json::from_str(reply["body"].as_str().unwrap()).unwrap()
}

#[track_caller]
fn fails(outcome: Outcome, kind: FailureKind, word: &str) {
    let Failure { kind: found, payload } = outcome.result.unwrap_err();
    let text = String::from_utf8(payload.to_vec()).unwrap();
    assert!(found == kind && text.contains(word), "{found:?}: {text}");
}
