//! Port: what functions wrote.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Result;
use crate::clock::UnixMillis;
use crate::ids::{FunctionKey, Qualifier, RequestId};

/// Where a line came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LogStream {
    /// The function's standard output.
    Stdout,
    /// The function's standard error.
    Stderr,
    /// The platform, about the function: a timeout, dropped output.
    Platform,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// When the daemon read it.
    pub time: UnixMillis,
    /// Whose.
    pub function: FunctionKey,
    /// Which version wrote it.
    pub version: Qualifier,
    /// During which call; `None` while loading.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<RequestId>,
    /// From where.
    pub stream: LogStream,
    /// The text without its line end; at most `limits::LOG_LINE_BYTES`. What is not UTF-8 is replaced.
    pub text: String,
}

/// Which lines to return. Every field narrows.
#[derive(Clone, Debug)]
pub struct LogQuery {
    /// Of this function.
    pub function: FunctionKey,
    /// Of this call.
    pub request: Option<RequestId>,
    /// At or after.
    pub since: Option<UnixMillis>,
    /// Before.
    pub until: Option<UnixMillis>,
    /// Holding this text, upper and lower case alike.
    pub contains: Option<String>,
    /// At most so many, the newest; at most `limits::LOG_QUERY_LINES`.
    pub limit: usize,
}

impl LogQuery {
    /// The newest `limit` lines of a function.
    pub fn newest(function: FunctionKey, limit: usize) -> Self {
        Self { function, request: None, since: None, until: None, contains: None, limit }
    }

    /// Whether a line is one of those asked for, the limit aside.
    pub fn matches(&self, line: &LogLine) -> bool {
        line.function == self.function
            && self.request.is_none_or(|r| line.request == Some(r))
            && self.since.is_none_or(|t| line.time >= t)
            && self.until.is_none_or(|t| line.time < t)
            && self
                .contains
                .as_ref()
                .is_none_or(|s| line.text.to_lowercase().contains(&s.to_lowercase()))
    }
}

/// Node-local log lines. Contract: `suites::logs`.
///
/// Lines appended before a `flush` that returned are durable; a crash loses at most what came in the second before it.
#[async_trait]
pub trait Logs: Send + Sync + std::fmt::Debug {
    /// Takes lines without ever waiting. Returns how many were dropped because the buffer was full.
    fn append(&self, lines: Vec<LogLine>) -> usize;

    /// Waits until everything appended so far is durable and seen by queries.
    async fn flush(&self) -> Result<()>;

    /// The newest lines that match, oldest first. Sees everything appended before the call.
    async fn query(&self, query: LogQuery) -> Result<Vec<LogLine>>;

    /// Lines that match from now on; `limit`, `since` and `until` do not count. A reader that is too slow loses lines and is told how many.
    fn tail(&self, query: LogQuery) -> Box<dyn LogTail>;

    /// Removes everything of a function.
    async fn delete(&self, function: &FunctionKey) -> Result<()>;
}

/// A running tail; dropping it ends it.
#[async_trait]
pub trait LogTail: Send + std::fmt::Debug {
    /// The next line that matches, or `Err(n)` if `n` lines (of any function) were skipped since the last; `None` once the store is closed.
    async fn next(&mut self) -> Option<Result<LogLine, u64>>;
}
