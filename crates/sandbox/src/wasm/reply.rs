//! A component's response as a function's answer.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::HeaderMap;
use http::header::SET_COOKIE;
use http::response::Parts;
use model::invocation::{Failure, FailureKind};
use model::limits;
use serde::Serialize;

use super::event::Form;
use super::failure;
use crate::process::failure::is_json;

/// As much of a body as an error shows, in characters.
const SHOWN_CHARS: usize = 1000;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Reply<'a> {
    status_code: u16,
    headers: BTreeMap<&'a str, String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    cookies: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<&'a str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    is_base64_encoded: bool,
}

impl<'a> Reply<'a> {
    fn of(head: &'a Parts) -> Self {
        Self {
            status_code: head.status.as_u16(),
            headers: joined(&head.headers),
            cookies: head.headers.get_all(SET_COOKIE).iter().map(|v| text(v.as_bytes())).collect(),
            body: None,
            is_base64_encoded: false,
        }
    }

    fn json(&self) -> Result<Bytes, Failure> {
        serde_json::to_vec(self).map(Into::into).map_err(|e| failure::not_json(&e.to_string()))
    }
}

/// What stands before the pieces of an answer.
pub(super) fn prelude(head: &Parts) -> Result<Bytes, Failure> {
    Reply::of(head).json()
}

/// A whole response as the answer to an event of this form.
pub(super) fn whole(head: &Parts, body: Bytes, form: Form) -> Result<Bytes, Failure> {
    let answer = match form {
        Form::Http => reply(head, &body),
        Form::Plain if head.status.is_success() => plain(body),
        Form::Plain => Err(refusal(head, &body)),
    }?;
    match answer.len() > limits::RESPONSE_BYTES {
        true => Err(failure::too_large(answer.len())),
        false => Ok(answer),
    }
}

fn reply(head: &Parts, body: &[u8]) -> Result<Bytes, Failure> {
    let reply = Reply::of(head);
    match std::str::from_utf8(body) {
        Ok(text) => Reply { body: Some(text), ..reply }.json(),
        Err(_) => {
            let encoded = BASE64_STANDARD.encode(body);
            Reply { body: Some(&encoded), is_base64_encoded: true, ..reply }.json()
        }
    }
}

/// JSON as it is, other text as a string, nothing as `null`.
fn plain(body: Bytes) -> Result<Bytes, Failure> {
    if body.trim_ascii().is_empty() {
        return Ok(Bytes::from_static(b"null"));
    }
    if is_json(&body) {
        return Ok(body);
    }
    let text = std::str::from_utf8(&body)
        .map_err(|_| failure::not_json("the body is neither JSON nor text in UTF-8"))?;
    serde_json::to_vec(text).map(Into::into).map_err(|e| failure::not_json(&e.to_string()))
}

/// Whoever did not ask by HTTP knows no status: any but success is an error of the function, in its own words if it has some of that form.
fn refusal(head: &Parts, body: &Bytes) -> Failure {
    if failure::is_own(body) {
        return Failure { kind: FailureKind::Handler, payload: body.clone() };
    }
    let shown: String = String::from_utf8_lossy(body).chars().take(SHOWN_CHARS).collect();
    let message = format!("HTTP status {}: {shown}", head.status.as_u16());
    Failure::new(FailureKind::Handler, "Function.HttpStatus", message.trim_end_matches([':', ' ']))
}

/// Each field once, several values joined by commas (RFC 9110, 5.3); cookies go apart.
fn joined(headers: &HeaderMap) -> BTreeMap<&str, String> {
    let mut fields: BTreeMap<&str, String> = BTreeMap::new();
    for (name, value) in headers.iter().filter(|(name, _)| *name != SET_COOKIE) {
        let value = text(value.as_bytes());
        match fields.get_mut(name.as_str()) {
            Some(all) => {
                all.push(',');
                all.push_str(&value);
            }
            None => drop(fields.insert(name.as_str(), value)),
        }
    }
    fields
}

/// Bytes of a header field, which need not be text.
fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value).into_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn head(status: u16, headers: &[(&'static str, &'static str)]) -> Parts {
        let mut response = http::Response::builder().status(status);
        for (name, value) in headers {
            response = response.header(*name, *value);
        }
        response.body(()).unwrap().into_parts().0
    }

    fn answered(head: &Parts, body: &'static [u8], form: Form) -> Result<Value, Failure> {
        let answer = whole(head, Bytes::from_static(body), form)?;
        Ok(serde_json::from_slice(&answer).unwrap())
    }

    #[test]
    fn a_request_is_answered_with_all_there_is() {
        let head =
            head(201, &[("x-a", "1"), ("x-a", "2"), ("set-cookie", "a=1"), ("set-cookie", "b=2")]);
        let expected = json!({
            "statusCode": 201, "headers": {"x-a": "1,2"}, "cookies": ["a=1", "b=2"], "body": "hi",
        });
        assert_eq!(answered(&head, b"hi", Form::Http).unwrap(), expected);
        let binary = answered(&head, b"\xff\0", Form::Http).unwrap();
        assert_eq!((&binary["body"], &binary["isBase64Encoded"]), (&json!("/wA="), &json!(true)));
    }

    #[test]
    fn other_events_are_answered_with_the_body() {
        let ok = head(200, &[]);
        for (body, value) in
            [(&b""[..], json!(null)), (b"{\"a\":1}", json!({"a": 1})), (b"hi", json!("hi"))]
        {
            assert_eq!(answered(&ok, body, Form::Plain).unwrap(), value);
        }
        assert_eq!(answered(&ok, b"\xff", Form::Plain).unwrap_err().kind, FailureKind::Handler);
    }

    #[test]
    fn other_events_know_errors_only() {
        let failure = answered(&head(500, &[]), b"no more", Form::Plain).unwrap_err();
        assert_eq!(failure.kind, FailureKind::Handler);
        let told: Value = serde_json::from_slice(&failure.payload).unwrap();
        assert_eq!(told["errorMessage"], "HTTP status 500: no more");
        let own = br#"{"errorType":"E","errorMessage":"mine"}"#;
        let failure = answered(&head(400, &[]), own, Form::Plain).unwrap_err();
        assert_eq!(failure.payload, &own[..]);
    }

    #[test]
    fn an_answer_that_grows_over_the_limit_is_too_large() {
        // Each byte of these takes six in JSON.
        let body = vec![1; limits::RESPONSE_BYTES / 5];
        let failure = whole(&head(200, &[]), body.into(), Form::Http).unwrap_err();
        assert_eq!(failure.kind, FailureKind::ResponseTooLarge);
    }
}
