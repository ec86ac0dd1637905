//! Examples of crates that measure: built, started, and read. Each prints a JSON object a line.

use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::shell;

/// Builds an example of a package, and is how it is started.
pub(super) fn program(package: &str, name: &str) -> Result<Command> {
    let build = format!("build --release -p {package} --example {name}");
    shell::run(&mut shell::cargo(&build))?;
    Ok(shell::command(shell::root().join("target/release/examples").join(name)))
}

/// A line of what an example printed.
#[derive(Debug)]
pub(super) struct Line(Value);

impl Line {
    /// Each of them, in order; an error for what is no JSON.
    pub(super) fn read(lines: &str) -> impl Iterator<Item = Result<Self>> {
        lines.lines().map(|line| serde_json::from_str(line).map(Self).context("a line is no JSON"))
    }

    /// The text of a field.
    pub(super) fn text(&self, field: &str) -> Result<&str> {
        self.0[field].as_str().with_context(|| self.lacks(field))
    }

    /// The number in a field.
    pub(super) fn number(&self, field: &str) -> Result<f64> {
        self.0[field].as_f64().with_context(|| self.lacks(field))
    }

    fn lacks(&self, field: &str) -> String {
        format!("a line has no {field}: {}", self.0)
    }
}
