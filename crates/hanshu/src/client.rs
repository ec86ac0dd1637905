//! The command line's HTTP client: one agent, errors that say what to do next, timeouts that fit each operation.
//!
//! [`Client`] sends. One method per route, no logic: [`control`] has functions and packages, [`versions`] what was published of a function,
//! [`aliases`] its routes, [`provisioned`] its instances, [`layers`], [`namespaces`] and keys, [`history`], [`calls`], [`maps`]. [`invoke`] calls a function, [`follow`] reads a live tail.
//! No proxy is used, whatever the environment says: the daemon is usually on this machine.

pub(crate) mod aliases;
pub(crate) mod calls;
pub(crate) mod control;
pub(crate) mod follow;
pub(crate) mod history;
pub(crate) mod invoke;
pub(crate) mod layers;
pub(crate) mod maps;
pub(crate) mod namespaces;
pub(crate) mod provisioned;
pub(crate) mod versions;

use std::io::{Read, Write};
use std::time::Duration;

use model::api::{ErrorBody, HEADER_REASON, HEADER_REQUEST_ID, Page};
use model::change::Author;
use model::limits;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::de::DeserializeOwned;
use ureq::http::{HeaderValue, Method, Request, Response};
use ureq::{Agent, Body, SendBody};

use crate::cli::failure::CliError;

/// Where the daemon is when nobody says otherwise.
pub(crate) const DEFAULT_URL: &str = "http://127.0.0.1:9000";

/// A connection that takes longer than this will not come.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a control call may take.
const CONTROL_TIMEOUT: Duration = Duration::from_secs(60);
/// Most bytes of an answer that are read into memory: a function's answer is at most 6 MiB unless it comes in pieces, a listing page far less.
const ANSWER_BYTES_MAX: u64 = 64 << 20;

/// How long the daemon may take over a package: unpacking and checking 250 MiB on a slow disk, 120 s of compiling WebAssembly.
const PACKAGE_TIMEOUT: Duration = Duration::from_secs(300);

/// The body of a request that has none.
const NO_BODY: Option<&()> = None;

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
    reason: Option<HeaderValue>,
}

/// What a change expects to find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expected {
    /// Whatever is there.
    Anything,
    /// Nothing: it is to be made.
    Nothing,
    /// What was seen at this revision.
    Revision(u64),
}

impl Expected {
    fn header(self) -> Option<(&'static str, String)> {
        match self {
            Self::Anything => None,
            Self::Nothing => Some(("if-none-match", "*".to_owned())),
            Self::Revision(revision) => Some(("if-match", format!("\"{revision}\""))),
        }
    }
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
        // What is put may be code, and the daemon takes it when it has compiled it.
        let patience = if *method == Method::PUT { PACKAGE_TIMEOUT } else { CONTROL_TIMEOUT };
        Self { method, path, headers: &[], patience: Some(patience) }
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
        Ok(Self { agent: config.into(), base, key: key.map(str::to_owned), reason: None })
    }

    /// The same client, which says why with every change.
    pub(crate) fn because(self, reason: Option<&str>) -> Result<Self, CliError> {
        let Some(reason) = reason else { return Ok(self) };
        Author::check_reason(reason)?;
        let value = HeaderValue::from_bytes(reason.as_bytes())
            .map_err(|e| CliError::new(format!("the reason cannot be sent: {e}")))?;
        Ok(Self { reason: Some(value), ..self })
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
        if let Some(reason) = self.reason.as_ref().filter(|_| ask.method != Method::GET) {
            request = request.header(HEADER_REASON, reason);
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
        if bytes.len() as u64 == ANSWER_BYTES_MAX {
            let message = format!("the answer is too large: {ANSWER_BYTES_MAX} bytes and more");
            return Err(CliError::new(message)
                .hint("an answer in pieces is written as it comes, without --output json"));
        }
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
        self.change(method, path, Expected::Anything, body)?.json()
    }

    /// Sends a JSON body, or none, to change what is `expected` there.
    pub(crate) fn change(
        &self,
        method: &Method,
        path: &str,
        expected: Expected,
        body: Option<&impl serde::Serialize>,
    ) -> Result<Answer, CliError> {
        let condition = expected.header();
        let mut headers: Vec<(&str, &str)> = Vec::new();
        headers.extend(condition.as_ref().map(|(name, value)| (*name, value.as_str())));
        let bytes = match body {
            None => Vec::new(),
            Some(body) => {
                headers.push(("content-type", "application/json"));
                serde_json::to_vec(body).map_err(|e| CliError::new(e.to_string()))?
            }
        };
        self.ask(Ask { headers: &headers, ..Ask::control(method, path) }, &bytes)
    }

    /// Reads what may not be there.
    fn find<T: DeserializeOwned>(&self, path: &str) -> Result<Option<T>, CliError> {
        match self.json(&Method::GET, path, NO_BODY) {
            Ok(found) => Ok(Some(found)),
            Err(e) if e.code_text() == Some("not-found") => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Deletes what has this path.
    fn delete(&self, path: &str) -> Result<(), CliError> {
        self.ask(Ask::control(&Method::DELETE, path), b"").map(drop)
    }

    /// Reads a listing to its end.
    fn pages<T: DeserializeOwned>(&self, path: &str) -> Result<Vec<T>, CliError> {
        let mut items = Vec::new();
        let mut page: Page<T> = self.json(&Method::GET, path, NO_BODY)?;
        loop {
            items.append(&mut page.items);
            let Some(after) = page.next else { return Ok(items) };
            page = self.json(&Method::GET, &format!("{path}?after={}", encode(&after)), NO_BODY)?;
        }
    }

    /// Sends a zip of `length` bytes.
    fn send_zip(&self, path: &str, zip: &mut dyn Read, length: u64) -> Result<Answer, CliError> {
        let length = length.to_string();
        let headers = [("content-type", "application/zip"), ("content-length", length.as_str())];
        let ask = Ask {
            headers: &headers,
            patience: Some(PACKAGE_TIMEOUT),
            ..Ask::control(&Method::POST, path)
        };
        self.accept(self.send(ask, SendBody::from_reader(zip))?)
    }

    /// Writes a zip to `target` as it comes.
    fn receive_zip(&self, path: &str, target: &mut dyn Write) -> Result<u64, CliError> {
        let response = self.send(Ask::control(&Method::GET, path), SendBody::none())?;
        if response.status().as_u16() >= 400 {
            // Reads the refusal: it is never more than that.
            return self.accept(response).map(|_| 0);
        }
        let most = u64::try_from(limits::PACKAGE_BYTES).unwrap_or(u64::MAX);
        let mut body = response.into_body().into_reader().take(most);
        std::io::copy(&mut body, target)
            .map_err(|e| CliError::new(format!("the download broke off: {e}")).hint("try again"))
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

    /// Whether something new was made.
    pub(crate) fn created(&self) -> bool {
        self.status == 201
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
            "precondition-failed" => {
                Some("see what it is now, then repeat the command".to_owned())
            }
            "not-empty" => Some(
                "delete what is in it first, or all of it with `hanshu namespaces delete NAME --everything`".to_owned(),
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
    fn what_changed_meanwhile_is_to_be_looked_at() {
        let body = |code: &str| {
            format!(r#"{{"error":{{"code":"{code}","message":"m","hint":"h","retryable":false}}}}"#)
        };
        let failed = answer(412, &body("precondition-failed")).refusal();
        assert!(failed.hint_text().unwrap().contains("repeat the command"));
        assert_eq!(answer(409, &body("conflict")).refusal().hint_text(), Some("h"));
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
    fn a_reason_is_one_line() {
        let client = || Client::new("http://127.0.0.1:1", None).unwrap();
        let told = client().because(Some("zu langsam: über 2 s")).unwrap();
        assert_eq!(told.reason.unwrap().as_bytes(), "zu langsam: über 2 s".as_bytes());
        assert!(client().because(Some("a\nb")).unwrap_err().to_string().contains("one line"));
        assert!(client().because(None).unwrap().reason.is_none());
    }

    #[test]
    fn conditions_are_headers() {
        assert_eq!(Expected::Anything.header(), None);
        assert_eq!(Expected::Nothing.header(), Some(("if-none-match", "*".to_owned())));
        assert_eq!(Expected::Revision(7).header(), Some(("if-match", "\"7\"".to_owned())));
    }

    #[test]
    fn segments_are_encoded() {
        assert_eq!(encode("a b/c?$LATEST"), "a%20b%2Fc%3F%24LATEST");
    }
}
