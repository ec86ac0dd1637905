//! From format 2 to 3: old documents in a folder of format 2 are found in their new forms.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use model::Code;
use model::function::Function;
use model::namespace::Namespace;
use rusqlite::Connection;
use store::FORMAT_VERSION;
use tempfile::TempDir;

use crate::fixture::{check_versions, copy, documents, folder};
use crate::support::open_at;

/// What is not of a form that the step knows, or not named by a function.
const STRANGE: [(&str, &str); 7] = [
    ("function/team/odd", r#"{"id":"x","versions":[{"number":1}]}"#),
    (
        "function/team/other",
        r#"{"id":"0195d3a0-0000-7000-8000-000000000002","versions":[{"number":"one"}]}"#,
    ),
    ("function/team/text", "no document"),
    ("namespace/list", "[]"),
    ("namespace/odd", r#"{"max_instances":"many"}"#),
    ("namespaces", r#"{"max_instances":1}"#),
    ("version/0195d3a0-0000-7000-8000-000000000001/3", "{}"),
];

/// A function that lists a version whose body is missing, before and after.
const LOST: [&str; 2] = [
    r#"{"id":"0195d3a0-0000-7000-8000-000000000003","versions":
        [{"number":1,"fingerprint":"2647af383634a7af1783a5d309c10463c4409c3d557f3d7fd4b70605a71773c8","published_at":7}]}"#,
    r#"{"id":"0195d3a0-0000-7000-8000-000000000003","versions":[[1,"2647af383634a7af1783a5d309c10463",7,0]]}"#,
];

type Rows = BTreeMap<String, (u64, Option<Vec<u8>>)>;

fn database(folder: &Path) -> Connection {
    Connection::open(folder.join("catalog.db")).unwrap()
}

fn rows(folder: &Path) -> Rows {
    database(folder)
        .prepare("SELECT key, revision, value FROM document")
        .unwrap()
        .query_map([], |row| Ok((row.get(0)?, (row.get(1)?, row.get(2)?))))
        .unwrap()
        .map(Result::unwrap)
        .collect()
}

/// The fixture of format 2 with more documents in it.
fn old_folder() -> TempDir {
    let temp = tempfile::tempdir().unwrap();
    copy(&folder(2), temp.path());
    let strange = STRANGE.iter().chain(&[("function/team/lost", LOST[0])]);
    let strange = strange.map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_vec()));
    let conn = database(temp.path());
    for (revision, (key, value)) in (6..).zip(documents(2).into_iter().chain(strange)) {
        conn.execute("INSERT INTO document VALUES (?1, ?2, ?3)", (key, revision, value)).unwrap();
    }
    temp
}

async fn reopen(folder: &Path) {
    open_at(folder).await.unwrap().close().await.unwrap();
}

/// What the step makes of the rows of [`old_folder`].
fn expected(mut rows: Rows) -> Rows {
    let lost = ("function/team/lost".to_owned(), LOST[1].as_bytes().to_vec());
    let (old, new) = (documents(2), documents(3));
    let old = old.into_iter().map(|(key, _)| key).chain([lost.0.clone()]);
    for (old, (new, value)) in old.zip(new.into_iter().chain([lost])) {
        let (revision, _) = rows.remove(&old).unwrap();
        rows.insert(new, (revision, Some(value)));
    }
    rows
}

fn assert_moved(found: &Rows, old: &Rows) {
    let text = |rows: &Rows| -> Vec<String> {
        let line = |(key, (revision, value)): (&String, &(u64, Option<Vec<u8>>))| {
            format!("{key} {revision} {:?}", value.as_deref().map(String::from_utf8_lossy))
        };
        rows.iter().map(line).collect()
    };
    assert_eq!(text(found), text(&expected(old.clone())));
}

#[tokio::test]
async fn documents_take_their_new_forms_and_keep_their_revisions() {
    let temp = old_folder();
    let old = rows(temp.path());
    let store = open_at(temp.path()).await.unwrap();
    let format = format!("hanshu data format {FORMAT_VERSION}\n");
    assert_eq!(fs::read_to_string(temp.path().join("format")).unwrap(), format);
    assert_eq!(store.meta.revision().await.unwrap(), old.values().map(|row| row.0).max().unwrap());

    let greet = store.meta.get("function/team/greet").await.unwrap().unwrap();
    let greet: Function = serde_json::from_slice(&greet.value).unwrap();
    assert_eq!((greet.versions.len(), greet.next_version), (2, 4));
    check_versions(&store, &greet).await;
    for (name, instances) in [("team", Some(5)), ("quiet", None)] {
        let entry = store.meta.get(&format!("namespace/{name}")).await.unwrap().unwrap();
        let namespace: Namespace = serde_json::from_slice(&entry.value).unwrap();
        assert_eq!(namespace.settings.quotas.instances, instances);
    }
    store.close().await.unwrap();
    assert_moved(&rows(temp.path()), &old);
}

#[tokio::test]
async fn what_has_its_new_form_stays() {
    let temp = old_folder();
    reopen(temp.path()).await;
    let new = rows(temp.path());
    reopen(temp.path()).await;
    assert!(rows(temp.path()) == new);
    // Cut off when everything but the format file was written.
    fs::write(temp.path().join("format"), "hanshu data format 2\n").unwrap();
    reopen(temp.path()).await;
    assert!(rows(temp.path()) == new);
}

#[tokio::test]
async fn a_step_that_is_cut_off_is_finished_later() {
    let old = rows(old_folder().path());
    for (key, _) in documents(2) {
        let temp = old_folder();
        database(temp.path())
            .execute_batch(&format!(
                "CREATE TRIGGER cut_off BEFORE UPDATE ON document WHEN OLD.key = '{key}'
                 BEGIN SELECT RAISE(ABORT, 'cut off'); END"
            ))
            .unwrap();
        let e = open_at(temp.path()).await.unwrap_err();
        assert_eq!(e.code(), Code::StorageUnusable, "at {key}");
        let format = fs::read_to_string(temp.path().join("format")).unwrap();
        assert_eq!(format, "hanshu data format 2\n");
        let halfway = rows(temp.path());
        assert_eq!(halfway[&key], old[&key], "what was cut off is as it was");

        database(temp.path()).execute_batch("DROP TRIGGER cut_off").unwrap();
        reopen(temp.path()).await;
        assert_moved(&rows(temp.path()), &old);
    }
}

#[tokio::test]
async fn a_folder_without_a_database_has_nothing_to_move() {
    let temp = tempfile::tempdir().unwrap();
    fs::write(temp.path().join("format"), "hanshu data format 2\n").unwrap();
    reopen(temp.path()).await;
}
