//! `hanshu list`: the functions of a namespace.

use std::process::ExitCode;

use clap::Args;
use model::api::FunctionView;

use super::context::Context;

/// List the functions of a namespace.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {}

impl ListArgs {
    pub(super) fn run(self, cx: &Context) -> anyhow::Result<ExitCode> {
        let row = |f: &FunctionView| {
            let FunctionView { name, config, modified_at, url, .. } = f;
            [name, &config.runtime, &config.handler, modified_at, url].map(String::clone).to_vec()
        };
        cx.screen.list(
            &cx.client()?.functions(&cx.namespace()?)?,
            &["FUNCTION", "RUNTIME", "HANDLER", "MODIFIED", "URL"],
            row,
            "no functions yet: deploy one with `hanshu deploy PATH`",
        )?;
        Ok(ExitCode::SUCCESS)
    }
}
