//! How a command fails: what went wrong, what to do next, and which exit code says it.

use std::fmt;
use std::io;
use std::process::ExitCode;

use serde_json::json;

use super::screen::{Format, Screen};
use crate::config::values::ConfigError;

/// Exit code when a function failed: its own doing, the platform did its part.
pub(crate) const EXIT_FUNCTION_FAILED: u8 = 1;
/// Exit code of wrong usage and of everything that kept a command from doing its work.
pub(crate) const EXIT_FAILED: u8 = 2;
/// Exit code of `doctor` when something is missing that full isolation, or serving at all, needs.
pub(crate) const EXIT_INCOMPLETE: u8 = 3;

/// What the person at the terminal is told.
#[derive(Debug)]
pub(crate) struct CliError {
    message: String,
    hint: Option<String>,
    code: Option<String>,
}

impl CliError {
    /// With this message: lower case, no full stop, what was expected.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None, code: None }
    }

    /// Adds what to do next.
    pub(crate) fn hint(self, hint: impl Into<String>) -> Self {
        self.hint_or(Some(hint.into()))
    }

    /// Adds what to do next, if anything is known.
    pub(crate) fn hint_or(mut self, hint: Option<String>) -> Self {
        self.hint = hint;
        self
    }

    /// Adds the code of the platform's error.
    pub(crate) fn code(mut self, code: impl Into<String>) -> Self {
        self.code = Some(code.into());
        self
    }

    /// What to do next.
    pub(crate) fn hint_text(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// The code of the platform's error.
    pub(crate) fn code_text(&self) -> Option<&str> {
        self.code.as_deref()
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for CliError {}

impl From<model::Error> for CliError {
    fn from(e: model::Error) -> Self {
        Self::new(e.message()).code(e.code().as_str()).hint_or(e.hint().map(str::to_owned))
    }
}

impl From<ConfigError> for CliError {
    fn from(e: ConfigError) -> Self {
        Self::new(e.to_string()).hint_or(e.hint_text().map(str::to_owned))
    }
}

/// Tells the error on standard error and gives the exit code.
///
/// A reader of our output that went away (`hanshu list | head`) is no failure worth a word.
pub(crate) fn report(error: &anyhow::Error, screen: &Screen) -> ExitCode {
    let gone = error.chain().any(|e| {
        e.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
    });
    if gone {
        return ExitCode::SUCCESS;
    }
    let typed = error.chain().find_map(|e| e.downcast_ref::<CliError>());
    let message = format!("{error:#}");
    let (hint, code) = typed.map_or((None, None), |e| (e.hint_text(), e.code_text()));
    if screen.format() == Format::Json {
        screen.note(
            &json!({ "error": { "code": code, "message": message, "hint": hint } }).to_string(),
        );
    } else {
        let code = code.map(|c| format!(" ({c})")).unwrap_or_default();
        screen.note(&format!("{}: {message}{code}", screen.red("error")));
        if let Some(hint) = hint {
            screen.note(&format!("  hint: {hint}"));
        }
    }
    ExitCode::from(EXIT_FAILED)
}
