//! What a bench prints: a table, and each promised bound with its mark.

use std::time::Duration;

use super::stats::{Pair, Round, Spread, median, percentile, pooled};
use crate::say::say;

/// Rows of text in columns of equal width; the first column is set left, the others right.
#[derive(Debug)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these headings.
    pub(crate) fn new(headings: &[&str]) -> Self {
        Self { rows: vec![headings.iter().map(|h| (*h).to_owned()).collect()] }
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// Adds latencies and rate of some rounds under `name`.
    pub(crate) fn rounds(&mut self, name: &str, rounds: &[Round]) {
        let all = pooled(rounds);
        let rate = Spread::of(rounds.iter().map(Round::rate).collect());
        self.row(vec![
            name.to_owned(),
            micros(median(&all)),
            micros(percentile(&all, 99)),
            format!("{:.0}", rate.median),
        ]);
    }

    /// Adds median and p99 of some samples under `name`, in milliseconds.
    pub(crate) fn samples(&mut self, name: &str, samples: &[Duration]) {
        self.row(vec![name.to_owned(), millis(median(samples)), millis(percentile(samples, 99))]);
    }

    /// The lines of the table.
    pub(crate) fn lines(&self) -> Vec<String> {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or_default();
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or_default()
        };
        let widths: Vec<_> = (0..columns).map(width).collect();
        let line = |row: &Vec<String>| {
            let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, width))| {
                if column == 0 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
            });
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        };
        self.rows.iter().map(line).collect()
    }

    /// Prints the table.
    pub(crate) fn print(&self) {
        for line in self.lines() {
            say!("{line}");
        }
    }
}

/// Microseconds, with one decimal.
pub(crate) fn micros(d: Duration) -> String {
    format!("{:.1}", d.as_secs_f64() * 1e6)
}

/// Milliseconds, with one decimal.
pub(crate) fn millis(d: Duration) -> String {
    format!("{:.1}", d.as_secs_f64() * 1e3)
}

/// What was promised.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

/// A measured figure against its bound.
#[derive(Clone, Debug)]
pub(crate) struct Verdict {
    pub(crate) name: String,
    pub(crate) measured: Spread,
    pub(crate) unit: &'static str,
    pub(crate) bound: Bound,
}

impl Verdict {
    /// Ratio of the medians of two sides, round by round.
    pub(crate) fn latency_ratio(name: &str, pair: &Pair, bound: Bound) -> Self {
        let measured = pair.ratio(|r| median(&r.latencies).as_secs_f64());
        Self { name: name.to_owned(), measured, unit: "×", bound }
    }

    /// Ratio of the answers per second of two sides, round by round.
    pub(crate) fn rate_ratio(name: &str, pair: &Pair, bound: Bound) -> Self {
        Self { name: name.to_owned(), measured: pair.ratio(Round::rate), unit: "×", bound }
    }

    /// Whether the bound is met. A figure that could not be measured meets none.
    pub(crate) fn met(&self) -> bool {
        match self.bound {
            Bound::AtMost(bound) => self.measured.median <= bound,
            Bound::AtLeast(bound) => self.measured.median >= bound,
        }
    }

    /// The figure, its range, the bound and the mark.
    pub(crate) fn line(&self) -> String {
        let Self { name, unit, measured: m, .. } = self;
        let (sign, bound) = match self.bound {
            Bound::AtMost(bound) => ("≤", bound),
            Bound::AtLeast(bound) => ("≥", bound),
        };
        let mark = if self.met() { "pass" } else { "FAIL" };
        let range = if m.low < m.high {
            format!(" ({:.2} to {:.2})", m.low, m.high)
        } else {
            String::new()
        };
        format!("{mark}  {name}: {:.2} {unit}{range}, promised {sign} {bound} {unit}", m.median)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(measured: f64, bound: Bound) -> Verdict {
        let measured = Spread { median: measured, low: 1.0, high: 4.0 };
        Verdict { name: "p50".into(), measured, unit: "×", bound }
    }

    #[test]
    fn columns_line_up() {
        let mut table = Table::new(&["", "p50 µs", "req/s"]);
        table.row(vec!["hanshu".into(), "1.5".into(), "12345678".into()]);
        table.row(vec!["µ".into(), "100.0".into(), "1".into()]);
        assert_eq!(
            table.lines(),
            ["        p50 µs     req/s", "hanshu     1.5  12345678", "µ        100.0         1",]
        );
    }

    #[test]
    fn rounds_become_a_row() {
        let latencies = vec![Duration::from_micros(10), Duration::from_micros(30)];
        let round = Round { latencies, elapsed: Duration::from_secs(1) };
        let mut table = Table::new(&["", "p50 µs", "p99 µs", "req/s"]);
        table.rounds("x", &[round]);
        assert_eq!(table.lines().last().unwrap(), "x    10.0    30.0      2");
    }

    #[test]
    fn bounds_are_met_up_to_and_with_the_bound() {
        assert!(verdict(3.0, Bound::AtMost(3.0)).met());
        assert!(!verdict(3.01, Bound::AtMost(3.0)).met());
        assert!(verdict(0.6, Bound::AtLeast(0.6)).met());
        assert!(!verdict(0.59, Bound::AtLeast(0.6)).met());
        assert!(!verdict(f64::NAN, Bound::AtMost(3.0)).met());
        assert!(!verdict(f64::NAN, Bound::AtLeast(3.0)).met());
    }

    #[test]
    fn a_verdict_says_figure_range_and_promise() {
        let line = verdict(2.5, Bound::AtMost(3.0)).line();
        assert_eq!(line, "pass  p50: 2.50 × (1.00 to 4.00), promised ≤ 3 ×");
        assert!(verdict(3.5, Bound::AtMost(3.0)).line().starts_with("FAIL"));
    }
}
