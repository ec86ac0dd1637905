//! HTTP in events and replies, for every runtime that knows requests and responses alone: web servers and `wasi:http` components.
//!
//! [`request()`] reads the event of an HTTP request (AWS Lambda's payload format 2.0, as function URLs make it), [`whole`] and [`prelude`] write replies to it, and
//! [`whole`] judges what was answered to any other event. Not here: who is asked, and by which connection.
//!
//! What the format leaves open is decided here, once:
//!
//! - Headers of a connection alone (RFC 9110, 7.6.1) pass in neither direction, nor does `Content-Length`: the length is that of the body which is sent.
//! - `X-Forwarded-For`, `-Host` and `-Proto` say who asked, as behind any proxy, and the call's id and trace are ours, whatever the client said.
//! - A header that stands several times is one, with its values joined by commas (RFC 9110, 5.3), as the format has it; cookies stand apart.
//! - A body that is not UTF-8 is base64, whether it answers a request or another event.

mod headers;
mod reply;
mod request;

pub(crate) use reply::{prelude, whole};
pub(crate) use request::{Asking, request};

/// What an event was, and so what its answer shall be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// A request: status, headers and body.
    Http,
    /// Anything else: what the body says.
    Plain,
}
