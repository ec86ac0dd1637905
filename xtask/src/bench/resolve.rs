//! `bench resolve`: how long it takes to say which version a call reaches, in a catalogue as large as it may get, by kind of target.
//!
//! The engine is asked by an example of its crate (`crates/engine/examples/resolve.rs`), for no arrow leads from here to there: it prints a JSON object a line,
//! the kinds in turn within each round.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, bail};

use super::Setup;
use super::example::{self, Line};
use super::report::{Bound, Table, Verdict, millis};
use super::stats::{Spread, median};
use crate::say::say;
use crate::shell;

/// Promised: one call, in microseconds, median of the rounds' medians.
const RESOLVE_US: Bound = Bound::AtMost(1.0);
/// Rounds for each of those that the benches are asked for: one takes a fraction of a second.
const ROUNDS_PER_ROUND: usize = 4;
/// Kinds of targets (`kinds` in the example), what they are, and whether a bound is promised; the first is the baseline.
const KINDS: &[(&str, &str, bool)] = &[
    ("latest", "$LATEST of a function without versions", true),
    ("version", "one of 10 000 versions", true),
    ("large-alias", "alias over two of 10 000 versions", true),
    ("weights", "one of 10 000 aliases, two weights", true),
    ("header", "one of 10 000 aliases, a rule on a header", true),
    ("sticky", "one of 10 000 aliases, a sticky header", true),
    // It reads the event, and so takes as long as that is.
    ("event", "one of 10 000 aliases, a rule on a field of 1 kB of event", false),
];

/// Builds what it needs, runs it and judges.
pub(crate) fn run(setup: &Setup) -> Result<Vec<Verdict>> {
    let rounds = setup.options.rounds.saturating_mul(ROUNDS_PER_ROUND);
    say!("bench resolve: {} kinds of targets in turn, {rounds} rounds", KINDS.len());
    let mut resolve = example::program("engine", "resolve")?;
    let figures = Figures::parse(&shell::capture(resolve.arg(rounds.to_string()))?)?;
    figures.print();
    Ok(figures.verdicts())
}

/// What the example printed: by kind, a figure a round, in nanoseconds.
#[derive(Debug, Default)]
struct Figures {
    p50: BTreeMap<String, Vec<f64>>,
    p99: BTreeMap<String, Vec<f64>>,
    /// A change of the largest document, until calls see it.
    apply: Vec<Duration>,
}

impl Figures {
    fn parse(lines: &str) -> Result<Self> {
        let mut figures = Self::default();
        for line in Line::read(lines) {
            let line = line?;
            let kind = line.text("kind")?;
            if kind == "apply" {
                figures.apply.push(Duration::from_secs_f64(line.number("ns")? / 1e9));
                continue;
            }
            for (figure, all) in [("p50_ns", &mut figures.p50), ("p99_ns", &mut figures.p99)] {
                all.entry(kind.to_owned()).or_default().push(line.number(figure)?);
            }
        }
        match KINDS.iter().find(|(kind, ..)| !figures.p50.contains_key(*kind)) {
            Some((missing, ..)) => bail!("kind {missing} was not measured"),
            None => Ok(figures),
        }
    }

    fn print(&self) {
        let mut table = Table::new(&["", "p50 ns", "p99 ns", "by the first"]);
        for (kind, what, _) in KINDS {
            let (p50, p99) = (of(&self.p50, kind), of(&self.p99, kind));
            let [p50, p99] = [p50, p99].map(|ns| format!("{:.0}", Spread::of(ns).median));
            let ratio = format!("{:.1} ×", self.by_the_first(kind).median);
            table.row(vec![(*what).to_owned(), p50, p99, ratio]);
        }
        table.print();
        say!("a change of a function with 10 000 versions: {} ms", millis(median(&self.apply)));
    }

    /// A kind's median by the baseline's of the same round.
    fn by_the_first(&self, kind: &str) -> Spread {
        let baseline = KINDS.first().map_or_else(Vec::new, |(first, ..)| of(&self.p50, first));
        Spread::of(of(&self.p50, kind).iter().zip(baseline).map(|(ns, base)| ns / base).collect())
    }

    fn verdicts(&self) -> Vec<Verdict> {
        let promised = KINDS.iter().filter(|(_, _, promised)| *promised);
        let verdict = |(kind, what, _): &(&str, &str, bool)| Verdict {
            name: format!("resolve, {what}, p50"),
            measured: Spread::of(of(&self.p50, kind).iter().map(|ns| ns / 1e3).collect()),
            unit: "µs",
            bound: RESOLVE_US,
        };
        promised.map(verdict).collect()
    }
}

fn of(figures: &BTreeMap<String, Vec<f64>>, kind: &str) -> Vec<f64> {
    figures.get(kind).cloned().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two rounds; a sticky key takes `sticky_ns`.
    fn lines(sticky_ns: u64) -> String {
        let round = KINDS.iter().map(|(kind, ..)| {
            let ns = if *kind == "sticky" { sticky_ns } else { 50 };
            format!(r#"{{"kind":"{kind}","p50_ns":{ns},"p99_ns":900}}"#)
        });
        let mut round: Vec<_> = round.collect();
        round.push(r#"{"kind":"apply","ns":3000000}"#.to_owned());
        [round.clone(), round].concat().join("\n")
    }

    #[test]
    fn each_kind_is_judged_but_the_one_that_reads_events() {
        let figures = Figures::parse(&lines(1_200)).unwrap();
        let verdicts = figures.verdicts();
        assert_eq!(verdicts.len(), KINDS.len() - 1);
        let missed: Vec<_> = verdicts.iter().filter(|v| !v.met()).map(|v| &*v.name).collect();
        assert_eq!(missed, ["resolve, one of 10 000 aliases, a sticky header, p50"]);
        assert!((figures.by_the_first("sticky").median - 24.0).abs() < 1e-9);
        assert_eq!(figures.apply, [Duration::from_millis(3); 2]);
    }

    #[test]
    fn what_is_missing_is_named() {
        let lines = lines(90);
        let lines: Vec<_> = lines.lines().filter(|line| !line.contains("header")).collect();
        let error = Figures::parse(&lines.join("\n")).unwrap_err();
        assert_eq!(error.to_string(), "kind header was not measured");
        Figures::parse("{}").unwrap_err();
    }
}
