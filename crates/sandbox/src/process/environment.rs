//! The environment variables of a function: as AWS Lambda has them, and nothing of the daemon's.

use model::Result;
use model::function::{RESERVED_ENVIRONMENT, Variable, Version};
use model::ports::Vault;
use model::secret::{SecretPlace, SecretText};

use super::runtimes::{Language, Runtime};
use crate::jail::listener;

/// Where the code lies, as the function sees it.
pub(crate) const TASK_ROOT: &str = "/var/task";
/// Where the layers lie, merged. Empty without any.
pub(crate) const LAYERS: &str = "/opt";

/// Everything but secrets and what differs between instances of a version, as `KEY=VALUE`.
///
/// The function's own variables win over our defaults (`PATH`, `TZ`, ...) and cannot name the reserved ones: `FunctionConfig::validate`.
pub(super) fn variables(version: &Version, runtime: &Runtime) -> Vec<String> {
    let own = &version.config.environment;
    let mut all = defaults(runtime);
    if runtime.language == Language::Web {
        all.push(("PORT", super::web::port(&version.config).to_string()));
    }
    let defaults = all.into_iter().filter(|(key, _)| !own.contains_key(*key));
    let mut out: Vec<String> = defaults.map(|(key, value)| format!("{key}={value}")).collect();
    let mut reserved = reserved(version);
    reserved.extend(fixed(runtime));
    // A version stored before a name was reserved may still hold it.
    let own = own.iter().filter(|(key, _)| reserved.iter().all(|(name, _)| name != key));
    out.extend(own.filter_map(|(key, value)| match value {
        Variable::Plain(text) => Some(format!("{key}={text}")),
        Variable::Sealed { .. } => None,
    }));
    out.extend(reserved.iter().map(|(key, value)| format!("{key}={value}")));
    out
}

/// What is the same for every function of a runtime, as `KEY=VALUE`: of [`variables`], unless the function has its own.
pub(super) fn constant(runtime: &Runtime) -> Vec<String> {
    let all = defaults(runtime).into_iter().chain(fixed(runtime));
    all.map(|(key, value)| format!("{key}={value}")).collect()
}

/// The function's secrets, opened: for the one start that is about to happen, and dropped with it.
pub(crate) fn secrets<'a>(
    version: &'a Version,
    vault: &dyn Vault,
) -> Result<Vec<(&'a str, SecretText)>> {
    let mut out = Vec::new();
    let reserved = |name: &String| RESERVED_ENVIRONMENT.contains(&name.as_str());
    for (variable, value) in version.config.environment.iter().filter(|(name, _)| !reserved(name)) {
        if let Variable::Sealed { sealed } = value {
            let place = SecretPlace { function: &version.key, variable };
            out.push((variable.as_str(), vault.open(place, sealed)?));
        }
    }
    Ok(out)
}

/// Everything but secrets for a program that has no root of its own: what a WebAssembly program sees.
pub(crate) fn of_wasm(version: &Version) -> Vec<(String, String)> {
    let mut reserved = reserved(version);
    reserved.extend(everywhere());
    reserved.push(("AWS_EXECUTION_ENV", format!("AWS_Lambda_{}", version.runtime.name)));
    let own = version.config.environment.iter();
    let own = own.filter(|(key, _)| reserved.iter().all(|(name, _)| name != key));
    let own = own.filter_map(|(key, value)| match value {
        Variable::Plain(text) => Some((key.clone(), text.clone())),
        Variable::Sealed { .. } => None,
    });
    let own: Vec<_> = own.collect();
    own.into_iter()
        .chain(reserved.into_iter().map(|(key, value)| (key.to_owned(), value)))
        .collect()
}

fn defaults(runtime: &Runtime) -> Vec<(&'static str, String)> {
    let mut out = vec![
        ("PATH", "/var/lang/bin:/usr/local/bin:/usr/bin:/bin:/opt/bin".to_owned()),
        ("LANG", "C.UTF-8".to_owned()),
        ("TZ", ":UTC".to_owned()),
        ("HOME", "/tmp".to_owned()),
        // Not the system's folders: a runtime that brings libraries of its own must find those first.
        ("LD_LIBRARY_PATH", "/var/task:/var/task/lib:/opt/lib".to_owned()),
    ];
    let name = &runtime.info.name;
    match runtime.language {
        Language::Node => {
            let version = name.replace("nodejs", "node");
            out.push((
                "NODE_PATH",
                format!("/opt/nodejs/{version}/node_modules:/opt/nodejs/node_modules"),
            ));
        }
        Language::Python => {
            out.push(("PYTHONPATH", format!("/opt/python/lib/{name}/site-packages:/opt/python")));
        }
        // Where Java's libraries lie, no variable says.
        Language::Java | Language::Provided => {}
        Language::Web => {
            out.push(("NODE_PATH", "/opt/nodejs/node_modules".to_owned()));
            out.push(("PYTHONPATH", "/var/task:/opt/python".to_owned()));
            out.push(("PYTHONUNBUFFERED", "1".to_owned()));
            // What servers bind to by default which read it: nothing else reaches them anyway.
            out.push(("HOST", "127.0.0.1".to_owned()));
        }
    }
    out
}

/// Reserved, and the same for every function of a runtime.
fn fixed(runtime: &Runtime) -> Vec<(&'static str, String)> {
    let mut out = everywhere();
    out.extend(runtime.execution_env().map(|name| ("AWS_EXECUTION_ENV", name)));
    out.push(("LAMBDA_RUNTIME_DIR", "/var/runtime".to_owned()));
    if runtime.language == Language::Provided {
        out.push(("AWS_LAMBDA_RUNTIME_API", listener::ADDRESS.to_string()));
    }
    out
}

/// Reserved, and the same for every function.
fn everywhere() -> Vec<(&'static str, String)> {
    vec![
        ("AWS_REGION", "local".to_owned()),
        ("AWS_DEFAULT_REGION", "local".to_owned()),
        ("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand".to_owned()),
        ("LAMBDA_TASK_ROOT", TASK_ROOT.to_owned()),
    ]
}

/// Reserved, and the version's own.
fn reserved(version: &Version) -> Vec<(&'static str, String)> {
    vec![
        ("_HANDLER", version.config.handler.clone()),
        ("AWS_LAMBDA_FUNCTION_NAME", version.key.name.to_string()),
        ("AWS_LAMBDA_FUNCTION_VERSION", version.label().to_string()),
        ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", version.config.memory_mb.to_string()),
        ("AWS_LAMBDA_LOG_GROUP_NAME", log_group(version)),
    ]
}

/// The variable that names an instance's log stream.
pub(super) const LOG_STREAM: &str = "AWS_LAMBDA_LOG_STREAM_NAME";

/// The log group that AWS-style code expects.
pub(super) fn log_group(version: &Version) -> String {
    format!("/aws/lambda/{}", version.key.name)
}
