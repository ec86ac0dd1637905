//! Answers that come in pieces: who takes them ([`Taker`]), what arrives there ([`Part`]), how they end ([`StreamEnd`]).
//!
//! Pieces pass through a bounded channel from the instance to whoever answers the caller. Nothing else holds them: a channel without room makes the instance wait,
//! and the function behind it. Bodies of requests go the other way in the same manner: [`BodyStream`].

mod body;

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::invocation::{Failure, Outcome};

pub use body::{BodyCut, BodyPieces, BodySource, BodyStream};

/// Largest [`Part::Piece`], in bytes: sandboxes cut longer ones.
pub const PIECE_BYTES: usize = 64 * 1024;

/// What comes to the taker of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// The next bytes; never none.
    Piece(Bytes),
    /// Nothing more will come: the answer is whole, or the function failed on the way. A channel that closes without it was cut as well.
    End(Result<(), Failure>),
}

/// Who takes the pieces of an answer.
#[derive(Clone, Copy, Debug)]
pub enum Taker<'a> {
    /// A caller who wants them as they come.
    Caller {
        /// Where they go. The sandbox sends no [`Part::End`].
        pieces: &'a mpsc::Sender<Part>,
        /// Bytes from the beginning of which a copy is kept, for the outcome.
        keep_bytes: usize,
    },
    /// Nobody before the end: all of them together are the outcome, `response-too-large` over `limits::RESPONSE_BYTES`.
    Whole,
}

/// The end of a call whose answer came in pieces.
#[derive(Clone, Debug)]
pub struct StreamEnd {
    /// As of any call; what was kept of the pieces stands for the answer.
    pub outcome: Outcome,
    /// Bytes of all pieces, whoever took them.
    pub bytes: u64,
}
