//! Steps that run one after the other: each with its time, and no failure hides a later step.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::say::say;

/// The stages run so far.
#[derive(Debug)]
pub(crate) struct Stages {
    started: Instant,
    done: Vec<Done>,
}

#[derive(Debug)]
struct Done {
    name: &'static str,
    elapsed: Duration,
    error: Option<String>,
}

impl Stages {
    /// None yet.
    pub(crate) fn new() -> Self {
        Self { started: Instant::now(), done: Vec::new() }
    }

    /// Runs one stage; returns its result, or `None` after a failure, which is printed and remembered.
    pub(crate) fn run<T>(
        &mut self,
        name: &'static str,
        stage: impl FnOnce() -> Result<T>,
    ) -> Option<T> {
        say!("==> {name} (at {})", seconds(self.started.elapsed()));
        let start = Instant::now();
        let (value, error) = match stage() {
            Ok(value) => (Some(value), None),
            Err(error) => (None, Some(format!("{error:#}"))),
        };
        let elapsed = start.elapsed();
        match &error {
            None => say!("<== {name}: ok in {}", seconds(elapsed)),
            Some(error) => say!("<== {name}: FAILED in {}: {error}", seconds(elapsed)),
        }
        self.done.push(Done { name, elapsed, error });
        value
    }

    /// Prints all stages with their times; fails if any of them did.
    pub(crate) fn finish(self) -> Result<()> {
        say!("");
        for done in &self.done {
            let mark = if done.error.is_some() { "FAILED" } else { "ok" };
            say!("{mark:>6} {:>8}  {}", seconds(done.elapsed), done.name);
        }
        say!("{:>6} {:>8}  in all", "", seconds(self.started.elapsed()));
        for done in &self.done {
            if let Some(error) = &done.error {
                say!("{}: {error}", done.name);
            }
        }
        let failed: Vec<_> =
            self.done.iter().filter(|d| d.error.is_some()).map(|d| d.name).collect();
        if !failed.is_empty() {
            bail!("{} of {} stages failed: {}", failed.len(), self.done.len(), failed.join(", "));
        }
        Ok(())
    }
}

fn seconds(d: Duration) -> String {
    format!("{:.1} s", d.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_hides_no_later_stage_and_fails_the_whole() {
        let mut stages = Stages::new();
        assert_eq!(stages.run("one", || Ok(1)), Some(1));
        assert_eq!(stages.run("two", || -> Result<()> { bail!("broken") }), None);
        assert_eq!(stages.run("three", || Ok(3)), Some(3));
        let error = stages.finish().unwrap_err().to_string();
        assert_eq!(error, "1 of 3 stages failed: two");
    }

    #[test]
    fn all_passed_is_a_success() {
        let mut stages = Stages::new();
        stages.run("one", || Ok(()));
        stages.finish().unwrap();
    }
}
