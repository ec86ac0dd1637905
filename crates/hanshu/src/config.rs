//! The daemon's configuration: defaults < file < environment < flags.
//!
//! [`settings`] is the one table of what can be set; [`values`] merges the sources and refuses what the table does not know;
//! [`DaemonConfig`] is the validated result; [`mod@reference`] writes the table down for `docs/reference/config.md`.
//! [`environment`] is the only reader of the process environment: everything here takes its sources as arguments.

pub(crate) mod environment;
pub(crate) mod host;
pub(crate) mod reference;
pub(crate) mod settings;
pub(crate) mod values;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use model::network::{Cidr, Reach};
use model::ports::Depth;
use sandbox::{NetworkConfig, ZygoteUse};
use store::vault::KeySource;

use self::host::Host;
use self::settings as s;
use self::values::{ConfigError, Sources, Values};

/// Everything that `hanshu serve` needs to know, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DaemonConfig {
    /// Where to listen; port 0 picks a free one.
    pub listen: SocketAddr,
    /// No keys are asked for; [`DaemonConfig::listen`] is then a loopback address.
    pub dev: bool,
    /// The folder that holds everything the daemon keeps.
    pub data: PathBuf,
    /// What the daemon logs about itself.
    pub log: LogConfig,
    /// Section of the crate `engine`.
    pub engine: EngineSection,
    /// Section of the crate `server`.
    pub server: ServerSection,
    /// Section of the crate `sandbox`.
    pub sandbox: SandboxSection,
    /// Section of the crate `store`.
    pub store: StoreSection,
    /// Where the master key of functions' secrets comes from.
    pub secrets: KeySource,
}

/// What the daemon logs about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LogConfig {
    /// A filter as `tracing-subscriber` reads it.
    pub level: String,
    /// One JSON object a line instead of text.
    pub json: bool,
}

/// See the settings `engine.*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EngineSection {
    /// Memory limits of all live instances together, in MiB.
    pub host_memory_mb: u64,
    /// Live instances of a function that sets no limit of its own.
    pub instances_per_function: u32,
    /// Live instances of a namespace that sets no limit of its own.
    pub instances_per_namespace: u32,
    /// Calls that may wait for an instance, per version.
    pub waiters_per_version: usize,
    /// How long an idle instance is kept where nothing is learned,
    pub keep_alive: Duration,
    /// how long at least where something is,
    pub keep_alive_min: Duration,
    /// and how long at most.
    pub keep_alive_max: Duration,
    /// How long an instance is idle before it is frozen; zero: never.
    pub freeze_after: Duration,
    /// How long a call may wait for an instance.
    pub queue_wait: Duration,
    /// Asynchronous calls that run at once.
    pub async_concurrency: usize,
    /// What of a function's calls may wait or run,
    pub queued_per_function: Depth,
    /// and of a namespace's.
    pub queued_per_namespace: Depth,
}

/// See the settings `server.*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServerSection {
    /// Connections that are open at once.
    pub connections_max: usize,
    /// How long a request body may take to arrive.
    pub body_timeout: Duration,
    /// How long a client may take nothing of a response.
    pub write_timeout: Duration,
    /// How long nothing may pass on a WebSocket.
    pub websocket_idle: Duration,
    /// How long calls in flight may go on after the daemon was told to stop.
    pub grace: Duration,
    /// How functions are reached from outside, without a slash at the end; absent means the address listened on.
    pub public_url: Option<String>,
}

/// See the settings `sandbox.*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SandboxSection {
    /// First of the host's user ids that instances run as.
    pub uid_base: u32,
    /// Refuse to start where a feature is missing that full isolation needs.
    pub require_full: bool,
    /// Expected memory of pre-started instances, in MiB.
    pub prestart_memory_mb: u32,
    /// Whether warm runtimes are forked.
    pub zygote: ZygoteUse,
    /// Folders searched for runtimes, separated by colons.
    pub path: String,
    /// See the settings `network.*`.
    pub network: NetworkConfig,
    /// See the setting `webhooks.allow`.
    pub webhooks_allow: Vec<Reach>,
}

/// See the settings `store.*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StoreSection {
    /// Log lines kept, in bytes on disk; the oldest go first.
    pub logs_bytes_max: u64,
    /// Free space of the disk below which new calls and packages are refused, in bytes.
    pub reserve_bytes: u64,
}

impl DaemonConfig {
    /// Merges the sources and checks the result as a whole.
    pub(crate) fn load(sources: &Sources<'_>, host: Host) -> Result<Self, ConfigError> {
        let values = Values::merge(sources)?;
        let data: PathBuf = values.text(&s::DATA)?.unwrap_or_default().into();
        let secrets = key_source(&values, &data)?;
        let config = Self {
            listen: values.address(&s::LISTEN)?,
            dev: values.flag(&s::DEV)?,
            data,
            log: LogConfig {
                level: values.text(&s::LOG_LEVEL)?.unwrap_or_default(),
                json: values.text(&s::LOG_FORMAT)?.as_deref() == Some("json"),
            },
            engine: EngineSection::from_values(&values, host)?,
            server: ServerSection::from_values(&values)?,
            sandbox: SandboxSection::from_values(&values, sources)?,
            store: StoreSection {
                logs_bytes_max: values.number(&s::LOGS_BYTES_MAX)?.unwrap_or(0),
                reserve_bytes: values.number(&s::RESERVE_BYTES)?.unwrap_or(0),
            },
            secrets,
        };
        config.refuse_open_dev()?;
        Ok(config)
    }

    /// A daemon without keys is for whoever sits at the machine, nobody else.
    fn refuse_open_dev(&self) -> Result<(), ConfigError> {
        if self.dev && !self.listen.ip().is_loopback() {
            return Err(ConfigError::new(format!(
                "--dev asks for no keys and so listens on loopback only, but listen is {}",
                self.listen
            ))
            .hint("listen on 127.0.0.1 or [::1], or leave --dev out: a root key is then made at first start"));
        }
        Ok(())
    }
}

/// What unlocks the vault: one of two settings, or the key file in the data folder.
fn key_source(values: &Values, data: &Path) -> Result<KeySource, ConfigError> {
    match (values.text(&s::KEY_FILE)?, values.text(&s::PASSPHRASE_FILE)?) {
        (Some(_), Some(_)) => Err(ConfigError::new(
            "secrets.key_file and secrets.passphrase_file are both set: expected one of them",
        )),
        (Some(file), None) => Ok(KeySource::KeyFile(file.into())),
        (None, Some(file)) => Ok(KeySource::PassphraseFile(file.into())),
        (None, None) => Ok(KeySource::KeyFile(data.join("secrets.key"))),
    }
}

impl EngineSection {
    fn from_values(values: &Values, host: Host) -> Result<Self, ConfigError> {
        // Each of them has a default.
        let set = |setting| Ok::<_, ConfigError>(values.number(setting)?.unwrap_or(u64::MAX));
        Ok(Self {
            host_memory_mb: values.number(&s::HOST_MEMORY_MB)?.unwrap_or(host.memory_mb * 8 / 10),
            instances_per_function: values.small(&s::INSTANCES_PER_FUNCTION)?,
            instances_per_namespace: values.small(&s::INSTANCES_PER_NAMESPACE)?,
            waiters_per_version: values.count(&s::WAITERS_PER_VERSION)?,
            keep_alive: values.seconds(&s::KEEP_ALIVE_SECONDS)?,
            keep_alive_min: values.seconds(&s::KEEP_ALIVE_MIN_SECONDS)?,
            keep_alive_max: values.seconds(&s::KEEP_ALIVE_MAX_SECONDS)?,
            freeze_after: values.seconds(&s::FREEZE_AFTER_SECONDS)?,
            queue_wait: values.seconds(&s::QUEUE_WAIT_SECONDS)?,
            async_concurrency: values.count(&s::ASYNC_CONCURRENCY)?,
            queued_per_function: Depth {
                messages: set(&s::QUEUED_CALLS_PER_FUNCTION)?,
                bytes: set(&s::QUEUED_BYTES_PER_FUNCTION)?,
            },
            queued_per_namespace: Depth {
                messages: set(&s::QUEUED_CALLS_PER_NAMESPACE)?,
                bytes: set(&s::QUEUED_BYTES_PER_NAMESPACE)?,
            },
        })
    }
}

impl ServerSection {
    fn from_values(values: &Values) -> Result<Self, ConfigError> {
        Ok(Self {
            connections_max: values.count(&s::CONNECTIONS_MAX)?,
            body_timeout: values.seconds(&s::BODY_TIMEOUT_SECONDS)?,
            write_timeout: values.seconds(&s::WRITE_TIMEOUT_SECONDS)?,
            websocket_idle: values.seconds(&s::WEBSOCKET_IDLE_SECONDS)?,
            grace: values.seconds(&s::GRACE_SECONDS)?,
            public_url: values.text(&s::PUBLIC_URL)?.map(|u| u.trim_end_matches('/').to_owned()),
        })
    }
}

impl SandboxSection {
    fn from_values(values: &Values, sources: &Sources<'_>) -> Result<Self, ConfigError> {
        let path = values.text(&s::RUNTIME_PATH)?;
        Ok(Self {
            uid_base: values.small(&s::UID_BASE)?,
            prestart_memory_mb: values.small(&s::PRESTART_MEMORY_MB)?,
            zygote: match values.text(&s::ZYGOTE)?.as_deref() {
                Some("off") => ZygoteUse::Off,
                Some("alone") => ZygoteUse::Alone,
                _ => ZygoteUse::Auto,
            },
            require_full: values.text(&s::REQUIRE_ISOLATION)?.as_deref() == Some("full"),
            path: path.unwrap_or_else(|| sources.env.get("PATH").unwrap_or_default().to_owned()),
            network: network(values)?,
            webhooks_allow: values.list(
                &s::WEBHOOKS_ALLOW,
                "CIDR[:PORT[-PORT]], separated by commas, for instance 10.1.2.0/24:8080",
            )?,
        })
    }
}

fn network(values: &Values) -> Result<NetworkConfig, ConfigError> {
    let range = match values.list::<Cidr>(&s::NETWORK_RANGE, "a CIDR of at most 28 bits")?[..] {
        [range] if range.bits() <= 28 => range,
        _ => return Err(values.refuse(&s::NETWORK_RANGE, "a CIDR of at most 28 bits")),
    };
    Ok(NetworkConfig {
        range,
        dns: values.list(&s::NETWORK_DNS, "IPv4 addresses, separated by commas")?,
        deny: values.list(&s::NETWORK_DENY, "CIDRs, separated by commas")?,
    })
}

#[cfg(test)]
mod tests {
    use super::environment::Environment;
    use super::*;

    const HOST: Host = Host { memory_mb: 1000 };

    fn load(
        file: Option<&str>,
        env: &[(&str, &str)],
        flags: &[(&'static s::Setting, &str)],
    ) -> Result<DaemonConfig, ConfigError> {
        let env = Environment::of(env);
        let flags = flags.iter().map(|(s, t)| (*s, (*t).to_owned())).collect();
        let file = file.map(|text| ("hanshu-daemon.toml".to_owned(), text.to_owned()));
        DaemonConfig::load(&Sources { file, env: &env, flags }, HOST)
    }

    #[test]
    fn defaults_stand_alone() {
        let c = load(None, &[("PATH", "/bin")], &[]).unwrap();
        assert_eq!(c.listen.to_string(), "127.0.0.1:9000");
        assert!(!c.dev);
        assert_eq!(c.engine.host_memory_mb, 800);
        assert_eq!(c.engine.instances_per_function, 20);
        assert_eq!(c.server.grace, Duration::from_secs(30));
        assert_eq!(c.sandbox.path, "/bin");
        assert_eq!(c.server.public_url, None);
        assert_eq!(c.secrets, KeySource::KeyFile("hanshu-data/secrets.key".into()));
    }

    #[test]
    fn flags_beat_environment_beats_file_beats_defaults() {
        let file =
            "listen = '127.0.0.1:1'\n[engine]\nkeep_alive_seconds = 7\nqueue_wait_seconds = 8\n";
        let env = [("HANSHU_LISTEN", "127.0.0.1:2"), ("HANSHU_ENGINE_KEEP_ALIVE_SECONDS", "9")];
        let c = load(Some(file), &env, &[(&s::LISTEN, "127.0.0.1:3")]).unwrap();
        assert_eq!(c.listen.port(), 3);
        assert_eq!(c.engine.keep_alive, Duration::from_secs(9));
        assert_eq!(c.engine.queue_wait, Duration::from_secs(8));
    }

    #[test]
    fn unknown_and_bad_values_name_their_source() {
        let cases: [(&str, &[&str]); 6] = [
            ("[engine]\nkeepalive = 1", &["hanshu-daemon.toml", "engine.keepalive"]),
            ("[motor]\nx = 1", &["hanshu-daemon.toml", "motor.x"]),
            ("listen = 9000", &["listen", "a string"]),
            ("[server]\ngrace_seconds = -1", &["server.grace_seconds", "0 to"]),
            ("[engine]\ninstances_per_function = 99999", &["instances_per_function", "10000"]),
            ("log_format = 'xml'", &["log_format", "text", "json"]),
        ];
        for (file, expected) in cases {
            let message = load(Some(file), &[], &[]).unwrap_err().to_string();
            for part in expected {
                assert!(message.contains(part), "{file}: {message}");
            }
        }
        let e = load(None, &[("HANSHU_ENGINE_KEEPALIVE", "1")], &[]).unwrap_err().to_string();
        assert!(e.contains("HANSHU_ENGINE_KEEPALIVE"), "{e}");
        let e = load(None, &[], &[(&s::LISTEN, "localhost")]).unwrap_err().to_string();
        assert!(e.contains("--listen") && e.contains("ADDR:PORT"), "{e}");
    }

    #[test]
    fn networks_are_lists() {
        let c = load(None, &[], &[]).unwrap();
        assert_eq!(c.sandbox.network, NetworkConfig::default());
        let file =
            "[network]\nrange = '10.99.0.0/16'\ndns = '10.0.0.2, 9.9.9.9'\ndeny = '10.0.0.0/8'\n";
        let network = load(Some(file), &[], &[]).unwrap().sandbox.network;
        assert_eq!(network.range.to_string(), "10.99.0.0/16");
        assert_eq!((network.dns.len(), network.deny.len()), (2, 1));
        for (key, value) in [
            ("range", "10.0.0.0/30"),
            ("range", "10.0.0.0/16,10.1.0.0/16"),
            ("range", "many"),
            ("dns", "localhost"),
            ("dns", "fd00::1"),
            ("deny", "10.0.0.1/8"),
        ] {
            let file = format!("[network]\n{key} = '{value}'");
            let message = load(Some(&file), &[], &[]).unwrap_err().to_string();
            assert!(message.contains(&format!("network.{key}")), "{message}");
            assert!(message.contains("expected"), "{message}");
        }
    }

    #[test]
    fn variables_of_the_client_are_no_settings() {
        load(
            None,
            &[("HANSHU_URL", "http://x"), ("HANSHU_KEY", "k"), ("HANSHU_NAMESPACE", "n")],
            &[],
        )
        .unwrap();
    }

    #[test]
    fn dev_stays_on_loopback() {
        for good in ["127.0.0.1:0", "127.9.9.9:1", "[::1]:0"] {
            load(None, &[], &[(&s::DEV, "true"), (&s::LISTEN, good)]).unwrap();
        }
        for bad in ["0.0.0.0:9000", "[::]:9000", "192.168.1.1:9000"] {
            let e = load(None, &[], &[(&s::DEV, "true"), (&s::LISTEN, bad)]).unwrap_err();
            assert!(e.to_string().contains("loopback"), "{e}");
            load(None, &[], &[(&s::LISTEN, bad)]).unwrap();
        }
    }
}
