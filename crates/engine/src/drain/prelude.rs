//! What a function said before an answer in pieces that was kept: it lies in the note of the last attempt, beside that.

use bytes::Bytes;
use model::calls::Attempt;
use model::ports::NOTE_BYTES;
use serde::{Deserialize, Serialize};

#[derive(Debug, Serialize, Deserialize)]
struct Said {
    prelude: String,
}

#[derive(Serialize)]
struct Both<'a> {
    #[serde(flatten)]
    attempt: &'a Attempt,
    #[serde(flatten)]
    said: Said,
}

/// The note of the last attempt, if there is room in it for both.
pub(super) fn note(attempt: &Attempt, prelude: Option<&Bytes>) -> Option<Bytes> {
    let Some(prelude) = prelude else { return Some(attempt.note()) };
    let prelude = std::str::from_utf8(prelude).ok()?.to_owned();
    let both = serde_json::to_vec(&Both { attempt, said: Said { prelude } }).ok()?;
    (both.len() <= NOTE_BYTES).then(|| both.into())
}

/// What a note holds beside its attempt.
pub(crate) fn prelude(note: &[u8]) -> Option<Bytes> {
    serde_json::from_slice(note).ok().map(|Said { prelude }| prelude.into())
}

#[cfg(test)]
mod tests {
    use model::clock::UnixMillis;

    use super::*;

    #[test]
    fn both_come_back_or_neither() {
        let attempt = Attempt {
            at: UnixMillis(1),
            attempt: 1,
            version: Some("3".into()),
            duration_ms: Some(1),
            outcome: "succeeded".into(),
            message: None,
        };
        let head = Bytes::from_static(br#"{"statusCode":201}"#);
        let note = note(&attempt, Some(&head)).unwrap();
        assert_eq!((Attempt::read(&note), prelude(&note)), (Some(attempt.clone()), Some(head)));
        let bare = super::note(&attempt, None).unwrap();
        assert_eq!((Attempt::read(&bare), prelude(&bare)), (Some(attempt.clone()), None));
        for bad in [Bytes::from(vec![b'x'; NOTE_BYTES]), Bytes::from_static(b"\xff")] {
            assert_eq!(super::note(&attempt, Some(&bad)), None);
        }
    }
}
