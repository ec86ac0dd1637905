//! `hanshu list`: the functions of a namespace.

use std::process::ExitCode;

use clap::Args;

use super::context::Context;
use super::screen::Format;

/// List the functions of a namespace.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {}

impl ListArgs {
    pub(super) fn run(self, cx: &Context) -> anyhow::Result<ExitCode> {
        let functions = cx.client()?.functions(&cx.namespace()?)?;
        if cx.screen.format() == Format::Json {
            cx.screen.json(&functions)?;
            return Ok(ExitCode::SUCCESS);
        }
        if functions.is_empty() {
            cx.screen.note("no functions yet: deploy one with `hanshu deploy PATH`");
            return Ok(ExitCode::SUCCESS);
        }
        let row = |f: model::api::FunctionView| {
            vec![f.name, f.config.runtime, f.config.handler, f.modified_at, f.url]
        };
        let rows: Vec<_> = functions.into_iter().map(row).collect();
        cx.screen.table(&["FUNCTION", "RUNTIME", "HANDLER", "MODIFIED", "URL"], &rows)?;
        Ok(ExitCode::SUCCESS)
    }
}
