//! `bench fair`: a thousand functions, and what their calls wait once they were accepted, alone and while a million calls of one function wait and run.
//!
//! Store and engine are the daemon's, in an example of its crate (`crates/hanshu/examples/fair.rs`), with functions that do nothing: a real one's start would be what is timed.

use std::collections::BTreeMap;

use anyhow::{Result, bail};

use super::Setup;
use super::example::{self, Line};
use super::report::{Bound, Table, Verdict};
use super::stats::Spread;
use crate::say::say;
use crate::shell;

/// Promised: p99 of the wait of the others' calls beside the crowd, in milliseconds.
const WAIT_MS: Bound = Bound::AtMost(20.0);
/// Promised: memory of what waits, the engine's included, in MB (10^6 bytes).
const MANY_MB: Bound = Bound::AtMost(400.0);
/// With and without the crowd, and what they are called.
const KINDS: [(&str, &str); 2] = [("alone", "nobody else calls"), ("crowd", "beside the crowd")];

/// Builds what it needs, runs it and judges.
pub(crate) fn run(setup: &Setup) -> Result<Vec<Verdict>> {
    let super::Options { functions, backlog, rounds, seconds, .. } = setup.options;
    say!("bench fair: {functions} functions, of which one has {backlog} calls that wait");
    let mut fair = example::program("hanshu", "fair")?;
    fair.arg(setup.folder("fair")?);
    fair.args([functions, backlog, rounds].map(|n| n.to_string())).arg(seconds.to_string());
    let figures = Figures::parse(&shell::capture(&mut fair)?)?;
    figures.print();
    Ok(figures.verdicts())
}

/// What the example printed: by kind, a figure a round, in milliseconds.
#[derive(Debug, Default)]
struct Figures {
    p50: BTreeMap<String, Vec<f64>>,
    p99: BTreeMap<String, Vec<f64>>,
    most: BTreeMap<String, Vec<f64>>,
    /// Calls of the crowd that waited when the others' began to be timed, and the memory that they took.
    waiting: f64,
    waiting_mb: f64,
}

impl Figures {
    fn parse(lines: &str) -> Result<Self> {
        let mut figures = Self::default();
        for line in Line::read(lines) {
            let line = line?;
            let (what, number) = (line.text("what")?, |field| line.number(field));
            if what == "fill" {
                figures.waiting = number("messages")?;
                figures.waiting_mb = number("bytes")? / 1e6;
                continue;
            }
            let figures = [
                ("p50_us", &mut figures.p50),
                ("p99_us", &mut figures.p99),
                ("max_us", &mut figures.most),
            ];
            for (field, all) in figures {
                all.entry(what.to_owned()).or_default().push(number(field)? / 1e3);
            }
        }
        match KINDS.iter().find(|(kind, _)| !figures.p99.contains_key(*kind)) {
            Some((missing, _)) => bail!("'{missing}' was not measured"),
            None => Ok(figures),
        }
    }

    fn print(&self) {
        let mut table =
            Table::new(&["wait of the others' calls", "p50 ms", "p99 ms", "longest ms"]);
        for (kind, name) in KINDS {
            let figures = [&self.p50, &self.p99, &self.most].map(|all| of(all, kind).median);
            let cells = figures.iter().map(|ms| format!("{ms:.2}"));
            table.row([name.to_owned()].into_iter().chain(cells).collect());
        }
        table.print();
        say!("{} calls of the crowd waited when it began", self.waiting);
    }

    fn verdicts(&self) -> Vec<Verdict> {
        let name = |name: &str| name.to_owned();
        vec![
            Verdict {
                name: name("wait of the others' calls beside the crowd, p99"),
                measured: of(&self.p99, "crowd"),
                unit: "ms",
                bound: WAIT_MS,
            },
            Verdict {
                name: name("memory of a crowd that waits"),
                measured: Spread::of(vec![self.waiting_mb]),
                unit: "MB",
                bound: MANY_MB,
            },
        ]
    }
}

fn of(all: &BTreeMap<String, Vec<f64>>, kind: &str) -> Spread {
    Spread::of(all.get(kind).cloned().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_the_example_prints_is_judged() {
        let round = |what: &str, p99: u32| {
            json!({ "what": what, "p50_us": 900, "p99_us": p99, "max_us": 9_000 }).to_string()
        };
        let fill = json!({ "what": "fill", "messages": 10, "ms": 1, "bytes": 5_000_000 });
        let lines = [round("alone", 2_000), fill.to_string(), round("crowd", 4_000)];
        let figures = Figures::parse(&lines.join("\n")).unwrap();
        figures.print();
        let verdicts = figures.verdicts();
        assert!((verdicts[0].measured.median - 4.0).abs() < 1e-9, "{verdicts:?}");
        assert!((verdicts[1].measured.median - 5.0).abs() < 1e-9, "{verdicts:?}");
        assert!(Figures::parse(&lines[..2].join("\n")).unwrap_err().to_string().contains("crowd"));
    }
}
