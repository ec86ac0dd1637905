//! The attack suite: small real programs in C, Python, Node.js and Java that try to break what `SECURITY.md` promises.
//!
//! An [`Attack`] says which promise it is against, what it runs and what must come of it. The lists are in [`list`]; a [`Ground`] is how instances come
//! up: one language, one sandbox, one way to start; every list runs on every ground that speaks its language, so a new sandbox or a new way to
//! start is one more line in [`grounds`]. A [`scene::Scene`] holds the victims and the counts of the host.
//!
//! Of each attack three things are asserted: it fails, with the words of the list; nothing secret is in what it says; and the victims are well, while
//! it still holds whatever it took and after it is gone: the other function answers and still gets what it needs of the kernel, a fresh
//! instance starts, no connection arrived, and the host's counts are what they were.
//!
//! Where to start: [`list::all`], then [`run`]. The programs are in `attack/programs`.

mod ground;
mod list;
mod scene;
mod unpacking;

use std::sync::Arc;
use std::time::Duration;

use model::invocation::{FailureKind, Outcome};
use serde_json::{Value, json};

use crate::support::{self, World, invocation};
use crate::{Place, Test};
use ground::{Ground, Language, grounds};
use scene::Scene;

/// Time for an attack that is expected to answer.
const AMPLE: Duration = Duration::from_secs(60);
/// Time for an attack that is expected not to: enough to do its worst on a busy machine.
const SHORT: Duration = Duration::from_millis(1_500);

/// One attack.
#[derive(Debug)]
struct Attack {
    name: &'static str,
    /// The row of `SECURITY.md` that it is against, word by word.
    promise: &'static str,
    program: Program,
    must: Must,
    /// Where the promise cannot be kept, and what must come of it there.
    unless: Option<Unless>,
}

/// What an attack runs.
#[derive(Clone, Copy, Debug)]
enum Program {
    /// The attack of that name in `programs/*.c`. Runs on every ground.
    C(&'static str),
    /// Python text that puts what it has to say into `said`, a list of lines.
    Python(&'static str),
    /// The body of an async function in JavaScript that does the same.
    Node(&'static str),
    /// What `programs/Hostile.java` does under that name.
    Java(&'static str),
}

/// What must come of an attack.
#[derive(Clone, Copy, Debug)]
enum Must {
    /// It answers: these tries, in this order, each with one of the words behind it (`EPERM|EACCES`).
    Say(&'static [(&'static str, &'static str)]),
    /// The call fails in one of these ways.
    End(&'static [FailureKind]),
    /// Either, as long as the victims are well: it is a matter of chance which limit it meets first.
    Any,
}

/// A host that lacks something.
#[derive(Clone, Copy, Debug)]
struct Unless {
    lack: Lack,
    must: Must,
    /// What is lost; `SECURITY.md` says it as well.
    lost: &'static str,
    /// What the neighbour then does without while the attacker lives: names of tries of `well` in `programs/exhaust.c`.
    neighbour_lacks: &'static [&'static str],
}

/// What a host can lack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lack {
    /// Control groups that limit memory for an instance as a whole.
    MemoryGroups,
    /// A host user for each instance: the daemon is not root.
    Users,
}

impl Lack {
    fn here(self, world: &World) -> bool {
        let isolation = world.sandbox.isolation();
        match self {
            Self::MemoryGroups => !isolation.has("memory"),
            Self::Users => !isolation.has("users"),
        }
    }
}

/// What is tried by an executable that brings its own runtime, or is a web server: its way into the sandbox is that of all others, so it is one of each kind, and all that touch
/// what is its own, its descriptors and its network. What such a server can say is tried by `web/hostile.rs` and `web/websockets.rs`.
const ON_PROVIDED: [&str; 16] = [
    "namespaces",
    "doors",
    "kernel",
    "layers",
    "rights",
    "knobs",
    "signals",
    "first_process",
    "tracing",
    "kill_all",
    "sight",
    "addresses",
    "families",
    "anonymous_memory",
    "descriptors",
    "sockets",
];

impl Attack {
    const fn new(name: &'static str, promise: &'static str, program: Program, must: Must) -> Self {
        Self { name, promise, program, must, unless: None }
    }

    const fn unless(mut self, lack: Lack, must: Must, lost: &'static str) -> Self {
        self.unless = Some(Unless { lack, must, lost, neighbour_lacks: &[] });
        self
    }

    /// Where the neighbour, but nobody else, feels it.
    const fn unless_felt(
        mut self,
        lack: Lack,
        neighbour_lacks: &'static [&'static str],
        lost: &'static str,
    ) -> Self {
        self.unless = Some(Unless { lack, must: self.must, lost, neighbour_lacks });
        self
    }

    fn runs_on(&self, ground: &Ground) -> bool {
        // What is loaded before the runtime's own code takes the plain way.
        if self.name == "preload" && ground.is_pre_started() {
            return false;
        }
        if ground.language == Language::Provided && !ON_PROVIDED.contains(&self.name) {
            return false;
        }
        match self.program {
            Program::C(_) => ground.differs_for(self.name),
            Program::Python(_) => ground.language == Language::Python,
            Program::Node(_) => ground.language == Language::Node,
            Program::Java(_) => ground.language == Language::Java,
        }
    }

    /// The event that has the hostile function's handler run it.
    fn event(&self, arguments: &[(&'static str, String)]) -> Value {
        let pairs: Vec<String> = arguments.iter().map(|(key, v)| format!("{key}={v}")).collect();
        match self.program {
            Program::C(name) => json!({"c": name, "arguments": pairs}),
            Program::Python(text) | Program::Node(text) | Program::Java(text) => {
                json!({"text": text, "arguments": pairs})
            }
        }
    }
}

pub(crate) fn tests() -> Vec<Test> {
    let mut tests = vec![
        Test {
            name: "attack::every_promise_is_attacked".into(),
            place: Place::Shared,
            run: Box::new(|_| Box::pin(async { list::every_promise_is_attacked() })),
        },
        Test {
            name: "attack::the_search_finds_what_is_there".into(),
            place: Place::Shared,
            run: Box::new(|world| Box::pin(the_search_finds_what_is_there(world))),
        },
    ];
    tests.extend(unpacking::tests());
    for ground in grounds() {
        let attacks = list::all().filter(|attack| attack.runs_on(ground));
        tests.extend(attacks.map(|attack| Test {
            name: format!("attack::{}::{}", ground.name, attack.name),
            place: ground.place(),
            run: Box::new(move |world| Box::pin(run(attack, ground, world))),
        }));
    }
    tests
}

async fn run(attack: &'static Attack, ground: &'static Ground, world: Arc<World>) {
    let lacking = attack.unless.filter(|unless| unless.lack.here(&world));
    if let Some(Unless { lost, .. }) = lacking {
        println!("  {}: not defended on this host: {lost}", attack.name);
    }
    let must = lacking.map_or(attack.must, |unless| unless.must);
    let image = ground.hostile(&world).await;
    let mut scene = Scene::set(&world, ground).await;
    let mut hostile = image.start().await.expect("the hostile function starts");
    let event = attack.event(&scene.arguments());
    let time = if let Must::Say(_) = must { AMPLE } else { SHORT };
    let outcome = support::run(&mut *hostile, &invocation(event.to_string(), time)).await;

    scene.assert_no_loot(&outcome);
    judge(attack, must, &outcome);
    if hostile.alive() {
        let lacks = lacking.map_or(&[][..], |unless| unless.neighbour_lacks);
        scene.assert_neighbour_is_well("while the attacker lives", lacks).await;
    }
    hostile.stop().await;
    scene.assert_neighbour_is_well("after the attack", &[]).await;
    scene.assert_host_is_well().await;
}

/// Fails unless the outcome is what the list says.
fn judge(attack: &Attack, must: Must, outcome: &Outcome) {
    match (must, &outcome.result) {
        (Must::Any, _) => {}
        (Must::Say(expected), Ok(body)) => {
            let said: Vec<String> = serde_json::from_slice(body).expect("an attack says lines");
            assert_said(attack.name, expected, &said);
        }
        (Must::End(kinds), Err(failure)) => {
            assert!(kinds.contains(&failure.kind), "{}: {failure:?}", attack.name);
        }
        (_, result) => panic!("{}: expected {must:?}, was {result:?}", attack.name),
    }
}

fn assert_said(name: &str, expected: &[(&str, &str)], said: &[String]) {
    let mut wrong = Vec::new();
    for (line, (what, words)) in said.iter().zip(expected) {
        let fits = line.split_once(": ").is_some_and(|(tried, word)| {
            tried == *what && words.split('|').any(|allowed| allowed == word)
        });
        if !fits {
            wrong.push(format!("expected `{what}: {words}`, was `{line}`"));
        }
    }
    assert_eq!(said.len(), expected.len(), "{name}: tries are missing or too many: {said:#?}");
    assert!(wrong.is_empty(), "{name}:\n  {}", wrong.join("\n  "));
}

/// The search for secrets is worth nothing unless it finds them: here it runs as the victim itself.
async fn the_search_finds_what_is_there(world: Arc<World>) {
    let mut scene = Scene::set(&world, &grounds()[0]).await;
    let said = scene.search_as_the_neighbour(list::SEARCH).await;
    let places =
        ["environment", "memory", "command line", "/tmp/secret", "/dev/shm/secret", "/opt/secret"];
    for place in places {
        assert!(said.iter().any(|line| line.contains(place)), "not found in {place}: {said:#?}");
    }
}
