//! 2 → 3: the documents of functions, versions and namespaces take new forms.
//!
//! | document | format 2 | format 3 |
//! |---|---|---|
//! | `function/…` | `versions: [{number, fingerprint, published_at}]` | `versions: [[number, fingerprint, published_at, size_bytes]]` |
//! | `version/…` | under `ID/NUMBER` | under `ID/NUMBER-FINGERPRINT` |
//! | `namespace/…` | `max_instances: N` | `quotas: {instances: N}` |
//!
//! Fingerprints become the first half of what they were. Every row keeps its revision. A document of another form stays as it is, and so
//! does a version that no function lists: nobody looks at it.

use std::collections::BTreeMap;
use std::path::Path;

use model::clock::UnixMillis;
use model::function::{Fingerprint, VersionSummary};
use model::ids::{Digest, RequestId};
use model::{Error, Result, keys};
use rusqlite::{Connection, OptionalExtension};
use serde::Deserialize;
use serde_json::value::{RawValue, to_raw_value};

use crate::embedded::db;
use crate::fault::Failure;

/// A document's fields; those that are not touched keep their bytes.
type Fields = BTreeMap<String, Box<RawValue>>;

/// Changes a document; says whether it did.
type Change = fn(&Connection, &mut Fields) -> Result<bool, Failure>;

/// The step.
pub(super) fn rewrite_documents(folder: &Path) -> Result<()> {
    let path = folder.join(db::FILE);
    let mut conn = db::connect(&path).map_err(|e| db::unusable(&path, e.into()))?;
    rewrite(&mut conn, keys::FUNCTIONS, compact_versions)
        .and_then(|()| rewrite(&mut conn, keys::NAMESPACES, move_quota))
        .map_err(|e| db::unusable(&path, e))
}

/// Lets `change` look at every document under `prefix`, each in a transaction of its own: whatever happens, a document is in its old form
/// with all that belongs to it, or in its new one.
fn rewrite(conn: &mut Connection, prefix: &str, change: Change) -> Result<(), Failure> {
    let mut after = prefix.to_owned();
    loop {
        let tx = conn.transaction()?;
        let next: Option<(String, Vec<u8>)> = tx
            .prepare_cached(
                "SELECT key, value FROM document
                 WHERE key > ?1 AND value IS NOT NULL ORDER BY key LIMIT 1",
            )?
            .query_row([&after], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        let Some((key, value)) = next.filter(|(key, _)| key.starts_with(prefix)) else {
            return Ok(());
        };
        if let Ok(mut fields) = serde_json::from_slice::<Fields>(&value)
            && change(&tx, &mut fields)?
        {
            let value = serde_json::to_vec(&fields).map_err(Error::internal)?;
            tx.prepare_cached("UPDATE document SET value = ?2 WHERE key = ?1")?
                .execute((&key, value))?;
        }
        tx.commit()?;
        after = key;
    }
}

/// A line of a function's list in format 2.
#[derive(Deserialize)]
struct Listed {
    number: u64,
    fingerprint: Digest,
    published_at: UnixMillis,
}

fn compact_versions(conn: &Connection, function: &mut Fields) -> Result<bool, Failure> {
    let Some(id) = field::<RequestId>(function, "id") else { return Ok(false) };
    let Some(listed) = field::<Vec<Listed>>(function, "versions") else { return Ok(false) };
    if listed.is_empty() {
        return Ok(false);
    }
    let mut versions = Vec::with_capacity(listed.len());
    for Listed { number, fingerprint, published_at } in listed {
        let fingerprint = Fingerprint::from_digest(&fingerprint);
        let mut line = VersionSummary { number, fingerprint, published_at, size_bytes: 0 };
        line.size_bytes = move_version(conn, &id, &line)?;
        versions.push(line);
    }
    function.insert("versions".into(), to_raw_value(&versions).map_err(Error::internal)?);
    Ok(true)
}

/// Moves a version to its new key; gives the bytes of its package, 0 if they are not known.
fn move_version(conn: &Connection, id: &RequestId, line: &VersionSummary) -> Result<u64, Failure> {
    let from = format!("{}{}", keys::versions_of(id), line.number);
    let version: Option<Vec<u8>> = conn
        .prepare_cached("SELECT value FROM document WHERE key = ?1 AND value IS NOT NULL")?
        .query_row([&from], |row| row.get(0))
        .optional()?;
    let Some(version) = version else { return Ok(0) };
    // No daemon of format 2 wrote anything under the new key; if there is something, it stays.
    conn.prepare_cached("UPDATE OR IGNORE document SET key = ?2 WHERE key = ?1")?
        .execute((from, keys::version_of(id, line)))?;
    let version: serde_json::Value = serde_json::from_slice(&version).unwrap_or_default();
    Ok(version.pointer("/code/size_bytes").and_then(serde_json::Value::as_u64).unwrap_or(0))
}

fn move_quota(_: &Connection, namespace: &mut Fields) -> Result<bool, Failure> {
    let Some(instances) = field::<Option<u32>>(namespace, "max_instances") else {
        return Ok(false);
    };
    namespace.remove("max_instances");
    if let Some(instances) = instances {
        let quotas = BTreeMap::from([("instances", instances)]);
        namespace.insert("quotas".into(), to_raw_value(&quotas).map_err(Error::internal)?);
    }
    Ok(true)
}

/// A field's value, if it is there and of that type.
fn field<'a, T: Deserialize<'a>>(fields: &'a Fields, name: &str) -> Option<T> {
    serde_json::from_str(fields.get(name)?.get()).ok()
}
