//! Documents of maps and the blobs that they name.

use bytes::Bytes;
use model::Result;
use model::error::{Code, Error};
use model::ids::{Digest, NamespaceName, RequestId};
use model::keys;
use model::map::{Map, Segment};
use model::ports::Expect;

use crate::Shared;

/// How often a change is made anew because somebody else made one: there are two who may, the map's own task and whoever cancels it.
const TRIES: usize = 16;

/// Which map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct At {
    pub(super) namespace: NamespaceName,
    pub(super) id: RequestId,
}

impl At {
    pub(super) fn of(map: &Map) -> Self {
        Self { namespace: map.namespace().clone(), id: map.id }
    }

    fn key(&self) -> String {
        keys::map(&self.namespace, &self.id)
    }

    /// It is not there.
    pub(super) fn unknown(&self) -> Error {
        Error::not_found("map", self.id)
    }
}

fn read(value: &[u8]) -> Result<Map> {
    serde_json::from_slice(value).map_err(Error::internal)
}

fn write(map: &Map) -> Result<Bytes> {
    Ok(serde_json::to_vec(map).map_err(Error::internal)?.into())
}

impl Shared {
    pub(super) async fn find_map(&self, at: &At) -> Result<Option<Map>> {
        self.meta.get(&at.key()).await?.map(|entry| read(&entry.value)).transpose()
    }

    /// Maps under a prefix of [`keys::MAPS`], by key, with their keys.
    pub(super) async fn list_maps(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Map)>> {
        let entries = self.meta.list(prefix, after, limit).await?;
        entries.into_iter().map(|entry| Ok((entry.key, read(&entry.value)?))).collect()
    }

    pub(super) async fn create_map(&self, map: &Map) -> Result<()> {
        self.meta.put_if(&At::of(map).key(), Expect::Absent, write(map)?).await?;
        Ok(())
    }

    /// Changes a map and answers with what it is then.
    ///
    /// Errors: `not-found`, and what `change` says.
    pub(super) async fn change_map(
        &self,
        at: &At,
        mut change: impl FnMut(&mut Map) -> Result<()> + Send,
    ) -> Result<Map> {
        for _ in 0..TRIES {
            let entry = self.meta.get(&at.key()).await?.ok_or_else(|| at.unknown())?;
            let mut map = read(&entry.value)?;
            change(&mut map)?;
            match self.meta.put_if(&at.key(), Expect::Revision(entry.revision), write(&map)?).await
            {
                Ok(_) => return Ok(map),
                Err(e) if e.code() == Code::Conflict => {}
                Err(e) => return Err(e),
            }
        }
        Err(changes_all_the_time(at))
    }

    /// Stores a blob of a map that has not ended. The document names it before it is there, so that none is left behind.
    ///
    /// Errors: `conflict` where it has ended.
    pub(super) async fn put_map_blob(&self, at: &At, segment: &Segment, blob: Bytes) -> Result<()> {
        let digest = segment.digest;
        self.change_map(at, |map| {
            goes_on(map)?;
            if !map.blobs.contains(&digest) {
                map.blobs.push(digest);
            }
            Ok(())
        })
        .await?;
        self.blobs.put(blob).await?;
        Ok(())
    }

    /// A blob of a map.
    pub(super) async fn map_blob(&self, digest: &Digest) -> Result<Bytes> {
        self.blobs.get(digest).await?.ok_or_else(|| {
            Error::platform(Code::StorageUnusable, format!("blob {digest} of the map is missing"))
        })
    }

    /// Deletes a map's blobs and then its document.
    pub(super) async fn remove_map(&self, at: &At) -> Result<()> {
        for _ in 0..TRIES {
            let Some(entry) = self.meta.get(&at.key()).await? else { return Ok(()) };
            for digest in read(&entry.value)?.blobs {
                self.blobs.delete(&digest).await?;
            }
            match self.meta.delete_if(&at.key(), entry.revision).await {
                // It changed meanwhile, and may name other blobs.
                Err(e) if e.code() == Code::Conflict => {}
                deleted => return deleted.map(drop),
            }
        }
        Err(changes_all_the_time(at))
    }
}

fn changes_all_the_time(at: &At) -> Error {
    Error::caller(Code::Conflict, format!("map '{}' changes all the time", at.id))
}

/// Errors: `conflict` where the map has ended.
pub(super) fn goes_on(map: &Map) -> Result<()> {
    if map.state.has_ended() {
        let message = format!("map '{}' has ended: it is {}", map.id, map.state.as_str());
        return Err(Error::caller(Code::Conflict, message));
    }
    Ok(())
}
