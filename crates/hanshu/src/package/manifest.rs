//! `hanshu.toml`: what a function's folder says about itself.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use model::function::{Cores, MemoryShare, UrlAuth};
use serde::Deserialize;

use crate::cli::failure::CliError;

/// The file's name.
pub(crate) const FILE_NAME: &str = "hanshu.toml";
/// The test event that `up` calls a function with, when the file names no other.
pub(crate) const DEFAULT_EVENT: &str = "event.json";

/// Everything the file may hold. Fields have the names and units of the REST API.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Manifest {
    /// The function's name; absent means the folder's name.
    pub name: Option<String>,
    /// What the function is for.
    pub description: Option<String>,
    /// The runtime, for instance `nodejs20`; absent means guessed from the files.
    pub runtime: Option<String>,
    /// What to call, for instance `index.handler`; absent means guessed from the files.
    pub handler: Option<String>,
    /// How long one call may run, in milliseconds.
    pub timeout_ms: Option<u32>,
    /// Memory limit of one instance, in MiB.
    pub memory_mb: Option<u32>,
    /// Memory limit of one instance as a share of the host's, for instance `25%`; instead of `memory_mb`.
    pub memory_share: Option<MemoryShare>,
    /// Weight of one instance against the others when processors are short.
    pub cpu_weight: Option<u32>,
    /// Most processors that one instance may keep busy, for instance 0.5.
    pub cpu_cores: Option<Cores>,
    /// Processes and threads of one instance together.
    pub processes: Option<u32>,
    /// Open files of one process of an instance.
    pub open_files: Option<u32>,
    /// Size limit of `/tmp`, in MiB.
    pub tmp_mb: Option<u32>,
    /// What one instance may write to its log, in bytes per second.
    pub output_bytes_per_second: Option<u32>,
    /// Environment variables, whole: those of the deployed function that are not here go away.
    pub environment: Option<BTreeMap<String, String>>,
    /// Most live instances at once.
    pub max_instances: Option<u32>,
    /// Who may call the function's URL.
    pub url_auth: Option<UrlAuth>,
    /// Free labels, whole.
    pub tags: Option<BTreeMap<String, String>>,
    /// Files to leave out, as patterns of `.gitignore`.
    #[serde(default)]
    pub exclude: Vec<String>,
    /// The test event, relative to the folder.
    pub event: Option<String>,
}

impl Manifest {
    /// Reads the file of a folder; an absent one is empty. Unknown keys are refused by name.
    pub(crate) fn of_folder(folder: &Path) -> anyhow::Result<Self> {
        let path = folder.join(FILE_NAME);
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Self::parse(&text, &path)?),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(e) => Err(CliError::new(format!("{} cannot be read: {e}", path.display())).into()),
        }
    }

    fn parse(text: &str, path: &Path) -> Result<Self, CliError> {
        toml::from_str(text).map_err(|e: toml::de::Error| {
            let before = e.span().and_then(|s| text.get(..s.start)).unwrap_or_default();
            let line = before.matches('\n').count() + 1;
            CliError::new(format!("{}, line {line}: {}", path.display(), e.message()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_file_is_read() {
        let m = Manifest::parse(
            "name = 'a'\nruntime = 'nodejs20'\ntimeout_ms = 5000\nurl_auth = 'none'\nmemory_share = '25%'\n\
             cpu_cores = 0.5\nprocesses = 64\n[environment]\nA = 'b'\n",
            Path::new("hanshu.toml"),
        )
        .unwrap();
        assert_eq!(m.timeout_ms, Some(5000));
        assert_eq!(m.url_auth, Some(UrlAuth::None));
        assert_eq!(m.memory_share.unwrap().to_string(), "25%");
        assert_eq!((m.cpu_cores.unwrap().millis(), m.processes), (500, Some(64)));
        assert_eq!(m.environment.unwrap()["A"], "b");
    }

    #[test]
    fn unknown_keys_are_named_with_file_and_line() {
        let e =
            Manifest::parse("name = 'a'\nmemory = 1\n", Path::new("x/hanshu.toml")).unwrap_err();
        let message = e.to_string();
        for part in ["x/hanshu.toml", "line 2", "`memory`", "`memory_mb`"] {
            assert!(message.contains(part), "{message}");
        }
    }
}
