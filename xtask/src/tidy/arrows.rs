//! Which crate may depend on which: the floor plan of `ARCHITECTURE.md`, read off the manifests.

use super::{Finding, Tree};

/// A crate of ours and what it may depend on.
#[derive(Debug)]
struct Floor {
    name: &'static str,
    /// Crates of ours.
    may: &'static [&'static str],
    /// Crates of others that would bring in what this floor must not know.
    never: &'static [&'static str],
}

const TRANSPORT: &[&str] =
    &["axum", "http", "hyper", "hyper-util", "libc", "rusqlite", "rustix", "wasmtime"];

/// The floor plan.
const PLAN: &[Floor] = &[
    Floor { name: "model", may: &[], never: TRANSPORT },
    // Sees ports, no sockets, SQL or Wasm engine: its tests build without them.
    Floor { name: "engine", may: &["model"], never: TRANSPORT },
    // Loaded into runtimes: it brings nothing along.
    Floor { name: "zygote", may: &[], never: TRANSPORT },
    Floor { name: "sandbox", may: &["model", "zygote"], never: &["axum", "rusqlite"] },
    // Run by the sandbox's tests; for another target, and no member of the workspace.
    Floor { name: "guests", may: &[], never: TRANSPORT },
    Floor { name: "store", may: &["model"], never: &["axum", "hyper", "wasmtime"] },
    Floor { name: "server", may: &["model", "engine"], never: &["rusqlite", "wasmtime", "libc"] },
    Floor {
        name: "hanshu",
        may: &["model", "engine", "sandbox", "store", "server"],
        never: &["axum", "rusqlite"],
    },
    Floor { name: "xtask", may: &[], never: &[] },
];

/// The tables of a manifest that name dependencies; `[target.….dependencies]` is looked up beside them.
const TABLES: &[&str] = &["dependencies", "dev-dependencies", "build-dependencies"];

/// Arrows that the plan does not have, and crates that it does not know.
pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.ending("/Cargo.toml") {
        let manifest: toml::Table = match text.parse() {
            Ok(manifest) => manifest,
            Err(e) => {
                findings.push(Finding::of_file(path, format!("is no TOML: {}", e.message())));
                continue;
            }
        };
        let name = manifest.get("package").and_then(|p| p.get("name")).and_then(|n| n.as_str());
        match PLAN.iter().find(|f| Some(f.name) == name) {
            Some(floor) => check_crate(path, floor, &manifest, &mut findings),
            None if path.starts_with("crates/") => findings.push(Finding::of_file(
                path,
                "the floor plan does not know this crate: a new one needs a decision record and a line in \
                 xtask/src/tidy/arrows.rs",
            )),
            None => {}
        }
    }
    findings
}

fn check_crate(path: &str, floor: &Floor, manifest: &toml::Table, findings: &mut Vec<Finding>) {
    for (table, dependency) in dependencies(manifest) {
        let name = dependency.as_str();
        let ours = PLAN.iter().any(|f| f.name == name);
        if ours && !floor.may.contains(&name) && name != floor.name {
            findings.push(Finding::of_file(
                path,
                format!(
                    "[{table}] {} → {name} is no arrow of the floor plan: it may depend on {}",
                    floor.name,
                    if floor.may.is_empty() {
                        "nothing of ours".to_owned()
                    } else {
                        floor.may.join(", ")
                    },
                ),
            ));
        }
        if table != "dev-dependencies" && floor.never.contains(&name) {
            findings.push(Finding::of_file(
                path,
                format!(
                    "[{table}] {} must not know {name}: it belongs to another floor",
                    floor.name
                ),
            ));
        }
    }
}

/// Table and package of every dependency, also of those for one target and of renamed ones.
fn dependencies(manifest: &toml::Table) -> Vec<(&'static str, String)> {
    let targets = manifest.get("target").and_then(|t| t.as_table());
    let targets = targets.into_iter().flat_map(|t| t.values()).filter_map(|t| t.as_table());
    let mut found = Vec::new();
    for scope in std::iter::once(manifest).chain(targets) {
        for table in TABLES {
            let entries = scope.get(*table).and_then(|t| t.as_table());
            for (key, value) in entries.into_iter().flatten() {
                let package = value.get("package").and_then(|p| p.as_str()).unwrap_or(key);
                found.push((*table, package.to_owned()));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(name: &str, rest: &str) -> Vec<String> {
        let path = format!("crates/{name}/Cargo.toml");
        let text = format!("[package]\nname = \"{name}\"\n{rest}");
        check(&Tree::of(&[(&path, &text)])).into_iter().map(|f| f.message).collect()
    }

    #[test]
    fn arrows_of_the_plan_pass() {
        for (name, rest) in [
            ("model", "[dev-dependencies]\nproptest = \"1\""),
            (
                "engine",
                "[dependencies]\nmodel.workspace = true\n[dev-dependencies]\nmodel = { workspace = true }",
            ),
            (
                "server",
                "[dependencies]\nmodel.workspace = true\nengine.workspace = true\nhyper.workspace = true",
            ),
            ("hanshu", "[dependencies]\nstore.workspace = true\nsandbox.workspace = true"),
        ] {
            assert_eq!(messages(name, rest), Vec::<String>::new(), "{name}");
        }
    }

    #[test]
    fn every_other_arrow_is_found_wherever_it_hides() {
        for (name, rest) in [
            ("model", "[dependencies]\nengine.workspace = true"),
            ("engine", "[dependencies]\nstore.workspace = true"),
            ("sandbox", "[dev-dependencies]\nstore.workspace = true"),
            ("store", "[build-dependencies]\nengine.workspace = true"),
            ("server", "[dependencies]\nshop = { package = \"store\", path = \"../store\" }"),
            ("server", "[target.'cfg(unix)'.dependencies]\nsandbox.workspace = true"),
        ] {
            let found = messages(name, rest);
            assert!(matches!(&*found, [m] if m.contains("is no arrow")), "{name}: {found:?}");
        }
    }

    #[test]
    fn floors_keep_out_what_belongs_to_others() {
        let found = messages("engine", "[dependencies]\nrusqlite = \"1\"");
        assert!(matches!(&*found, [m] if m.contains("must not know rusqlite")), "{found:?}");
    }

    #[test]
    fn an_unknown_crate_is_found() {
        let found = messages("cluster", "");
        assert!(matches!(&*found, [m] if m.contains("does not know this crate")), "{found:?}");
    }
}
