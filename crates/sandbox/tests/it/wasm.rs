//! The Wasm sandbox: the contract suite for both kinds of programs, requests and answers, what hostile programs try.

mod files;
mod guests;
mod hostile;
mod http;
mod languages;
mod run;

use std::sync::Arc;

use model::suites::sandbox::{Kit, SCENARIOS};

use crate::support::{World, processes_with, zip, zip_of};
use crate::{Place, Test};
pub(crate) use guests::Guest;
use run::module;
pub(crate) use run::{over, sandboxes, start, version};

/// What the contract promises of instances that serve many calls and have files: kept where a function asks for them, by the kit "served".
const OF_SERVED: &[&str] = &[
    "keeps_state_between_warm_calls",
    "scratch_is_private",
    "one_layer_is_there_as_it_is",
    "later_layers_lie_over_earlier_ones",
    "layers_cannot_be_changed",
    "layers_are_forgotten_when_nobody_uses_them",
];

/// What the contract promises of processes, which these programs have not.
const OF_PROCESSES: &[&str] = &[
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
    // No root to be listed, and no /opt without layers: `files`. No language that looks for modules.
    "without_layers_there_is_nothing",
    "modules_of_layers_are_found",
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

/// What only commands do: any bytes have a form as the body of a response.
const OF_COMMANDS: &[&str] = &["what_cannot_be_serialised_is_a_handler_failure"];

/// What only components do.
fn of_components(scenario: &str) -> bool {
    // What a command writes to its standard output is its answer, and all of it at once.
    scenario == "lines_belong_to_their_call"
        || ["piece", "stream", "taker", "nothing_is_read"]
            .iter()
            .any(|word| scenario.contains(word))
}

fn applies(guest: Guest, served: bool, scenario: &str) -> bool {
    !OF_PROCESSES.contains(&scenario)
        && (served || !OF_SERVED.contains(&scenario))
        && match guest {
            Guest::Component => !OF_COMMANDS.contains(&scenario),
            Guest::Command | Guest::Run => !of_components(scenario),
        }
}

/// `served`: whether its instances serve many calls and have files.
async fn kit(world: &World, guest: Guest, served: bool) -> Kit {
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
        layers: crate::kits::layers([("module", b""), ("module", b"")]),
        broken,
        survivors: processes_with,
        daemon_file: daemon_file.to_string_lossy().into_owned(),
        calls_ahead: false,
        files: served.then_some(true),
        instance_calls: served.then_some(1_000),
        crash: "",
        exact_memory: false,
    }
}

fn suite(guest: Guest, served: bool) -> impl Iterator<Item = Test> {
    let scenarios = SCENARIOS.iter().filter(move |one| applies(guest, served, one.name));
    let kind = if served { "served" } else { guest.name() };
    scenarios.map(move |scenario| Test {
        name: format!("wasm-{kind}::{}", scenario.name),
        place: Place::Shared,
        run: Box::new(move |world| {
            Box::pin(async move {
                (scenario.run)(Arc::new(kit(&world, guest, served).await)).await;
            })
        }),
    })
}

pub(crate) fn tests() -> Vec<Test> {
    let fresh = [Guest::Command, Guest::Run, Guest::Component];
    let suites = fresh.into_iter().flat_map(|guest| suite(guest, false));
    let suites = suites.chain(suite(Guest::Component, true));
    suites
        .chain(run::tests())
        .chain(http::tests())
        .chain(files::tests())
        .chain(languages::tests())
        .chain(hostile::tests())
        .collect()
}
