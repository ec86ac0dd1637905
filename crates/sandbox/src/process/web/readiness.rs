//! Whether a server that listens takes calls: it is asked for a path of its own until it answers with success.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{HOST, HeaderValue, USER_AGENT};
use http::{Request, StatusCode, Uri};

use crate::web::{Connection, Piece, Sent, Unanswered};

/// How long one answer may take; then the server is asked anew.
const ANSWER_MOST: Duration = Duration::from_secs(1);
/// What is read of an answer's body, in bytes: with a longer one the connection is not used again.
const BODY_BYTES: usize = 64 * 1024;
/// Who asks, for the server's log.
const ASKER: HeaderValue = HeaderValue::from_static("hanshu-readiness");

/// What is asked, and what has come of it.
#[derive(Debug)]
pub(super) struct Readiness {
    path: String,
    /// Why the server takes no calls yet, once it was asked.
    last: Mutex<Option<String>>,
}

impl Readiness {
    /// Asks for `path`, which starts with a slash.
    pub(super) fn new(path: String) -> Self {
        Self { path, last: Mutex::default() }
    }

    /// Why the server takes no calls; `None` if it has never been asked.
    pub(super) fn unready(&self) -> Option<String> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Asks once. The connection, if the server takes calls.
    pub(super) async fn ask(&self, mut connection: Connection, host: &str) -> Option<Connection> {
        let why = match tokio::time::timeout(ANSWER_MOST, self.status(&mut connection, host)).await
        {
            Ok(Ok(status)) if status.is_success() || status.is_redirection() => {
                return Some(connection);
            }
            Ok(Ok(status)) => format!("is answered with {status}: expected 2xx or 3xx"),
            Ok(Err(what)) => format!("is not answered: {what}"),
            Err(_) => format!("is not answered within {} s", ANSWER_MOST.as_secs()),
        };
        let why = format!("GET {} (readiness_path) {why}", self.path);
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
        None
    }

    async fn status(&self, connection: &mut Connection, host: &str) -> Result<StatusCode, String> {
        let response = connection.send(self.request(host)?).await.map_err(|why| match why {
            Unanswered::NotSent(_) => "the connection was closed".to_owned(),
            Unanswered::Broken(error) => error.to_string(),
        })?;
        let (head, mut body) = response.into_parts();
        let mut left = BODY_BYTES;
        while let Some(piece) = connection.next(&mut body).await.map_err(|e| e.to_string())? {
            let Piece::Bytes(piece) = piece else { continue };
            match left.checked_sub(piece.len()) {
                Some(rest) => left = rest,
                None => break,
            }
        }
        Ok(head.status)
    }

    fn request(&self, host: &str) -> Result<Request<Sent>, String> {
        let mut request = Request::new(Sent::from(Bytes::new()));
        *request.uri_mut() = self.path.parse::<Uri>().map_err(|e| e.to_string())?;
        let host = HeaderValue::from_str(host).map_err(|e| e.to_string())?;
        request.headers_mut().insert(HOST, host);
        request.headers_mut().insert(USER_AGENT, ASKER);
        Ok(request)
    }
}
