//! Published versions: how `$LATEST` becomes a numbered, immutable one; reading, listing, deleting.
//!
//! A version's body is a document of its own, written before one compare-and-set of the function's document gives it the next number
//! and lists it: so numbers have no gaps, and a crash leaves at most a body that nothing names. Its key holds number and fingerprint, for
//! two publishers may each write a body for the same number before one of them gets it.

use model::Result;
use model::change::What;
use model::error::{Code, Error};
use model::function::{Function, FunctionState, Version, VersionSummary};
use model::ids::{FunctionKey, Qualifier, RequestId, VersionRef};
use model::{keys, limits};

use super::Catalog;
use super::functions::{Put, Wish, existing, named, place};
use super::provisioned::not_provisioned;
use super::record::{Draft, Edit, Intent, Place, Turn};

/// What publishing comes to.
#[derive(Debug)]
pub(super) enum Published {
    /// A version of the same content exists: its number.
    Existing(u64),
    /// The next number, and what it is.
    New(Box<Version>),
}

impl Published {
    /// The version, if it is new.
    pub(super) fn as_new(&self) -> Option<&Version> {
        match self {
            Self::Existing(_) => None,
            Self::New(version) => Some(version),
        }
    }
}

/// Finds the version that has `$LATEST`'s content, or lists a new one. With a description of its own it has that instead.
pub(super) fn publish(
    function: &mut Function,
    described: Option<&str>,
    turn: Turn,
) -> Result<Published> {
    let mut version = Version { modified_at: turn.now, ..function.latest.clone() };
    if let Some(described) = described {
        described.clone_into(&mut version.config.description);
        version.config.validate()?;
    }
    let fingerprint = version.fingerprint();
    if let Some(found) = function.versions.iter().find(|v| v.fingerprint == fingerprint) {
        return Ok(Published::Existing(found.number));
    }
    if function.versions.len() >= limits::VERSIONS {
        return Err(Error::caller(
            Code::InvalidParameter,
            format!(
                "{} has {} versions: expected at most {}",
                named(function.key()),
                function.versions.len(),
                limits::VERSIONS
            ),
        )
        .with_hint("delete versions that are not needed any more"));
    }
    let number = function.next_version;
    function.next_version += 1;
    function.versions.push(VersionSummary {
        number,
        fingerprint,
        published_at: turn.now,
        size_bytes: function.latest.code.size_bytes,
    });
    version.number = Some(number);
    Ok(Published::New(Box::new(version)))
}

/// Key and value of a version's own document.
pub(super) fn body_of(id: &RequestId, version: &Version) -> Result<(String, Vec<u8>)> {
    let number = version.number.unwrap_or_default();
    let body = serde_json::to_vec(version).map_err(Error::internal)?;
    Ok((keys::version(id, number, version.fingerprint()), body))
}

impl Catalog {
    /// Publishes `$LATEST`, with a description of the version's own if there is one; an unchanged one gives the version that already has its content.
    pub(crate) async fn publish(
        &self,
        key: &FunctionKey,
        described: Option<&str>,
        intent: &Intent,
    ) -> Result<Put> {
        let wish = Wish { what: What::Publish, publish: true, described };
        self.change_latest_once(key, intent, wish, |current, _| existing(key, current)).await
    }

    /// A listed version's body; `not-found` if the function lists no such number.
    pub(super) async fn version(&self, function: &Function, number: u64) -> Result<Version> {
        let missing = || Error::not_found("version", format!("{}:{number}", function.key()));
        let summary = function.published(number).ok_or_else(missing)?;
        let stored = self.read::<Version>(&keys::version_of(&function.id, summary)).await?;
        let version = stored.ok_or_else(missing)?.value;
        // The body may be another publisher's, who wrote the same a moment before.
        Ok(Version { modified_at: summary.published_at, ..version })
    }

    /// The published versions of a function, ascending, with numbers above `after`, each with the aliases that may lead to it; and whether
    /// more follow.
    pub(crate) async fn versions(
        &self,
        key: &FunctionKey,
        after: u64,
        limit: usize,
    ) -> Result<(Vec<(VersionSummary, Vec<String>)>, bool)> {
        let function = self.function_record(key).await?;
        let mut versions: Vec<_> =
            function.versions.iter().filter(|v| v.number > after).cloned().collect();
        let more = versions.len() > limit;
        versions.truncate(limit);
        let with_aliases = |version: VersionSummary| {
            let aliases = leading_to(&function, version.number);
            (version, aliases)
        };
        Ok((versions.into_iter().map(with_aliases).collect(), more))
    }

    /// Deletes a published version; `conflict` while an alias may lead to it.
    pub(crate) async fn delete_version(
        &self,
        key: &FunctionKey,
        number: u64,
        intent: &Intent,
    ) -> Result<()> {
        let of = number.to_string();
        let place = Place {
            revision: &|function: &Function| function.published(number).map(|_| function.revision),
            ..place(key)
        };
        let changed = self
            .edit(&place, intent, |current, turn| {
                let mut value = existing(key, current)?;
                let at = value.versions.binary_search_by_key(&number, |v| v.number);
                let at = at.map_err(|_| Error::not_found("version", format!("{key}:{number}")))?;
                let aliases = leading_to(&value, number);
                if !aliases.is_empty() {
                    return Err(in_use(key, number, &aliases));
                }
                not_provisioned(&value, &Qualifier::Version(number))?;
                let summary = value.versions.remove(at);
                value.revision = turn.revision;
                let draft = Draft {
                    what: What::Delete,
                    of: Some(of.clone()),
                    before: Some(FunctionState::Version(summary.clone())),
                    after: None,
                };
                Ok(Edit { value, draft: Some(draft), body: None, result: summary })
            })
            .await?;
        // No number is given twice, so nobody can come to need the body again.
        let body = keys::version_of(&changed.stored.value.id, &changed.result);
        if let Err(error) = self.remove(&body).await {
            tracing::warn!(%error, key = body, "the body of a deleted version stays behind");
        }
        Ok(())
    }
}

/// Names of the aliases that may lead to a version, or go back to it.
fn leading_to(function: &Function, number: u64) -> Vec<String> {
    let version = VersionRef::Number(number);
    let leads = function.aliases.iter().filter(|(_, record)| {
        let shift = record.rollout.iter();
        let back = shift.flat_map(|r| r.before.iter().map(|t| t.version).chain([r.to]));
        record.alias.versions().chain(back).any(|v| v == version)
    });
    leads.map(|(name, _)| name.to_string()).collect()
}

fn in_use(key: &FunctionKey, number: u64, aliases: &[String]) -> Error {
    const SHOWN: usize = 5;
    let shown = aliases.iter().take(SHOWN).map(|a| format!("'{a}'")).collect::<Vec<_>>();
    let more = match aliases.len().saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    Error::caller(
        Code::Conflict,
        format!(
            "version '{key}:{number}' is in use: calls of alias {}{more} may reach it",
            shown.join(", ")
        ),
    )
    .with_hint("change or delete these aliases first")
}

#[cfg(test)]
mod tests {
    use model::clock::UnixMillis;
    use model::function::FunctionConfig;
    use model::suites::functions::deployed;

    use super::*;

    fn function() -> Function {
        let key = FunctionKey { namespace: "default".parse().unwrap(), name: "f".parse().unwrap() };
        deployed(&key, FunctionConfig::new("nodejs20", "a.b"), UnixMillis(1))
    }

    fn turn(now: u64) -> Turn {
        Turn { revision: 2, next_version: 1, now: UnixMillis(now) }
    }

    #[test]
    fn equal_content_gives_the_version_that_has_it() {
        let mut function = function();
        let Published::New(version) = publish(&mut function, None, turn(5)).unwrap() else {
            panic!("nothing is published yet");
        };
        assert_eq!((version.number, version.modified_at), (Some(1), UnixMillis(5)));
        assert_eq!((function.next_version, function.versions.len()), (2, 1));
        assert!(matches!(publish(&mut function, None, turn(9)), Ok(Published::Existing(1))));
        assert_eq!(function.next_version, 2);

        function.latest.config.memory_mb += 1;
        assert!(publish(&mut function, None, turn(9)).unwrap().as_new().is_some());
        let described = publish(&mut function, Some("third"), turn(9)).unwrap();
        assert_eq!(described.as_new().unwrap().config.description, "third");
        assert_eq!(function.latest.config.description, "");
        let again = publish(&mut function, Some("third"), turn(9));
        assert!(matches!(again, Ok(Published::Existing(3))));
        publish(&mut function, Some(&"x".repeat(1001)), turn(9)).unwrap_err();
    }

    #[test]
    fn versions_have_a_limit() {
        let mut function = function();
        publish(&mut function, None, turn(5)).unwrap();
        let first = function.versions[0].clone();
        function.versions = (1..=limits::VERSIONS as u64)
            .map(|number| VersionSummary { number, ..first.clone() })
            .collect();
        function.latest.config.memory_mb += 1;
        let e = publish(&mut function, None, turn(9)).unwrap_err();
        assert!(e.message().contains("expected at most 10000"), "{e}");
    }

    #[test]
    fn aliases_that_lead_somewhere_are_found() {
        let mut function = function();
        let record = |json: &str| model::alias::AliasRecord {
            alias: serde_json::from_str(json).unwrap(),
            revision: 1,
            created_at: UnixMillis(1),
            modified_at: UnixMillis(1),
            rollout: None,
        };
        for (name, json) in [
            ("target", r#"{"targets":[{"version":"1","weight":0},{"version":"9","weight":1}]}"#),
            (
                "rule",
                r#"{"targets":[{"version":"9","weight":1}],"rules":[{"when":[{"on":"path","exact":"/"}],"to":"1"}]}"#,
            ),
            (
                "shadow",
                r#"{"targets":[{"version":"9","weight":1}],"shadow":{"version":"1","share":"1%"}}"#,
            ),
            ("other", r#"{"targets":[{"version":"9","weight":1}]}"#),
        ] {
            function.aliases.insert(name.parse().unwrap(), record(json));
        }
        assert_eq!(leading_to(&function, 1), ["rule", "shadow", "target"]);
        let e = in_use(function.key(), 1, &leading_to(&function, 1));
        assert!(e.message().contains("alias 'rule', 'shadow', 'target'"), "{e}");
    }
}
