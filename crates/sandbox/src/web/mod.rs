//! The daemon's side of functions that are web servers: what turns calls into requests and answers into replies, and the connections by which both go.
//!
//! [`sockets`] holds the ways into the function's network namespace, [`connection`] speaks HTTP/1.1 by them, [`request`] reads events, [`reply`] writes replies.
//! Not here: processes, deadlines and how many calls are under way at once (`process/web`).
//!
//! Nothing that comes back is trusted. Heads and pieces have limits, a body that is not as long as its head says is an error, and a connection on which
//! anything went wrong is not used again.

mod connection;
mod reply;
mod request;
mod sockets;

pub(crate) use connection::{Connection, Piece, Unanswered};
pub(crate) use reply::{ERROR_TYPE, event_result, prelude, trailing_failure, whole};
pub(crate) use request::{Asked, Extras, asked};
pub(crate) use sockets::Sockets;
