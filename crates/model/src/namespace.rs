//! Namespaces: groups of functions and layers that share quotas and a policy.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::change::Change;
use crate::clock::UnixMillis;
use crate::error::{Code, Error};
use crate::function::{EnvironmentValue, FunctionConfig, FunctionSettings, UrlAuth};
use crate::ids::NamespaceName;
use crate::limits;
use crate::network::NetworkMode;

/// A namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Namespace {
    /// Its name.
    pub name: NamespaceName,
    /// What it is for, and what it may use.
    #[serde(flatten)]
    pub settings: NamespaceSettings,
    /// When it was created.
    pub created_at: UnixMillis,
    /// The newest change; absent before the first one that was recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<Change<NamespaceSettings>>,
    /// A deletion began then; functions and layers are not created meanwhile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleting_since: Option<UnixMillis>,
    /// It is gone: what is left is to be cleared away.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub deleted: bool,
}

/// What can be changed of a namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NamespaceSettings {
    /// What it is for; at most 1 000 characters.
    #[serde(default)]
    pub description: String,
    /// What its functions may use together.
    #[serde(default)]
    pub quotas: Quotas,
    /// What each of its functions may be.
    #[serde(default)]
    pub policy: Policy,
}

/// What all functions of a namespace may use together. Absent means no limit of the namespace's own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Quotas {
    /// Functions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub functions: Option<u32>,
    /// Live instances; absent means the daemon's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instances: Option<u32>,
    /// Memory limits of the live instances, in MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_mb: Option<u64>,
    /// Packages of functions, of their published versions and of layers, in bytes; each counts as often as it is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code_bytes: Option<u64>,
    /// Calls accepted per second, and as many at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calls_per_second: Option<u32>,
    /// Asynchronous calls that wait or run; absent means the daemon's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queued_calls: Option<u64>,
    /// What those take in the queue, in bytes; absent means the daemon's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queued_bytes: Option<u64>,
}

/// What each function of a namespace may be. Checked when a function is deployed or configured; absent allows everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// Installed runtimes that may be used, for instance `nodejs20`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtimes: Option<Vec<String>>,
    /// Networks that may be used: `none`, `egress`, `private`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub networks: Option<Vec<NetworkMode>>,
    /// Longest timeout, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_max_ms: Option<u32>,
    /// Most memory of one instance, in MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_max_mb: Option<u32>,
    /// Who may be allowed to call function URLs: `key` forbids URLs that everybody may call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url_auth: Option<UrlAuth>,
}

impl NamespaceSettings {
    /// Checks every field against its rule; the error names the field and what was expected.
    pub fn validate(&self) -> Result<(), Error> {
        let bad = |message: String| Err(Error::caller(Code::InvalidParameter, message));
        if self.description.chars().count() > limits::DESCRIPTION_CHARS {
            return bad(format!(
                "description is too long: expected at most {} characters",
                limits::DESCRIPTION_CHARS
            ));
        }
        if let Some(calls) = self.quotas.calls_per_second
            && calls > limits::CALLS_PER_SECOND_MAX
        {
            return bad(format!(
                "quotas.calls_per_second {calls} is out of range: expected 0 to {}",
                limits::CALLS_PER_SECOND_MAX
            ));
        }
        for (name, set, most) in [
            ("queued_calls", self.quotas.queued_calls, limits::QUEUED_CALLS_MAX),
            ("queued_bytes", self.quotas.queued_bytes, limits::QUEUED_BYTES_MAX),
        ] {
            if let Some(set) = set.filter(|set| *set > most) {
                return bad(format!("quotas.{name} {set} is out of range: expected 0 to {most}"));
            }
        }
        if let Some(runtimes) = &self.policy.runtimes
            && (runtimes.len() > limits::POLICY_RUNTIMES
                || runtimes
                    .iter()
                    .any(|name| name.is_empty() || name.len() > limits::HANDLER_CHARS))
        {
            return bad(format!(
                "policy.runtimes is not valid: expected at most {} names of runtimes, for instance nodejs20",
                limits::POLICY_RUNTIMES
            ));
        }
        Ok(())
    }
}

impl Policy {
    /// Whether a function may be so; `forbidden` names the field and what the policy allows. `runtime` is what the configuration's runtime was
    /// resolved to, and the configuration's memory is worked out.
    pub fn check<V: EnvironmentValue>(
        &self,
        runtime: &str,
        config: &FunctionConfig<V>,
        settings: &FunctionSettings,
    ) -> Result<(), Error> {
        let refused = |what: String| {
            Err(Error::caller(Code::Forbidden, format!("the namespace's policy forbids {what}"))
                .with_hint("see it with `hanshu namespaces show NAMESPACE`"))
        };
        if let Some(allowed) = &self.runtimes
            && !allowed.iter().any(|name| name == runtime || *name == config.runtime)
        {
            return refused(format!("runtime {runtime}: expected one of {}", allowed.join(", ")));
        }
        if let Some(allowed) = &self.networks
            && !allowed.contains(&config.network.mode)
        {
            let names: Vec<&str> = allowed.iter().map(|mode| mode.as_str()).collect();
            return refused(format!(
                "network {}: expected one of {}",
                config.network.mode.as_str(),
                names.join(", ")
            ));
        }
        if let Some(most) = self.timeout_max_ms
            && config.timeout_ms > most
        {
            return refused(format!("timeout_ms {}: expected at most {most}", config.timeout_ms));
        }
        if let Some(most) = self.memory_max_mb
            && config.memory_mb > most
        {
            return refused(format!("memory_mb {}: expected at most {most}", config.memory_mb));
        }
        if self.url_auth == Some(UrlAuth::Key) && settings.url_auth == UrlAuth::None {
            return refused("url_auth none: expected key".into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_names_what_it_forbids() {
        let config = FunctionConfig::<crate::function::Variable>::new("nodejs", "index.handler");
        let settings = FunctionSettings { url_auth: UrlAuth::None, ..FunctionSettings::default() };
        let policy = |json: &str| serde_json::from_str::<Policy>(json).unwrap();
        for (json, part) in [
            (r#"{"runtimes":["python3.11"]}"#, "runtime nodejs20: expected one of python3.11"),
            (
                r#"{"networks":["egress","private"]}"#,
                "network none: expected one of egress, private",
            ),
            (r#"{"timeout_max_ms":1000}"#, "timeout_ms 3000: expected at most 1000"),
            (r#"{"memory_max_mb":64}"#, "memory_mb 128: expected at most 64"),
            (r#"{"url_auth":"key"}"#, "url_auth none: expected key"),
        ] {
            let e = policy(json).check("nodejs20", &config, &settings).unwrap_err();
            assert_eq!(e.code(), Code::Forbidden);
            assert!(e.message().contains(part), "{e}");
        }
        for json in ["{}", r#"{"runtimes":["nodejs20"],"networks":["none"],"url_auth":"none"}"#] {
            policy(json).check("nodejs20", &config, &settings).unwrap();
        }
    }

    #[test]
    fn settings_are_checked() {
        let read = |json: &str| serde_json::from_str::<NamespaceSettings>(json).unwrap();
        read("{}").validate().unwrap();
        for (json, part) in [
            (r#"{"quotas":{"calls_per_second":1000001}}"#, "quotas.calls_per_second"),
            (r#"{"quotas":{"queued_calls":1000000001}}"#, "quotas.queued_calls 1000000001 is out"),
            (r#"{"quotas":{"queued_bytes":1125899906842625}}"#, "quotas.queued_bytes"),
            (r#"{"policy":{"runtimes":[""]}}"#, "policy.runtimes"),
        ] {
            assert!(read(json).validate().unwrap_err().message().starts_with(part));
        }
    }
}
