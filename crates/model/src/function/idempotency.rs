//! Keys of calls: which call of a function is the same as an earlier one, so that it has one effect and one result.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use utoipa::ToSchema;

use crate::alias::Parameter;
use crate::clock::UnixMillis;
use crate::error::{Code, Error};
use crate::ids::{Digest, FunctionKey};
use crate::limits;
use crate::ports::UniqueKey;

/// Header that carries a call's key (IETF draft "The Idempotency-Key HTTP Header Field").
pub const HEADER_IDEMPOTENCY_KEY: &str = "idempotency-key";

/// Where a function's calls have their key, and how long it holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Idempotency {
    /// What is the key of a call that brings none in the header `Idempotency-Key`: a field of the event (`event.order.id`, or the JSON pointer `event/order/id`),
    /// `header.NAME`, `query.NAME` or `cookie.NAME`. A call that does not have it is one without a key. Of a call by the function's URL nothing else counts: its
    /// header does if `header.idempotency-key` is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "event.order.id")]
    pub key: Option<Parameter>,
    /// How long a key holds, in seconds: 60 to 604 800; absent means 86 400, which is a day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window_seconds: Option<u64>,
    /// Whether a call without a key is refused; absent means no.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub required: bool,
    /// Whether the rest of the event may differ from call to call of a key; absent means no: another event under the same key is refused.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub any_event: bool,
}

impl Idempotency {
    /// Whether nothing is said.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// How long a key holds.
    pub fn window(&self) -> Duration {
        Duration::from_secs(self.window_seconds.unwrap_or(limits::KEY_WINDOW_SECONDS))
    }

    /// Checks every field against its rule; the error names the field and what was expected.
    pub fn validate(&self) -> Result<(), Error> {
        let bad = |message: String| Err(Error::caller(Code::InvalidParameter, message));
        if let Some(key @ (Parameter::Path | Parameter::Method | Parameter::Source)) = &self.key {
            return bad(format!(
                "idempotency.key '{key}' is no key: expected event.FIELD, header.NAME, query.NAME or cookie.NAME"
            ));
        }
        let windows = limits::KEY_WINDOW_MIN_SECONDS..=limits::KEY_WINDOW_MAX_SECONDS;
        match self.window_seconds {
            Some(seconds) if !windows.contains(&seconds) => bad(format!(
                "idempotency.window_seconds {seconds} is out of range: expected {} to {}",
                windows.start(),
                windows.end()
            )),
            _ => Ok(()),
        }
    }

    /// What holds for a call of `function` with the key `text`, accepted `now`. `given`: the caller gave it in the header of that name, and it is apart from
    /// those that the call itself holds.
    pub fn unique(
        &self,
        function: &FunctionKey,
        (given, text): (bool, &str),
        print: Digest,
        now: UnixMillis,
    ) -> UniqueKey {
        let mut hash = Sha256::new();
        // No name of a function holds a zero.
        hash.update(function.to_string());
        hash.update([0, u8::from(given)]);
        hash.update(text);
        UniqueKey {
            digest: Digest::from_bytes(hash.finalize().into()),
            until: now.after(self.window()),
            print: (!self.any_event).then_some(print),
        }
    }
}

/// What is known of a call's key before it is known what function it is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallKey {
    /// What the caller gave, if it gave one.
    pub given: Option<String>,
    /// Of what makes the call the same as another: its event, where nothing in that is of the one call alone.
    pub print: Digest,
}

/// Reads the header: a string of a structured field (RFC 9651, section 3.3.3), as the draft has it, or the same without its quotes, as many clients send it.
///
/// Errors: `invalid-parameter` where it is not 1 to 255 visible characters.
pub fn read_idempotency_key(value: &[u8]) -> Result<String, Error> {
    let quoted = value.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\""));
    let read = match quoted {
        Some(inner) => unescape(inner),
        None => Some(value.to_vec()),
    };
    let visible = |key: &Vec<u8>| {
        (1..=limits::KEY_CHARS).contains(&key.len()) && key.iter().all(u8::is_ascii_graphic)
    };
    read.filter(visible).and_then(|key| String::from_utf8(key).ok()).ok_or_else(|| {
        let message = format!(
            "header {HEADER_IDEMPOTENCY_KEY} is not valid: expected 1 to {} visible ASCII characters, with or without quotes",
            limits::KEY_CHARS
        );
        Error::caller(Code::InvalidParameter, message)
    })
}

fn unescape(inner: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(inner.len());
    let mut bytes = inner.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => out.push(*bytes.next().filter(|b| matches!(b, b'"' | b'\\'))?),
            b'"' => return None,
            other => out.push(*other),
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_the_same_with_and_without_quotes() {
        for (header, key) in [
            ("8e03978e-40d5-43dd-bc93-6894a57f9324", "8e03978e-40d5-43dd-bc93-6894a57f9324"),
            ("\"8e03978e\"", "8e03978e"),
            (r#""a\"b\\c""#, r#"a"b\c"#),
            (r#"a"b\c"#, r#"a"b\c"#),
            ("\"", "\""),
        ] {
            assert_eq!(read_idempotency_key(header.as_bytes()).unwrap(), key);
        }
        let long = "k".repeat(256);
        for bad in ["", "\"\"", "a b", "a\tb", "caf\u{e9}", r#""a"b""#, r#""a\n""#, &long] {
            let error = read_idempotency_key(bad.as_bytes()).unwrap_err();
            assert!(error.message().contains("1 to 255 visible"), "{bad:?}: {error}");
        }
        read_idempotency_key("k".repeat(255).as_bytes()).unwrap();
    }

    #[test]
    fn each_bad_field_is_named() {
        let read = |json: &str| serde_json::from_str::<Idempotency>(json).unwrap();
        for (json, words) in [
            (r#"{"key":"path"}"#, "idempotency.key 'path' is no key"),
            (r#"{"key":"source"}"#, "idempotency.key 'source'"),
            (r#"{"window_seconds":59}"#, "expected 60 to 604800"),
            (r#"{"window_seconds":604801}"#, "idempotency.window_seconds 604801"),
        ] {
            let error = read(json).validate().unwrap_err();
            assert!(error.message().contains(words), "{json}: {}", error.message());
        }
        let all = read(r#"{"key":"event/order/id","window_seconds":60,"required":true}"#);
        all.validate().unwrap();
        assert_eq!(all.window().as_secs(), 60);
        assert_eq!(read("{}").window().as_secs(), 24 * 3600);
        serde_json::from_str::<Idempotency>(r#"{"key":"$.order.id"}"#).unwrap_err();
        serde_json::from_str::<Idempotency>(r#"{"path":"event.a"}"#).unwrap_err();
    }

    #[test]
    fn keys_are_of_a_function_and_of_where_they_came_from() {
        let rules = Idempotency::default();
        let key = |function: &str, given, text| {
            let function = crate::ids::FunctionRef::parse("default", function).unwrap().key;
            rules.unique(&function, (given, text), Digest::of(b""), UnixMillis(0)).digest
        };
        let one = key("f", true, "k");
        assert_eq!(one, key("f", true, "k"));
        for other in [key("g", true, "k"), key("f", false, "k"), key("f", true, "l")] {
            assert_ne!(one, other);
        }
    }
}
