//! What goes to standard output and standard error, and in which form.
//!
//! Standard output carries results only, so that they can be piped; everything else goes to standard error. Colours and
//! moving progress appear on a terminal only.

use std::io::{self, IsTerminal, Write};

use serde::Serialize;

use crate::config::environment::Environment;

/// How results are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people.
    #[default]
    Text,
    /// For programs: one stable JSON document, or one a line for streams.
    Json,
}

/// Writes to standard output and standard error.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Screen {
    format: Format,
    colour: bool,
    moving: bool,
    stdout_is_terminal: bool,
}

impl Screen {
    /// Looks at what the two streams are. `NO_COLOR` (no-color.org) and `TERM=dumb` turn colours off.
    pub(crate) fn detect(format: Format, env: &Environment) -> Self {
        let stderr_is_terminal = io::stderr().is_terminal();
        let dumb = env.get("TERM") == Some("dumb");
        Self {
            format,
            colour: stderr_is_terminal && !dumb && env.get("NO_COLOR").is_none(),
            moving: stderr_is_terminal && !dumb,
            stdout_is_terminal: io::stdout().is_terminal(),
        }
    }

    /// How results are written.
    pub(crate) fn format(&self) -> Format {
        self.format
    }

    /// Whether progress may move on standard error.
    pub(crate) fn moving(&self) -> bool {
        self.moving
    }

    /// Whether a person reads standard output.
    pub(crate) fn read_by_a_person(&self) -> bool {
        self.stdout_is_terminal
    }

    /// Writes bytes to standard output as they are.
    pub(crate) fn raw(&self, bytes: &[u8]) -> io::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(bytes)?;
        out.flush()
    }

    /// Writes a line to standard output.
    pub(crate) fn line(&self, text: &str) -> io::Result<()> {
        let mut out = io::stdout().lock();
        writeln!(out, "{text}")?;
        out.flush()
    }

    /// Writes a value as indented JSON.
    pub(crate) fn json(&self, value: &impl Serialize) -> io::Result<()> {
        self.line(&serde_json::to_string_pretty(value)?)
    }

    /// Writes a value as JSON on one line.
    pub(crate) fn json_line(&self, value: &impl Serialize) -> io::Result<()> {
        self.line(&serde_json::to_string(value)?)
    }

    /// Writes rows under a head, columns aligned. Nothing but the head when there are no rows.
    pub(crate) fn table(&self, head: &[&str], rows: &[Vec<String>]) -> io::Result<()> {
        self.line(&table(head, rows))
    }

    /// Writes a line to standard error. That nobody reads it is no reason to stop.
    pub(crate) fn note(&self, text: &str) {
        writeln!(io::stderr().lock(), "{text}").unwrap_or_default();
    }

    /// `text` in red, where colours are welcome on standard error.
    pub(crate) fn red(&self, text: &str) -> String {
        if self.colour { format!("\x1b[31m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// `text` dimmed, where colours are welcome on standard error.
    pub(crate) fn dim(&self, text: &str) -> String {
        if self.colour { format!("\x1b[2m{text}\x1b[0m") } else { text.to_owned() }
    }
}

fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|r| r.get(column)).map(|c| c.chars().count());
        cells.chain(head.get(column).map(|h| h.chars().count())).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let line = |cells: Vec<&str>| {
        let padded: Vec<String> =
            cells.iter().zip(&widths).map(|(c, w)| format!("{c:<w$}")).collect();
        padded.join("  ").trim_end().to_owned()
    };
    let mut lines = vec![line(head.to_vec())];
    lines.extend(rows.iter().map(|r| line(r.iter().map(String::as_str).collect())));
    lines.join("\n")
}

/// A time span as people read it: `0.42 ms`, `71.3 ms`, `12.0 s`.
pub(crate) fn milliseconds(us: u64) -> String {
    let (ms, rest) = (us / 1000, us % 1000);
    match ms {
        0..10 => format!("{ms}.{:02} ms", rest / 10),
        10..10_000 => format!("{ms}.{} ms", rest / 100),
        _ => format!("{}.{} s", ms / 1000, ms % 1000 / 100),
    }
}

/// A size as people read it, in binary units.
pub(crate) fn bytes(n: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if n < 1024 {
        return format!("{n} B");
    }
    let mut unit = 0;
    let mut tenths = n.saturating_mul(10) / 1024;
    while tenths >= 10 * 1024 && unit + 1 < UNITS.len() {
        tenths /= 1024;
        unit += 1;
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS.get(unit).unwrap_or(&"TiB"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = vec![vec!["a".into(), "long value".into()], vec!["bcd".into(), "x".into()]];
        assert_eq!(table(&["N", "VALUE"], &rows), "N    VALUE\na    long value\nbcd  x");
    }

    #[test]
    fn figures_are_short() {
        assert_eq!(milliseconds(421), "0.42 ms");
        assert_eq!(milliseconds(71_345), "71.3 ms");
        assert_eq!(milliseconds(12_040_000), "12.0 s");
        assert_eq!(bytes(17), "17 B");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(250 << 20), "250.0 MiB");
    }
}
