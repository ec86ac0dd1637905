//! Functions and their versions, as the store keeps them and the engine runs them.
//!
//! One [`Function`] document holds everything that changes together, so that single-key compare-and-set is enough. A published
//! [`Version`] is an immutable document of its own.

mod async_policy;
mod destination;
mod environment;
mod idempotency;
mod resources;
mod role;
mod summary;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use utoipa::ToSchema;

use crate::alias::{Alias, AliasRecord, Rollout};
use crate::change::Change;
use crate::clock::UnixMillis;
use crate::error::{Code, Error};
use crate::ids::{AliasName, Digest, FunctionKey, NamespaceName, Qualifier, RequestId, VersionRef};
use crate::layer::{AttachedLayer, LayerRef};
use crate::limits;
use crate::network::NetworkPolicy;
use crate::provisioned::{Provisioned, ProvisionedRecord};

pub use async_policy::{AsyncPolicy, RetryCurve};
pub use destination::{Destination, Told};
pub(crate) use environment::validate_environment;
pub use environment::{EnvironmentValue, RESERVED_ENVIRONMENT, Variable};
pub use idempotency::{CallKey, HEADER_IDEMPOTENCY_KEY, Idempotency, read_idempotency_key};
pub(crate) use resources::decimal;
pub use resources::{Cores, MemoryShare, WASM, WEB};
pub use summary::{Fingerprint, VersionSummary};

/// What the owner of a function decides, versioned with the code.
// `V` is an environment value: `Variable` as it is stored and run, `api::VariableView` as it is sent and shown. (No doc comment: those of
// this type are the API's description.)
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FunctionConfig<V = Variable> {
    /// What the function is for; at most 1 000 characters.
    #[serde(default)]
    pub description: String,
    /// The runtime as the owner named it, for instance `nodejs20`.
    pub runtime: String,
    /// What to call: `file.export` for Node.js, `module.function` for Python, `package.Class::method` for Java, the
    /// program's file (`hello.wasm`) for WebAssembly; for `web` the command line of the server, or `bootstrap`.
    pub handler: String,
    /// How long one call may run, in milliseconds: 1 to 900 000.
    #[serde(default = "default_timeout_ms")]
    pub timeout_ms: u32,
    /// Memory limit of one instance, in MiB: 64 to 10 240. Where `memory_share` is given it follows from that.
    #[serde(default = "default_memory_mb")]
    pub memory_mb: u32,
    /// Memory limit of one instance as a share of what the host gives to functions (`engine.host_memory_mb`), for instance `25%`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "25%")]
    pub memory_share: Option<MemoryShare>,
    /// Weight of one instance against the others when processors are short, 1 to 10 000. Absent means in proportion to memory: 100 for
    /// 1 769 MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_weight: Option<u32>,
    /// Most processors that one instance may keep busy, 0.05 to 256; absent means as many as there are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<f64>, example = 0.5)]
    pub cpu_cores: Option<Cores>,
    /// Processes and threads of one instance together: 16 to 32 768.
    #[serde(default = "default_processes")]
    pub processes: u32,
    /// Open files of one process of an instance: 64 to 1 048 576, and no more than the daemon itself may have.
    #[serde(default = "default_open_files")]
    pub open_files: u32,
    /// Size limit of `/tmp`, in MiB: 1 to 10 240. What lies there counts towards the memory limit as well.
    #[serde(default = "default_tmp_mb")]
    pub tmp_mb: u32,
    /// What one instance may write to its log, in bytes per second: 1 024 to 67 108 864, and four times as much at once. Lines over it are
    /// dropped and counted.
    #[serde(default = "default_output_bytes_per_second")]
    pub output_bytes_per_second: u32,
    /// Calls that one instance serves at once: 1 to 250. Absent means 32 for `web`, and 1 for every other runtime, which can have no other number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_concurrency: Option<u32>,
    /// Calls that one instance of a WebAssembly component serves, one after the other, before a fresh one takes its place: 1 to 1 000 000. Absent means 1 for `wasm`; no
    /// other runtime has a number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_calls: Option<u32>,
    /// Whether a WebAssembly program has files: `/tmp`, and `/var/task` and `/opt` to read. Absent means no for `wasm`; every other runtime has them always.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<bool>,
    /// Path that a web server is asked for, with GET, until it answers with 2xx or 3xx: then it takes calls. At most 256 characters. Absent means that it
    /// takes them as soon as it accepts a connection. For `web` alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "/healthz")]
    pub readiness_path: Option<String>,
    /// Environment variables; at most 32 KiB of keys and values together, and at most 256 of them secret.
    #[serde(default = "BTreeMap::new")]
    pub environment: BTreeMap<String, V>,
    /// What instances reach: `none` (loopback only), `egress` or `private`, or a table with `mode`, `allow` and `bandwidth`.
    #[serde(default)]
    pub network: NetworkPolicy,
    /// Layers under `/opt`, later ones over earlier ones: `NAME:VERSION`, or `NAME:ALIAS` to follow it; at most 5.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<String>, example = json!(["numpy:3"]))]
    pub layers: Vec<LayerRef>,
    /// ARN of an IAM role, as clients of the AWS Lambda API give one. It is kept and shown, and grants nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "arn:aws:iam::000000000000:role/any")]
    pub role: Option<String>,
}

fn default_timeout_ms() -> u32 {
    limits::TIMEOUT_DEFAULT_MS
}

fn default_memory_mb() -> u32 {
    limits::MEMORY_DEFAULT_MB
}

fn default_processes() -> u32 {
    limits::PROCESSES_DEFAULT
}

fn default_open_files() -> u32 {
    limits::OPEN_FILES_DEFAULT
}

fn default_tmp_mb() -> u32 {
    limits::TMP_DEFAULT_MB
}

fn default_output_bytes_per_second() -> u32 {
    limits::OUTPUT_DEFAULT_BYTES_PER_SECOND
}

impl<V> FunctionConfig<V> {
    /// A configuration with every default.
    pub fn new(runtime: impl Into<String>, handler: impl Into<String>) -> Self {
        Self {
            description: String::new(),
            runtime: runtime.into(),
            handler: handler.into(),
            timeout_ms: limits::TIMEOUT_DEFAULT_MS,
            memory_mb: limits::MEMORY_DEFAULT_MB,
            memory_share: None,
            cpu_weight: None,
            cpu_cores: None,
            processes: limits::PROCESSES_DEFAULT,
            open_files: limits::OPEN_FILES_DEFAULT,
            tmp_mb: limits::TMP_DEFAULT_MB,
            output_bytes_per_second: limits::OUTPUT_DEFAULT_BYTES_PER_SECOND,
            instance_concurrency: None,
            instance_calls: None,
            files: None,
            readiness_path: None,
            environment: BTreeMap::new(),
            network: NetworkPolicy::default(),
            layers: Vec::new(),
            role: None,
        }
    }

    /// The same configuration with another environment.
    pub fn with_environment<W>(&self, environment: BTreeMap<String, W>) -> FunctionConfig<W> {
        FunctionConfig {
            description: self.description.clone(),
            runtime: self.runtime.clone(),
            handler: self.handler.clone(),
            timeout_ms: self.timeout_ms,
            memory_mb: self.memory_mb,
            memory_share: self.memory_share,
            cpu_weight: self.cpu_weight,
            cpu_cores: self.cpu_cores,
            processes: self.processes,
            open_files: self.open_files,
            tmp_mb: self.tmp_mb,
            output_bytes_per_second: self.output_bytes_per_second,
            instance_concurrency: self.instance_concurrency,
            instance_calls: self.instance_calls,
            files: self.files,
            readiness_path: self.readiness_path.clone(),
            environment,
            network: self.network.clone(),
            layers: self.layers.clone(),
            role: self.role.clone(),
        }
    }
}

impl<V: EnvironmentValue> FunctionConfig<V> {
    /// Checks every field against its rule; the error names the field and what was expected.
    pub fn validate(&self) -> Result<(), Error> {
        let bad = |message: String| Err(Error::caller(Code::InvalidParameter, message));
        if self.description.chars().count() > limits::DESCRIPTION_CHARS {
            return bad(format!(
                "description is too long: expected at most {} characters",
                limits::DESCRIPTION_CHARS
            ));
        }
        if !(limits::TIMEOUT_MIN_MS..=limits::TIMEOUT_MAX_MS).contains(&self.timeout_ms) {
            return bad(format!(
                "timeout_ms {} is out of range: expected {} to {}",
                self.timeout_ms,
                limits::TIMEOUT_MIN_MS,
                limits::TIMEOUT_MAX_MS
            ));
        }
        self.validate_resources()?;
        self.validate_readiness_path()?;
        self.validate_handler()?;
        self.network.validate()?;
        self.validate_layers()?;
        self.role.as_deref().map_or(Ok(()), role::validate)?;
        validate_environment(&self.environment)
    }

    fn validate_handler(&self) -> Result<(), Error> {
        let h = &self.handler;
        // Of a web server it is a command line.
        let spaces = |c: char| c == ' ' && self.is_web();
        let plain = !h.is_empty()
            && h.chars().count() <= limits::HANDLER_CHARS
            && !h.chars().any(|c| c.is_whitespace() && !spaces(c) || c.is_control())
            && !h.trim().is_empty();
        if !plain {
            return Err(Error::caller(
                Code::InvalidParameter,
                format!(
                    "handler is not valid: expected 1 to {} characters without spaces",
                    limits::HANDLER_CHARS
                ),
            )
            .with_hint("a handler is FILE.EXPORT, for instance index.handler"));
        }
        Ok(())
    }

    fn validate_readiness_path(&self) -> Result<(), Error> {
        let Some(path) = &self.readiness_path else { return Ok(()) };
        let is_path = path.starts_with('/')
            && path.len() <= limits::READINESS_PATH_CHARS
            && path.chars().all(|c| c.is_ascii_graphic() && c != '#');
        let expected = match (is_path, self.is_web()) {
            (true, true) => return Ok(()),
            (true, false) => "expected the runtime web".to_owned(),
            (false, _) => {
                format!("expected a path of at most {} characters", limits::READINESS_PATH_CHARS)
            }
        };
        let message = format!("readiness_path {path:?} is not possible: {expected}");
        Err(Error::caller(Code::InvalidParameter, message))
    }

    fn validate_layers(&self) -> Result<(), Error> {
        let bad = |message: String| Err(Error::caller(Code::InvalidParameter, message));
        if self.layers.len() > limits::LAYERS {
            return bad(format!(
                "layers are too many: {}, expected at most {}",
                self.layers.len(),
                limits::LAYERS
            ));
        }
        for (at, layer) in self.layers.iter().enumerate() {
            if self.layers.iter().take(at).any(|other| other.name == layer.name) {
                return bad(format!(
                    "layers[{at}] '{}' is there twice: expected each layer once",
                    layer.name
                ));
            }
        }
        Ok(())
    }
}

/// What applies to a function whatever its version.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FunctionSettings {
    /// Most live instances at once; absent means the daemon's default of 20.
    #[serde(default)]
    pub max_instances: Option<u32>,
    /// Instances that are the function's own: it can always have so many, with the memory of `$LATEST` each, and never more; 0 switches it off. Absent: it
    /// shares what nobody has reserved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reserved_instances: Option<u32>,
    /// Asynchronous calls that may wait or run; the next one is refused; 0: none is accepted. Absent: the daemon's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_queued_calls: Option<u64>,
    /// What those may take in the queue, in bytes. Absent: the daemon's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_queued_bytes: Option<u64>,
    /// Who may call the function's URL.
    #[serde(default)]
    pub url_auth: UrlAuth,
    /// Free labels of the owner; at most 50.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    /// When versions are published.
    #[serde(default)]
    pub publish: Publish,
    /// Which calls are the same call, and have one effect and one result.
    #[serde(default, skip_serializing_if = "Idempotency::is_default")]
    pub idempotency: Idempotency,
    /// What happens to asynchronous calls.
    #[serde(default, rename = "async", skip_serializing_if = "AsyncPolicy::is_default")]
    pub async_calls: AsyncPolicy,
}

/// When a function's versions are published.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Publish {
    /// When somebody asks for it.
    #[default]
    OnRequest,
    /// With every change of code or configuration.
    Always,
}

impl FunctionSettings {
    /// Most live instances at once; `default` where nothing is set.
    pub fn instances_max(&self, default: u32) -> u32 {
        self.reserved_instances.or(self.max_instances).unwrap_or(default)
    }

    /// Checks every field against its rule.
    pub fn validate(&self) -> Result<(), Error> {
        self.idempotency.validate()?;
        if let Some(n) = self.max_instances
            && n > limits::INSTANCES_MAX
        {
            return Err(Error::caller(
                Code::InvalidParameter,
                format!(
                    "max_instances {n} is out of range: expected 0 to {}",
                    limits::INSTANCES_MAX
                ),
            ));
        }
        if let Some(n) = self.reserved_instances {
            let most = self.max_instances.unwrap_or(limits::INSTANCES_MAX);
            if n > most {
                let what = if self.max_instances.is_some() { ", max_instances" } else { "" };
                return Err(Error::caller(
                    Code::InvalidParameter,
                    format!("reserved_instances {n} is out of range: expected 0 to {most}{what}"),
                ));
            }
        }
        for (name, set, most) in [
            ("max_queued_calls", self.max_queued_calls, limits::QUEUED_CALLS_MAX),
            ("max_queued_bytes", self.max_queued_bytes, limits::QUEUED_BYTES_MAX),
        ] {
            if let Some(set) = set.filter(|set| *set > most) {
                let message = format!("{name} {set} is out of range: expected 0 to {most}");
                return Err(Error::caller(Code::InvalidParameter, message));
            }
        }
        if self.tags.len() > limits::TAGS {
            return Err(Error::caller(
                Code::InvalidParameter,
                format!(
                    "tags are too many: {}, expected at most {}",
                    self.tags.len(),
                    limits::TAGS
                ),
            ));
        }
        self.async_calls.validate()
    }
}

/// Who may call a function's URL.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum UrlAuth {
    /// Whoever has a key of the daemon.
    #[default]
    Key,
    /// Everybody who reaches the daemon.
    None,
}

/// A code package in the blob store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CodeRef {
    /// SHA-256 of the zip.
    pub digest: Digest,
    /// Bytes of the zip.
    pub size_bytes: u64,
    /// Bytes of the files in it.
    pub unpacked_bytes: u64,
}

/// The runtime that a name was resolved to on this host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RuntimeInfo {
    /// The installed runtime, for instance `nodejs20`.
    pub name: String,
    /// The exact version it reports, for instance `20.20.2`.
    pub version: String,
}

/// Code and configuration together: what an instance runs. Immutable once it has a number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// The function it belongs to.
    #[serde(flatten)]
    pub key: FunctionKey,
    /// `None` for `$LATEST`.
    #[serde(default)]
    pub number: Option<u64>,
    /// The owner's configuration.
    pub config: FunctionConfig,
    /// The code package.
    pub code: CodeRef,
    /// What `config.layers` meant when this was deployed, in their order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<AttachedLayer>,
    /// What `config.runtime` was resolved to when this was deployed.
    pub runtime: RuntimeInfo,
    /// When code or configuration last changed; for a numbered version, when it was published.
    pub modified_at: UnixMillis,
}

impl Version {
    /// `$LATEST`, or the number, as functions see it in `AWS_LAMBDA_FUNCTION_VERSION`.
    pub fn label(&self) -> Qualifier {
        self.number.map_or(Qualifier::Latest, Qualifier::Version)
    }

    /// Of code, configuration, layers and resolved runtime: equal fingerprints run alike. Of a secret only its id counts, so that a
    /// version stays the same when the keys of the vault change.
    pub fn fingerprint(&self) -> Fingerprint {
        let mut hash = Sha256::new();
        hash.update(self.code.digest.as_bytes());
        // Field order is the declaration's and the maps are sorted, so equal values give equal bytes.
        let environment = self.config.environment.iter().map(|(key, value)| {
            let value = match value {
                Variable::Plain(text) => Content::Plain(text),
                Variable::Sealed { sealed } => Content::Secret { secret: &sealed.id },
            };
            (key.clone(), value)
        });
        let config = self.config.with_environment(environment.collect());
        let body = serde_json::to_vec(&(&config, &self.runtime)).unwrap_or_default();
        hash.update(&body);
        for layer in &self.layers {
            hash.update(layer.code.digest.as_bytes());
        }
        Fingerprint::from_digest(&Digest::from_bytes(hash.finalize().into()))
    }

    /// The name that AWS-style code expects for this version.
    pub fn arn(&self) -> String {
        arn(&self.key, self.number.map(Qualifier::Version).as_ref())
    }
}

/// An environment value in a fingerprint.
#[derive(Serialize)]
#[serde(untagged)]
enum Content<'a> {
    Plain(&'a str),
    Secret { secret: &'a RequestId },
}

/// `arn:aws:lambda:local:ACCOUNT:function:NAME[:QUALIFIER]`; the account stands for the namespace.
pub fn arn(key: &FunctionKey, qualifier: Option<&Qualifier>) -> String {
    let mut out =
        format!("arn:aws:lambda:local:{}:function:{}", account_id(&key.namespace), key.name);
    if let Some(q) = qualifier {
        // Writing to a String cannot fail.
        write!(out, ":{q}").unwrap_or_default();
    }
    out
}

/// Twelve digits that stand for a namespace where AWS-style interfaces want an account: zeros for `default`, else a hash.
pub fn account_id(namespace: &NamespaceName) -> String {
    if namespace.as_str() == crate::ids::DEFAULT_NAMESPACE {
        return "0".repeat(12);
    }
    let hash = Digest::of(namespace.as_str().as_bytes());
    let n = hash.as_bytes().iter().take(8).fold(0_u64, |n, b| (n << 8) | u64::from(*b));
    format!("{:012}", n % 1_000_000_000_000)
}

/// Everything about one function that changes together: the value of one metadata key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Function {
    /// Tells two functions apart that had the same name one after the other.
    pub id: RequestId,
    /// When it was created.
    pub created_at: UnixMillis,
    /// What applies to all versions.
    pub settings: FunctionSettings,
    /// `$LATEST`.
    pub latest: Version,
    /// Published versions, ascending.
    #[serde(default)]
    pub versions: Vec<VersionSummary>,
    /// The number that the next publish gives.
    pub next_version: u64,
    /// Its aliases.
    #[serde(default)]
    pub aliases: BTreeMap<AliasName, AliasRecord>,
    /// Instances that are kept started, by the version or alias that they are for.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub provisioned: BTreeMap<Qualifier, ProvisionedRecord>,
    /// Revision at which `$LATEST`, the settings or the list of versions last changed.
    #[serde(default)]
    pub revision: u64,
    /// The newest change, of the function or one of its aliases; absent before the first one that was recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<Change<FunctionState>>,
    /// It is gone: what is left is to be cleared away.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub deleted: bool,
}

/// What a change of a function changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FunctionState {
    /// `$LATEST` and the settings.
    Function {
        /// The settings.
        settings: FunctionSettings,
        /// `$LATEST`.
        latest: Box<Version>,
    },
    /// A published version.
    Version(VersionSummary),
    /// An alias.
    Alias {
        /// The route.
        alias: Box<Alias>,
        /// The shift under way.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rollout: Option<Rollout>,
    },
    /// Instances that are kept started.
    Provisioned(Provisioned),
}

impl Function {
    /// Namespace and name.
    pub fn key(&self) -> &FunctionKey {
        &self.latest.key
    }

    /// The revision of the newest change; 0 before the first one that was recorded.
    pub fn newest_revision(&self) -> u64 {
        self.change.as_ref().map_or(0, |change| change.revision)
    }

    /// A published version's line in the list.
    pub fn published(&self, number: u64) -> Option<&VersionSummary> {
        let found = self.versions.binary_search_by_key(&number, |v| v.number).ok()?;
        self.versions.get(found)
    }

    /// Whether there is such a version.
    pub fn has(&self, version: VersionRef) -> bool {
        version.number().is_none_or(|number| self.published(number).is_some())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::secret::Sealed;

    pub(crate) fn config() -> FunctionConfig {
        FunctionConfig::new("nodejs20", "index.handler")
    }

    #[test]
    fn each_bad_field_is_named() {
        type Spoil = fn(&mut FunctionConfig);
        let cases: [(&str, Spoil); 7] = [
            ("timeout_ms", |c| c.timeout_ms = 0),
            ("timeout_ms", |c| c.timeout_ms = 900_001),
            ("memory_mb", |c| c.memory_mb = 1),
            ("handler", |c| c.handler = "a b".into()),
            ("description", |c| c.description = "x".repeat(1001)),
            ("environment key", |c| drop(c.environment.insert("A=B".into(), "".into()))),
            ("reserved", |c| drop(c.environment.insert("_HANDLER".into(), "".into()))),
        ];
        config().validate().unwrap();
        for (field, spoil) in cases {
            let mut c = config();
            spoil(&mut c);
            let e = c.validate().unwrap_err();
            assert!(e.message().contains(field), "{field}: {}", e.message());
        }
        let mut c = config();
        c.environment.insert("BIG".into(), "x".repeat(limits::ENVIRONMENT_BYTES).as_str().into());
        assert!(c.validate().unwrap_err().message().contains("too large"));
    }

    fn version() -> Version {
        Version {
            key: crate::ids::FunctionRef::parse("default", "f").unwrap().key,
            number: None,
            config: config(),
            code: CodeRef { digest: Digest::of(b"zip"), size_bytes: 3, unpacked_bytes: 3 },
            layers: Vec::new(),
            runtime: RuntimeInfo { name: "nodejs20".into(), version: "20.0.0".into() },
            modified_at: UnixMillis(1),
        }
    }

    #[test]
    fn a_fingerprint_without_secrets_is_that_of_the_document() {
        let mut version = version();
        version.config.environment.insert("A".into(), "b".into());
        let mut hash = Sha256::new();
        hash.update(version.code.digest.as_bytes());
        hash.update(serde_json::to_vec(&(&version.config, &version.runtime)).unwrap());
        let whole = Digest::from_bytes(hash.finalize().into());
        assert_eq!(version.fingerprint(), Fingerprint::from_digest(&whole));
    }

    #[test]
    fn a_fingerprint_knows_a_secret_by_its_id() {
        let with = |id: u8, envelope: &str| {
            let id = RequestId::from_bytes([id; 16]);
            let sealed = Sealed { id, bytes: 1, envelope: envelope.into() };
            let mut version = version();
            version.config.environment.insert("T".into(), Variable::Sealed { sealed });
            version.fingerprint()
        };
        assert_eq!(with(1, "under a key"), with(1, "under another"));
        assert_ne!(with(1, "under a key"), with(2, "under a key"));
    }

    #[test]
    fn secrets_are_counted() {
        let mut config = config();
        for n in 0..=limits::SECRETS {
            config.validate().unwrap();
            let id = RequestId::from_bytes([0; 16]);
            let sealed = Sealed { id, bytes: 1, envelope: String::new() };
            config.environment.insert(format!("T{n}"), Variable::Sealed { sealed });
        }
        assert!(config.validate().unwrap_err().message().contains("257 secrets"));
    }

    #[test]
    fn unknown_configuration_fields_are_refused() {
        let e = serde_json::from_str::<FunctionConfig>(
            r#"{"runtime":"nodejs20","handler":"a.b","memory":1}"#,
        );
        assert!(e.unwrap_err().to_string().contains("unknown field `memory`"));
    }

    #[test]
    fn accounts_have_twelve_digits() {
        for name in ["default", "team-a", "B"] {
            let id = account_id(&name.parse().unwrap());
            assert_eq!(id.len(), 12, "{id}");
            assert!(id.bytes().all(|b| b.is_ascii_digit()));
        }
    }
}
