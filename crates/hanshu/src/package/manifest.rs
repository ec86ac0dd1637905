//! `hanshu.toml`: what a function's folder says about itself.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use model::api::VariableView;
use model::function::{AsyncPolicy, Cores, Idempotency, MemoryShare, Publish, UrlAuth};
use model::layer::LayerRef;
use model::network::NetworkPolicy;
use serde::Deserialize;

use crate::cli::failure::CliError;

/// The file's name.
pub(crate) const FILE_NAME: &str = "hanshu.toml";
/// The test event that `up` calls a function with, when the file names no other.
pub(crate) const DEFAULT_EVENT: &str = "event.json";

/// Everything the file may hold. Fields have the names and units of the REST API.
#[derive(Clone, Debug, Default, Deserialize)]
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
    /// Calls that one instance of a web server serves at once.
    pub instance_concurrency: Option<u32>,
    /// Calls that one instance of a WebAssembly component serves, one after the other.
    pub instance_calls: Option<u32>,
    /// Whether a WebAssembly program has files.
    pub files: Option<bool>,
    /// Path that a web server is asked for until it answers with success.
    pub readiness_path: Option<String>,
    /// Environment variables, whole: plain ones of the deployed function that are not here go away, secrets stay.
    pub environment: Option<BTreeMap<String, VariableView>>,
    /// What instances reach: `none`, `egress` or `private`, or a table with `mode`, `allow` and `bandwidth`.
    pub network: Option<NetworkPolicy>,
    /// Most live instances at once.
    pub max_instances: Option<u32>,
    /// Instances of its own: always to be had, and never more.
    pub reserved_instances: Option<u32>,
    /// Asynchronous calls that may wait or run.
    pub max_queued_calls: Option<u64>,
    /// What those may take in the queue, in bytes.
    pub max_queued_bytes: Option<u64>,
    /// Who may call the function's URL.
    pub url_auth: Option<UrlAuth>,
    /// Layers under `/opt`, whole: `NAME:VERSION`, or `NAME:ALIAS` to follow it.
    pub layers: Option<Vec<LayerRef>>,
    /// When versions are published: `on-request`, or `always`.
    pub publish: Option<Publish>,
    /// Which calls are one call, whole.
    pub idempotency: Option<Idempotency>,
    /// What happens to asynchronous calls, whole.
    #[serde(rename = "async")]
    pub async_calls: Option<AsyncPolicy>,
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
        let manifest: Self = toml::from_str(text).map_err(|e: toml::de::Error| {
            let before = e.span().and_then(|s| text.get(..s.start)).unwrap_or_default();
            let line = before.matches('\n').count() + 1;
            CliError::new(format!("{}, line {line}: {}", path.display(), e.message()))
        })?;
        manifest.refuse_written_secrets(path)?;
        Ok(manifest)
    }

    /// What lies beside the code is shared with the code.
    fn refuse_written_secrets(&self, path: &Path) -> Result<(), CliError> {
        let mut all = self.environment.iter().flatten();
        match all.find(|(_, value)| matches!(value, VariableView::Secret(_))) {
            None => Ok(()),
            Some((name, _)) => Err(CliError::new(format!(
                "{} holds the value of the secret {name}: expected {name} = {{ secret = true }}",
                path.display()
            ))
            .hint(format!("set it by `hanshu deploy --secret {name}=@FILE`, from a file that is kept elsewhere"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_file_is_read() {
        let m = Manifest::parse(
            "name = 'a'\nruntime = 'nodejs20'\ntimeout_ms = 5000\nurl_auth = 'none'\nmemory_share = '25%'\n\
             cpu_cores = 0.5\nprocesses = 64\nlayers = ['numpy:3']\npublish = 'always'\n[async]\nattempts = 5\nretry = { pauses_seconds = [1, 10] }\n[idempotency]\nkey = 'event.order.id'\n[environment]\nA = 'b'\nT = { secret = true }\n",
            Path::new("hanshu.toml"),
        )
        .unwrap();
        assert_eq!(m.timeout_ms, Some(5000));
        assert_eq!(m.url_auth, Some(UrlAuth::None));
        assert_eq!(m.memory_share.unwrap().to_string(), "25%");
        assert_eq!((m.cpu_cores.unwrap().millis(), m.processes), (500, Some(64)));
        assert_eq!(m.layers.unwrap()[0].to_string(), "numpy:3");
        assert_eq!(m.publish, Some(Publish::Always));
        assert_eq!(m.async_calls.unwrap().attempts(), 5);
        assert_eq!(m.idempotency.unwrap().key.unwrap().to_string(), "event.order.id");
        let environment = m.environment.unwrap();
        assert!(matches!(&environment["A"], VariableView::Plain(text) if text == "b"));
        assert!(matches!(&environment["T"], VariableView::Kept));
    }

    #[test]
    fn a_secret_is_not_written_into_the_file() {
        for value in ["{ secret = 'hunter2' }", "{ secret = ['hunter2'] }", "{ hunter2 = true }"] {
            let text = format!("[environment]\nT = {value}\n");
            let e = Manifest::parse(&text, Path::new("x/hanshu.toml")).unwrap_err();
            assert!(!e.to_string().contains("hunter2"), "{e}");
            assert!(e.to_string().contains("x/hanshu.toml"), "{e}");
        }
    }

    #[test]
    fn the_network_is_a_word_or_a_table() {
        let read = |text| Manifest::parse(text, Path::new("hanshu.toml"));
        let network = read("network = 'egress'").unwrap().network.unwrap();
        assert_eq!(network.mode.as_str(), "egress");
        let text =
            "[network]\nmode = 'private'\nallow = ['10.1.2.0/24:5432']\nbandwidth = '10MB'\n";
        let network = read(text).unwrap().network.unwrap();
        assert_eq!(network.allow.len(), 1);
        assert_eq!(network.bandwidth.unwrap().bytes_per_second(), 10_000_000);
        for (text, parts) in [
            ("name = 'a'\nnetwork = 'open'", ["line 2", "network", "none, egress or private"]),
            ("[network]\nmode = 'egress'\nallow = ['db']", ["network.allow", "'db'", "a CIDR"]),
            ("[network]\nmode = 'egress'\nbandwidth = -1", ["network.bandwidth", "1000", "line"]),
        ] {
            let message = read(text).unwrap_err().to_string();
            for part in parts {
                assert!(message.contains(part), "{message}");
            }
        }
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
