//! Keys: who may use the REST API and the function URLs that ask for one.
//!
//! A key is `hsk_` and 43 characters of base64url: 32 random bytes. The store has only its SHA-256, under `key/`; 256 bits of
//! randomness need no slower hash. In dev mode no key is asked for; what protects the API then is that only this machine reaches
//! it, so a request that a foreign web page made a browser send is refused by its `Host` or `Origin`.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, HeaderValue, Uri, header};
use model::Result;
use model::error::{Code, Error};
use model::ids::Digest;
use model::limits;
use model::ports::{Expect, Meta};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq as _;
use tokio::sync::OnceCell;

/// Metadata keys of all API keys.
const KEYS: &str = "key/";
/// Metadata key of the root key.
const ROOT: &str = "key/root";
/// What every key starts with, so that people and secret scanners recognise one.
const PREFIX: &str = "hsk_";
/// Random bytes in a key.
const RANDOM_BYTES: usize = 32;

/// What the store knows of a key.
#[derive(Debug, Serialize, Deserialize)]
struct KeyRecord {
    /// SHA-256 of the whole key as it is sent.
    sha256: Digest,
}

/// A key that was just made. Shown once; nothing can bring it back.
pub struct NewKey(String);

impl NewKey {
    /// The key, as clients send it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for NewKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NewKey(..)")
    }
}

/// Creates the root key if there is none yet; `None` if there is.
pub async fn ensure_root_key(meta: &dyn Meta) -> Result<Option<NewKey>> {
    if meta.get(ROOT).await?.is_some() {
        return Ok(None);
    }
    let mut random = [0; RANDOM_BYTES];
    getrandom::fill(&mut random).map_err(Error::internal)?;
    let key = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(random));
    let record = KeyRecord { sha256: Digest::of(key.as_bytes()) };
    let record = serde_json::to_vec(&record).map_err(Error::internal)?;
    match meta.put_if(ROOT, Expect::Absent, record.into()).await {
        Ok(_) => Ok(Some(NewKey(key))),
        // Another node of the same store was faster.
        Err(e) if e.code() == Code::Conflict => Ok(None),
        Err(e) => Err(e),
    }
}

/// The keys that are accepted, cached in memory.
#[derive(Debug)]
pub struct KeyStore {
    meta: Arc<dyn Meta>,
    digests: OnceCell<Box<[Digest]>>,
}

impl KeyStore {
    /// Reads the keys when the first one is checked.
    pub fn new(meta: Arc<dyn Meta>) -> Self {
        Self { meta, digests: OnceCell::new() }
    }

    /// Fails with `unauthenticated` unless the headers carry a known key as `Authorization: Bearer KEY`.
    pub async fn check(&self, headers: &HeaderMap) -> Result<()> {
        let Some(value) = headers.get(header::AUTHORIZATION) else {
            return Err(unauthenticated("no key was sent"));
        };
        let Some(key) = bearer(value) else {
            return Err(unauthenticated("the authorization header holds no bearer key"));
        };
        let presented = Digest::of(key);
        let known = self.digests.get_or_try_init(|| self.load()).await?;
        // Every digest is compared, each in constant time: how long it takes says nothing about the keys.
        let matches = known
            .iter()
            .fold(subtle::Choice::from(0), |any, d| any | d.as_bytes().ct_eq(presented.as_bytes()));
        if bool::from(matches) { Ok(()) } else { Err(unauthenticated("the key is not known")) }
    }

    async fn load(&self) -> Result<Box<[Digest]>> {
        let entries = self.meta.list(KEYS, None, limits::PAGE_ENTRIES).await?;
        let records = entries.iter().map(|entry| {
            serde_json::from_slice::<KeyRecord>(&entry.value).map(|r| r.sha256).map_err(|e| {
                let message = format!("the record '{}' cannot be read", entry.key);
                Error::platform(Code::StorageUnusable, message).with_source(e)
            })
        });
        let digests = records.collect::<Result<Box<[_]>>>()?;
        if digests.is_empty() {
            // Not cached: the first key may be on its way.
            return Err(unauthenticated("the daemon has no keys yet"));
        }
        Ok(digests)
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
