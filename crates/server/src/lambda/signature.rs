//! Signature Version 4, checked (AWS General Reference, "Signature Version 4 signing process").
//!
//! [`Claim::read`] is what a request says of itself, in its `Authorization` header or in its query; [`Claim::check`] computes the signature again from the
//! request as it came ([`canonical`]) and compares. Bodies in signed pieces (`STREAMING-…`) are not understood: no client of this API sends them.
//!
//! A signature is good for as long as the service's own: five minutes around its time, or the time that a signed URL gives itself.

mod canonical;

use std::time::Duration;

use http::HeaderMap;
use http::request::Parts;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use model::clock::UnixMillis;
use model::secret::SecretText;
use ring::hmac;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::error::{Fault, Kind};
use super::names::is_region;
use canonical::{Query, canonical_request};

/// The only algorithm.
const ALGORITHM: &str = "AWS4-HMAC-SHA256";
/// What ends a scope.
const TERMINATOR: &str = "aws4_request";
/// The service that is signed for.
const SERVICE: &str = "lambda";
/// How far the client's clock may be from ours.
const SKEW: Duration = Duration::from_secs(5 * 60);
/// Longest time that a signed URL may give itself, in seconds: seven days.
const EXPIRES_MAX_SECONDS: u64 = 7 * 24 * 3600;
/// Most headers that a signature may name.
const SIGNED_HEADERS: usize = 100;
/// The form of times.
const TIME_FORM: &str = "%Y%m%dT%H%M%SZ";
/// Header with the hash of the body, or why there is none.
const CONTENT_HASH: &str = "x-amz-content-sha256";
/// The word for a body that is not signed.
const UNSIGNED: &str = "UNSIGNED-PAYLOAD";

/// What a request says about its signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Claim {
    /// The access key's id.
    pub access_key: String,
    /// The region that the client is set to.
    pub region: String,
    /// The day of the scope, `YYYYMMDD`.
    date: String,
    /// When it was signed, as it stands in the request.
    time: String,
    at: UnixMillis,
    /// Names of the signed headers as they were sent: lower case, between semicolons.
    headers: String,
    signature: [u8; 32],
    /// For how long a signed URL is good; `None` for a signature in a header.
    expires: Option<Duration>,
}

impl Claim {
    /// Reads what a request says; refuses one that says nothing, or not enough.
    pub(super) fn read(parts: &Parts) -> Result<Self, Fault> {
        if let Some(header) = parts.headers.get(http::header::AUTHORIZATION) {
            let header = header.to_str().map_err(|_| incomplete("Authorization is not text"))?;
            return Self::in_header(header, &parts.headers);
        }
        let query = Query::parse(parts.uri.query().unwrap_or_default());
        if query.get("X-Amz-Signature").is_some() || query.get("X-Amz-Algorithm").is_some() {
            return Self::in_query(&query);
        }
        Err(Fault::new(Kind::NO_TOKEN, "Missing Authentication Token"))
    }

    fn in_header(header: &str, headers: &HeaderMap) -> Result<Self, Fault> {
        let fields = header.strip_prefix(ALGORITHM).filter(|rest| rest.starts_with(' '));
        let fields = fields.ok_or_else(|| {
            incomplete(&format!("Authorization header is not valid: expected {ALGORITHM}"))
        })?;
        let mut found = [None; 3];
        for field in fields.split(',').map(str::trim) {
            let (name, value) = field.split_once('=').ok_or_else(|| {
                incomplete("a part of the Authorization header has no equal-sign")
            })?;
            match name {
                "Credential" => found[0] = Some(value),
                "SignedHeaders" => found[1] = Some(value),
                "Signature" => found[2] = Some(value),
                _ => {}
            }
        }
        let [credential, signed, signature] = found;
        let lacks =
            |name: &str| incomplete(&format!("Authorization header requires '{name}' parameter"));
        let (time, at) = time_of(headers)?;
        let scope = Scope::read(credential.ok_or_else(|| lacks("Credential"))?)?;
        let signed = signed.ok_or_else(|| lacks("SignedHeaders"))?;
        scope.claim(time, at, signed, signature.ok_or_else(|| lacks("Signature"))?, None)
    }

    fn in_query(query: &Query) -> Result<Self, Fault> {
        let need = |name: &str| {
            query
                .get(name)
                .ok_or_else(|| incomplete(&format!("the query string requires '{name}' parameter")))
        };
        if need("X-Amz-Algorithm")? != ALGORITHM {
            return Err(incomplete(&format!("X-Amz-Algorithm is not valid: expected {ALGORITHM}")));
        }
        let scope = Scope::read(need("X-Amz-Credential")?)?;
        let time = need("X-Amz-Date")?;
        let at = parse_time(time).ok_or_else(bad_time)?;
        let expires = need("X-Amz-Expires")?.parse::<u64>().ok();
        let expires =
            expires.filter(|s| (1..=EXPIRES_MAX_SECONDS).contains(s)).ok_or_else(|| {
                incomplete(&format!(
                    "X-Amz-Expires is not valid: expected 1 to {EXPIRES_MAX_SECONDS} seconds"
                ))
            })?;
        let expires = Some(Duration::from_secs(expires));
        let signed = need("X-Amz-SignedHeaders")?;
        scope.claim(time.to_owned(), at, signed, need("X-Amz-Signature")?, expires)
    }

    /// Whether the signature is one of now.
    pub(super) fn check_time(&self, now: UnixMillis) -> Result<(), Fault> {
        let from = UnixMillis(self.at.0.saturating_sub(millis(SKEW)));
        let until = self.at.after(self.expires.unwrap_or(SKEW));
        let message = if now < from {
            format!(
                "Signature not yet current: {} is still later than {} ({} + 5 min.)",
                self.time,
                format_time(now.after(SKEW)),
                format_time(now)
            )
        } else if now > until {
            format!(
                "Signature expired: {} is now earlier than {} ({} - {} min.)",
                self.time,
                format_time(UnixMillis(now.0.saturating_sub(until.0 - self.at.0))),
                format_time(now),
                (until.0 - self.at.0) / 60_000
            )
        } else {
            return Ok(());
        };
        Err(Fault::new(Kind::INVALID_SIGNATURE, message))
    }

    /// Whether the request was signed with `secret`.
    pub(super) fn check(
        &self,
        secret: &SecretText,
        parts: &Parts,
        body: &[u8],
    ) -> Result<(), Fault> {
        let hash = body_hash(&parts.headers, body)?;
        let query = Query::parse(parts.uri.query().unwrap_or_default());
        let canonical = canonical_request(parts, &query, &self.headers, &hash);
        let expected = self.scope().signature(secret, &self.time, &canonical);
        if bool::from(expected.as_ref().ct_eq(&self.signature)) {
            return Ok(());
        }
        Err(Fault::new(
            Kind::INVALID_SIGNATURE,
            "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. Consult the service documentation for details.",
        ))
    }

    fn scope(&self) -> Scope<'_> {
        Scope { access_key: &self.access_key, date: &self.date, region: &self.region }
    }
}

/// A credential: whose key, and what its signatures are good for.
#[derive(Clone, Copy, Debug)]
struct Scope<'a> {
    access_key: &'a str,
    date: &'a str,
    region: &'a str,
}

impl<'a> Scope<'a> {
    fn read(credential: &'a str) -> Result<Self, Fault> {
        let parts: Vec<&str> = credential.split('/').collect();
        let [access_key, date, region, service, terminator] = parts[..] else {
            return Err(incomplete(
                "Credential is not valid: expected ACCESS_KEY/DATE/REGION/lambda/aws4_request",
            ));
        };
        let wrong = |message: &str| Err(Fault::new(Kind::INVALID_SIGNATURE, message));
        if service != SERVICE {
            return wrong("Credential should be scoped to correct service: 'lambda'.");
        }
        if terminator != TERMINATOR {
            return wrong("Credential should be scoped with a valid terminator: 'aws4_request'.");
        }
        if !is_region(region) {
            return wrong("Credential should be scoped to a valid region.");
        }
        Ok(Self { access_key, date, region })
    }

    fn claim(
        self,
        time: String,
        at: UnixMillis,
        headers: &str,
        signature: &str,
        expires: Option<Duration>,
    ) -> Result<Claim, Fault> {
        if !time.starts_with(self.date) || self.date.len() != 8 {
            return Err(Fault::new(
                Kind::INVALID_SIGNATURE,
                "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP",
            ));
        }
        if !headers.split(';').any(|name| name == "host") {
            let message = "'Host' must be a 'SignedHeader' in the AWS Authorization.";
            return Err(Fault::new(Kind::INVALID_SIGNATURE, message));
        }
        if headers.split(';').count() > SIGNED_HEADERS {
            let message = format!("SignedHeaders are too many: expected at most {SIGNED_HEADERS}");
            return Err(Fault::new(Kind::INVALID_SIGNATURE, message));
        }
        let mut bytes = [0; 32];
        hex::decode_to_slice(signature, &mut bytes)
            .map_err(|_| incomplete("Signature is not valid: expected 64 hexadecimal digits"))?;
        Ok(Claim {
            access_key: self.access_key.to_owned(),
            region: self.region.to_owned(),
            date: self.date.to_owned(),
            time,
            at,
            headers: headers.to_owned(),
            signature: bytes,
            expires,
        })
    }

    fn signature(self, secret: &SecretText, time: &str, canonical: &str) -> hmac::Tag {
        let Self { date, region, .. } = self;
        let hash = hex::encode(Sha256::digest(canonical.as_bytes()));
        let text = format!("{ALGORITHM}\n{time}\n{date}/{region}/{SERVICE}/{TERMINATOR}\n{hash}");
        let first = zeroize::Zeroizing::new(format!("AWS4{}", secret.expose()));
        let steps = [date, region, SERVICE, TERMINATOR, &text];
        let mut key = signed(first.as_bytes(), steps[0]);
        for step in &steps[1..] {
            key = signed(key.as_ref(), step);
        }
        key
    }
}

/// A URL that whoever has it may GET until it expires, signed with an access key (the query form).
pub(super) fn presigned(
    (id, secret): (&str, &SecretText),
    region: &str,
    url: &http::Uri,
    now: UnixMillis,
    expires: Duration,
) -> Option<String> {
    let time = format_time(now);
    let date = time.get(..8)?;
    let scope = Scope { access_key: id, date, region };
    let credential = format!("{id}/{date}/{region}/{SERVICE}/{TERMINATOR}");
    let seconds = expires.as_secs().to_string();
    let mut query = Query::parse(url.query().unwrap_or_default());
    for (name, value) in [
        ("X-Amz-Algorithm", ALGORITHM),
        ("X-Amz-Credential", &credential),
        ("X-Amz-Date", &time),
        ("X-Amz-Expires", &seconds),
        ("X-Amz-SignedHeaders", "host"),
    ] {
        query.push(name, value);
    }
    let host = url.authority()?.as_str();
    let request = http::Request::get(url.path()).header(http::header::HOST, host).body(()).ok()?;
    let (parts, ()) = request.into_parts();
    let empty = hex::encode(Sha256::digest([]));
    let canonical = canonical_request(&parts, &query, "host", &empty);
    let signature = hex::encode(scope.signature(secret, &time, &canonical));
    let scheme = url.scheme_str()?;
    Some(format!(
        "{scheme}://{host}{}?{}&X-Amz-Signature={signature}",
        url.path(),
        query.canonical()
    ))
}

/// The hash that the signature was made over, once it has been found to be the body's.
fn body_hash(headers: &HeaderMap, body: &[u8]) -> Result<String, Fault> {
    let Some(said) = headers.get(CONTENT_HASH) else {
        return Ok(hex::encode(Sha256::digest(body)));
    };
    let said = said.to_str().unwrap_or_default();
    if said == UNSIGNED {
        return Ok(said.to_owned());
    }
    if said.starts_with("STREAMING-") {
        return Err(Fault::invalid(format!(
            "{CONTENT_HASH} is not valid: expected the SHA-256 of the body or {UNSIGNED}"
        )));
    }
    let hash = hex::encode(Sha256::digest(body));
    if !said.eq_ignore_ascii_case(&hash) {
        let message =
            format!("The provided '{CONTENT_HASH}' header does not match what was computed.");
        return Err(Fault::new(Kind::INVALID_SIGNATURE, message));
    }
    Ok(said.to_owned())
}

/// HMAC-SHA256 (RFC 2104).
fn signed(key: &[u8], text: &str) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes())
}

/// When a request in the header form was signed.
fn time_of(headers: &HeaderMap) -> Result<(String, UnixMillis), Fault> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if let Some(time) = text("x-amz-date") {
        return Ok((time.to_owned(), parse_time(time).ok_or_else(bad_time)?));
    }
    let Some(date) = text("date") else {
        return Err(incomplete(
            "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header",
        ));
    };
    let at = parse_time(date).or_else(|| {
        let at = jiff::fmt::rfc2822::parse(date).ok()?.timestamp().as_millisecond();
        u64::try_from(at).ok().map(UnixMillis)
    });
    let at = at.ok_or_else(bad_time)?;
    Ok((format_time(at), at))
}

fn parse_time(text: &str) -> Option<UnixMillis> {
    let at = DateTime::strptime(TIME_FORM, text).ok().filter(|_| text.len() == 16)?;
    let at = at.to_zoned(TimeZone::UTC).ok()?.timestamp().as_millisecond();
    u64::try_from(at).ok().map(UnixMillis)
}

fn format_time(at: UnixMillis) -> String {
    at.timestamp().strftime(TIME_FORM).to_string()
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn bad_time() -> Fault {
    incomplete("Date must be in ISO-8601 'basic format', such as 20260131T120000Z")
}

fn incomplete(message: &str) -> Fault {
    Fault::new(Kind::INCOMPLETE_SIGNATURE, message)
}

#[cfg(test)]
mod tests;
