//! Publishing: how `$LATEST` becomes a numbered, immutable version.
//!
//! In three durable steps: (1) the change that makes or names the content also takes the next number, in the function's document;
//! (2) the version's body is written under that number, which nobody else can have; (3) the function's document lists it. A crash
//! after (1) or (2) leaves a number that is never used and nothing that anybody sees.

use model::Result;
use model::clock::UnixMillis;
use model::error::Error;
use model::function::{Function, Version, VersionSummary};
use model::ids::{FunctionKey, RequestId};
use model::keys;
use model::limits;
use model::ports::Expect;

use super::functions::{FunctionAt, existing};
use super::{Catalog, Precondition, Stored};

/// The first step of publishing, done.
#[derive(Debug)]
pub(super) enum Publishing {
    /// A version of the same content exists: its number.
    Existing(u64),
    /// A number is taken; the body that goes under it.
    New(Box<Version>),
}

impl Publishing {
    /// Step (1): finds the version that has `$LATEST`'s content, or takes a number for it.
    pub(super) fn begin(function: &mut Function, now: UnixMillis) -> Self {
        if let Some(number) = same_content(function, &function.latest) {
            return Self::Existing(number);
        }
        let number = function.next_version;
        function.next_version += 1;
        let number = Some(number);
        let version = Version { number, modified_at: now, ..function.latest.clone() };
        Self::New(Box::new(version))
    }
}

fn same_content(function: &Function, version: &Version) -> Option<u64> {
    let fingerprint = version.fingerprint();
    function.versions.iter().find(|v| v.fingerprint == fingerprint).map(|v| v.number)
}

/// What publishing gave.
#[derive(Debug)]
pub(crate) struct Published {
    /// The function at the version.
    pub function: FunctionAt,
    /// Whether the version is new.
    pub created: bool,
}

impl Catalog {
    /// Publishes `$LATEST`; an unchanged one gives the version that already has its content.
    pub(crate) async fn publish(
        &self,
        key: &FunctionKey,
        precondition: Precondition,
    ) -> Result<Published> {
        let changed = self
            .change(key, precondition, |current| {
                let mut function = existing(key, current)?;
                let publishing = Publishing::begin(&mut function, self.clock.now());
                Ok((function, publishing))
            })
            .await?;
        let published = self.finish_publishing(changed.stored, changed.result).await?;
        self.engine.caught_up(published.function.revision).await?;
        Ok(published)
    }

    /// Steps (2) and (3).
    pub(super) async fn finish_publishing(
        &self,
        stored: Stored<Function>,
        publishing: Publishing,
    ) -> Result<Published> {
        let version = match publishing {
            Publishing::Existing(number) => {
                let version = self.version(&stored.value, number).await?;
                let Stored { value: function, revision } = stored;
                return Ok(Published {
                    function: FunctionAt { function, version, revision },
                    created: false,
                });
            }
            Publishing::New(version) => *version,
        };
        let (id, number) = (stored.value.id, version.number.unwrap_or_default());
        let body = keys::version(&id, number);
        let written = self.write(&body, Expect::Absent, &version).await?;
        match self.list_version(&stored.value, version).await {
            Ok(published) => {
                if !published.created {
                    // Another caller listed the same content meanwhile: ours is not needed.
                    self.meta.delete_if(&body, written).await?;
                }
                Ok(published)
            }
            Err(e) => {
                // The error stands; a body that could not be removed is never looked at.
                if let Err(left) = self.meta.delete_if(&body, written).await {
                    tracing::warn!(key = %body, "an unlisted version stays behind: {left}");
                }
                Err(e)
            }
        }
    }

    /// Step (3).
    async fn list_version(&self, function: &Function, version: Version) -> Result<Published> {
        let (key, id) = (function.key(), function.id);
        let summary = VersionSummary {
            number: version.number.unwrap_or_default(),
            fingerprint: version.fingerprint(),
            published_at: version.modified_at,
        };
        let changed = self
            .change(key, Precondition::None, |current| {
                let mut function = existing(key, current)?;
                if function.id != id {
                    // Deleted and created again in between: this content belongs to the old one.
                    return Err(Error::not_found("function", key));
                }
                if let Some(number) = same_content(&function, &version) {
                    return Ok((function, Some(number)));
                }
                let at = function.versions.partition_point(|v| v.number < summary.number);
                function.versions.insert(at, summary.clone());
                Ok((function, None))
            })
            .await?;
        let Stored { value: function, revision } = changed.stored;
        let (version, created) = match changed.result {
            Some(number) => (self.version(&function, number).await?, false),
            None => (version, true),
        };
        Ok(Published { function: FunctionAt { function, version, revision }, created })
    }

    /// A listed version's body; `not-found` if the function lists no such number.
    pub(super) async fn version(&self, function: &Function, number: u64) -> Result<Version> {
        let missing = || Error::not_found("version", format!("{}:{number}", function.key()));
        if function.versions.binary_search_by_key(&number, |v| v.number).is_err() {
            return Err(missing());
        }
        let stored = self.read(&keys::version(&function.id, number)).await?;
        Ok(stored.ok_or_else(missing)?.value)
    }

    /// The published versions of a function, ascending, with numbers above `after`; and whether more follow.
    pub(crate) async fn versions(
        &self,
        key: &FunctionKey,
        after: u64,
        limit: usize,
    ) -> Result<(Vec<VersionSummary>, bool)> {
        let mut versions = self.function_record(key).await?.value.versions;
        versions.retain(|v| v.number > after);
        let more = versions.len() > limit;
        versions.truncate(limit);
        Ok((versions, more))
    }

    /// Removes the bodies of a function that is gone.
    pub(super) async fn delete_versions(&self, function: &Function) -> Result<()> {
        let prefix = version_prefix(&function.id);
        loop {
            let entries = self.meta.list(&prefix, None, limits::PAGE_ENTRIES).await?;
            if entries.is_empty() {
                return Ok(());
            }
            for entry in entries {
                self.meta.delete_if(&entry.key, entry.revision).await?;
            }
        }
    }
}

/// All bodies of one function.
fn version_prefix(id: &RequestId) -> String {
    let first = keys::version(id, 0);
    first.trim_end_matches('0').to_owned()
}

#[cfg(test)]
mod tests {
    use model::function::{CodeRef, FunctionSettings, RuntimeInfo};
    use model::ids::Digest;

    use super::*;

    fn function() -> Function {
        let now = UnixMillis(1);
        Function {
            id: RequestId::generate(),
            created_at: now,
            settings: FunctionSettings::default(),
            latest: Version {
                key: FunctionKey {
                    namespace: "default".parse().unwrap(),
                    name: "f".parse().unwrap(),
                },
                number: None,
                config: serde_json::from_str(r#"{"runtime":"nodejs20","handler":"a.b"}"#).unwrap(),
                code: CodeRef { digest: Digest::of(b"zip"), size_bytes: 3, unpacked_bytes: 3 },
                runtime: RuntimeInfo { name: "nodejs20".into(), version: "20.0.0".into() },
                modified_at: now,
            },
            versions: Vec::new(),
            next_version: 1,
        }
    }

    #[test]
    fn equal_content_gives_the_version_that_has_it() {
        let mut function = function();
        let Publishing::New(version) = Publishing::begin(&mut function, UnixMillis(5)) else {
            panic!("nothing is published yet");
        };
        assert_eq!((version.number, version.modified_at), (Some(1), UnixMillis(5)));
        assert_eq!(function.next_version, 2);
        function.versions.push(VersionSummary {
            number: 1,
            fingerprint: version.fingerprint(),
            published_at: UnixMillis(5),
        });
        assert!(matches!(Publishing::begin(&mut function, UnixMillis(9)), Publishing::Existing(1)));
        assert_eq!(function.next_version, 2);

        function.latest.config.memory_mb += 1;
        assert!(matches!(Publishing::begin(&mut function, UnixMillis(9)), Publishing::New(_)));
    }

    #[test]
    fn the_prefix_covers_every_number() {
        let id = RequestId::generate();
        for number in [0, 1, 10, 100] {
            assert!(keys::version(&id, number).starts_with(&version_prefix(&id)));
        }
        assert!(version_prefix(&id).ends_with('/'));
    }
}
