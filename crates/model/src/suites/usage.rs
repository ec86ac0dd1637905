//! Contract of [`Usage`].

#![expect(clippy::unwrap_used, reason = "a suite panics at a broken promise")]

use std::sync::Arc;

use super::Subject;
use crate::clock::UnixMillis;
use crate::ids::{FunctionRef, Qualifier};
use crate::ports::{Usage, UsageDelta, UsageQuery, UsageRow, UsageSums};
use crate::tasks::Tasks;

const MINUTE: u64 = 60_000;
/// 2026-01-01T00:00:00Z, a full minute.
const START: u64 = 1_767_225_600_000;

/// Runs the suite; `make` gives an empty store each time.
pub async fn run(make: impl AsyncFn() -> Box<dyn Subject<dyn Usage>>) {
    deltas_of_a_minute_add_up(make().await).await;
    rows_come_by_minute_then_version(&*make().await.port()).await;
    queries_keep_to_their_function_and_time(&*make().await.port()).await;
    sums_stop_at_the_largest_number(&*make().await.port()).await;
    concurrent_deltas_all_count(make().await.port()).await;
}

fn sums(n: u64) -> UsageSums {
    UsageSums {
        requests: n,
        failures: n * 2,
        cold_starts: n * 3,
        throttles: n * 4,
        duration_ms: n * 5,
        memory_mb_ms: n * 6,
        bytes_in: n * 7,
        bytes_out: n * 8,
    }
}

fn delta(target: &str, at: u64, n: u64) -> UsageDelta {
    let target = FunctionRef::parse("default", target).unwrap();
    UsageDelta {
        function: target.key,
        version: target.qualifier,
        time: UnixMillis(at),
        sums: sums(n),
    }
}

async fn query(usage: &dyn Usage, name: &str, since: u64, until: u64) -> Vec<UsageRow> {
    let function = FunctionRef::parse("default", name).unwrap().key;
    let query = UsageQuery { function, since: UnixMillis(since), until: UnixMillis(until) };
    usage.query(query).await.unwrap()
}

async fn deltas_of_a_minute_add_up(mut subject: Box<dyn Subject<dyn Usage>>) {
    let usage = subject.port();
    let both = vec![delta("f", START, 1), delta("f", START + MINUTE - 1, 10)];
    usage.add(both).await.unwrap();
    usage.add(vec![delta("f", START + 30_000, 100)]).await.unwrap();
    usage.add(Vec::new()).await.unwrap();
    subject.reopen().await;
    let usage = subject.port();
    usage.add(vec![delta("f", START + 1, 1000)]).await.unwrap();
    let expected =
        UsageRow { version: Qualifier::Latest, minute: UnixMillis(START), sums: sums(1111) };
    assert_eq!(query(&*usage, "f", START, START + MINUTE).await, [expected]);
}

async fn rows_come_by_minute_then_version(usage: &dyn Usage) {
    let order = ["f", "f:2", "f:10"];
    for minute in [1, 0] {
        for target in order.iter().rev() {
            usage.add(vec![delta(target, START + minute * MINUTE, 1)]).await.unwrap();
        }
    }
    let rows = query(usage, "f", START, START + 2 * MINUTE).await;
    let found: Vec<_> =
        rows.iter().map(|r| ((r.minute.0 - START) / MINUTE, r.version.to_string())).collect();
    let expected: Vec<_> = [0, 1]
        .into_iter()
        .flat_map(|m| ["$LATEST", "2", "10"].map(|v| (m, v.to_owned())))
        .collect();
    assert_eq!(found, expected);
}

async fn queries_keep_to_their_function_and_time(usage: &dyn Usage) {
    for minute in 0..5 {
        usage.add(vec![delta("f", START + minute * MINUTE, 1)]).await.unwrap();
        usage.add(vec![delta("g", START + minute * MINUTE, 9)]).await.unwrap();
    }
    let minutes = async |since, until| -> Vec<u64> {
        let rows = query(usage, "f", since, until).await;
        assert!(rows.iter().all(|r| r.sums == sums(1)), "use of another function");
        rows.iter().map(|r| (r.minute.0 - START) / MINUTE).collect()
    };
    assert_eq!(minutes(START + MINUTE, START + 3 * MINUTE).await, [1, 2]);
    // `since` counts to the minute it is in, `until` exactly.
    assert_eq!(minutes(START + MINUTE + 59_999, START + 3 * MINUTE + 1).await, [1, 2, 3]);
    assert_eq!(minutes(START + 5 * MINUTE, START + 9 * MINUTE).await, [0; 0]);
    assert_eq!(query(usage, "h", 0, u64::MAX).await, []);
}

async fn sums_stop_at_the_largest_number(usage: &dyn Usage) {
    // A store may stop at 63 bits.
    let large = u64::MAX >> 1;
    let mut delta = delta("f", START, 0);
    delta.sums.bytes_in = large;
    usage.add(vec![delta.clone(), delta]).await.unwrap();
    let rows = query(usage, "f", START, START + 1).await;
    assert!(rows.iter().all(|r| r.sums.bytes_in >= large), "{rows:?}");
    assert_eq!(rows.len(), 1);
}

async fn concurrent_deltas_all_count(usage: Arc<dyn Usage>) {
    let tasks = Tasks::new();
    let adds: Vec<_> = (0..16)
        .map(|_| {
            let usage = Arc::clone(&usage);
            tasks.spawn("add", async move {
                for _ in 0..20 {
                    usage.add(vec![delta("f", START, 1)]).await.unwrap();
                }
            })
        })
        .collect();
    for add in adds {
        add.await.unwrap();
    }
    let rows = query(&*usage, "f", START, START + 1).await;
    assert_eq!(rows.iter().map(|r| r.sums).collect::<Vec<_>>(), [sums(320)]);
}
