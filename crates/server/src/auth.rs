//! Keys: who may use the REST API and the function URLs that ask for one.
//!
//! A key is `hsk_` and 43 characters of base64url: 32 random bytes. The store has only its SHA-256, under `key/NAME`; 256 bits of
//! randomness need no slower hash. A key opens everything, or one namespace: for such a key there is nothing else ([`Caller::may_see`]). In
//! dev mode no key is asked for; what protects the API then is that only this machine reaches it, so a request that a foreign web page
//! made a browser send is refused by its `Host` or `Origin`.
//!
//! A key of one namespace comes with an access key ([`access`]), with which requests of the AWS Lambda API are signed.

mod access;
mod store;

use std::net::IpAddr;
use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Uri, header};
use model::Result;
use model::change::Author;
use model::error::{Code, Error};
use model::ids::{FunctionKey, NamespaceName};

pub(crate) use access::AccessKey;
pub(crate) use store::{KEYS, KeyRecord, place_of};
pub use store::{KeyStore, NewKey, ensure_root_key};

/// Whose key a request showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The key's name; `dev` where none is asked for.
    pub name: Arc<str>,
    /// The one namespace that it opens; `None` opens everything.
    pub namespace: Option<NamespaceName>,
}

impl Caller {
    /// Whoever calls in dev mode.
    pub(crate) fn dev() -> Self {
        Self { name: Author::DEV.into(), namespace: None }
    }

    /// Fails with `not-found`, as if it did not exist, for a namespace that the key does not open.
    pub(crate) fn may_see(&self, namespace: &NamespaceName) -> Result<()> {
        match &self.namespace {
            Some(own) if own != namespace => Err(Error::not_found("namespace", namespace)),
            _ => Ok(()),
        }
    }

    /// [`Self::may_see`], in the words of a function that does not exist.
    pub(crate) fn may_call(&self, function: &FunctionKey) -> Result<()> {
        self.may_see(&function.namespace).map_err(|_| Error::not_found("function", function))
    }

    /// Fails with `forbidden` for a key that opens one namespace only.
    pub(crate) fn opens_everything(&self) -> Result<()> {
        match &self.namespace {
            None => Ok(()),
            Some(namespace) => Err(Error::caller(
                Code::Forbidden,
                format!(
                    "the key '{}' opens namespace '{namespace}' only: expected one that opens everything",
                    self.name
                ),
            )),
        }
    }
}

fn unauthenticated(message: &str) -> Error {
    Error::caller(Code::Unauthenticated, message)
        .with_hint("send the header 'Authorization: Bearer KEY' with a key of this daemon")
}

/// The key of a bearer authorization (RFC 6750, section 2.1; the scheme's case does not matter).
fn bearer(value: &HeaderValue) -> Option<&[u8]> {
    let (scheme, key) = value.as_bytes().split_at_checked(b"Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then(|| key.trim_ascii())
}

/// In dev mode: refuses what a web page of somebody else made a browser on this machine send, be it by a cross-site request
/// (its `Origin` tells) or by a host name that was made to point at loopback (its `Host` tells).
pub(crate) fn check_local(headers: &HeaderMap) -> Result<()> {
    let foreign = |message: &str| {
        Err(unauthenticated(message).with_hint(
            "in dev mode the API answers this machine only; serve without --dev for others",
        ))
    };
    if headers.get(header::HOST).is_some_and(|host| !is_loopback(host.as_bytes())) {
        return foreign("the host header does not name this machine");
    }
    if let Some(origin) = headers.get(header::ORIGIN) {
        let host = origin.to_str().ok().and_then(|o| o.parse::<Uri>().ok());
        let local = host
            .as_ref()
            .and_then(Uri::authority)
            .is_some_and(|a| is_loopback(a.as_str().as_bytes()));
        if !local {
            return foreign("the request comes from a web page of another host");
        }
    }
    Ok(())
}

fn is_loopback(authority: &[u8]) -> bool {
    let Some(host) = std::str::from_utf8(authority).ok().map(without_port) else { return false };
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    address.is_ok_and(|a| a.is_loopback())
        || host.eq_ignore_ascii_case("localhost")
        || host.to_ascii_lowercase().ends_with(".localhost")
}

/// The host of `HOST[:PORT]`; an IPv6 address keeps its brackets.
pub(crate) fn without_port(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
        _ => authority,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(header::HeaderName, &str)]) -> HeaderMap {
        pairs.iter().map(|(n, v)| (n.clone(), v.parse().unwrap())).collect()
    }

    #[test]
    fn the_scheme_is_read_in_any_case() {
        for (value, key) in [
            ("Bearer abc", Some("abc")),
            ("bearer  abc ", Some("abc")),
            ("Basic abc", None),
            ("Bearer", None),
            ("", None),
        ] {
            let value = HeaderValue::from_str(value).unwrap();
            assert_eq!(bearer(&value), key.map(str::as_bytes), "{value:?}");
        }
    }

    #[test]
    fn ports_are_cut_off() {
        for (authority, host) in [
            ("a.b:80", "a.b"),
            ("a.b", "a.b"),
            ("[::1]:9", "[::1]"),
            ("[::1]", "[::1]"),
            ("a:", "a"),
        ] {
            assert_eq!(without_port(authority), host);
        }
    }

    #[test]
    fn foreign_web_pages_are_refused_in_dev_mode() {
        for host in ["localhost:9000", "127.0.0.1", "127.8.8.8:1", "[::1]:9000", "app.localhost"] {
            check_local(&headers(&[(header::HOST, host)])).unwrap();
        }
        check_local(&headers(&[(header::ORIGIN, "http://localhost:5173")])).unwrap();
        for pair in [
            (header::HOST, "evil.example"),
            (header::HOST, "127.0.0.1.evil.example:9000"),
            (header::ORIGIN, "https://evil.example"),
            (header::ORIGIN, "null"),
        ] {
            let e = check_local(&headers(std::slice::from_ref(&pair))).unwrap_err();
            assert_eq!(e.code(), Code::Unauthenticated, "{pair:?}");
        }
    }
}
