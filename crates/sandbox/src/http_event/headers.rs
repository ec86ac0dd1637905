//! Headers about one connection, not about the message (RFC 9110, 7.6.1).

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

/// Whether a header is about a connection by its name alone.
pub(super) fn is_hop_by_hop(name: &HeaderName) -> bool {
    const NAMES: [&str; 5] =
        ["keep-alive", "proxy-connection", "proxy-authenticate", "proxy-authorization", "trailers"];
    [header::CONNECTION, header::TE, header::TRAILER, header::TRANSFER_ENCODING, header::UPGRADE]
        .contains(name)
        || NAMES.contains(&name.as_str())
}

/// The headers that a `Connection` names as its own.
pub(super) fn named(connection: &HeaderValue) -> impl Iterator<Item = HeaderName> + '_ {
    let names = connection.as_bytes().split(|byte| *byte == b',');
    names.filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
}

/// All that some headers name so.
pub(super) fn all_named(headers: &HeaderMap) -> Vec<HeaderName> {
    headers.get_all(header::CONNECTION).iter().flat_map(named).collect()
}
