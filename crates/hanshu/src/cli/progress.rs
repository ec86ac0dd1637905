//! Shows long work on standard error: moving on a terminal, one plain line each elsewhere.

use std::io::Read;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::screen::Screen;

const TICK: Duration = Duration::from_millis(100);

/// Shows steps, one at a time.
#[derive(Clone, Debug)]
pub(crate) struct Progress {
    screen: Screen,
    prefix: String,
}

/// One step; dropping it takes it off the screen.
#[derive(Debug)]
pub(crate) struct Step {
    bar: ProgressBar,
}

impl Progress {
    /// On this screen.
    pub(crate) fn new(screen: Screen) -> Self {
        Self { screen, prefix: String::new() }
    }

    /// The same, with every step said to be of `name`.
    pub(crate) fn of(&self, name: &str) -> Self {
        Self { prefix: format!("{name}: "), ..self.clone() }
    }

    /// Starts a step of unknown length.
    pub(crate) fn step(&self, what: &str) -> Step {
        let style = ProgressStyle::with_template("{spinner} {msg} {elapsed:.dim}");
        self.start(ProgressBar::new_spinner(), style, what)
    }

    /// Starts a step over `bytes` bytes, to be read through [`Step::read`].
    pub(crate) fn bytes(&self, what: &str, bytes: u64) -> Step {
        let style =
            ProgressStyle::with_template("{spinner} {msg} [{bar:30}] {bytes}/{total_bytes}");
        self.start(ProgressBar::new(bytes), style, what)
    }

    /// Starts a step over so many items, whose number [`Step::reach`] tells.
    pub(crate) fn items(&self, what: &str, items: u64) -> Step {
        let style = ProgressStyle::with_template(
            "{spinner} {msg} [{bar:30}] {human_pos}/{human_len} items, {per_sec}, {eta} left",
        );
        self.start(ProgressBar::new(items), style, what)
    }

    fn start(
        &self,
        bar: ProgressBar,
        style: Result<ProgressStyle, indicatif::style::TemplateError>,
        what: &str,
    ) -> Step {
        let what = format!("{}{what}", self.prefix);
        if !self.screen.moving() {
            self.screen.note(&what);
            return Step { bar: ProgressBar::hidden() };
        }
        // The templates are ours and valid; the plain style is no worse a fallback.
        let bar = bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
        bar.set_message(what);
        bar.enable_steady_tick(TICK);
        Step { bar }
    }
}

impl Step {
    /// Says how far it is, where progress moves.
    pub(crate) fn say(&self, what: &str) {
        self.bar.set_message(what.to_owned());
    }

    /// So many items are done.
    pub(crate) fn reach(&self, items: u64) {
        self.bar.set_position(items);
    }

    /// Counts what is read from `source`.
    pub(crate) fn read<R: Read>(&self, source: R) -> impl Read {
        self.bar.wrap_read(source)
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
