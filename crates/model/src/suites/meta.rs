//! Contract of [`Meta`].

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a suite panics at a broken promise")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::{Random, Subject};
use crate::error::Code;
use crate::ports::{Change, Entry, Expect, Meta, Revision, Watch};
use crate::tasks::Tasks;

/// Time in which a change reaches a watch.
const SOON: Duration = Duration::from_secs(10);

/// Runs the suite; `make` gives an empty store each time.
pub async fn run(make: impl AsyncFn() -> Box<dyn Subject<dyn Meta>>) {
    writes_hold_only_if_nothing_changed(&*make().await.port()).await;
    acknowledged_changes_survive(make().await).await;
    of_sixteen_writers_one_wins(make().await.port()).await;
    a_counter_loses_no_increment(make().await.port()).await;
    lists_come_in_pages_by_key(&*make().await.port()).await;
    limits_are_kept(&*make().await.port()).await;
    a_watch_reports_what_there_is_then_what_changes(&*make().await.port()).await;
    a_watch_from_a_revision_reports_what_came_after(make().await).await;
    a_watch_that_is_slow_still_gets_to_the_end(make().await.port()).await;
    many_watches_agree_with_the_store(make().await.port()).await;
}

fn text(s: &str) -> Bytes {
    Bytes::from(s.to_owned())
}

async fn create(meta: &dyn Meta, key: &str, value: &str) -> Revision {
    meta.put_if(key, Expect::Absent, text(value)).await.unwrap()
}

async fn conflicts<T: std::fmt::Debug>(result: impl Future<Output = crate::Result<T>>) {
    let e = result.await.unwrap_err();
    assert_eq!(e.code(), Code::Conflict, "{e}");
}

async fn writes_hold_only_if_nothing_changed(meta: &dyn Meta) {
    assert_eq!(meta.get("k").await.unwrap(), None);
    let before = meta.revision().await.unwrap();
    let first = create(meta, "k", "1").await;
    assert!(first > before && first >= 1);
    assert!(meta.revision().await.unwrap() >= first);
    conflicts(meta.put_if("k", Expect::Absent, text("2"))).await;
    conflicts(meta.put_if("k", Expect::Revision(first + 1), text("2"))).await;
    conflicts(meta.put_if("other", Expect::Revision(first), text("2"))).await;
    conflicts(meta.delete_if("other", first)).await;

    let second = meta.put_if("k", Expect::Revision(first), text("2")).await.unwrap();
    assert!(second > first);
    let entry = Entry { key: "k".into(), value: text("2"), revision: second };
    assert_eq!(meta.get("k").await.unwrap(), Some(entry));
    conflicts(meta.delete_if("k", first)).await;

    let third = meta.delete_if("k", second).await.unwrap();
    assert!(third > second);
    assert_eq!(meta.get("k").await.unwrap(), None);
    conflicts(meta.delete_if("k", third)).await;
    conflicts(meta.put_if("k", Expect::Revision(third), text("3"))).await;
    assert!(create(meta, "k", "").await > third, "a deleted key can be made again");
    assert_eq!(meta.get("k").await.unwrap().unwrap().value, Bytes::new());
}

async fn acknowledged_changes_survive(mut subject: Box<dyn Subject<dyn Meta>>) {
    let meta = subject.port();
    let kept = create(&*meta, "kept", "v").await;
    let gone = create(&*meta, "gone", "v").await;
    let last = meta.delete_if("gone", gone).await.unwrap();
    drop(meta);
    subject.reopen().await;
    let meta = subject.port();
    assert_eq!(meta.get("kept").await.unwrap().unwrap().revision, kept);
    assert_eq!(meta.get("gone").await.unwrap(), None);
    assert!(meta.revision().await.unwrap() >= last, "the revision went back");
    assert!(create(&*meta, "new", "v").await > last, "a revision was given twice");
}

async fn of_sixteen_writers_one_wins(meta: Arc<dyn Meta>) {
    let tasks = Tasks::new();
    let mut expect = Expect::Absent;
    for round in 0..20 {
        let races: Vec<_> = (0..16)
            .map(|i| {
                let meta = Arc::clone(&meta);
                let value = text(&format!("{round}/{i}"));
                tasks.spawn("race", async move {
                    meta.put_if("k", expect, value.clone()).await.map(|r| (r, value))
                })
            })
            .collect();
        let mut won = Vec::new();
        for race in races {
            match race.await.unwrap() {
                Ok(winner) => won.push(winner),
                Err(e) => assert_eq!(e.code(), Code::Conflict, "{e}"),
            }
        }
        assert_eq!(won.len(), 1, "winners of round {round}: {won:?}");
        let now = meta.get("k").await.unwrap().unwrap();
        assert_eq!(won, [(now.revision, now.value)]);
        expect = Expect::Revision(now.revision);
    }
}

async fn a_counter_loses_no_increment(meta: Arc<dyn Meta>) {
    let tasks = Tasks::new();
    create(&*meta, "count", "0").await;
    let counters: Vec<_> = (0..8)
        .map(|_| {
            let meta = Arc::clone(&meta);
            tasks.spawn("count", async move {
                let mut left = 25;
                while left > 0 {
                    let now = meta.get("count").await.unwrap().unwrap();
                    let n: u64 = std::str::from_utf8(&now.value).unwrap().parse().unwrap();
                    let next = text(&(n + 1).to_string());
                    let put = meta.put_if("count", Expect::Revision(now.revision), next).await;
                    left -= usize::from(put.is_ok());
                }
            })
        })
        .collect();
    for counter in counters {
        counter.await.unwrap();
    }
    assert_eq!(meta.get("count").await.unwrap().unwrap().value, text("200"));
}

async fn lists_come_in_pages_by_key(meta: &dyn Meta) {
    // Around the prefix: neighbours in the order of bytes, and characters of several bytes.
    let keys = ["a", "f", "f.", "f/", "f/1", "f/10", "f/2", "f/é", "f/\u{10ffff}", "f0", "g/1"];
    for key in keys.iter().rev() {
        create(meta, key, key).await;
    }
    let gone = create(meta, "f/15", "gone").await;
    meta.delete_if("f/15", gone).await.unwrap();

    let expected: Vec<_> = keys.iter().filter(|k| k.starts_with("f/")).copied().collect();
    for limit in [1, 2, 3, 100] {
        let mut found: Vec<String> = Vec::new();
        loop {
            let page = meta.list("f/", found.last().map(String::as_str), limit).await.unwrap();
            assert!(page.len() <= limit);
            assert!(page.iter().all(|e| e.value == text(&e.key) && e.revision > 0));
            if page.is_empty() {
                break;
            }
            found.extend(page.into_iter().map(|e| e.key));
        }
        assert_eq!(found, expected, "in pages of {limit}");
    }
    let all = meta.list("", None, 100).await.unwrap();
    assert_eq!(all.iter().map(|e| e.key.as_str()).collect::<Vec<_>>(), keys);
    // A place before the prefix is before all of it, one behind it behind all of it.
    assert_eq!(meta.list("f/", Some("a"), 100).await.unwrap().len(), expected.len());
    assert_eq!(meta.list("f/", Some("g"), 100).await.unwrap(), []);
    assert_eq!(meta.list("nothing", None, 100).await.unwrap(), []);
}

async fn limits_are_kept(meta: &dyn Meta) {
    let (key, value) = ("k".repeat(512), Bytes::from(vec![7; 1 << 20]));
    let revision = meta.put_if(&key, Expect::Absent, value.clone()).await.unwrap();
    assert!(meta.get(&key).await.unwrap().unwrap().value == value);
    let over =
        [(format!("{key}k"), Bytes::new()), ("v".into(), Bytes::from(vec![7; (1 << 20) + 1]))];
    for (key, value) in over {
        let e = meta.put_if(&key, Expect::Absent, value).await.unwrap_err();
        assert_eq!(e.code(), Code::InvalidParameter, "{e}");
    }
    assert_eq!(meta.revision().await.unwrap(), revision, "something was changed");
}

/// The next report, which has to come soon.
async fn report(watch: &mut dyn Watch) -> Option<Change> {
    tokio::time::timeout(SOON, watch.next()).await.expect("a watch reports what changed").unwrap()
}

/// Everything before the mark that says "complete".
async fn initial(watch: &mut dyn Watch) -> Vec<Change> {
    let mut changes: Vec<Change> = Vec::new();
    while let Some(change) = report(watch).await {
        let last = changes.last().map_or(0, |c| c.revision);
        assert!(change.revision > last, "revision {} after {last}", change.revision);
        changes.push(change);
    }
    changes
}

/// Nothing is reported for a while.
async fn silent(watch: &mut dyn Watch) {
    let next = tokio::time::timeout(Duration::from_millis(50), watch.next()).await;
    assert!(next.is_err(), "reported without a change: {next:?}");
}

fn keys(changes: &[Change]) -> Vec<&str> {
    changes.iter().map(|c| c.key.as_str()).collect()
}

async fn a_watch_reports_what_there_is_then_what_changes(meta: &dyn Meta) {
    let mut empty = meta.watch("p/", 0).await.unwrap();
    assert_eq!(initial(&mut *empty).await, [], "an empty store is complete at once");

    create(meta, "p/a", "1").await;
    let b = create(meta, "p/b", "1").await;
    create(meta, "q/a", "1").await;
    let gone = create(meta, "p/gone", "1").await;
    meta.delete_if("p/gone", gone).await.unwrap();
    let b = meta.put_if("p/b", Expect::Revision(b), text("2")).await.unwrap();

    let mut watch = meta.watch("p/", 0).await.unwrap();
    let there = initial(&mut *watch).await;
    assert_eq!(keys(&there), ["p/a", "p/b"], "deleted before: not part of what there is");
    assert_eq!(there.last().unwrap().value, Some(text("2")));
    silent(&mut *watch).await;

    create(meta, "q/b", "1").await;
    let c = create(meta, "p/c", "1").await;
    let expected = Change { key: "p/c".into(), value: Some(text("1")), revision: c };
    assert_eq!(report(&mut *watch).await, Some(expected));
    let deleted = meta.delete_if("p/b", b).await.unwrap();
    let expected = Change { key: "p/b".into(), value: None, revision: deleted };
    assert_eq!(report(&mut *watch).await, Some(expected));
    silent(&mut *watch).await;
}

async fn a_watch_from_a_revision_reports_what_came_after(mut subject: Box<dyn Subject<dyn Meta>>) {
    let meta = subject.port();
    create(&*meta, "p/old", "1").await;
    let gone = create(&*meta, "p/gone", "1").await;
    let from = create(&*meta, "p/last", "1").await;
    create(&*meta, "p/new", "1").await;
    meta.delete_if("p/gone", gone).await.unwrap();
    drop(meta);
    // Who watches again after a restart still learns of deletions.
    for _ in 0..2 {
        let meta = subject.port();
        let mut watch = meta.watch("p/", from).await.unwrap();
        let missed = initial(&mut *watch).await;
        assert_eq!(keys(&missed), ["p/new", "p/gone"]);
        assert_eq!(missed.last().unwrap().value, None);
        let mut current = meta.watch("p/", meta.revision().await.unwrap()).await.unwrap();
        assert_eq!(initial(&mut *current).await, []);
        silent(&mut *current).await;
        drop((watch, current, meta));
        subject.reopen().await;
    }
}

async fn a_watch_that_is_slow_still_gets_to_the_end(meta: Arc<dyn Meta>) {
    let mut watch = meta.watch("p/", 0).await.unwrap();
    assert_eq!(initial(&mut *watch).await, []);
    // More than any buffer holds, and nobody reads meanwhile.
    let tasks = Tasks::new();
    let writers: Vec<_> = (0..32)
        .map(|w| {
            let meta = Arc::clone(&meta);
            tasks.spawn("write", async move {
                for i in 0..50 {
                    create(&*meta, &format!("p/{w}/{i}"), "v").await;
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    let (mut seen, mut last) = (std::collections::BTreeSet::new(), 0);
    while seen.len() < 32 * 50 {
        let change = report(&mut *watch).await.unwrap();
        assert!(change.revision > last, "revision {} after {last}", change.revision);
        last = change.revision;
        seen.insert(change.key);
    }
}

/// Random writes from several tasks while several watches each keep a copy: in the end every copy is what the store has.
async fn many_watches_agree_with_the_store(meta: Arc<dyn Meta>) {
    let tasks = Tasks::new();
    let writers: Vec<_> = (1..=4)
        .map(|seed| tasks.spawn("write", random_writes(Arc::clone(&meta), Random(seed))))
        .collect();
    let mut copies = Vec::new();
    for _ in 0..4 {
        let mut watch = meta.watch("p/", 0).await.unwrap();
        let mut copy: BTreeMap<String, Entry> = BTreeMap::new();
        for change in initial(&mut *watch).await {
            apply(&mut copy, change);
        }
        copies.push((watch, copy));
    }
    for writer in writers {
        writer.await.unwrap();
    }
    let end = create(&*meta, "p/end", "end").await;
    let store = meta.list("p/", None, 1000).await.unwrap();
    for (mut watch, mut copy) in copies {
        while copy.get("p/end").is_none_or(|e| e.revision < end) {
            let change = report(&mut *watch).await.expect("complete is said once");
            apply(&mut copy, change);
        }
        assert_eq!(copy.into_values().collect::<Vec<_>>(), store);
    }
}

fn apply(copy: &mut BTreeMap<String, Entry>, change: Change) {
    let Change { key, value, revision } = change;
    match value {
        Some(value) => drop(copy.insert(key.clone(), Entry { key, value, revision })),
        None => drop(copy.remove(&key)),
    }
}

async fn random_writes(meta: Arc<dyn Meta>, mut random: Random) {
    for i in 0..100 {
        let key = format!("p/{}", random.below(20));
        let done = match meta.get(&key).await.unwrap() {
            None => meta.put_if(&key, Expect::Absent, text(&i.to_string())).await,
            Some(e) if random.below(3) == 0 => meta.delete_if(&key, e.revision).await,
            Some(e) => meta.put_if(&key, Expect::Revision(e.revision), text(&i.to_string())).await,
        };
        if let Err(e) = done {
            assert_eq!(e.code(), Code::Conflict, "{e}");
        }
    }
}
