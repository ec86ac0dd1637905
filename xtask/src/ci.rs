//! `cargo x ci`: everything a change has to pass, cheapest first.

use anyhow::{Context as _, Result};

use crate::stage::Stages;
use crate::{bench, r#gen, shell, test, tidy, tools};

/// What to leave out or add.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Leave the tests to a `cargo x test` of their own
    #[arg(long)]
    no_test: bool,
    /// Measure as well, with short rounds; a bound that is not met fails
    #[arg(long)]
    bench: bool,
}

/// Runs all stages; a failure hides no later one.
pub(crate) fn run(options: &Options) -> Result<()> {
    let mut stages = Stages::new();
    stages.run("tidy", tidy::run);
    stages.run("format", || shell::run(&mut shell::cargo("fmt --all --check")));
    stages.run("lints", lints);
    stages.run("documents", documents);
    stages.run("generated files", || r#gen::run(&r#gen::Options { check: true }));
    stages.run("release build", release);
    if stages.run("tools", tools::ensure).is_some() {
        stages.run("smoke run", smoke);
    }
    if options.bench {
        stages.run("benches", bench::run_short);
    }
    if !options.no_test {
        stages.run("tests", test::run);
    }
    stages.finish()
}

/// What the README's first command builds. Most of its optimisation takes minutes here and shows nothing.
fn release() -> Result<()> {
    let mut build = shell::cargo("build --release");
    build.env("CARGO_PROFILE_RELEASE_LTO", "off").env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1");
    shell::run(&mut build)
}

fn lints() -> Result<()> {
    let arguments = "clippy --workspace --all-targets --all-features -- -D warnings";
    shell::run(&mut shell::cargo(arguments))
}

fn documents() -> Result<()> {
    let mut doc = shell::cargo("doc --workspace --all-features --no-deps --document-private-items");
    // Private items are documented as well, so a map may link to them.
    shell::run(doc.env("RUSTDOCFLAGS", "-D warnings -A rustdoc::private_intra_doc_links"))
}

/// The README's first command, in a fresh data folder, ended once every example has answered.
fn smoke() -> Result<()> {
    let data = tempfile::tempdir().context("cannot make a temporary folder")?;
    let mut up = shell::command(shell::root().join("target/release/hanshu"));
    up.args(["up", "examples", "--exit", "--listen", "127.0.0.1:0", "--data"]).arg(data.path());
    shell::run(&mut up)
}
