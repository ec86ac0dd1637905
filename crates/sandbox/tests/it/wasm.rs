//! The Wasm sandbox: the contract suite for both kinds of programs, requests and answers, what hostile programs try.

mod guests;
mod hostile;
mod http;
mod run;

use std::sync::Arc;

use bytes::Bytes;
use model::suites::sandbox::{Kit, SCENARIOS};

use crate::support::{World, processes_with, zip, zip_of};
use crate::{Place, Test};
use guests::Guest;
use run::module;
pub(crate) use run::sandboxes;

/// What the contract promises of processes and files, which these programs have not.
const OF_PROCESSES: &[&str] = &[
    // Each call has a fresh instance.
    "keeps_state_between_warm_calls",
    // One call at a time.
    "calls_run_in_the_order_in_which_they_are_handed_over",
    "lines_belong_to_their_call_also_when_calls_follow_at_once",
    "calls_come_back_from_behind_one_that_takes_long",
    "calls_come_back_from_behind_one_that_ends_the_process",
    "large_calls_wait_for_their_turn",
    // No processes, no signals.
    "stop_ends_everything",
    "drop_ends_everything",
    "the_process_tree_ends_at_the_deadline",
    "a_fork_bomb_is_bounded_and_ends_at_the_deadline",
    "a_signal_is_reported",
    // No files at all: neither a root to be listed nor a /tmp.
    "scratch_is_private",
    "the_daemons_files_are_out_of_reach",
    // An exit with 0 is how a command ends well: `run::exits`.
    "an_exit_code_is_reported",
    // A component that has begun to answer has no more words for an error, and of an exit WASI 0.2 tells only whether it was a failure:
    // `http::an_exit_behind_the_first_piece_is_the_outcome`.
    "an_error_behind_the_first_piece_is_the_outcome",
    "an_end_of_the_process_is_one_of_the_answer",
    // Between calls there is nothing that could go on.
    "nothing_goes_on_in_a_frozen_instance",
    "a_call_that_comes_while_it_is_being_frozen_is_served",
    "a_frozen_instance_ends_like_any_other",
    "what_a_call_does_after_a_thaw_is_bounded_as_ever",
];

/// What only components do.
fn of_components(scenario: &str) -> bool {
    // What a command writes to its standard output is its answer, and all of it at once.
    scenario == "lines_belong_to_their_call"
        || ["piece", "stream", "taker", "nothing_is_read"]
            .iter()
            .any(|word| scenario.contains(word))
}

fn applies(guest: Guest, scenario: &str) -> bool {
    let layers = ["layer", "import"].iter().any(|word| scenario.contains(word));
    !OF_PROCESSES.contains(&scenario)
        && !layers
        && (guest == Guest::Component || !of_components(scenario))
}

async fn kit(world: &World, guest: Guest) -> Kit {
    let package = guest.package();
    let broken = vec![
        ("no such file", zip(&[("other.wasm", "")]), "guest.wasm"),
        ("no WebAssembly", zip(&[("guest.wasm", "(module)")]), "no WebAssembly"),
        ("cut off", zip_of(&[("guest.wasm", &guest.wasm()[..5000])]), "cannot be compiled"),
        ("a library", module("(module)"), "_start"),
        (
            "wants what there is not",
            module(r#"(module (import "env" "open" (func)) (func (export "_start")))"#),
            "env",
        ),
        ("a component of another world", module("(component)"), "wasi:http/proxy"),
    ];
    let daemon_file = world.folder.path().join("secret");
    std::fs::write(&daemon_file, "the daemon's").unwrap();
    Kit {
        sandbox: sandboxes(world).await,
        logs: world.logs.clone(),
        runtime: "wasm",
        handler: "guest.wasm",
        streams: package.clone(),
        package,
        layers: [Bytes::new(), Bytes::new()],
        broken,
        survivors: processes_with,
        daemon_file: daemon_file.to_string_lossy().into_owned(),
        calls_ahead: false,
        crash: "",
        exact_memory: false,
    }
}

fn suite(guest: Guest) -> impl Iterator<Item = Test> {
    SCENARIOS.iter().filter(move |scenario| applies(guest, scenario.name)).map(move |scenario| {
        Test {
            name: format!("wasm-{}::{}", guest.name(), scenario.name),
            place: Place::Shared,
            run: Box::new(move |world| {
                Box::pin(async move { (scenario.run)(Arc::new(kit(&world, guest).await)).await })
            }),
        }
    })
}

pub(crate) fn tests() -> Vec<Test> {
    let suites = [Guest::Command, Guest::Run, Guest::Component].into_iter().flat_map(suite);
    suites.chain(run::tests()).chain(http::tests()).chain(hostile::tests()).collect()
}
