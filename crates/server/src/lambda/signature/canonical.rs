//! The canonical form of a request: what its signature is made over.

use std::borrow::Cow;

use http::HeaderMap;
use http::request::Parts;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// What stands as it is: RFC 3986, section 2.3.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// The parameter that holds the signature itself.
const SIGNATURE: &str = "X-Amz-Signature";

/// The parameters of a query string, as they mean.
#[derive(Debug, Default)]
pub(super) struct Query<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'a> Query<'a> {
    /// A plus sign is one: clients of this API write a space as `%20`.
    pub(super) fn parse(query: &'a str) -> Self {
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        let pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        Self(pairs.map(|(name, value)| (decoded(name), decoded(value))).collect())
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(found, _)| found == name).map(|(_, value)| &**value)
    }

    pub(super) fn push(&mut self, name: &'a str, value: &'a str) {
        self.0.push((name.into(), value.into()));
    }

    /// Encoded, sorted, without the signature.
    pub(super) fn canonical(&self) -> String {
        let signed = self.0.iter().filter(|(name, _)| name != SIGNATURE);
        let mut pairs: Vec<_> =
            signed.map(|(name, value)| (encoded(name), encoded(value))).collect();
        pairs.sort();
        let pairs: Vec<_> = pairs.iter().map(|(name, value)| format!("{name}={value}")).collect();
        pairs.join("&")
    }
}

/// The request as it is signed; `headers` names those that are, `hash` is the body's.
pub(super) fn canonical_request(
    parts: &Parts,
    query: &Query<'_>,
    headers: &str,
    hash: &str,
) -> String {
    let mut lines = vec![parts.method.to_string(), path(parts.uri.path()), query.canonical()];
    for name in headers.split(';') {
        lines.push(format!("{name}:{}", header(&parts.headers, name)));
    }
    lines.extend([String::new(), headers.to_owned(), hash.to_owned()]);
    lines.join("\n")
}

/// The path, normalised and encoded once more: it was sent encoded.
fn path(sent: &str) -> String {
    let mut segments: Vec<&str> = Vec::new();
    for segment in sent.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(segments.pop()),
            _ => segments.push(segment),
        }
    }
    let mut path = String::with_capacity(sent.len() + 16);
    for segment in &segments {
        path.push('/');
        path.push_str(&encoded(segment));
    }
    if sent.ends_with('/') || segments.is_empty() {
        path.push('/');
    }
    path
}

/// All values of a header, each without spaces around it and with single ones within.
fn header(headers: &HeaderMap, name: &str) -> String {
    let values = headers.get_all(name).iter();
    let values = values.map(|value| {
        let text = String::from_utf8_lossy(value.as_bytes());
        text.split_ascii_whitespace().collect::<Vec<_>>().join(" ")
    });
    values.collect::<Vec<_>>().join(",")
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, PLAIN).to_string()
}

fn decoded(text: &str) -> Cow<'_, str> {
    percent_decode_str(text).decode_utf8_lossy()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_normalised_and_encoded_once_more() {
        for (sent, canonical) in [
            ("/", "/"),
            ("/a/b", "/a/b"),
            ("/a//b/", "/a/b/"),
            ("/a/./b/../c", "/a/c"),
            ("/a/f%3Alive", "/a/f%253Alive"),
            ("/a/f:live", "/a/f%3Alive"),
        ] {
            assert_eq!(path(sent), canonical, "{sent}");
        }
    }

    #[test]
    fn queries_are_sorted_by_what_they_are_encoded_as() {
        let query = Query::parse("b=2&a=x%20y&a=%C3%A9&X-Amz-Signature=0&c&d=1+1&d=$LATEST");
        assert_eq!(query.canonical(), "a=%C3%A9&a=x%20y&b=2&c=&d=%24LATEST&d=1%2B1");
        assert_eq!(query.get("d"), Some("1+1"));
    }

    #[test]
    fn headers_lose_their_spaces() {
        let mut headers = HeaderMap::new();
        headers.append("a", "  x   y ".parse().unwrap());
        headers.append("a", "z".parse().unwrap());
        assert_eq!(header(&headers, "a"), "x y,z");
        assert_eq!(header(&headers, "b"), "");
    }
}
