//! `hanshu init`: a folder to start from. The templates are part of the binary.

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use serde_json::json;

use super::context::Context;
use super::failure::CliError;
use super::screen::Format;
use crate::package::Source;

const AFTER_HELP: &str = "\
Makes a handler, hanshu.toml, a test event and a README. Files that are there already are never overwritten.

Examples:
  hanshu init hello --runtime nodejs20
  hanshu init sum --runtime python3.11
  hanshu init sum --runtime java17
  hanshu init sum --runtime provided.al2023    # in Go";

/// Files of a starter function.
struct Starter {
    runtime: &'static str,
    files: &'static [(&'static str, &'static str)],
}

const STARTERS: &[Starter] = &[
    Starter {
        runtime: "nodejs20",
        files: &[
            ("index.js", include_str!("../starters/nodejs/index.js")),
            ("hanshu.toml", include_str!("../starters/nodejs/hanshu.toml")),
            ("event.json", include_str!("../starters/event.json")),
            ("README.md", include_str!("../starters/README.md")),
        ],
    },
    Starter {
        runtime: "python3.11",
        files: &[
            ("main.py", include_str!("../starters/python/main.py")),
            ("hanshu.toml", include_str!("../starters/python/hanshu.toml")),
            ("event.json", include_str!("../starters/event.json")),
            ("README.md", include_str!("../starters/README.md")),
        ],
    },
    Starter {
        runtime: "java17",
        files: &[
            ("Hello.java", include_str!("../starters/java/Hello.java")),
            ("hanshu.toml", include_str!("../starters/java/hanshu.toml")),
            ("event.json", include_str!("../starters/event.json")),
            ("README.md", include_str!("../starters/README.md")),
        ],
    },
    Starter {
        runtime: "provided.al2023",
        files: &[
            ("main.go", include_str!("../starters/go/main.go")),
            ("go.mod", include_str!("../starters/go/go.mod")),
            ("go.sum", include_str!("../starters/go/go.sum")),
            ("hanshu.toml", include_str!("../starters/go/hanshu.toml")),
            ("event.json", include_str!("../starters/event.json")),
            ("README.md", include_str!("../starters/README.md")),
        ],
    },
];

/// Make the folder of a new function.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct InitArgs {
    /// The folder; it is made if it is missing
    #[arg(default_value = ".")]
    dir: PathBuf,
    /// The function's runtime
    #[arg(long, default_value = "nodejs20", value_parser = ["nodejs20", "python3.11", "java17", "provided.al2023"])]
    runtime: String,
}

impl InitArgs {
    pub(super) fn run(self, cx: &Context) -> anyhow::Result<ExitCode> {
        let starter = STARTERS.iter().find(|s| s.runtime == self.runtime);
        let starter = starter.context("the runtime has no starter")?;
        let dir = self.dir.display();
        fs::create_dir_all(&self.dir)
            .map_err(|e| CliError::new(format!("the folder {dir} cannot be made: {e}")))?;
        let taken = starter.files.iter().find(|(name, _)| self.dir.join(name).exists());
        if let Some((name, _)) = taken {
            return Err(CliError::new(format!(
                "{dir} holds a {name} already, and nothing is overwritten"
            ))
            .hint("name another folder: hanshu init DIR")
            .into());
        }
        let name = Source::at(&self.dir)?.default_name();
        for (file, template) in starter.files {
            let path = self.dir.join(file);
            let text = template.replace("{{name}}", &name);
            let mut made = fs::File::create_new(&path)
                .with_context(|| format!("making {}", path.display()))?;
            made.write_all(text.as_bytes())
                .with_context(|| format!("writing {}", path.display()))?;
        }
        let files: Vec<&str> = starter.files.iter().map(|(f, _)| *f).collect();
        match cx.screen.format() {
            Format::Json => cx
                .screen
                .json(&json!({ "name": name, "runtime": starter.runtime, "files": files }))?,
            Format::Text => {
                cx.screen.line(&format!("made {} in {dir}: {}", name, files.join(", ")))?;
                cx.screen.note(&cx.screen.dim(&format!(
                    "next: hanshu deploy {dir}, then hanshu invoke {name} --payload @{}",
                    self.dir.join("event.json").display()
                )));
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}
