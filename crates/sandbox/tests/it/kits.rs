//! The contract suite, once per language.

use std::sync::Arc;

use bytes::Bytes;
use model::ports::Sandbox;
use model::suites::sandbox::{Kit, SCENARIOS};

use crate::Test;
use crate::support::{Ahead, World, processes_with, zip};

/// The layers of the contract, with these modules.
fn layers(modules: [(&str, &str); 2]) -> [Bytes; 2] {
    let [one, two] = modules;
    let first = [
        ("both", "first"),
        ("folder/one", "first"),
        ("file_or_folder/inner", "first"),
        ("folder_or_file", "first"),
        one,
    ];
    let second = [
        ("both", "second"),
        ("folder/two", "second"),
        ("file_or_folder", "second"),
        ("folder_or_file/inner", "second"),
        two,
    ];
    [zip(&first), zip(&second)]
}

fn kit(world: &World, sandbox: Arc<dyn Sandbox>, language: &str) -> Kit {
    let (runtime, handler, package, layers, broken) = match language {
        "node" => (
            "nodejs20",
            "index.handler",
            zip(&[("index.js", include_str!("kits/index.js"))]),
            layers([
                ("nodejs/node_modules/layer_one/index.js", "exports.text = 'first'"),
                ("nodejs/node_modules/layer_two.js", "exports.text = 'second'"),
            ]),
            vec![
                ("no such file", zip(&[("other.js", "")]), "index"),
                ("no such export", zip(&[("index.js", "exports.other = () => 1")]), "handler"),
                ("syntax error", zip(&[("index.js", "exports.handler = (")]), "Syntax"),
                ("throws", zip(&[("index.js", "throw new Error('not today')")]), "not today"),
            ],
        ),
        _ => (
            "python3.11",
            "index.handler",
            zip(&[("index.py", include_str!("kits/index.py"))]),
            layers([
                ("python/layer_one.py", "text = 'first'"),
                ("python/layer_two/__init__.py", "text = 'second'"),
            ]),
            vec![
                ("no such file", zip(&[("other.py", "")]), "index"),
                ("no such function", zip(&[("index.py", "other = 1")]), "handler"),
                ("syntax error", zip(&[("index.py", "def handler(")]), "Syntax"),
                ("raises", zip(&[("index.py", "raise OSError('not today')")]), "not today"),
            ],
        ),
    };
    let daemon_file = world.folder.path().join("secret");
    std::fs::write(&daemon_file, "the daemon's").unwrap();
    Kit {
        sandbox,
        logs: world.logs.clone(),
        runtime,
        handler,
        package,
        layers,
        broken,
        survivors: processes_with,
        daemon_file: daemon_file.to_string_lossy().into_owned(),
        // Python's streams are not counted.
        calls_ahead: language == "node",
        exact_memory: world.sandbox.isolation().has("memory"),
    }
}

/// Memory for pre-started instances: some of each language.
const AHEAD_MB: u32 = 256;

/// The suite on the sandbox that all tests share.
fn executed(language: &'static str) -> impl Iterator<Item = Test> {
    SCENARIOS.iter().map(move |scenario| Test {
        name: format!("{language}::{}", scenario.name),
        run: Box::new(move |world| {
            let sandbox = world.sandbox.clone();
            (scenario.run)(Arc::new(kit(&world, sandbox, language)))
        }),
    })
}

/// The suite with pre-started instances.
fn pre_started(language: &'static str) -> impl Iterator<Item = Test> {
    SCENARIOS.iter().map(move |scenario| Test {
        name: format!("{language}-pre-started::{}", scenario.name),
        run: Box::new(move |_| {
            Box::pin(async move {
                let world = World::ahead(AHEAD_MB).await;
                let sandbox = Arc::new(Ahead(world.sandbox.clone()));
                (scenario.run)(Arc::new(kit(&world, sandbox, language))).await;
                world.end().await;
            })
        }),
    })
}

pub(crate) fn tests() -> Vec<Test> {
    let languages = ["node", "python"];
    languages.into_iter().flat_map(|of| executed(of).chain(pre_started(of))).collect()
}
