//! `hanshu init`: a folder to start from. The [`starters`] are part of the binary.

mod starters;

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use serde_json::json;

use self::starters::{STARTERS, Starter};
use super::context::Context;
use super::failure::CliError;
use super::screen::Format;
use crate::package::Source;

const AFTER_HELP: &str = "\
Makes a program, hanshu.toml, a test event and a README. Files that are there already are never overwritten.

Runtimes and their templates, the usual one first:
  nodejs20, python3.11
  java17             plain, maven (with AWS Lambda's interface)
  provided.al2023    go, rust, c
  web                express, fastapi, go
  wasm               rust, js, python, go

Examples:
  hanshu init hello --runtime nodejs20
  hanshu init sum --runtime python3.11
  hanshu init sum --runtime java17
  hanshu init sum --runtime provided.al2023 --template rust
  hanshu init site --runtime web --template fastapi
  hanshu init hello --runtime wasm --template js";

/// Make the folder of a new function.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct InitArgs {
    /// The folder; it is made if it is missing
    #[arg(default_value = ".")]
    dir: PathBuf,
    /// The function's runtime
    #[arg(long, default_value = "nodejs20", value_parser = ["nodejs20", "python3.11", "java17", "provided.al2023", "web", "wasm"])]
    runtime: String,
    /// What to start from, of those that the runtime has
    #[arg(long)]
    template: Option<String>,
}

impl InitArgs {
    pub(super) fn run(self, cx: &Context) -> anyhow::Result<ExitCode> {
        let starter = self.starter()?;
        let dir = self.dir.display();
        fs::create_dir_all(&self.dir)
            .map_err(|e| CliError::new(format!("the folder {dir} cannot be made: {e}")))?;
        let name = Source::at(&self.dir)?.default_name();
        let made = starter.files(&name);
        let taken = made.iter().find(|(name, _)| self.dir.join(name).exists());
        if let Some((name, _)) = taken {
            return Err(CliError::new(format!(
                "{dir} holds a {name} already, and nothing is overwritten"
            ))
            .hint("name another folder: hanshu init DIR")
            .into());
        }
        for (file, text) in &made {
            let path = self.dir.join(file);
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent)
                    .with_context(|| format!("making {}", parent.display()))?;
            }
            let mut made = fs::File::create_new(&path)
                .with_context(|| format!("making {}", path.display()))?;
            made.write_all(text.as_bytes())
                .with_context(|| format!("writing {}", path.display()))?;
        }
        let files: Vec<&str> = made.iter().map(|(file, _)| *file).collect();
        match cx.screen.format() {
            Format::Json => cx
                .screen
                .json(&json!({ "name": name, "runtime": starter.runtime, "template": starter.template, "files": files }))?,
            Format::Text => {
                let what = starter.what;
                cx.screen.line(&format!("made {name} in {dir} ({what}): {}", files.join(", ")))?;
                let event = self.dir.join("event.json");
                let next = [
                    format!("next: hanshu deploy {dir}"),
                    format!("then: hanshu invoke {name} --payload @{}", event.display()),
                ];
                next.iter().for_each(|line| cx.screen.note(&cx.screen.dim(line)));
            }
        }
        Ok(ExitCode::SUCCESS)
    }

    /// The one that is asked for.
    fn starter(&self) -> Result<&'static Starter, CliError> {
        let all: Vec<&Starter> = STARTERS.iter().filter(|s| s.runtime == self.runtime).collect();
        let wanted = |s: &&&Starter| self.template.as_ref().is_none_or(|t| t == s.template);
        all.iter().find(wanted).copied().ok_or_else(|| {
            let names: Vec<&str> = all.iter().map(|s| s.template).collect();
            let asked = self.template.as_deref().unwrap_or_default();
            CliError::new(format!("{} has no template {asked:?}", self.runtime))
                .hint(format!("expected one of: {}", names.join(", ")))
        })
    }
}
