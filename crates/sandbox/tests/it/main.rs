//! Tests of the sandbox with real processes: the contract suite for each language, and what is particular to processes.
//!
//! A harness of its own (`harness = false`): this program is also the spawner of its sandboxes, which has to be decided before the test
//! framework starts threads. Takes what `cargo test` passes on: words that names must hold (any of them), `--list`, `--exact`; other options are
//! ignored. A runtime that is not installed fails the tests, it does not skip them.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test's helpers may panic as its tests do"
)]
#![expect(clippy::print_stdout, reason = "a test harness speaks on standard output")]

mod ahead;
mod attack;
mod daemon;
mod deadline;
mod freezing;
mod host;
mod hostile;
mod jail;
mod kits;
mod layers;
mod leaks;
mod lies;
mod limits;
mod native;
mod network;
mod prestart;
mod processes;
mod provided;
mod streams;
mod support;
mod web;
mod zygote;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use support::World;

type Run = Box<dyn FnOnce(Arc<World>) -> Pin<Box<dyn Future<Output = ()> + Send>>>;

/// One test.
struct Test {
    name: String,
    run: Run,
}

fn main() {
    sandbox::jail::main_if_spawner();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if daemon::run_if_daemon(&arguments) || network::run_if_inside(&arguments) {
        return;
    }
    let exact = arguments.iter().any(|a| a == "--exact");
    let words: Vec<&String> = arguments.iter().filter(|a| !a.starts_with('-')).collect();
    let wanted = |name: &str| {
        words.is_empty() || words.iter().any(|w| if exact { name == *w } else { name.contains(*w) })
    };
    let all = kits::tests()
        .into_iter()
        .chain(host::tests())
        .chain(hostile::tests())
        .chain(lies::tests())
        .chain(streams::tests())
        .chain(jail::tests())
        .chain(native::tests())
        .chain(layers::tests())
        .chain(processes::tests())
        .chain(provided::tests())
        .chain(web::tests())
        .chain(ahead::tests())
        .chain(prestart::tests())
        .chain(zygote::tests())
        .chain(daemon::tests())
        .chain(deadline::tests())
        .chain(freezing::tests())
        .chain(limits::tests())
        .chain(network::tests())
        .chain(attack::tests())
        .chain(leaks::tests());
    let tests: Vec<Test> = all.filter(|t| wanted(&t.name)).collect();
    if arguments.iter().any(|a| a == "--list") {
        for test in &tests {
            println!("{}: test", test.name);
        }
        return;
    }
    let (count, begun) = (tests.len(), Instant::now());
    let failed = run(tests);
    if !failed.is_empty() {
        println!("\nfailed: {}", failed.join(", "));
    }
    // The form of the standard harness, for those who count.
    println!(
        "\ntest result: {}. {} passed; {} failed; 0 ignored; 0 measured; 0 filtered out; finished in {:.2}s\n",
        if failed.is_empty() { "ok" } else { "FAILED" },
        count - failed.len(),
        failed.len(),
        begun.elapsed().as_secs_f32(),
    );
    if !failed.is_empty() {
        std::process::exit(101);
    }
}

/// Runs tests one after the other, for they measure time and fill the machine; returns those that failed.
fn run(tests: Vec<Test>) -> Vec<String> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let world = Arc::new(runtime.block_on(World::new()));
    println!("\nrunning {} tests on {:#?}", tests.len(), world.sandbox.isolation());
    let mut failed = Vec::new();
    for Test { name, run } in tests {
        let begun = Instant::now();
        #[expect(clippy::disallowed_methods, reason = "a panic of one test ends that test alone")]
        let ended = runtime.block_on(async { tokio::spawn(run(Arc::clone(&world))).await });
        let result = if ended.is_ok() { "ok" } else { "FAILED" };
        println!("test {name} ... {result} ({} ms)", begun.elapsed().as_millis());
        if ended.is_err() {
            failed.push(name);
        }
    }
    failed
}
