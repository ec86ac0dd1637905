//! What differs between two states: of a function's versions with their files ([`files`]), of whatever the history keeps ([`states`]).

mod files;
mod states;

use model::Result;
use model::api::VersionDiff;
use model::error::Error;
use model::function::{CodeRef, Function, Version};
use model::ids::{FunctionKey, VersionRef};

use super::Catalog;

pub(crate) use states::{as_json, difference_of, function_state, without_marks};

impl Catalog {
    /// What differs between two versions of a function; `not-found` if one of them is missing.
    pub(crate) async fn diff_versions(
        &self,
        key: &FunctionKey,
        from: VersionRef,
        to: VersionRef,
    ) -> Result<VersionDiff> {
        let function = self.function_record(key).await?;
        let before = self.version_at(&function, from).await?;
        let after = self.version_at(&function, to).await?;
        let config =
            difference_of(Some(&states::comparable(&before)), Some(&states::comparable(&after)));
        let files::Changes { listed, more } = self.diff_files(&before.code, &after.code).await?;
        Ok(VersionDiff {
            from: from.to_string(),
            to: to.to_string(),
            config,
            files: listed,
            more_files: more,
        })
    }

    async fn version_at(&self, function: &Function, at: VersionRef) -> Result<Version> {
        match at {
            VersionRef::Latest => Ok(function.latest.clone()),
            VersionRef::Number(number) => self.version(function, number).await,
        }
    }

    async fn diff_files(&self, before: &CodeRef, after: &CodeRef) -> Result<files::Changes> {
        if before.digest == after.digest {
            return Ok(files::Changes::default());
        }
        // Packages in memory have a limit, whatever they are there for.
        let slot = self.upload_slot().await?;
        let before = self.package_bytes(before).await?;
        let after = self.package_bytes(after).await?;
        let clock = self.clock.clone();
        tokio::task::spawn_blocking(move || {
            let changes = files::compare(before, after, &*clock);
            // Not before the packages are gone: this goes on if the caller goes away.
            drop(slot);
            changes
        })
        .await
        .map_err(Error::internal)?
    }
}
