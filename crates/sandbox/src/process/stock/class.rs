//! Which functions can be given which pre-started instance, and which cannot be given any.

use std::sync::Arc;

use model::function::Version;
use model::limits;

use crate::jail::{Limits, Root};
use crate::process::runtimes::{Language, Runtime};

/// Starts of names of variables that runtime, loader or C library read before the function's code runs, or once for good.
const READ_EARLY: [&str; 24] = [
    "LD_",
    "GLIBC_",
    "MALLOC_",
    "GCONV_PATH",
    "LOCPATH",
    "NLSPATH",
    "LANG",
    "LC_",
    "TZ",
    "NODE_",
    "UV_",
    "V8_",
    "ICU_",
    "SSL_CERT_",
    "OPENSSL_",
    "NSS_",
    "PYTHON",
    "JAVA_",
    "_JAVA_",
    "JDK_",
    "JRE_",
    "CLASSPATH",
    "BASH_ENV",
    "ENV",
];
/// Of those, what is read by the function's code alone.
const READ_LATE: [&str; 1] = ["NODE_ENV"];

/// What all instances of a class have in common beyond their runtime.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in crate::process) struct Class {
    /// The command line.
    pub(super) argv: Vec<String>,
    /// Limits that only hold for processes that are started under them.
    pub(super) limits: Limits,
}

/// How instances of a class are made.
#[derive(Clone, Debug)]
pub(in crate::process) struct Recipe {
    pub(super) class: Class,
    pub(super) runtime: Arc<Runtime>,
    /// Without code.
    pub(super) root: Arc<Root>,
    /// Memory limit until a function has it, in MiB.
    pub(super) memory_mb: u32,
    /// Memory of one that waits, in MiB.
    pub(super) expected_mb: u32,
}

impl Recipe {
    pub(in crate::process) fn new(
        version: &Version,
        runtime: &Arc<Runtime>,
        limits: Limits,
        root: Arc<Root>,
    ) -> Self {
        // Where the command line does not depend on it, neither does the class.
        let memory_mb = match runtime.language {
            Language::Node | Language::Java => version.config.memory_mb,
            Language::Python | Language::Provided | Language::Web => limits::MEMORY_DEFAULT_MB,
        };
        let class = Class { argv: runtime.argv_ahead(version.config.memory_mb), limits };
        let expected_mb = runtime.ahead_mb();
        Self { class, runtime: Arc::clone(runtime), root, memory_mb, expected_mb }
    }

    /// Memory of one that waits, in MiB.
    pub(super) fn kit_mb(&self, by_zygote: bool) -> u32 {
        match self.runtime.zygote_mb() {
            Some((_, child_mb)) if by_zygote => child_mb,
            _ => self.expected_mb,
        }
    }

    /// The command line of a zygote for this class; the limits of processes are none of its own, so classes share it.
    pub(super) fn zygote_argv(&self) -> Vec<String> {
        let mut argv = self.class.argv.clone();
        argv.pop();
        argv.push("zygote".into());
        argv
    }
}

/// Why a function's instances are started the plain way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::process) enum Plain {
    /// Its network has to be there before its first process.
    Network,
    /// It sets a variable that is read before its code runs.
    Variable(String),
    /// There is no runtime before its code.
    OwnRuntime,
}

impl std::fmt::Display for Plain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Network => f.write_str("it has a network"),
            Self::OwnRuntime => f.write_str("it brings its own runtime"),
            Self::Variable(name) => write!(f, "{name} is read before its code runs"),
        }
    }
}

/// Why instances of a version cannot be pre-started ones, if they cannot.
pub(in crate::process) fn plain(version: &Version) -> Option<Plain> {
    let early = |name: &&String| {
        !READ_LATE.contains(&name.as_str())
            && READ_EARLY.iter().any(|start| match *start {
                "ENV" | "TZ" | "CLASSPATH" => name.as_str() == *start,
                start => name.starts_with(start),
            })
    };
    if let Some(name) = version.config.environment.keys().find(early) {
        return Some(Plain::Variable(name.clone()));
    }
    version.config.network.is_connected().then_some(Plain::Network)
}

#[cfg(test)]
mod tests {
    use model::function::Variable;
    use serde_json::json;

    use super::*;

    fn version(config: &serde_json::Value) -> Version {
        let mut all = json!({"runtime": "nodejs20", "handler": "index.handler"});
        all.as_object_mut().unwrap().extend(config.as_object().unwrap().clone());
        serde_json::from_value(json!({
            "namespace": "default", "name": "f", "config": all,
            "code": {"digest": "0".repeat(64), "size_bytes": 0, "unpacked_bytes": 0},
            "runtime": {"name": "nodejs20", "version": "1"}, "modified_at": 0,
        }))
        .unwrap()
    }

    #[test]
    fn what_is_read_before_the_code_runs_takes_the_plain_way() {
        let mut version = version(&json!({}));
        let mut with = |name: &str| {
            version.config.environment = [(name.to_owned(), Variable::Plain("x".into()))].into();
            plain(&version)
        };
        for name in ["TABLE", "NODE_ENV", "PATH", "HOME", "ENVIRONMENT", "TZDATA", "LOG_LEVEL"] {
            assert_eq!(with(name), None, "{name}");
        }
        for name in ["NODE_OPTIONS", "LD_PRELOAD", "TZ", "LC_ALL", "LANG", "PYTHONPATH", "ENV"]
            .into_iter()
            .chain(["JAVA_TOOL_OPTIONS", "_JAVA_OPTIONS", "JDK_JAVA_OPTIONS", "CLASSPATH"])
        {
            assert_eq!(with(name), Some(Plain::Variable(name.to_owned())));
        }
    }

    #[test]
    fn a_network_takes_the_plain_way() {
        let version = version(&json!({"network": "egress"}));
        assert_eq!(plain(&version), Some(Plain::Network));
    }
}
