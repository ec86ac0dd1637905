//! The tests' HTTP client, and raw connections for what no client would send.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;
use ureq::http::{HeaderMap, Request};
use ureq::{Agent, AsSendBody};

/// Longer than any call of these tests.
const PATIENCE: Duration = Duration::from_secs(120);

/// A client of one daemon.
#[derive(Clone, Debug)]
pub(crate) struct Http {
    agent: Agent,
    base: String,
    key: Option<String>,
}

/// An answer, read whole.
#[derive(Debug)]
pub(crate) struct Reply {
    /// HTTP status.
    pub status: u16,
    /// Headers.
    pub headers: HeaderMap,
    /// Body.
    pub body: Vec<u8>,
}

impl Http {
    /// A client of the daemon at `base`.
    pub(crate) fn new(base: &str, key: Option<&str>) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .proxy(None)
            .max_redirects(0)
            .timeout_global(Some(PATIENCE))
            .build();
        Self { agent: config.into(), base: base.to_owned(), key: key.map(str::to_owned) }
    }

    /// The same daemon, with a key.
    pub(crate) fn with_key(&self, key: &str) -> Self {
        Self { key: Some(key.to_owned()), ..self.clone() }
    }

    /// Where the daemon listens.
    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    /// Sends anything.
    #[track_caller]
    pub(crate) fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl AsSendBody,
    ) -> Reply {
        self.try_send(method, path, headers, body)
            .unwrap_or_else(|e| panic!("{method} {path}: {e}"))
    }

    /// Sends anything to a daemon that may be gone.
    pub(crate) fn try_send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl AsSendBody,
    ) -> Result<Reply, ureq::Error> {
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.base));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(key) = &self.key {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        let response = self.agent.run(request.body(body).unwrap())?;
        let (parts, body) = response.into_parts();
        let mut bytes = Vec::new();
        body.into_reader().read_to_end(&mut bytes).map_err(ureq::Error::Io)?;
        Ok(Reply { status: parts.status.as_u16(), headers: parts.headers, body: bytes })
    }

    /// GET.
    #[track_caller]
    pub(crate) fn get(&self, path: &str) -> Reply {
        self.send("GET", path, &[], ())
    }

    /// DELETE.
    #[track_caller]
    pub(crate) fn delete(&self, path: &str) -> Reply {
        self.send("DELETE", path, &[], ())
    }

    /// Sends JSON.
    #[track_caller]
    pub(crate) fn json(&self, method: &str, path: &str, body: &Value) -> Reply {
        self.send(method, path, &[("content-type", "application/json")], body.to_string())
    }

    /// Uploads a package to the namespace `default`.
    #[track_caller]
    pub(crate) fn upload(&self, zip: &[u8]) -> Reply {
        let headers = [("content-type", "application/zip")];
        self.send("POST", "/v1/namespaces/default/packages", &headers, zip)
    }

    /// Calls a function of the namespace `default`; `name` may carry a query.
    #[track_caller]
    pub(crate) fn invoke(&self, name: &str, payload: &[u8], headers: &[(&str, &str)]) -> Reply {
        let (name, query) = name.split_once('?').unwrap_or((name, ""));
        let path = format!("/v1/namespaces/default/functions/{name}/invoke?{query}");
        self.send("POST", &path, headers, payload)
    }

    /// A plain connection to the daemon.
    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.base.strip_prefix("http://").unwrap()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Opens a live tail; `query` starts with `&` or is empty. Gives the `data:` of each event as it comes.
    #[track_caller]
    pub(crate) fn tail(&self, function: &str, query: &str) -> impl Iterator<Item = String> + use<> {
        let mut stream = self.connect();
        let path = format!("/v1/namespaces/default/functions/{function}/logs?follow=true{query}");
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\naccept: text/event-stream\r\n\r\n"
        )
        .unwrap();
        let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
        let status = lines.next().unwrap();
        assert!(status.contains("200"), "{status}");
        // Everything between the events (headers, chunk sizes, keep-alives) has no `data:`.
        lines.filter_map(|l| l.strip_prefix("data:").map(|d| d.trim().to_owned()))
    }
}

impl Reply {
    /// The body as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// A header as text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|v| v.to_str().unwrap())
    }

    /// The kind of failure, if the function failed.
    pub(crate) fn failure(&self) -> Option<&str> {
        self.header("x-hanshu-function-error")
    }

    /// The result of a call that has to succeed.
    #[track_caller]
    pub(crate) fn result(&self) -> Value {
        assert_eq!((self.status, self.failure()), (200, None), "{}", self.text());
        self.json()
    }

    /// Checks that the function failed in this way; gives its error.
    #[track_caller]
    pub(crate) fn failed(&self, kind: &str) -> Value {
        assert_eq!((self.status, self.failure()), (200, Some(kind)), "{}", self.text());
        let error = self.json();
        assert!(error["errorMessage"].is_string() && error["errorType"].is_string(), "{error}");
        error
    }

    /// Checks that the platform refused, with this status and code; gives the message.
    #[track_caller]
    pub(crate) fn refused(&self, status: u16, code: &str) -> String {
        assert_eq!(self.status, status, "{}", self.text());
        let body = self.json();
        assert_eq!(body["error"]["code"], code, "{body}");
        body["error"]["message"].as_str().unwrap().to_owned()
    }
}
