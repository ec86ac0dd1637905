//! The daemon's side of functions that are web servers: the connections by which requests and answers go.
//!
//! [`sockets`] holds the ways into the function's network namespace, [`connection`] speaks HTTP/1.1 by them, [`sent`] is what goes out by them,
//! [`trailers`] hears what stands behind an answer.
//! Not here: events and replies ([`crate::http_event`]); processes, deadlines and how many calls are under way at once (`process/web`).
//!
//! Nothing that comes back is trusted. Heads and pieces have limits, a body that is not as long as its head says is an error, and a connection on which
//! anything went wrong is not used again.

mod connection;
mod sent;
mod sockets;
mod trailers;

pub(crate) use connection::{Connection, Piece, Switched, Unanswered};
pub(crate) use sent::Sent;
pub(crate) use sockets::{Sockets, Wire};
pub(crate) use trailers::trailing_failure;

/// What an error of a server's is called.
pub(crate) const ERROR_TYPE: &str = "Web.Error";
