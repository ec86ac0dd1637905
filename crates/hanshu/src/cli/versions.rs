//! `hanshu versions`: what was published of a function.

use std::process::ExitCode;

use clap::Args;

use super::context::Context;
use super::screen::Format;

/// List the published versions of a function.
#[derive(Debug, Args)]
pub(crate) struct VersionsArgs {
    /// The function
    name: String,
}

impl VersionsArgs {
    pub(super) fn run(self, cx: &Context) -> anyhow::Result<ExitCode> {
        let (namespace, name) = cx.function(&self.name)?;
        let versions = cx.client()?.versions(&namespace, &name)?;
        if cx.screen.format() == Format::Json {
            cx.screen.json(&versions)?;
            return Ok(ExitCode::SUCCESS);
        }
        if versions.is_empty() {
            cx.screen.note("nothing published yet: publish with `hanshu deploy PATH --publish`");
            return Ok(ExitCode::SUCCESS);
        }
        let row = |v: &model::api::VersionView| vec![v.version.to_string(), v.published_at.clone()];
        cx.screen
            .table(&["VERSION", "PUBLISHED"], &versions.iter().map(row).collect::<Vec<_>>())?;
        Ok(ExitCode::SUCCESS)
    }
}
