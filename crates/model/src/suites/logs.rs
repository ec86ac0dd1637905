//! Contract of [`Logs`].

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a suite panics at a broken promise")]

use std::time::Duration;

use super::{Random, Subject};
use crate::clock::UnixMillis;
use crate::ids::{FunctionKey, FunctionRef, Qualifier, RequestId};
use crate::limits::{LOG_LINE_BYTES, LOG_QUERY_LINES};
use crate::ports::{LogLine, LogQuery, LogStream, LogTail, Logs};

/// Time in which a line reaches a tail.
const SOON: Duration = Duration::from_secs(10);
/// 2026-01-01T00:00:00Z.
const START: u64 = 1_767_225_600_000;

/// Runs the suite; `make` gives an empty store each time. It must take 16 MiB at once without dropping a line.
pub async fn run(make: impl AsyncFn() -> Box<dyn Subject<dyn Logs>>) {
    lines_come_back_as_they_were(make().await).await;
    queries_see_what_was_appended_before(&*make().await.port()).await;
    every_field_narrows(&*make().await.port()).await;
    random_queries_agree_with_a_scan(make().await).await;
    long_lines_are_cut_and_short_ones_are_not(make().await).await;
    flushed_lines_survive_and_so_does_their_order(make().await).await;
    tails_see_what_comes_from_now_on(&*make().await.port()).await;
    a_slow_tail_is_told_how_much_it_missed(&*make().await.port()).await;
    a_tail_ends_with_the_store(make().await).await;
    deleted_lines_stay_deleted(make().await).await;
    a_flood_is_counted_and_does_no_harm(&*make().await.port()).await;
}

fn key(name: &str) -> FunctionKey {
    FunctionRef::parse("default", name).unwrap().key
}

/// A line of the second `n`.
fn line(function: &str, n: u64, text: impl Into<String>) -> LogLine {
    LogLine {
        time: UnixMillis(START + n * 1000),
        function: key(function),
        version: Qualifier::Latest,
        request: None,
        stream: LogStream::Stdout,
        text: text.into(),
    }
}

async fn newest(logs: &dyn Logs, function: &str, limit: usize) -> Vec<String> {
    let lines = logs.query(LogQuery::newest(key(function), limit)).await.unwrap();
    lines.into_iter().map(|l| l.text).collect()
}

async fn lines_come_back_as_they_were(mut subject: Box<dyn Subject<dyn Logs>>) {
    let logs = subject.port();
    assert!(newest(&*logs, "f", 10).await.is_empty());
    let mut lines = Vec::new();
    let streams = [LogStream::Stdout, LogStream::Stderr, LogStream::Platform];
    let versions =
        [Qualifier::Latest, Qualifier::Version(12), Qualifier::Alias("live".parse().unwrap())];
    for (n, stream) in (0..).zip(streams) {
        for version in &versions {
            for request in [None, Some(RequestId::generate())] {
                let text = format!("größe {n}\t\u{1b}[0m \u{fffd} end ");
                lines.push(LogLine {
                    stream,
                    version: version.clone(),
                    request,
                    ..line("f", n, text)
                });
            }
        }
    }
    lines.push(line("f", 9, ""));
    assert_eq!(logs.append(lines.clone()), 0);
    assert_eq!(logs.append(Vec::new()), 0);
    assert_eq!(logs.query(LogQuery::newest(key("f"), 100)).await.unwrap(), lines);
    drop(logs);
    subject.reopen().await;
    assert_eq!(subject.port().query(LogQuery::newest(key("f"), 100)).await.unwrap(), lines);
}

async fn queries_see_what_was_appended_before(logs: &dyn Logs) {
    for n in 0..200 {
        logs.append(vec![line("f", n, n.to_string())]);
        assert_eq!(newest(logs, "f", 1).await, [n.to_string()]);
        if n % 50 == 0 {
            logs.flush().await.unwrap();
        }
    }
    let expected: Vec<_> = (0..200).map(|n| n.to_string()).collect();
    assert_eq!(newest(logs, "f", 1000).await, expected);
    assert_eq!(newest(logs, "f", 3).await, expected[197..], "the newest, oldest first");
    assert!(newest(logs, "f", 0).await.is_empty());
}

async fn every_field_narrows(logs: &dyn Logs) {
    let (one, two) = (RequestId::generate(), RequestId::generate());
    let of = |request| move |l| LogLine { request: Some(request), ..l };
    let first = [line("f", 0, "Start"), line("f", 1, "ÄPFEL and pears")].map(of(one));
    let second = [line("f", 2, "start again"), line("f", 3, "END 100%_done")].map(of(two));
    logs.append(first.to_vec());
    logs.append(vec![line("g", 1, "start of another"), line("f", 1, "no call")]);
    logs.append(second.to_vec());
    let all = LogQuery::newest(key("f"), 100);
    let texts = async |query: LogQuery| -> Vec<String> {
        logs.query(query).await.unwrap().into_iter().map(|l| l.text).collect()
    };
    let at = |n: u64| Some(UnixMillis(START + n * 1000));
    assert_eq!(
        texts(LogQuery { request: Some(one), ..all.clone() }).await,
        ["Start", "ÄPFEL and pears"]
    );
    assert!(
        texts(LogQuery { request: Some(RequestId::generate()), ..all.clone() }).await.is_empty()
    );
    assert_eq!(texts(LogQuery { since: at(3), ..all.clone() }).await, ["END 100%_done"]);
    assert_eq!(texts(LogQuery { until: at(1), ..all.clone() }).await, ["Start"]);
    assert_eq!(texts(LogQuery { since: at(1), until: at(2), ..all.clone() }).await.len(), 2);
    for (contains, expected) in [
        ("START", vec!["Start", "start again"]),
        ("äpfel", vec!["ÄPFEL and pears"]),
        ("pear", vec!["ÄPFEL and pears"]),
        ("100%_", vec!["END 100%_done"]),
        ("d", vec!["ÄPFEL and pears", "END 100%_done"]),
        ("zebra", vec![]),
    ] {
        let query = LogQuery { contains: Some(contains.into()), ..all.clone() };
        assert_eq!(texts(query).await, expected, "containing {contains:?}");
    }
    let query = LogQuery { contains: Some("start".into()), request: Some(two), ..all.clone() };
    assert_eq!(texts(query).await, ["start again"]);
}

const WORDS: [&str; 12] = [
    "request", "Handled", "user", "ORDER", "payment", "cache", "timeout", "größe", "id", "ms",
    "retry", "status",
];

/// Some megabytes of lines of several functions and calls.
fn corpus(random: &mut Random) -> Vec<LogLine> {
    let mut lines = Vec::new();
    for call in 0..6000 {
        let request = RequestId::generate();
        let function = format!("f{}", random.below(30));
        for _ in 0..=random.below(8) {
            let words: Vec<_> = (0..12).map(|_| WORDS[random.below(WORDS.len())]).collect();
            let mut text = format!("{} {}", words.join(" "), random.below(100_000));
            if call == 777 {
                text.push_str(" Zebracorn");
            }
            lines.push(LogLine { request: Some(request), ..line(&function, call, text) });
        }
    }
    lines
}

async fn random_queries_agree_with_a_scan(mut subject: Box<dyn Subject<dyn Logs>>) {
    let mut random = Random(11);
    let lines = corpus(&mut random);
    let logs = subject.port();
    for batch in lines.chunks(500) {
        assert_eq!(logs.append(batch.to_vec()), 0);
    }
    drop(logs);
    // First while part of it may be in memory, then from disk.
    for round in 0..2 {
        let logs = subject.port();
        for _ in 0..60 {
            let query = random_query(&mut random, &lines);
            let found = logs.query(query.clone()).await.unwrap();
            let mut expected: Vec<_> = lines.iter().filter(|l| query.matches(l)).collect();
            expected.drain(..expected.len().saturating_sub(query.limit));
            assert!(
                found.iter().eq(expected.iter().copied()),
                "round {round}: {query:?}: {} lines, expected {}",
                found.len(),
                expected.len()
            );
        }
        logs.flush().await.unwrap();
        drop(logs);
        subject.reopen().await;
    }
}

fn random_query(random: &mut Random, lines: &[LogLine]) -> LogQuery {
    let sample = &lines[random.below(lines.len())];
    let mut query =
        LogQuery::newest(sample.function.clone(), [1, 100, LOG_QUERY_LINES][random.below(3)]);
    if random.below(3) == 0 {
        query.request = sample.request;
    }
    if random.below(3) == 0 {
        query.since = Some(UnixMillis(sample.time.0.saturating_sub(100_000)));
    }
    if random.below(3) == 0 {
        query.until = Some(UnixMillis(sample.time.0 + 100_000));
    }
    query.contains = match random.below(5) {
        0 => Some("zebraCORN".into()),
        1 => sample.text.split(' ').next_back().map(str::to_owned),
        2 => Some(sample.text.chars().skip(random.below(20)).take(9).collect()),
        _ => None,
    };
    query
}

async fn long_lines_are_cut_and_short_ones_are_not(mut subject: Box<dyn Subject<dyn Logs>>) {
    let longest = "x".repeat(LOG_LINE_BYTES);
    // A character of two bytes across the limit is left out as a whole.
    let over = format!("{}é{}", "y".repeat(LOG_LINE_BYTES - 1), "z".repeat(LOG_LINE_BYTES));
    let lines = vec![line("f", 0, longest.clone()), line("f", 1, over), line("f", 2, "after")];
    assert_eq!(subject.port().append(lines), 0);
    for _ in 0..2 {
        let found = newest(&*subject.port(), "f", 10).await;
        assert!(found[0] == longest, "the longest line is kept whole");
        assert!(found[1] == "y".repeat(LOG_LINE_BYTES - 1), "a longer one is cut");
        assert_eq!(found[2], "after");
        subject.reopen().await;
    }
}

async fn flushed_lines_survive_and_so_does_their_order(mut subject: Box<dyn Subject<dyn Logs>>) {
    let mut expected = Vec::new();
    for round in 0..4 {
        let logs = subject.port();
        for n in 0..50 {
            let text = format!("{round}/{n}");
            logs.append(vec![line("f", round * 50 + n, text.clone())]);
            expected.push(text);
        }
        logs.flush().await.unwrap();
        // Nothing new: still no error.
        logs.flush().await.unwrap();
        drop(logs);
        subject.reopen().await;
        assert_eq!(newest(&*subject.port(), "f", 1000).await, expected);
    }
}

async fn next(tail: &mut dyn LogTail) -> Option<Result<LogLine, u64>> {
    tokio::time::timeout(SOON, tail.next()).await.expect("a tail goes on")
}

async fn tails_see_what_comes_from_now_on(logs: &dyn Logs) {
    logs.append(vec![line("f", 0, "before")]);
    let future = Some(UnixMillis(u64::MAX));
    let mut all = logs.tail(LogQuery { since: future, ..LogQuery::newest(key("f"), 0) });
    let word = LogQuery { contains: Some("WORD".into()), ..LogQuery::newest(key("f"), 1) };
    let mut some = logs.tail(word);
    drop(logs.tail(LogQuery::newest(key("f"), 1)));
    let lines = vec![line("f", 1, "one"), line("g", 1, "other"), line("f", 1, "a word or two")];
    logs.append(lines.clone());
    assert_eq!(next(&mut *all).await, Some(Ok(lines[0].clone())));
    assert_eq!(next(&mut *all).await, Some(Ok(lines[2].clone())));
    assert_eq!(next(&mut *some).await, Some(Ok(lines[2].clone())));
    let waiting = tokio::time::timeout(Duration::from_millis(20), all.next()).await;
    assert!(waiting.is_err(), "nothing more was appended: {waiting:?}");
    logs.append(vec![line("f", 2, "later")]);
    assert_eq!(
        next(&mut *all).await,
        Some(Ok(line("f", 2, "later"))),
        "a wait that was given up lost nothing"
    );
}

async fn a_slow_tail_is_told_how_much_it_missed(logs: &dyn Logs) {
    const LINES: u64 = 20_000;
    let mut tail = logs.tail(LogQuery::newest(key("f"), 1));
    for n in 0..LINES {
        logs.append(vec![line("f", n, n.to_string())]);
    }
    let (mut seen, mut skipped) = (0, 0);
    let mut place = 0;
    while seen + skipped < LINES {
        match next(&mut *tail).await.expect("the store is open") {
            Ok(l) => {
                let n: u64 = l.text.parse().unwrap();
                assert!(n >= place, "line {n} after {place}");
                assert_eq!(n, seen + skipped, "the gap is where it is said to be");
                place = n;
                seen += 1;
            }
            Err(n) => skipped += n,
        }
    }
    assert_eq!(seen + skipped, LINES);
    assert!(seen > 0, "a slow reader still sees something");
    logs.append(vec![line("f", LINES, "on")]);
    assert_eq!(next(&mut *tail).await, Some(Ok(line("f", LINES, "on"))));
}

async fn a_tail_ends_with_the_store(mut subject: Box<dyn Subject<dyn Logs>>) {
    let logs = subject.port();
    let mut tail = logs.tail(LogQuery::newest(key("f"), 1));
    logs.append(vec![line("f", 0, "last")]);
    drop(logs);
    subject.reopen().await;
    assert_eq!(next(&mut *tail).await, Some(Ok(line("f", 0, "last"))));
    assert_eq!(next(&mut *tail).await, None);
}

async fn deleted_lines_stay_deleted(mut subject: Box<dyn Subject<dyn Logs>>) {
    let logs = subject.port();
    for n in 0..10 {
        logs.append(vec![line("f", n, "old"), line("g", n, "kept")]);
        if n == 5 {
            logs.flush().await.unwrap();
        }
    }
    logs.delete(&key("f")).await.unwrap();
    logs.delete(&key("never-wrote")).await.unwrap();
    assert!(newest(&*logs, "f", 100).await.is_empty());
    logs.append(vec![line("f", 20, "new")]);
    drop(logs);
    for _ in 0..2 {
        let logs = subject.port();
        assert_eq!(newest(&*logs, "f", 100).await, ["new"]);
        assert_eq!(newest(&*logs, "g", 100).await.len(), 10);
        drop(logs);
        subject.reopen().await;
    }
}

async fn a_flood_is_counted_and_does_no_harm(logs: &dyn Logs) {
    const LINES: u64 = 16 * 1024;
    let text = "flood ".repeat(170);
    let mut dropped = 0;
    for n in 0..LINES / 64 {
        dropped += logs.append((0..64).map(|i| line("f", n * 64 + i, text.clone())).collect());
    }
    assert_eq!(dropped, 0, "16 MiB fit");
    logs.append(vec![line("g", LINES, "calm")]);
    logs.flush().await.unwrap();
    assert_eq!(newest(logs, "g", 10).await, ["calm"]);
    let found = newest(logs, "f", usize::MAX).await;
    assert_eq!(found.len(), LOG_QUERY_LINES, "as many as a query returns at most");
}
