//! The command line's HTTP client: one agent, errors that say what to do next, timeouts that fit each operation.
//!
//! [`Client`] sends; [`control`] has the operations on functions and namespaces, [`invoke`] calls a function, [`follow`] reads
//! a live tail. No proxy is used, whatever the environment says: the daemon is usually on this machine.

pub(crate) mod control;
pub(crate) mod follow;
pub(crate) mod invoke;

use std::io::Read;
use std::time::Duration;

use model::api::{ErrorBody, HEADER_REQUEST_ID};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::de::DeserializeOwned;
use ureq::http::{Method, Request, Response};
use ureq::{Agent, Body, SendBody};

use crate::cli::failure::CliError;

/// Where the daemon is when nobody says otherwise.
pub(crate) const DEFAULT_URL: &str = "http://127.0.0.1:9000";

/// A connection that takes longer than this will not come.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a control call may take.
const CONTROL_TIMEOUT: Duration = Duration::from_secs(60);
/// Most bytes of an answer that are read into memory: a function's answer is at most 6 MiB, a listing page far less.
const ANSWER_BYTES_MAX: u64 = 64 << 20;

/// What a path segment or a query value keeps as it is (RFC 3986, "unreserved").
const KEPT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Makes `text` fit into one path segment or query value.
pub(crate) fn encode(text: &str) -> String {
    utf8_percent_encode(text, KEPT).to_string()
}

/// Talks to one daemon.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    agent: Agent,
    base: String,
    key: Option<String>,
}

/// One request, before it is sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ask<'a> {
    /// The method.
    pub method: &'a Method,
    /// Path and query, encoded.
    pub path: &'a str,
    /// Headers beside the key's.
    pub headers: &'a [(&'a str, &'a str)],
    /// How long the answer may take once the request is sent; `None` waits for ever.
    pub patience: Option<Duration>,
}

impl<'a> Ask<'a> {
    /// A control call.
    pub(crate) fn control(method: &'a Method, path: &'a str) -> Self {
        Self { method, path, headers: &[], patience: Some(CONTROL_TIMEOUT) }
    }
}

impl Client {
    /// A client of the daemon at `url`, with `key` if it asks for one.
    pub(crate) fn new(url: &str, key: Option<&str>) -> Result<Self, CliError> {
        if !(url.starts_with("http://") || url.starts_with("https://")) {
            return Err(CliError::new(format!(
                "'{url}' is not the address of a daemon: expected http://ADDR:PORT"
            ))
            .hint("pass it by --url or HANSHU_URL"));
        }
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .proxy(None)
            .max_redirects(0)
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .user_agent(concat!("hanshu/", env!("CARGO_PKG_VERSION")))
            .build();
        let base = url.trim_end_matches('/').to_owned();
        Ok(Self { agent: config.into(), base, key: key.map(str::to_owned) })
    }

    /// The daemon's address.
    #[cfg(test)]
    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    /// Sends a request and returns whatever comes back.
    pub(crate) fn send(
        &self,
        ask: Ask<'_>,
        body: SendBody<'_>,
    ) -> Result<Response<Body>, CliError> {
        let mut request =
            Request::builder().method(ask.method).uri(format!("{}{}", self.base, ask.path));
        for (name, value) in ask.headers {
            request = request.header(*name, *value);
        }
        if let Some(key) = &self.key {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        let request = request
            .body(body)
            .map_err(|e| CliError::new(format!("the request cannot be sent: {e}")))?;
        let request =
            self.agent.configure_request(request).timeout_recv_response(ask.patience).build();
        self.agent.run(request).map_err(|e| self.unreachable(&e))
    }

    /// Sends a request and reads the answer, or the refusal as an error.
    pub(crate) fn ask(&self, ask: Ask<'_>, body: &[u8]) -> Result<Answer, CliError> {
        let response = if body.is_empty() {
            self.send(ask, SendBody::none())?
        } else {
            let mut reader = body;
            let length = body.len().to_string();
            let mut headers = ask.headers.to_vec();
            headers.push(("content-length", &length));
            self.send(Ask { headers: &headers, ..ask }, SendBody::from_reader(&mut reader))?
        };
        self.accept(response)
    }

    /// Reads an answer; a status of 400 and more becomes an error with the daemon's words.
    pub(crate) fn accept(&self, response: Response<Body>) -> Result<Answer, CliError> {
        let (parts, body) = response.into_parts();
        let mut bytes = Vec::new();
        let mut reader = body.into_reader().take(ANSWER_BYTES_MAX);
        reader.read_to_end(&mut bytes).map_err(|e| {
            CliError::new(format!("the daemon's answer broke off: {e}"))
                .hint("its log says why; try again")
        })?;
        let answer = Answer { status: parts.status.as_u16(), headers: parts.headers, body: bytes };
        if answer.status >= 400 { Err(answer.refusal()) } else { Ok(answer) }
    }

    /// Sends a JSON body, or none, and reads a JSON answer.
    pub(crate) fn json<T: DeserializeOwned>(
        &self,
        method: &Method,
        path: &str,
        body: Option<&impl serde::Serialize>,
    ) -> Result<T, CliError> {
        let mut ask = Ask::control(method, path);
        let bytes = match body {
            None => Vec::new(),
            Some(body) => {
                ask.headers = &[("content-type", "application/json")];
                serde_json::to_vec(body).map_err(|e| CliError::new(e.to_string()))?
            }
        };
        self.ask(ask, &bytes)?.json()
    }

    fn unreachable(&self, e: &ureq::Error) -> CliError {
        let at = &self.base;
        match e {
            ureq::Error::Io(io) if io.kind() == std::io::ErrorKind::ConnectionRefused => {
                CliError::new(format!("no daemon answers at {at}")).hint(
                    "start one with `hanshu serve --dev`, or name another with --url or HANSHU_URL",
                )
            }
            ureq::Error::HostNotFound => CliError::new(format!("the host of {at} is not known"))
                .hint("check --url or HANSHU_URL"),
            ureq::Error::Timeout(what) => CliError::new(format!(
                "the daemon at {at} did not answer in time ({what})"
            ))
            .hint("its log says what it is doing; `hanshu list` shows whether it answers at all"),
            ureq::Error::BadUri(_) => {
                CliError::new(format!("'{at}' is not the address of a daemon"))
                    .hint("pass http://ADDR:PORT by --url or HANSHU_URL")
            }
            other => CliError::new(format!("the daemon at {at} cannot be reached: {other}")).hint(
                "start one with `hanshu serve --dev`, or name another with --url or HANSHU_URL",
            ),
        }
    }
}

/// An answer, read whole.
#[derive(Debug)]
pub(crate) struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Headers.
    pub headers: ureq::http::HeaderMap,
    /// Body.
    pub body: Vec<u8>,
}

impl Answer {
    /// A header as text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The body, read as JSON.
    pub(crate) fn json<T: DeserializeOwned>(&self) -> Result<T, CliError> {
        serde_json::from_slice(&self.body).map_err(|e| {
            CliError::new(format!("the answer is not what this client reads: {e}"))
                .hint("is it a Hanshu daemon of this client's version that listens there?")
        })
    }

    fn refusal(&self) -> CliError {
        let Ok(ErrorBody { error }) = serde_json::from_slice(&self.body) else {
            let text: String = String::from_utf8_lossy(&self.body).chars().take(200).collect();
            return CliError::new(format!("the daemon answered {}: {}", self.status, text.trim()))
                .hint("is it a Hanshu daemon that listens there? see --url");
        };
        // What to do at a terminal differs from what to do over HTTP.
        let ours = match error.code.as_str() {
            "unauthenticated" => Some(
                "pass the key by --key or HANSHU_KEY; the daemon printed its root key at its first start"
                    .to_owned(),
            ),
            "internal" => self
                .header(HEADER_REQUEST_ID)
                .map(|id| format!("look for {id} in the daemon's log")),
            _ => None,
        };
        CliError::new(error.message).code(error.code).hint_or(ours.or(error.hint))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str) -> Answer {
        Answer { status, headers: ureq::http::HeaderMap::new(), body: body.as_bytes().to_vec() }
    }

    #[test]
    fn refusals_keep_the_daemons_words() {
        let e = answer(
            404,
            r#"{"error":{"code":"not-found","message":"function 'x' does not exist","hint":"deploy it","retryable":false}}"#,
        )
        .refusal();
        assert_eq!(e.to_string(), "function 'x' does not exist");
        assert_eq!(e.code_text(), Some("not-found"));
        assert_eq!(e.hint_text(), Some("deploy it"));
    }

    #[test]
    fn a_missing_key_says_how_to_pass_one() {
        let e = answer(
            401,
            r#"{"error":{"code":"unauthenticated","message":"no key","retryable":false}}"#,
        )
        .refusal();
        assert!(e.hint_text().unwrap().contains("HANSHU_KEY"));
    }

    #[test]
    fn strange_servers_are_named_as_such() {
        let e = answer(500, "<html>oops").refusal();
        assert!(e.to_string().contains("500") && e.to_string().contains("oops"), "{e}");
    }

    #[test]
    fn nobody_listening_says_how_to_start_a_daemon() {
        // Port 1 of loopback: reserved, and nothing here listens on it.
        let client = Client::new("http://127.0.0.1:1/", None).unwrap();
        let e = client.ask(Ask::control(&Method::GET, "/v1/health"), b"").unwrap_err();
        assert!(e.hint_text().unwrap().contains("hanshu serve --dev"), "{e}");
        assert!(Client::new("127.0.0.1:9000", None).is_err());
    }

    #[test]
    fn segments_are_encoded() {
        assert_eq!(encode("a b/c?$LATEST"), "a%20b%2Fc%3F%24LATEST");
    }
}
