//! `hanshu up`: one command from a folder of functions to a daemon that runs them.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::harness::{Cli, hanshu, packages};

fn up(dir: &Path, data: &Path) -> Command {
    let (dir, data) = (dir.to_str().unwrap(), data.to_str().unwrap());
    hanshu(&["up", dir, "--exit", "--listen", "127.0.0.1:0", "--data", data])
}

#[test]
fn every_folder_is_deployed_called_and_listed() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("functions");
    packages::write(
        &folder,
        &[
            ("web/index.js", "exports.handler = async (e) => ({ statusCode: 201, body: e.name });"),
            ("web/hanshu.toml", ""),
            ("web/event.json", r#"{"name":"x"}"#),
            ("sum/main.py", "def handler(event, context):\n    return sum(event)\n"),
            ("sum/hanshu.toml", "event = 'numbers.json'\n"),
            ("sum/numbers.json", "[1, 2]"),
            (
                "broken/index.js",
                "exports.handler = async () => { throw new Error('on purpose'); };",
            ),
            ("broken/hanshu.toml", ""),
            ("notes/README.md", "no function"),
        ],
    );
    let data = dir.path().join("data");
    let ran = Cli::run(up(&folder, &data).args(["--output", "json"]));
    assert_eq!(ran.code, 1, "one of them failed: {ran:?}");
    let rows: Vec<Value> = serde_json::from_str(&ran.out).unwrap();
    let of = |name: &str| rows.iter().find(|r| r["function"] == name).unwrap();
    assert_eq!(rows.len(), 3, "{rows:?}");
    assert_eq!(of("web")["status"], "201");
    assert_eq!(of("sum")["status"], "ok");
    assert!(of("broken")["status"].as_str().unwrap().contains("on purpose"), "{rows:?}");
    for name in ["web", "sum"] {
        let (cold, warm) =
            (of(name)["cold_us"].as_u64().unwrap(), of(name)["warm_us"].as_u64().unwrap());
        assert!(warm < cold, "{name}: cold {cold}, warm {warm}");
        assert!(of(name)["url"].as_str().unwrap().contains("/fn/default/"), "{rows:?}");
    }

    // The second time everything is there already; without the broken one all is well.
    std::fs::remove_dir_all(folder.join("broken")).unwrap();
    let table = Cli::run(&mut up(&folder, &data)).ok();
    assert!(table.starts_with("listening on http://127.0.0.1:"), "{table}");
    for part in ["FUNCTION", "COLD", "WARM", "web", "sum", "nodejs20", "python3.11"] {
        assert!(table.contains(part), "{part}: {table}");
    }
}

#[test]
fn the_examples_run_as_they_stand() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let dir = tempfile::tempdir().unwrap();
    let ran = Cli::run(up(&examples, &dir.path().join("data")).args(["--output", "json"]));
    assert_eq!(ran.code, 0, "{ran:?}");
    let rows: Vec<Value> = serde_json::from_str(&ran.out).unwrap();
    assert!(rows.len() >= 15, "{rows:?}");
    // Components in other languages are left out where their compiler is not installed, and nothing else is.
    for row in rows.iter().filter(|row| row["left_out"] == true) {
        assert!(["wasm-js", "wasm-python"].contains(&row["function"].as_str().unwrap()), "{row}");
    }
}

#[test]
fn a_folder_without_functions_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    for folder in [dir.path().to_owned(), dir.path().join("missing")] {
        let refused = Cli::run(&mut up(&folder, &dir.path().join("data")));
        assert_eq!(refused.code, 2, "{refused:?}");
        assert!(refused.err.contains("hint:"), "{refused:?}");
    }
}
