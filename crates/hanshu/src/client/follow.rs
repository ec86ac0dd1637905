//! Reads log lines: a page of them, or a live tail by server-sent events (WHATWG HTML, "Server-sent events").

use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::time::Duration;

use model::api::{LogLineView, Page};
use model::ids::FunctionKey;
use ureq::SendBody;
use ureq::http::Method;

use super::{Ask, Client, encode};
use crate::cli::failure::CliError;

/// Longest line of an event stream that is read, in bytes: a log line of 256 KiB, escaped as JSON at worst sixfold.
const EVENT_LINE_BYTES_MAX: usize = 2 << 20;

/// Which lines to read.
#[derive(Clone, Debug)]
pub(crate) struct LogFilter {
    /// Of this function.
    pub function: FunctionKey,
    /// Of this call.
    pub request: Option<String>,
    /// At or after, RFC 3339.
    pub since: Option<String>,
    /// Holding this text.
    pub contains: Option<String>,
    /// At most so many.
    pub limit: usize,
}

impl LogFilter {
    fn path(&self, follow: bool) -> String {
        let FunctionKey { namespace, name } = &self.function;
        let mut path =
            format!("/v1/namespaces/{namespace}/functions/{name}/logs?limit={}", self.limit);
        let fields =
            [("request", &self.request), ("since", &self.since), ("contains", &self.contains)];
        for (field, value) in fields {
            if let Some(value) = value {
                // Writing to a String cannot fail.
                write!(path, "&{field}={}", encode(value)).unwrap_or_default();
            }
        }
        if follow {
            path.push_str("&follow=true");
        }
        path
    }
}

/// What a live tail sends.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// A line.
    Line(LogLineView),
    /// How many lines were skipped because this reader was too slow.
    Dropped(String),
}

impl Client {
    /// The newest lines that match, oldest first.
    pub(crate) fn logs(&self, filter: &LogFilter) -> Result<Vec<LogLineView>, CliError> {
        let page: Page<LogLineView> = self.json(&Method::GET, &filter.path(false), None::<&()>)?;
        Ok(page.items)
    }

    /// Opens a live tail: the newest lines that match, then those to come. It ends when the daemon goes away.
    pub(crate) fn follow(&self, filter: &LogFilter) -> Result<Events, CliError> {
        let path = filter.path(true);
        let ask = Ask {
            headers: &[("accept", "text/event-stream")],
            ..Ask::control(&Method::GET, &path)
        };
        let response = self.send(ask, SendBody::none())?;
        if response.status().as_u16() >= 400 {
            return Err(match self.accept(response) {
                Err(e) => e,
                Ok(_) => CliError::new("the daemon refused the live tail"),
            });
        }
        Ok(Events::new(Box::new(BufReader::new(response.into_body().into_reader()))))
    }
}

/// Events of one connection, in order. Ends with the connection.
pub(crate) struct Events {
    source: Box<dyn BufRead + Send>,
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Events").finish_non_exhaustive()
    }
}

impl Events {
    fn new(source: Box<dyn BufRead + Send>) -> Self {
        Self { source }
    }

    /// A line without its end; `None` at the end of the stream or when it breaks.
    fn line(&mut self) -> Option<String> {
        let mut bytes = Vec::new();
        loop {
            let chunk = self.source.fill_buf().ok()?;
            if chunk.is_empty() {
                return None;
            }
            let end = chunk.iter().position(|b| *b == b'\n');
            let taken = end.map_or(chunk.len(), |i| i + 1);
            bytes.extend(chunk.iter().take(taken));
            self.source.consume(taken);
            if end.is_some() {
                break;
            }
            if bytes.len() > EVENT_LINE_BYTES_MAX {
                return None;
            }
        }
        let text = String::from_utf8_lossy(&bytes);
        Some(text.trim_end_matches(['\n', '\r']).to_owned())
    }
}

impl Iterator for Events {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        let (mut kind, mut data) = (String::new(), String::new());
        loop {
            let line = self.line()?;
            if line.is_empty() {
                let event = match (kind.as_str(), serde_json::from_str(&data)) {
                    ("dropped", _) => Some(Event::Dropped(std::mem::take(&mut data))),
                    (_, Ok(line)) => Some(Event::Line(line)),
                    // A keep-alive comment, or an event of a newer daemon.
                    (_, Err(_)) => None,
                };
                (kind, data) = (String::new(), String::new());
                if event.is_some() {
                    return event;
                }
                continue;
            }
            let (field, value) = line.split_once(':').unwrap_or((&line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "event" => value.clone_into(&mut kind),
                "data" if data.is_empty() => value.clone_into(&mut data),
                "data" => {
                    data.push('\n');
                    data.push_str(value);
                }
                _ => {}
            }
        }
    }
}

/// Pause before a lost tail is opened again.
pub(crate) const RECONNECT_PAUSE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn events(text: &str) -> Vec<Event> {
        Events::new(Box::new(std::io::Cursor::new(text.as_bytes().to_vec()))).collect()
    }

    #[test]
    fn events_are_told_apart() {
        let got = events(concat!(
            ": keep-alive\n\n",
            "data: {\"time\":\"t\",\"version\":\"$LATEST\",\"stream\":\"stdout\",\"text\":\"a: b\"}\r\n\r\n",
            "event: dropped\ndata: 7\n\n",
            "event: unheard-of\ndata: x\n\n",
            "data: cut off half-way",
        ));
        assert_eq!(got.len(), 2, "{got:?}");
        assert!(matches!(&got[0], Event::Line(l) if l.text == "a: b"));
        assert!(matches!(&got[1], Event::Dropped(n) if n == "7"));
    }

    #[test]
    fn filters_become_a_query() {
        let filter = LogFilter {
            function: FunctionKey {
                namespace: "default".parse().unwrap(),
                name: "f".parse().unwrap(),
            },
            request: None,
            since: Some("2026-01-01T00:00:00Z".into()),
            contains: Some("a&b".into()),
            limit: 5,
        };
        assert_eq!(
            filter.path(true),
            "/v1/namespaces/default/functions/f/logs?limit=5&since=2026-01-01T00%3A00%3A00Z&contains=a%26b&follow=true"
        );
    }
}
