//! Takes the steps of a start from what the sandbox traces about it.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// Where the sandbox says how long the steps of a start took; the field `steps` is a JSON object of nanoseconds.
const TARGET: &str = "sandbox::steps";

/// The steps of the last start.
#[derive(Clone, Debug, Default)]
pub(crate) struct Steps(Arc<Mutex<Option<Value>>>);

impl Steps {
    /// Those said since the last time.
    pub(crate) fn take(&self) -> Option<Value> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Listens from now on. Errors and warnings of the sandbox go to standard error, as a bench with such has no figures.
pub(crate) fn listen() -> Steps {
    let steps = Steps::default();
    // An error would say that somebody listens already; this is the first line of a program.
    tracing::subscriber::set_global_default(Listener(steps.clone())).unwrap_or_default();
    steps
}

struct Listener(Steps);

impl Subscriber for Listener {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == TARGET || *metadata.level() <= Level::WARN
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        if let Some(steps) = fields.steps {
            *self.0.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(steps);
        } else {
            complain(&fields.text);
        }
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[expect(clippy::print_stderr, reason = "a program that says what goes wrong")]
fn complain(text: &str) {
    eprintln!("{text}");
}

#[derive(Default)]
struct Fields {
    steps: Option<Value>,
    text: String,
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "steps" {
            self.steps = serde_json::from_str(value).ok();
        } else {
            self.record_debug(field, &value);
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.text.push_str(&format!("{}={value:?} ", field.name()));
    }
}
