//! Logs within their limits on disk and in memory.

use std::fs;
use std::path::Path;

use model::ports::LogQuery;
use store::StoreConfig;

use crate::support::{key, line, noise, open_with};

const DISK_BYTES: u64 = 4 << 20;

fn size(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
    entries
        .filter(|e| e.path().extension().is_some_and(|x| x == "seg"))
        .map(|e| e.metadata().unwrap().len())
        .sum()
}

/// Text that takes its room on disk, too.
fn text(n: u64) -> String {
    let hex: String = noise(n, 500).iter().map(|b| format!("{b:02x}")).collect();
    format!("{n} {hex}")
}

#[tokio::test]
async fn the_oldest_lines_go_when_the_disk_limit_is_reached() {
    let temp = tempfile::tempdir().unwrap();
    let config = StoreConfig { logs_bytes_max: DISK_BYTES, ..StoreConfig::at(temp.path()) };
    let mut n = 0;
    for _ in 0..2 {
        let store = open_with(config.clone()).await.unwrap();
        for _ in 0..100 {
            let lines = (n..n + 100).map(|n| line("f", text(n))).collect();
            assert_eq!(store.logs.append(lines), 0);
            n += 100;
            store.logs.flush().await.unwrap();
            assert!(size(&temp.path().join("logs")) <= DISK_BYTES);
        }
        assert!(
            size(&temp.path().join("logs")) > DISK_BYTES / 2,
            "much more was removed than needed"
        );
        let all = store.logs.query(LogQuery::newest(key("f"), 10_000)).await.unwrap();
        let numbers: Vec<u64> =
            all.iter().map(|l| l.text.split(' ').next().unwrap().parse().unwrap()).collect();
        let kept = u64::try_from(numbers.len()).unwrap();
        assert!(kept > 1000 && kept < n, "{kept} of {n} lines are left");
        assert!(numbers.into_iter().eq(n - kept..n), "the newest lines, none missing");
        store.close().await.unwrap();
    }
}

#[tokio::test]
async fn lines_beyond_the_memory_limit_are_dropped_and_counted() {
    let temp = tempfile::tempdir().unwrap();
    let config = StoreConfig { logs_memory_bytes_max: 1 << 20, ..StoreConfig::at(temp.path()) };
    let store = open_with(config).await.unwrap();
    // One call, so the writer cannot make room in between.
    let lines: Vec<_> = (0..3000).map(|n| line("f", text(n))).collect();
    let dropped = store.logs.append(lines);
    assert!(dropped > 1500 && dropped < 2500, "{dropped} dropped");
    let kept = store.logs.query(LogQuery::newest(key("f"), 10_000)).await.unwrap();
    assert_eq!(kept.len() + dropped, 3000);
    store.logs.flush().await.unwrap();
    assert_eq!(store.logs.append(vec![line("f", "room again")]), 0);
    store.close().await.unwrap();
}
