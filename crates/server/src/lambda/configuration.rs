//! What is shown of a function, and what a request may say of its configuration.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use model::api::{ConfigView, PatchConfig, VariableView};
use model::function::{Function, FunctionConfig, Variable};
use model::ids::{Digest, FunctionKey, Qualifier, RequestId};
use model::layer::LayerRef;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::error::{Fault, Kind};
use super::names::Home;
use super::reply;
use crate::catalog::{FunctionAt, Precondition};

/// The architecture of this host, as the service calls it.
pub(super) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "aarch64" => "arm64",
        other => other,
    }
}

/// `FunctionConfiguration` of the service's model.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Shown {
    function_name: String,
    function_arn: String,
    runtime: String,
    role: String,
    handler: String,
    code_size: u64,
    description: String,
    timeout: u32,
    memory_size: u32,
    last_modified: String,
    #[serde(rename = "CodeSha256")]
    code_sha256: String,
    version: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    environment: Option<Value>,
    tracing_config: Value,
    revision_id: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    layers: Vec<Value>,
    state: &'static str,
    last_update_status: &'static str,
    package_type: &'static str,
    architectures: [&'static str; 1],
    ephemeral_storage: Value,
    snap_start: Value,
    runtime_version_config: Value,
    logging_config: Value,
}

/// A function at a version; its ARN has a qualifier if one was asked for.
pub(super) fn shown(home: &Home, at: &FunctionAt, qualifier: Option<&Qualifier>) -> Shown {
    let FunctionAt { function, version } = at;
    let (key, config) = (&version.key, &version.config);
    let label = version.label();
    let layers = version.layers.iter().map(|layer| {
        let arn = layer_arn(home, layer.name.as_str(), layer.version);
        json!({ "Arn": arn, "CodeSize": layer.code.size_bytes })
    });
    let plain = plain_variables(&config.environment);
    Shown {
        function_name: key.name.to_string(),
        function_arn: home.arn(key, qualifier),
        runtime: config.runtime.clone(),
        role: config
            .role
            .clone()
            .unwrap_or_else(|| format!("arn:aws:iam::{}:role/none", home.account)),
        handler: config.handler.clone(),
        code_size: version.code.size_bytes,
        description: config.description.clone(),
        timeout: config.timeout_ms.div_ceil(1_000),
        memory_size: config.memory_mb,
        last_modified: reply::time(version.modified_at),
        code_sha256: sha256(&version.code.digest),
        revision_id: revision_id(function, version.number),
        version: label.to_string(),
        environment: (!plain.is_empty()).then(|| json!({ "Variables": plain })),
        tracing_config: json!({ "Mode": "PassThrough" }),
        layers: layers.collect(),
        state: "Active",
        last_update_status: "Successful",
        package_type: "Zip",
        architectures: [architecture()],
        ephemeral_storage: json!({ "Size": config.tmp_mb }),
        snap_start: json!({ "ApplyOn": "None", "OptimizationStatus": "Off" }),
        runtime_version_config: json!({
            "RuntimeVersionArn": format!(
                "arn:aws:lambda:{}::runtime:{}-{}",
                home.region, version.runtime.name, version.runtime.version
            ),
        }),
        logging_config: json!({ "LogFormat": "Text", "LogGroup": format!("/aws/lambda/{}", key.name) }),
    }
}

/// A digest as the service writes it.
pub(super) fn sha256(digest: &Digest) -> String {
    STANDARD.encode(digest.as_bytes())
}

/// The ARN of a version of a layer.
pub(super) fn layer_arn(home: &Home, name: &str, version: u64) -> String {
    format!("arn:aws:lambda:{}:{}:layer:{name}:{version}", home.region, home.account)
}

/// What everybody may see of an environment: secrets are left out.
fn plain_variables(environment: &BTreeMap<String, Variable>) -> BTreeMap<&str, &str> {
    let plain = environment.iter().filter_map(|(name, value)| match value {
        Variable::Plain(text) => Some((name.as_str(), text.as_str())),
        Variable::Sealed { .. } => None,
    });
    plain.collect()
}

/// The revision of a function, or of a published version of it, in the form of the service: an identifier that changes with every change.
pub(super) fn revision_id(function: &Function, version: Option<u64>) -> String {
    // A published version never changes.
    let revision = if version.is_some() { 0 } else { function.revision };
    named_revision(function.id, &version.unwrap_or_default().to_string(), revision)
}

/// An identifier of a thing of a function at a revision.
pub(super) fn named_revision(function: RequestId, thing: &str, revision: u64) -> String {
    let hash = Digest::of(format!("{function} {thing} {revision}").as_bytes());
    let (id, _) = hash.as_bytes().split_first_chunk().unwrap_or((&[0; 16], &[]));
    RequestId::from_bytes(*id).to_string()
}

/// What a change expects, if the request names a revision; `current` is the one there is, at `revision`.
pub(super) fn expected(
    given: Option<&str>,
    current: &str,
    revision: u64,
) -> Result<Precondition, Fault> {
    match given {
        None => Ok(Precondition::None),
        Some(given) if given == current => Ok(Precondition::Revision(revision)),
        Some(_) => Err(Fault::new(
            Kind::PRECONDITION,
            "The Revision Id provided does not match the latest Revision Id. Call the GetFunction/GetAlias API to retrieve the latest Revision Id",
        )),
    }
}

/// What `CreateFunction` and `UpdateFunctionConfiguration` may say alike.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Wanted {
    runtime: Option<String>,
    role: Option<String>,
    handler: Option<String>,
    description: Option<String>,
    timeout: Option<u32>,
    memory_size: Option<u32>,
    environment: Option<WantedEnvironment>,
    layers: Option<Vec<String>>,
    ephemeral_storage: Option<WantedStorage>,
    tracing_config: Option<Mode>,
    vpc_config: Option<Value>,
    dead_letter_config: Option<Value>,
    #[serde(rename = "KMSKeyArn")]
    kms_key_arn: Option<String>,
    file_system_configs: Option<Vec<Value>>,
    image_config: Option<Value>,
    snap_start: Option<Value>,
    capacity_provider_config: Option<Value>,
    durable_config: Option<Value>,
    tenancy_config: Option<Value>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct WantedEnvironment {
    #[serde(default)]
    variables: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct WantedStorage {
    size: u32,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Mode {
    #[serde(default)]
    mode: Option<String>,
}

impl Wanted {
    /// The configuration of a new function.
    pub(super) fn config(&self, home: &Home) -> Result<ConfigView, Fault> {
        self.check()?;
        let (Some(runtime), Some(handler)) = (&self.runtime, &self.handler) else {
            return Err(Fault::invalid(
                "Runtime and Handler are mandatory parameters for functions created with deployment packages.",
            ));
        };
        let Some(role) = &self.role else {
            return Err(Fault::invalid("Role is missing: expected the ARN of an IAM role"));
        };
        let mut config: ConfigView = FunctionConfig::new(runtime, handler);
        config.role = Some(role.clone());
        config.description = self.description.clone().unwrap_or_default();
        config.timeout_ms = self.timeout_ms()?.unwrap_or(config.timeout_ms);
        config.memory_mb = self.memory_size.unwrap_or(config.memory_mb);
        config.tmp_mb = self.ephemeral_storage.as_ref().map_or(config.tmp_mb, |s| s.size);
        config.layers = self.layers(home)?.unwrap_or_default();
        let variables = self.environment.as_ref().and_then(|e| e.variables.clone());
        let plain = |(name, text)| (name, VariableView::Plain(text));
        config.environment = variables.unwrap_or_default().into_iter().map(plain).collect();
        Ok(config)
    }

    /// What changes of a function that is there. The environment is replaced whole, but for its secrets, which these clients cannot see.
    pub(super) fn patch(&self, home: &Home, current: &FunctionAt) -> Result<PatchConfig, Fault> {
        self.check()?;
        let environment = self.environment.as_ref().map(|wanted| {
            let wanted = wanted.variables.clone().unwrap_or_default();
            let there = &current.version.config.environment;
            let gone: BTreeSet<_> = plain_variables(there)
                .into_keys()
                .filter(|name| !wanted.contains_key(*name))
                .collect();
            let gone = gone.into_iter().map(|name| (name.to_owned(), None));
            let set = wanted
                .iter()
                .map(|(name, text)| (name.clone(), Some(VariableView::Plain(text.clone()))));
            gone.chain(set).collect()
        });
        Ok(PatchConfig {
            description: self.description.clone(),
            runtime: self.runtime.clone(),
            handler: self.handler.clone(),
            timeout_ms: self.timeout_ms()?,
            memory_mb: self.memory_size,
            tmp_mb: self.ephemeral_storage.as_ref().map(|storage| storage.size),
            layers: self.layers(home)?,
            role: self.role.clone().map(Some),
            environment,
            ..PatchConfig::default()
        })
    }

    fn timeout_ms(&self) -> Result<Option<u32>, Fault> {
        let Some(seconds) = self.timeout else { return Ok(None) };
        let most = model::limits::TIMEOUT_MAX_MS / 1_000;
        if (1..=most).contains(&seconds) {
            return Ok(Some(seconds * 1_000));
        }
        Err(Fault::invalid(format!(
            "Timeout {seconds} is out of range: expected 1 to {most} seconds"
        )))
    }

    fn layers(&self, home: &Home) -> Result<Option<Vec<LayerRef>>, Fault> {
        let Some(arns) = &self.layers else { return Ok(None) };
        let parse = |arn: &String| {
            let parts: Vec<&str> = arn.split(':').collect();
            let ["arn", _, "lambda", _, account, "layer", name, version] = parts[..] else {
                return Err(bad_layer());
            };
            home.check_account(account, arn)?;
            format!("{name}:{version}").parse().map_err(|_: String| bad_layer())
        };
        arns.iter().map(parse).collect::<Result<_, _>>().map(Some)
    }

    /// Refuses what has no meaning here, rather than let it be believed in.
    fn check(&self) -> Result<(), Fault> {
        let empty = |value: &Value| match value {
            Value::Null => true,
            Value::Object(members) => members.values().all(|member| match member {
                Value::Null | Value::Bool(false) => true,
                Value::String(text) => text.is_empty() || text == "None",
                Value::Array(items) => items.is_empty(),
                Value::Object(members) => members.is_empty(),
                _ => false,
            }),
            _ => false,
        };
        for (name, value) in [
            ("VpcConfig", &self.vpc_config),
            ("DeadLetterConfig", &self.dead_letter_config),
            ("ImageConfig", &self.image_config),
            ("SnapStart", &self.snap_start),
            ("CapacityProviderConfig", &self.capacity_provider_config),
            ("DurableConfig", &self.durable_config),
            ("TenancyConfig", &self.tenancy_config),
        ] {
            if value.as_ref().is_some_and(|value| !empty(value)) {
                return Err(unsupported(name));
            }
        }
        if self.kms_key_arn.as_ref().is_some_and(|arn| !arn.is_empty()) {
            return Err(unsupported("KMSKeyArn"));
        }
        if self.file_system_configs.as_ref().is_some_and(|configs| !configs.is_empty()) {
            return Err(unsupported("FileSystemConfigs"));
        }
        match self.tracing_config.as_ref().and_then(|tracing| tracing.mode.as_deref()) {
            None | Some("PassThrough" | "Active") => Ok(()),
            Some(_) => Err(Fault::invalid(
                "TracingConfig.Mode is not valid: expected Active or PassThrough",
            )),
        }
    }
}

fn unsupported(name: &str) -> Fault {
    Fault::invalid(format!("{name} is not supported by this daemon: expected none"))
}

fn bad_layer() -> Fault {
    Fault::invalid(
        "Layers are not valid: expected arn:aws:lambda:REGION:ACCOUNT:layer:NAME:VERSION",
    )
}

/// The tags of a function as a request gives them.
pub(super) type Tags = BTreeMap<String, String>;

/// The function of an answer to a change: the change is of its `$LATEST`, or published.
pub(super) fn changed(home: &Home, at: &FunctionAt) -> Shown {
    let published = at.version.number.map(Qualifier::Version);
    shown(home, at, published.as_ref())
}

/// The key of a new function.
pub(super) fn new_key(home: &Home, name: &str) -> Result<FunctionKey, Fault> {
    let target = home.target(name, None)?;
    if target.qualified {
        return Err(Fault::invalid("FunctionName is not valid: a new function has no qualifier"));
    }
    Ok(target.reference.key)
}
