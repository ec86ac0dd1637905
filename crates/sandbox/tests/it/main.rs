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
mod wasm;
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
    place: Place,
    run: Run,
}

/// Where a test runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    /// In the world that is there all the time: nothing is started ahead.
    Shared,
    /// In one whose instances are pre-started, with this memory for them. Its tests share it.
    Ahead { memory_mb: u32 },
    /// In one whose instances are all forked. Its tests share it, and only they: what others had forked would end some time later.
    Forked { tests: &'static str },
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
    let mut tests: Vec<Test> = all_tests().into_iter().filter(|t| wanted(&t.name)).collect();
    // A place is made once.
    tests.sort_by_key(|test| test.place);
    if arguments.iter().any(|a| a == "--list") {
        for test in &tests {
            println!("{}: test", test.name);
        }
        return;
    }
    let begun = Instant::now();
    let Results { passed, ignored, failed } = run(tests);
    if !failed.is_empty() {
        println!("\nfailed: {}", failed.join(", "));
    }
    // The form of the standard harness, for those who count.
    println!(
        "\ntest result: {}. {passed} passed; {} failed; {ignored} ignored; 0 measured; 0 filtered out; finished in {:.2}s\n",
        if failed.is_empty() { "ok" } else { "FAILED" },
        failed.len(),
        begun.elapsed().as_secs_f32(),
    );
    if !failed.is_empty() {
        std::process::exit(101);
    }
}

/// Every test.
fn all_tests() -> Vec<Test> {
    kits::tests()
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
        .chain(leaks::tests())
        .chain(wasm::tests())
        .collect()
}

/// Runs tests one after the other, for they measure time and fill the machine.
fn run(tests: Vec<Test>) -> Results {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let mut worlds = Worlds::new(&runtime);
    let mut results = Results::default();
    println!("\nrunning {} tests on {:#?}", tests.len(), worlds.shared.sandbox.isolation());
    for Test { name, place, run } in tests {
        let begun = Instant::now();
        let Some(world) = worlds.at(place) else {
            println!("test {name} ... ignored, this user's daemon forks nothing");
            results.ignored += 1;
            continue;
        };
        #[expect(clippy::disallowed_methods, reason = "a panic of one test ends that test alone")]
        let ended = runtime.block_on(async { tokio::spawn(run(world)).await });
        let result = if ended.is_ok() { "ok" } else { "FAILED" };
        println!("test {name} ... {result} ({} ms)", begun.elapsed().as_millis());
        match ended {
            Ok(()) => results.passed += 1,
            Err(_) => {
                results.failed.push(name);
                worlds.give_up();
            }
        }
    }
    worlds.end();
    // Some tests gave instances a network of the host's.
    worlds.shared.sandbox.close();
    results
}

#[derive(Debug, Default)]
struct Results {
    passed: usize,
    ignored: usize,
    /// Their names.
    failed: Vec<String>,
}

/// The worlds of the tests: beside the shared one there is one at a time, for tests look at what the host has.
struct Worlds<'a> {
    runtime: &'a tokio::runtime::Runtime,
    shared: Arc<World>,
    beside: Option<(Place, Arc<World>)>,
}

impl<'a> Worlds<'a> {
    fn new(runtime: &'a tokio::runtime::Runtime) -> Self {
        Self { runtime, shared: Arc::new(runtime.block_on(World::new())), beside: None }
    }

    /// The one of a place; `None` if there can be none.
    fn at(&mut self, place: Place) -> Option<Arc<World>> {
        if matches!(place, Place::Forked { .. }) && !self.shared.forks() {
            return None;
        }
        if self.beside.as_ref().is_some_and(|(there, _)| *there != place) {
            self.end();
        }
        if let Some((_, world)) = &self.beside {
            return Some(Arc::clone(world));
        }
        let world = match place {
            Place::Shared => return Some(Arc::clone(&self.shared)),
            Place::Ahead { memory_mb } => self.runtime.block_on(World::ahead(memory_mb)),
            Place::Forked { .. } => self.runtime.block_on(World::forked()),
        };
        self.beside = Some((place, Arc::clone(&world)));
        Some(world)
    }

    /// Ends the one beside the shared one.
    fn end(&mut self) {
        if let Some((_, world)) = self.beside.take() {
            self.runtime.block_on(world.end());
        }
    }

    /// A test has failed in it: the next gets a fresh one.
    fn give_up(&mut self) {
        // Unless the test has left something behind that holds it.
        if self.beside.as_ref().is_some_and(|(_, world)| Arc::strong_count(world) == 1) {
            self.end();
        }
        self.beside = None;
    }
}
