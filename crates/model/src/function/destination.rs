//! Who is told what became of an asynchronous call.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::error::{Code, Error};
use crate::ids::FunctionRef;
use crate::limits;

/// Who is told what became of a call: one of `function` and `webhook`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Destination {
    /// A function of the same namespace, `NAME` or `NAME:QUALIFIER`: it is called asynchronously.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "on-error:live")]
    pub function: Option<String>,
    /// An address that gets a POST request: `https://` or `http://`, at most 2 048 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "https://example.com/hooks/orders")]
    pub webhook: Option<String>,
    /// Name of the secret environment variable of this function that requests to the webhook are signed with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "HOOK_KEY")]
    pub secret: Option<String>,
    /// A queue: not possible yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
}

/// A destination, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told<'a> {
    /// A function.
    Function(FunctionRef),
    /// An address.
    Webhook {
        /// The address.
        url: &'a str,
        /// The secret environment variable.
        secret: &'a str,
    },
}

impl Destination {
    /// Who is told. `field`: how an error names the destination.
    ///
    /// Errors: `invalid-parameter`, which names the field and what was expected.
    pub fn read(&self, field: &str, namespace: &str) -> Result<Told<'_>, Error> {
        let bad = |message: String| Err(Error::caller(Code::InvalidParameter, message));
        if self.queue.is_some() {
            return bad(format!(
                "{field}.queue is not possible: there are no queues yet, expected function or webhook"
            ));
        }
        match (&self.function, &self.webhook, &self.secret) {
            (Some(function), None, None) => {
                let named = FunctionRef::parse(namespace, function);
                named.map(Told::Function).map_err(|e| {
                    let message = format!("{field}.function: {}", e.message());
                    Error::caller(Code::InvalidParameter, message)
                })
            }
            (Some(_), None, Some(_)) => {
                bad(format!("{field}.secret is for a webhook: a function needs none"))
            }
            (None, Some(_), None) => bad(format!(
                "{field}.secret is missing: expected the name of a secret environment variable that requests to the webhook are signed with"
            )),
            (None, Some(url), Some(secret)) => match address(url) {
                Ok(()) => Ok(Told::Webhook { url, secret }),
                Err(expected) => bad(format!("{field}.webhook is not valid: expected {expected}")),
            },
            _ => bad(format!("{field} is not valid: expected one of function and webhook")),
        }
    }
}

/// Checks a webhook's address; says what was expected.
fn address(url: &str) -> Result<(), String> {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    let Some(rest) = rest else { return Err("an address that begins with https://".to_owned()) };
    if url.len() > limits::WEBHOOK_CHARS {
        return Err(format!("at most {} characters", limits::WEBHOOK_CHARS));
    }
    if !url.bytes().all(|b| b.is_ascii_graphic()) || url.contains(['#', '\\', '"', '<', '>']) {
        return Err("ASCII without spaces, quotes and fragments".to_owned());
    }
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    if authority.contains('@') {
        return Err("no user and password in it".to_owned());
    }
    let (host, port) = authority.split_once(':').unwrap_or((authority, "443"));
    if host.starts_with('[') {
        return Err("IPv4 or a name: IPv6 is not possible".to_owned());
    }
    let named = host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
    if host.is_empty()
        || !named
        || port.parse::<u16>().is_ok_and(|p| p == 0)
        || port.parse::<u16>().is_err()
    {
        return Err("a host, and a port if it is not the usual one".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<String, String> {
        let destination: Destination = serde_json::from_str(json).unwrap();
        let told = destination.read("async.on_failure", "default");
        told.map(|told| format!("{told:?}")).map_err(|e| e.message().to_owned())
    }

    #[test]
    fn a_destination_is_a_function_or_a_signed_webhook() {
        assert!(read(r#"{"function":"alert:live"}"#).unwrap().contains("alert"));
        for url in
            ["https://example.com", "http://10.0.0.1:8080/a/b?c=d", "https://a-b.example/%20"]
        {
            read(&format!(r#"{{"webhook":"{url}","secret":"KEY"}}"#)).unwrap();
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (json, words) in [
            ("{}", "async.on_failure is not valid: expected one of"),
            (r#"{"queue":"dead"}"#, "async.on_failure.queue is not possible"),
            (r#"{"function":"a","queue":"dead"}"#, "queue is not possible"),
            (r#"{"function":"a b"}"#, "async.on_failure.function"),
            (r#"{"function":"a","secret":"K"}"#, "async.on_failure.secret"),
            (r#"{"function":"a","webhook":"https://x"}"#, "one of function and webhook"),
            (r#"{"webhook":"https://x"}"#, "async.on_failure.secret is missing"),
            (r#"{"webhook":"ftp://x","secret":"K"}"#, "begins with https://"),
            (r#"{"webhook":"https://","secret":"K"}"#, "a host"),
            (r#"{"webhook":"https://x:0/","secret":"K"}"#, "a port"),
            (r#"{"webhook":"https://x:99999/","secret":"K"}"#, "a port"),
            (r#"{"webhook":"https://u:p@x/","secret":"K"}"#, "no user"),
            (r#"{"webhook":"https://[::1]/","secret":"K"}"#, "IPv6"),
            (r#"{"webhook":"https://x/ a","secret":"K"}"#, "without spaces"),
            (r#"{"webhook":"https://x\\@y/","secret":"K"}"#, "without spaces"),
            (r#"{"webhook":"https://é/","secret":"K"}"#, "ASCII"),
        ] {
            let message = read(json).unwrap_err();
            assert!(message.contains(words), "{json}: {message}");
        }
    }
}
