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
    stdout_colour: bool,
}

/// How text on standard output stands out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ink {
    /// What is gone.
    Red,
    /// What is new.
    Green,
    /// What is other than it was.
    Cyan,
}

impl Ink {
    fn code(self) -> &'static str {
        match self {
            Self::Red => "31",
            Self::Green => "32",
            Self::Cyan => "36",
        }
    }
}

impl Screen {
    /// Looks at what the two streams are. `NO_COLOR` (no-color.org) and `TERM=dumb` turn colours off.
    pub(crate) fn detect(format: Format, env: &Environment) -> Self {
        let stderr_is_terminal = io::stderr().is_terminal();
        let stdout_is_terminal = io::stdout().is_terminal();
        let dumb = env.get("TERM") == Some("dumb");
        let welcome = !dumb && env.get("NO_COLOR").is_none();
        Self {
            format,
            colour: stderr_is_terminal && welcome,
            moving: stderr_is_terminal && !dumb,
            stdout_is_terminal,
            stdout_colour: stdout_is_terminal && welcome,
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

    /// Writes one thing: whole as JSON, or as `text` has it.
    pub(crate) fn show<T: Serialize>(
        &self,
        thing: &T,
        text: impl FnOnce(&T) -> String,
    ) -> io::Result<()> {
        match self.format {
            Format::Json => self.json(thing),
            Format::Text => self.line(&text(thing)),
        }
    }

    /// Writes a listing: whole as JSON, or as a table. An empty one says what to do next.
    pub(crate) fn list<T: Serialize>(
        &self,
        items: &[T],
        head: &[&str],
        row: impl Fn(&T) -> Vec<String>,
        none: &str,
    ) -> io::Result<()> {
        match self.format {
            Format::Json => self.json(&items),
            Format::Text if items.is_empty() => {
                self.note(none);
                Ok(())
            }
            Format::Text => self.table(head, &items.iter().map(row).collect::<Vec<_>>()),
        }
    }

    /// Writes that something was done: `document` as JSON, or `text` as a note.
    pub(crate) fn done(&self, document: &impl Serialize, text: &str) -> io::Result<()> {
        match self.format {
            Format::Json => self.json(document),
            Format::Text => {
                self.note(text);
                Ok(())
            }
        }
    }

    /// Writes a line to standard error. That nobody reads it is no reason to stop.
    pub(crate) fn note(&self, text: &str) {
        writeln!(io::stderr().lock(), "{text}").unwrap_or_default();
    }

    /// `text` in this colour, where colours are welcome on standard output.
    pub(crate) fn ink(&self, ink: Ink, text: &str) -> String {
        if self.stdout_colour {
            format!("\x1b[{}m{text}\x1b[0m", ink.code())
        } else {
            text.to_owned()
        }
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

/// Names and values below each other; without those that are empty.
pub(crate) fn fields(fields: &[(&str, String)]) -> String {
    let shown = fields.iter().filter(|(_, value)| !value.is_empty());
    let lines: Vec<String> = shown.map(|(name, value)| format!("{name:<12} {value}")).collect();
    lines.join("\n")
}

/// `text` without what would move a terminal's cursor or change its colours.
pub(crate) fn tame(text: &str) -> String {
    let mut tamed = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() && c != '\t' { tamed.extend(c.escape_debug()) } else { tamed.push(c) }
    }
    tamed
}

/// `1 version`, `2 versions`.
pub(crate) fn count(n: u64, one: &str) -> String {
    if n == 1 { format!("1 {one}") } else { format!("{n} {one}s") }
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
    fn empty_fields_are_left_out() {
        let text = fields(&[("name", "a".into()), ("why", String::new()), ("to", "b".into())]);
        assert_eq!(text, "name         a\nto           b");
    }

    #[test]
    fn strange_text_cannot_move_the_cursor() {
        assert_eq!(tame("a\tb\u{1b}[2J\r"), "a\tb\\u{1b}[2J\\r");
    }

    #[test]
    fn figures_are_short() {
        assert_eq!((count(1, "call"), count(0, "call")), ("1 call".into(), "0 calls".into()));
        assert_eq!(milliseconds(421), "0.42 ms");
        assert_eq!(milliseconds(71_345), "71.3 ms");
        assert_eq!(milliseconds(12_040_000), "12.0 s");
        assert_eq!(bytes(17), "17 B");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(250 << 20), "250.0 MiB");
    }
}
