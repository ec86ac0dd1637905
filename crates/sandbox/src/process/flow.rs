//! An answer that comes in pieces, from the socket to whoever takes it.
//!
//! A piece is read when there is room for it and not before: what the taker does not take stays in the socket, and once that is full the function waits in
//! its write.

use bytes::Bytes;
use model::ids::RequestId;
use model::limits;
use model::stream::{Part, Taker};
use tokio::sync::mpsc::{Permit, Sender};

use super::instance::{Frame, ProcessInstance};
use crate::frame::{FrameError, Incoming};
use crate::output::Output;

/// How far a stream is.
#[derive(Debug)]
pub(super) struct Flow<'a> {
    taker: Taker<'a>,
    /// The beginning, as much of it as the taker wants kept.
    pub(super) kept: Vec<u8>,
    /// Bytes of all pieces so far.
    pub(super) bytes: u64,
}

impl<'a> Flow<'a> {
    pub(super) fn new(taker: Taker<'a>) -> Self {
        Self { taker, kept: Vec::new(), bytes: 0 }
    }

    /// Hands pieces on until something else comes, and answers with that.
    pub(super) async fn run(&mut self, instance: &mut ProcessInstance, call: RequestId) -> Frame {
        loop {
            let alone = instance.is_alone();
            let room = self.room(&mut instance.life.output, alone).await;
            match instance.next().await {
                Ok(Incoming::Chunk { id, piece }) if id == call => self.take(piece, room)?,
                frame => return frame,
            }
        }
    }

    /// Waits until a piece can be handed on, and takes what the function prints meanwhile if it is alone. `None`: there is nobody to hand it to.
    pub(super) async fn room(&self, output: &mut Output, alone: bool) -> Option<Permit<'a, Part>> {
        match self.taker {
            Taker::Caller { pieces, .. } => room(output, alone, pieces).await,
            Taker::Whole => None,
        }
    }

    /// Waits until a piece can be handed on. `None`: there is nobody to hand it to.
    pub(super) async fn reserve(&self) -> Option<Permit<'a, Part>> {
        match self.taker {
            Taker::Caller { pieces, .. } => pieces.reserve().await.ok(),
            Taker::Whole => None,
        }
    }

    /// Returns once whoever wanted the pieces as they come is gone.
    pub(super) async fn abandoned(&self) {
        match self.taker {
            Taker::Caller { pieces, .. } => pieces.closed().await,
            Taker::Whole => std::future::pending().await,
        }
    }

    /// Hands a piece on; an error if all of them together are over the limit.
    pub(super) fn take(
        &mut self,
        piece: Bytes,
        room: Option<Permit<'_, Part>>,
    ) -> Result<(), FrameError> {
        self.bytes += piece.len() as u64;
        let keep_bytes = match self.taker {
            Taker::Caller { keep_bytes, .. } => keep_bytes,
            Taker::Whole => limits::RESPONSE_BYTES,
        };
        let kept = piece.len().min(keep_bytes - self.kept.len());
        if matches!(self.taker, Taker::Whole) && kept < piece.len() {
            let bytes = self.kept.len() + piece.len();
            return Err(FrameError::TooLarge { bytes, limit: limits::RESPONSE_BYTES });
        }
        self.kept.extend_from_slice(piece.get(..kept).unwrap_or_default());
        if let Some(room) = room {
            room.send(Part::Piece(piece));
        }
        Ok(())
    }
}

/// Waits for room for one piece, and takes what the function prints meanwhile if that can only be the call's. `None`: nobody takes any more.
async fn room<'a>(
    output: &mut Output,
    alone: bool,
    pieces: &'a Sender<Part>,
) -> Option<Permit<'a, Part>> {
    tokio::select! {
        biased;
        room = pieces.reserve() => room.ok(),
        never = output.run(), if alone => match never {},
    }
}
