//! The contract suite, once per language.

mod java;
pub(crate) mod provided;
pub(crate) mod web;

use std::sync::Arc;

use bytes::Bytes;
use model::ports::Sandbox;
use model::suites::sandbox::{Kit, SCENARIOS};

use crate::support::{Ahead, World, processes_with, zip, zip_with_modes};
use crate::{Place, Test};

/// The layers of the contract, with these modules.
pub(crate) fn layers(modules: [(&str, &[u8]); 2]) -> [Bytes; 2] {
    layers_with_modes(modules.map(|(name, bytes)| (name, bytes, 0o644)))
}

fn layers_with_modes(modules: [(&str, &[u8], u32); 2]) -> [Bytes; 2] {
    let [one, two] = modules;
    let first: [(&'static str, &'static [u8]); 4] = [
        ("both", b"first"),
        ("folder/one", b"first"),
        ("file_or_folder/inner", b"first"),
        ("folder_or_file", b"first"),
    ];
    let second: [(&'static str, &'static [u8]); 4] = [
        ("both", b"second"),
        ("folder/two", b"second"),
        ("file_or_folder", b"second"),
        ("folder_or_file/inner", b"second"),
    ];
    let layer = |files: [(&'static str, &'static [u8]); 4], module| {
        let files = files.map(|(name, bytes)| (name, bytes, 0o644));
        zip_with_modes(&files.into_iter().chain([module]).collect::<Vec<_>>())
    };
    [layer(first, one), layer(second, two)]
}

fn kit(world: &World, sandbox: Arc<dyn Sandbox>, language: &str) -> Kit {
    let (runtime, handler, [package, streams], layers, broken) = match language {
        "node" => (
            "nodejs20",
            "index.handler",
            [include_str!("kits/index.js"), include_str!("kits/streams.js")]
                .map(|code| zip(&[("index.js", code)])),
            layers([
                ("nodejs/node_modules/layer_one/index.js", b"exports.text = 'first'"),
                ("nodejs/node_modules/layer_two.js", b"exports.text = 'second'"),
            ]),
            vec![
                ("no such file", zip(&[("other.js", "")]), "index"),
                ("no such export", zip(&[("index.js", "exports.other = () => 1")]), "handler"),
                ("syntax error", zip(&[("index.js", "exports.handler = (")]), "Syntax"),
                ("throws", zip(&[("index.js", "throw new Error('not today')")]), "not today"),
            ],
        ),
        "java" => java::kit(),
        "provided" => provided::kit(),
        "web" => web::kit(),
        _ => (
            "python3.11",
            "index.handler",
            [include_str!("kits/index.py"), include_str!("kits/streams.py")]
                .map(|code| zip(&[("index.py", code)])),
            layers([
                ("python/layer_one.py", b"text = 'first'"),
                ("python/layer_two/__init__.py", b"text = 'second'"),
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
        streams,
        layers,
        broken,
        survivors: processes_with,
        daemon_file: daemon_file.to_string_lossy().into_owned(),
        // The streams of Python and Java are not counted.
        calls_ahead: language == "node",
        // A virtual machine takes the signal for an error of its own, and aborts; so does a program in Go.
        files: None,
        instance_calls: None,
        crash: if ["java", "provided", "web"].contains(&language) {
            "aborted"
        } else {
            "segmentation fault"
        },
        exact_memory: world.sandbox.isolation().has("memory"),
    }
}

/// Memory for pre-started instances: some of each language.
const AHEAD_MB: u32 = 256;

/// The suite on the sandbox that all tests share.
fn executed(language: &'static str) -> impl Iterator<Item = Test> {
    SCENARIOS.iter().map(move |scenario| Test {
        name: format!("{language}::{}", scenario.name),
        place: Place::Shared,
        run: Box::new(move |world| {
            let sandbox = world.sandbox.clone();
            (scenario.run)(Arc::new(kit(&world, sandbox, language)))
        }),
    })
}

/// The suite with instances that come up in some other way.
fn ahead(language: &'static str, way: &'static str, place: Place) -> impl Iterator<Item = Test> {
    SCENARIOS.iter().map(move |scenario| Test {
        name: format!("{language}-{way}::{}", scenario.name),
        place,
        run: Box::new(move |world| {
            let sandbox = Arc::new(Ahead(world.sandbox.clone()));
            (scenario.run)(Arc::new(kit(&world, sandbox, language)))
        }),
    })
}

fn pre_started(language: &'static str) -> impl Iterator<Item = Test> {
    ahead(language, "pre-started", Place::Ahead { memory_mb: AHEAD_MB })
}

fn forked(language: &'static str) -> impl Iterator<Item = Test> {
    ahead(language, "forked", Place::Forked { tests: language })
}

const LANGUAGES: [&str; 3] = ["node", "python", "java"];

pub(crate) fn tests() -> Vec<Test> {
    let pre_started = LANGUAGES.into_iter().flat_map(pre_started);
    let forked = LANGUAGES.into_iter().flat_map(forked);
    let executed = LANGUAGES.into_iter().chain(["provided", "web"]).flat_map(executed);
    executed.chain(pre_started).chain(forked).collect()
}
