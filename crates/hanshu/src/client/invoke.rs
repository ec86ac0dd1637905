//! Calls a function through the REST API.

use std::time::Duration;

use model::api::{
    HEADER_FUNCTION_ERROR, HEADER_INVOCATION, HEADER_REQUEST_ID, HEADER_TIMINGS, HEADER_VERSION,
};
use model::ids::FunctionRef;
use model::invocation::{InvocationKind, Timings};
use model::limits;
use ureq::http::Method;

use super::{Answer, Ask, Client, encode};
use crate::cli::failure::CliError;

/// Longest run of a function, its start, and what a call may wait in the daemon's queue.
const INVOKE_TIMEOUT: Duration =
    Duration::from_millis(limits::TIMEOUT_MAX_MS as u64 + limits::INIT_TIMEOUT_MS as u64 + 60_000);

/// What came of a call.
#[derive(Debug)]
pub(crate) struct Invoked {
    /// The call's id.
    pub request_id: String,
    /// The version that ran; empty if none did.
    pub version: String,
    /// The kind of failure, if the function failed; the body is then its error.
    pub failure: Option<String>,
    /// The function's answer, or its error, as it wrote it.
    pub body: Vec<u8>,
    /// Where the time went; absent for calls that did not run.
    pub timings: Option<Timings>,
}

impl Client {
    /// Calls a function. A failure of the function is no error here.
    pub(crate) fn invoke(
        &self,
        target: &FunctionRef,
        kind: InvocationKind,
        payload: &[u8],
    ) -> Result<Invoked, CliError> {
        if payload.len() > limits::SYNC_PAYLOAD_BYTES {
            return Err(CliError::new(format!(
                "payload is too large: {} bytes, expected at most {}",
                payload.len(),
                limits::SYNC_PAYLOAD_BYTES
            ))
            .code("payload-too-large")
            .hint("put large data somewhere the function can read it, and pass its address"));
        }
        let path = format!(
            "/v1/namespaces/{}/functions/{}/invoke?qualifier={}",
            target.key.namespace,
            target.key.name,
            encode(&target.qualifier.to_string())
        );
        let kind = match kind {
            InvocationKind::Sync => "sync",
            InvocationKind::Async => "async",
            InvocationKind::DryRun => "dry-run",
        };
        let headers = [
            ("content-type", "application/json"),
            (HEADER_INVOCATION, kind),
            (HEADER_TIMINGS, "1"),
        ];
        let ask = Ask {
            method: &Method::POST,
            path: &path,
            headers: &headers,
            patience: Some(INVOKE_TIMEOUT),
        };
        // An absent body and an empty one mean the same, but a POST says how long its body is.
        let payload = if payload.is_empty() { b"{}" } else { payload };
        self.ask(ask, payload).map(Invoked::from)
    }
}

impl From<Answer> for Invoked {
    fn from(answer: Answer) -> Self {
        let text = |name| answer.header(name).unwrap_or_default().to_owned();
        Self {
            request_id: text(HEADER_REQUEST_ID),
            version: text(HEADER_VERSION),
            failure: answer.header(HEADER_FUNCTION_ERROR).map(str::to_owned),
            timings: answer.header(HEADER_TIMINGS).and_then(|t| serde_json::from_str(t).ok()),
            body: answer.body,
        }
    }
}
