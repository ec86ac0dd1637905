//! `hanshu secrets`: the keys that functions' secrets are sealed with; and how every command reads a secret.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use model::clock::SystemClock;
use model::limits;
use model::secret::SecretText;
use model::tasks::Tasks;
use serde_json::json;
use store::vault::{KeySource, rotate};
use store::{Store, StoreConfig};
use zeroize::Zeroizing;

use super::context::Context;
use super::failure::CliError;
use super::screen::Format;
use super::serve::{ServeArgs, runtime};
use crate::config::DaemonConfig;

const ROTATE_HELP: &str = "\
The daemon that uses the data folder has to be stopped. Every secret is sealed anew with a new key; functions and their versions
stay as they are. It may be interrupted at any time and run again. Without --new-key-file or --new-passphrase-file the key
file gets a new key, or the passphrase a new salt.

Examples:
  hanshu secrets rotate --data /srv/hanshu
  hanshu secrets rotate --config /etc/hanshu.toml --new-passphrase-file /dev/fd/3 3<passphrase.txt
  hanshu secrets rotate --data /srv/hanshu --new-key-file /etc/hanshu/secrets.key";

/// Change the keys that secrets are sealed with.
#[derive(Debug, Args)]
pub(crate) struct SecretsArgs {
    #[command(subcommand)]
    command: Operation,
}

#[derive(Debug, Subcommand)]
enum Operation {
    /// Seal every secret of a stopped daemon's data folder with a new key
    #[command(after_help = ROTATE_HELP)]
    Rotate(RotateArgs),
}

#[derive(Debug, Args)]
struct RotateArgs {
    /// The data folder [variable: HANSHU_DATA] [default: hanshu-data]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// The daemon's TOML file of settings [variable: HANSHU_CONFIG]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Lock with the key in this file from now on; it is made if it is missing
    #[arg(long, value_name = "FILE", conflicts_with = "new_passphrase_file")]
    new_key_file: Option<PathBuf>,
    /// Lock with the passphrase in this file from now on
    #[arg(long, value_name = "FILE")]
    new_passphrase_file: Option<PathBuf>,
}

impl SecretsArgs {
    pub(super) fn run(self, cx: &Context) -> anyhow::Result<ExitCode> {
        let Operation::Rotate(args) = self.command;
        let serve = ServeArgs { data: args.data, config: args.config, ..ServeArgs::default() };
        let config = serve.load(cx)?;
        let new = match (args.new_key_file, args.new_passphrase_file) {
            (Some(file), _) => KeySource::KeyFile(file),
            (None, Some(file)) => KeySource::PassphraseFile(file),
            (None, None) => config.secrets.clone(),
        };
        let sealed = runtime()?.block_on(change_keys(&config, &new))?;
        if cx.screen.format() == Format::Json {
            cx.screen.json(&json!({ "resealed": sealed }))?;
        } else {
            cx.screen.line(&format!("sealed {sealed} secrets anew"))?;
            if new != config.secrets {
                cx.screen.note(&advice(&new));
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn advice(new: &KeySource) -> String {
    let (setting, file) = match new {
        KeySource::KeyFile(file) => ("secrets.key_file", file),
        KeySource::PassphraseFile(file) => ("secrets.passphrase_file", file),
    };
    format!("the daemon needs it from now on: set {setting} to {}", file.display())
}

async fn change_keys(config: &DaemonConfig, new: &KeySource) -> anyhow::Result<usize> {
    if !config.data.join("format").is_file() {
        // Opening would make one.
        return Err(CliError::new(format!("'{}' is not a data folder", config.data.display()))
            .hint("name it by --data or --config, as for `hanshu serve`")
            .into());
    }
    let tasks = Tasks::new();
    let store_config = StoreConfig {
        logs_bytes_max: config.store.logs_bytes_max,
        ..StoreConfig::at(&config.data)
    };
    let store = store::open(store_config, Arc::new(SystemClock), &tasks).await?;
    let changed = change_in(&store, &config.secrets, new).await;
    let closed = store.close().await;
    let sealed = changed?;
    closed.context("closing the store")?;
    Ok(sealed)
}

async fn change_in(store: &Store, old: &KeySource, new: &KeySource) -> anyhow::Result<usize> {
    let keyring = rotate::begin(&store.meta, old, new).await?;
    let done = server::reseal(&store.meta, &keyring).await?;
    if !done.unopened.is_empty() {
        return Err(CliError::new(format!(
            "{} secrets cannot be opened and were left as they are: {}",
            done.unopened.len(),
            done.unopened.join(", ")
        ))
        .hint("all others have the new key; the old one is kept: set or remove these, then rotate again")
        .into());
    }
    rotate::finish(&store.meta).await?;
    Ok(done.secrets)
}

/// `KEY=@FILE` or `KEY=-`: a variable and the text that it stands for.
pub(super) fn pair(text: &str) -> Result<(String, SecretText), CliError> {
    // The text is not repeated: it may be a secret.
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), read(key, value)?)),
        _ => Err(CliError::new("--secret is not valid: expected KEY=@FILE or KEY=-")),
    }
}

/// A secret from where `value` says: `@FILE`, or `-` for standard input. One line break at its end does not count.
pub(super) fn read(name: &str, value: &str) -> Result<SecretText, CliError> {
    let bad = |what: String| CliError::new(format!("secret.{name} {what}"));
    if name.is_empty() {
        return Err(bad("has no name: expected secret.NAME".to_owned()));
    }
    if value == "-" {
        return take(std::io::stdin().lock())
            .map_err(|e| bad(format!("cannot be read from standard input: {e}")));
    }
    let Some(file) = value.strip_prefix('@') else {
        return Err(bad("is not valid: expected @FILE, or - for standard input".to_owned())
            .hint("a secret on the command line stays in the shell's history and shows in the list of processes"));
    };
    let opened = File::open(file).and_then(take);
    opened.map_err(|e| bad(format!("cannot be read from {file}: {e}")))
}

fn take(source: impl Read) -> std::io::Result<SecretText> {
    // One byte over the limit is enough for the daemon to say that it is over.
    let most = limits::ENVIRONMENT_BYTES + 1;
    let mut bytes = Zeroizing::new(Vec::with_capacity(most + 64));
    source.take(u64::try_from(most).unwrap_or(u64::MAX)).read_to_end(&mut bytes)?;
    for end in [b'\n', b'\r'] {
        if bytes.last() == Some(&end) {
            bytes.pop();
        }
    }
    match std::str::from_utf8(&bytes) {
        Ok(text) => Ok(SecretText::new(text)),
        Err(_) => Err(std::io::Error::new(std::io::ErrorKind::InvalidData, "it is not UTF-8")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_come_from_files_not_from_the_command_line() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        for (text, secret) in [("hunter2", "hunter2"), ("hunter2\n", "hunter2"), ("a\n\n", "a\n")] {
            std::fs::write(&file, text).unwrap();
            let (name, found) = pair(&format!("T=@{}", file.display())).unwrap();
            assert_eq!((name.as_str(), found.expose()), ("T", secret));
        }
        for wrong in ["T=hunter2", "hunter2", "=@hunter2", "T=@/no/such/file", "T="] {
            let e = pair(wrong).unwrap_err();
            assert!(!e.to_string().contains("hunter2"), "{e}");
        }
        std::fs::write(&file, [0xff, 0xfe]).unwrap();
        assert!(pair(&format!("T=@{}", file.display())).unwrap_err().to_string().contains("UTF-8"));
    }
}
