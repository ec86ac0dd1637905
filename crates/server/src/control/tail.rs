//! A live tail of a function's log as server-sent events (WHATWG HTML, "Server-sent events").
//!
//! The tail is opened before the past is read, so no line falls between them; a line that both have is shown once. Lines carry no
//! number: of two lines that are alike in everything, time included, one written right before the tail was opened and one right
//! after, the second is taken for the first.

use std::collections::HashMap;
use std::collections::hash_map::{Entry, RandomState};
use std::convert::Infallible;
use std::hash::BuildHasher as _;
use std::time::Duration;

use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::stream::{self, Stream, StreamExt as _};
use model::Result;
use model::clock::UnixMillis;
use model::ports::{LogLine, LogQuery, LogTail};

use super::views;
use crate::App;

/// How often a silent stream shows that it is alive: below the idle limits of usual proxies (60 s).
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// How much later than the past was read a line of it can still come from the tail.
const OVERLAP: Duration = Duration::from_secs(10);

/// The newest lines that match, then those to come, until the client goes or the server stops.
pub(super) async fn follow(
    app: &App,
    query: LogQuery,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>> + use<>>> {
    let tail = app.logs.tail(query.clone());
    let past = app.logs.query(query).await?;
    let shown = Shown::new(&past, app.clock.now().after(OVERLAP));
    let past = stream::iter(past.into_iter().map(line_event));
    let events = past.chain(live(tail, shown)).map(Ok);
    let events = events.take_until(app.draining.clone().cancelled_owned());
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

fn live(tail: Box<dyn LogTail>, shown: Shown) -> impl Stream<Item = Event> {
    stream::unfold((tail, shown), |(mut tail, mut shown)| async move {
        loop {
            match tail.next().await? {
                Ok(line) if shown.take(&line) => {}
                Ok(line) => return Some((line_event(line), (tail, shown))),
                Err(skipped) => {
                    let event = Event::default().event("dropped").data(skipped.to_string());
                    return Some((event, (tail, shown)));
                }
            }
        }
    })
}

fn line_event(line: LogLine) -> Event {
    // A struct of strings always serialises.
    let json = serde_json::to_string(&views::log_line(line)).unwrap_or_default();
    Event::default().data(json)
}

/// The lines that were shown as past and may come again from the tail, as hashes with a count each.
#[derive(Debug)]
struct Shown {
    lines: HashMap<u64, usize>,
    hasher: RandomState,
    until: UnixMillis,
}

impl Shown {
    fn new(past: &[LogLine], until: UnixMillis) -> Self {
        let mut shown = Self { lines: HashMap::new(), hasher: RandomState::new(), until };
        for line in past {
            *shown.lines.entry(shown.hash(line)).or_insert(0) += 1;
        }
        shown
    }

    fn hash(&self, line: &LogLine) -> u64 {
        self.hasher.hash_one((line.time, &line.version, line.request, line.stream, &line.text))
    }

    /// Whether the line was shown already; counts it off.
    fn take(&mut self, line: &LogLine) -> bool {
        if self.lines.is_empty() {
            return false;
        }
        if line.time > self.until {
            self.lines = HashMap::new();
            return false;
        }
        let hash = self.hash(line);
        let Entry::Occupied(mut count) = self.lines.entry(hash) else { return false };
        *count.get_mut() -= 1;
        if *count.get() == 0 {
            count.remove();
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use async_trait::async_trait;
    use model::ids::{FunctionKey, Qualifier};
    use model::ports::LogStream;

    use super::*;

    fn line(time: u64, text: &str) -> LogLine {
        LogLine {
            time: UnixMillis(time),
            function: FunctionKey {
                namespace: "default".parse().unwrap(),
                name: "f".parse().unwrap(),
            },
            version: Qualifier::Latest,
            request: None,
            stream: LogStream::Stdout,
            text: text.into(),
        }
    }

    #[derive(Debug)]
    struct Scripted(VecDeque<Result<LogLine, u64>>);

    #[async_trait]
    impl LogTail for Scripted {
        async fn next(&mut self) -> Option<Result<LogLine, u64>> {
            self.0.pop_front()
        }
    }

    #[tokio::test]
    async fn what_the_past_showed_is_not_shown_again() {
        let past = [line(1, "a"), line(2, "b"), line(2, "b")];
        let shown = Shown::new(&past, UnixMillis(100));
        let tail = [Ok(line(2, "b")), Ok(line(2, "b")), Ok(line(2, "b")), Err(7), Ok(line(3, "a"))];
        let events: Vec<_> = live(Box::new(Scripted(tail.into())), shown).collect().await;
        assert_eq!(events.len(), 3, "{events:?}");
        let text = format!("{events:?}");
        assert!(text.contains("dropped"), "{text}");
    }

    #[test]
    fn the_past_is_forgotten_in_time() {
        let mut shown = Shown::new(&[line(1, "a")], UnixMillis(100));
        assert!(!shown.take(&line(101, "x")));
        assert!(shown.lines.is_empty());
        assert!(!shown.take(&line(1, "a")));
    }
}
