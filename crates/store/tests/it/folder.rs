//! Data folders that cannot be used, and what is made of them.

use std::fs;
use std::sync::Arc;

use bytes::Bytes;
use model::Code;
use model::ids::Digest;
use model::ports::{Expect, LogQuery};

use crate::support::{key, line, message, open_at};

#[tokio::test]
async fn a_folder_in_use_is_refused_until_it_is_free() {
    let temp = tempfile::tempdir().unwrap();
    let store = open_at(temp.path()).await.unwrap();
    let e = open_at(temp.path()).await.unwrap_err();
    assert_eq!(e.code(), Code::StorageUnusable);
    assert!(e.message().contains("in use"), "{}", e.message());
    let name = temp.path().file_name().unwrap().to_str().unwrap();
    assert!(e.message().contains(name), "which folder: {}", e.message());

    // Even while others still hold ports of the closed store.
    let (_meta, _logs, _clone) = (Arc::clone(&store.meta), Arc::clone(&store.logs), store.clone());
    store.close().await.unwrap();
    open_at(temp.path()).await.unwrap().close().await.unwrap();
}

#[tokio::test]
async fn a_newer_format_is_refused_and_left_alone() {
    let temp = tempfile::tempdir().unwrap();
    open_at(temp.path()).await.unwrap().close().await.unwrap();
    let newer = format!("hanshu data format {}\n", store::FORMAT_VERSION + 1);
    fs::write(temp.path().join("format"), &newer).unwrap();
    let database = fs::read(temp.path().join("catalog.db")).unwrap();
    let e = open_at(temp.path()).await.unwrap_err();
    assert_eq!(e.code(), Code::StorageUnusable);
    let (newest, read) = (store::FORMAT_VERSION + 1, store::FORMAT_VERSION);
    let said = format!("format {newest}, this daemon reads up to {read}");
    assert!(e.message().contains(&said), "{}", e.message());
    assert_eq!(fs::read_to_string(temp.path().join("format")).unwrap(), newer);
    assert!(fs::read(temp.path().join("catalog.db")).unwrap() == database);
}

#[tokio::test]
async fn a_path_that_is_no_folder_is_refused() {
    let temp = tempfile::tempdir().unwrap();
    let file = temp.path().join("file");
    fs::write(&file, "x").unwrap();
    for path in [&file, &file.join("below")] {
        let e = open_at(path).await.unwrap_err();
        assert_eq!(e.code(), Code::StorageUnusable, "{e}");
        assert!(e.message().contains("file"), "{}", e.message());
    }
}

#[tokio::test]
async fn a_damaged_database_is_said() {
    let temp = tempfile::tempdir().unwrap();
    open_at(temp.path()).await.unwrap().close().await.unwrap();
    fs::write(temp.path().join("catalog.db"), "this is no database, whatever its name".repeat(200))
        .unwrap();
    let e = open_at(temp.path()).await.unwrap_err();
    assert_eq!(e.code(), Code::StorageUnusable, "{e}");
}

#[tokio::test]
async fn a_damaged_package_is_said_and_repaired_by_putting_it_again() {
    let temp = tempfile::tempdir().unwrap();
    let store = open_at(temp.path()).await.unwrap();
    let bytes = Bytes::from(b"package ".repeat(1000));
    let digest = store.blobs.put(bytes.clone()).await.unwrap();
    let hex = digest.to_string();
    let (shard, rest) = hex.split_at(2);
    let path = temp.path().join("blobs").join(shard).join(rest);
    for damage in [&b""[..], b"x", b"\x01\x01\xff\xff\xff\xff\xff\xff\xff\xff1234"] {
        fs::write(&path, damage).unwrap();
        assert_eq!(store.blobs.get(&digest).await.unwrap_err().code(), Code::StorageUnusable);
        store.blobs.put(bytes.clone()).await.unwrap();
        assert_eq!(store.blobs.get(&digest).await.unwrap(), Some(bytes.clone()));
    }
    store.close().await.unwrap();
}

#[tokio::test]
async fn unfinished_files_are_cleared_away() {
    let temp = tempfile::tempdir().unwrap();
    open_at(temp.path()).await.unwrap().close().await.unwrap();
    let unfinished = temp.path().join("blobs/temp/0");
    fs::write(&unfinished, "half").unwrap();
    let store = open_at(temp.path()).await.unwrap();
    assert!(!unfinished.exists());
    store.blobs.put(Bytes::from_static(b"x")).await.unwrap();
    store.close().await.unwrap();
}

#[tokio::test]
async fn the_index_of_the_logs_can_be_lost() {
    let temp = tempfile::tempdir().unwrap();
    let store = open_at(temp.path()).await.unwrap();
    let lines: Vec<_> = (0..9000).map(|n| line("f", format!("{n} {}", "x".repeat(100)))).collect();
    assert_eq!(store.logs.append(lines.clone()), 0);
    store.close().await.unwrap();
    let index = temp.path().join("logs/index.db");
    for damage in [None, Some("no database ".repeat(1000))] {
        match damage {
            None => fs::remove_file(&index).unwrap(),
            Some(text) => fs::write(&index, text).unwrap(),
        }
        let store = open_at(temp.path()).await.unwrap();
        let found = store.logs.query(LogQuery::newest(key("f"), 10_000)).await.unwrap();
        assert!(found == lines, "{} of {} lines", found.len(), lines.len());
        store.close().await.unwrap();
    }
}

#[tokio::test]
async fn a_torn_block_is_cut_off_and_the_rest_kept() {
    let temp = tempfile::tempdir().unwrap();
    let store = open_at(temp.path()).await.unwrap();
    let lines: Vec<_> = (0..9000).map(|n| line("f", format!("{n} {}", "x".repeat(100)))).collect();
    assert_eq!(store.logs.append(lines.clone()), 0);
    store.close().await.unwrap();
    let segment = fs::read_dir(temp.path().join("logs"))
        .unwrap()
        .map(|e| e.unwrap().path())
        .find(|p| p.extension().is_some_and(|e| e == "seg"))
        .unwrap();
    let whole = fs::metadata(&segment).unwrap().len();
    // As after a loss of power: the index has been told, the block is not wholly there.
    fs::File::options().write(true).open(&segment).unwrap().set_len(whole - 10).unwrap();
    let store = open_at(temp.path()).await.unwrap();
    assert!(fs::metadata(&segment).unwrap().len() < whole - 10, "the torn block is still there");
    let found = store.logs.query(LogQuery::newest(key("f"), 10_000)).await.unwrap();
    assert!(!found.is_empty() && found.iter().all(|l| lines.contains(l)));
    assert_eq!(found[0], lines[0]);
    store.logs.append(vec![line("f", "on")]);
    let newest = store.logs.query(LogQuery::newest(key("f"), 1)).await.unwrap();
    assert_eq!(newest[0].text, "on");
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_closed_store_says_so() {
    let temp = tempfile::tempdir().unwrap();
    let store = open_at(temp.path()).await.unwrap();
    let mut watch = store.meta.watch("", 0).await.unwrap();
    assert_eq!(watch.next().await.unwrap(), None);
    let mut lanes = store.queue.watch();
    let waiting = model::tasks::Tasks::new().spawn("wait", async move { lanes.changed().await });
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    store.close().await.unwrap();
    store.close().await.unwrap();

    let unavailable = |e: model::Error| assert_eq!(e.code(), Code::Unavailable, "{e}");
    unavailable(watch.next().await.unwrap_err());
    unavailable(waiting.await.unwrap().unwrap_err());
    unavailable(store.meta.get("k").await.unwrap_err());
    unavailable(store.meta.put_if("k", Expect::Absent, Bytes::new()).await.unwrap_err());
    unavailable(store.queue.enqueue(vec![message(Bytes::new())]).await.unwrap_err());
    unavailable(store.blobs.put(Bytes::new()).await.unwrap_err());
    unavailable(store.blobs.contains(&Digest::of(b"")).await.unwrap_err());
    unavailable(store.logs.flush().await.unwrap_err());
    unavailable(store.logs.query(LogQuery::newest(key("f"), 1)).await.unwrap_err());
    assert_eq!(
        store.logs.append(vec![line("f", "late")]),
        1,
        "a line that nobody keeps is counted"
    );
}
