//! What is kept of an asynchronous call: the notes of its attempts. They lie in the queue as JSON; fields are only ever added.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::clock::UnixMillis;
use crate::ports::NOTE_BYTES;

/// How long what came of a call is kept once it has ended, in seconds, where its function says nothing else.
pub const KEEP_SECONDS: u64 = 24 * 3600;
/// How long a dead call is kept, with its payload, in seconds, where its function says nothing else: the longest retention of Amazon SQS.
pub const KEEP_DEAD_SECONDS: u64 = 14 * 24 * 3600;
/// Longest [`Attempt::message`], in bytes; the rest is left out.
const MESSAGE_BYTES: usize = 2 * 1024;

/// One try at a call, or why there was none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// When it was over.
    pub at: UnixMillis,
    /// Which of the function's attempts it was, from 1; refusals do not count as one.
    pub attempt: u32,
    /// The version that ran; none if none did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// How long the handler ran, in milliseconds, rounded up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<u64>,
    /// `succeeded`, the kind of the function's failure, `cut` where the daemon ended before the attempt did, or the code of the platform's refusal.
    pub outcome: String,
    /// What there is to say about it; never the function's answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

impl Attempt {
    /// One at which no version ran.
    pub fn without_run(at: UnixMillis, attempt: u32, outcome: &str, message: Option<&str>) -> Self {
        let (outcome, message) = (outcome.to_owned(), message.map(str::to_owned));
        Self { at, attempt, version: None, duration_ms: None, outcome, message }
    }

    /// As a note of the queue.
    pub fn note(&self) -> Bytes {
        let mut short = self.clone();
        if let Some(message) = &mut short.message {
            message.truncate(message.floor_char_boundary(MESSAGE_BYTES));
        }
        // What is made of texts and numbers is written without fail; escapes make it six times as long at most.
        let mut note = serde_json::to_vec(&short).unwrap_or_default();
        if note.len() > NOTE_BYTES {
            short.message = None;
            note = serde_json::to_vec(&short).unwrap_or_default();
        }
        note.into()
    }

    /// From a note of the queue; none if it is of another form.
    pub fn read(note: &[u8]) -> Option<Self> {
        serde_json::from_slice(note).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt(message: &str) -> Attempt {
        Attempt {
            at: UnixMillis(7),
            attempt: 2,
            version: Some("3".into()),
            duration_ms: Some(12),
            outcome: "handler".into(),
            message: Some(message.into()),
        }
    }

    #[test]
    fn an_attempt_comes_back_as_it_was() {
        let one = attempt("no such file");
        assert_eq!(Attempt::read(&one.note()), Some(one));
        let old = br#"{"at":1,"attempt":3,"outcome":"given-up","message":"x","later":1}"#;
        assert_eq!(Attempt::read(old).unwrap().outcome, "given-up");
        assert_eq!(Attempt::read(b"too often"), None);
    }

    #[test]
    fn a_note_is_short_whatever_was_said() {
        for message in ["é".repeat(100_000), "\u{1}".repeat(100_000)] {
            let note = attempt(&message).note();
            assert!(note.len() <= NOTE_BYTES, "{}", note.len());
            assert!(Attempt::read(&note).is_some());
        }
    }
}
