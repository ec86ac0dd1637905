//! Decides what a deployed function will be: flags over `hanshu.toml` over what is deployed already over guesses.

use std::collections::BTreeMap;

use model::api::{FunctionView, PutFunction};
use model::function::{FunctionConfig, FunctionSettings};
use model::limits;

use super::guess::Contents;
use super::manifest::Manifest;
use crate::cli::failure::CliError;

/// What the person said on the command line.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wishes {
    /// Overrides the runtime.
    pub runtime: Option<String>,
    /// Overrides the handler.
    pub handler: Option<String>,
    /// Overrides the timeout, in milliseconds.
    pub timeout_ms: Option<u32>,
    /// Overrides the memory limit, in MiB.
    pub memory_mb: Option<u32>,
    /// Variables added to the environment.
    pub environment: BTreeMap<String, String>,
    /// Publish the result as a version.
    pub publish: bool,
}

/// The request that deploys `digest`. What nobody mentions stays as it is deployed.
pub(crate) fn put(
    wishes: &Wishes,
    manifest: &Manifest,
    deployed: Option<&FunctionView>,
    contents: &Contents,
    digest: &str,
) -> Result<PutFunction, CliError> {
    let old = deployed.map(|d| &d.config);
    let runtime = runtime(wishes, manifest, old, contents)?;
    let handler = handler(wishes, manifest, old, contents, &runtime)?;
    let mut environment = match (&manifest.environment, old) {
        (Some(environment), _) => environment.clone(),
        (None, Some(old)) => old.environment.clone(),
        (None, None) => BTreeMap::new(),
    };
    environment.extend(wishes.environment.clone());
    let config = FunctionConfig {
        description: manifest
            .description
            .clone()
            .or_else(|| old.map(|o| o.description.clone()))
            .unwrap_or_default(),
        runtime,
        handler,
        timeout_ms: wishes
            .timeout_ms
            .or(manifest.timeout_ms)
            .or(old.map(|o| o.timeout_ms))
            .unwrap_or(limits::TIMEOUT_DEFAULT_MS),
        memory_mb: wishes
            .memory_mb
            .or(manifest.memory_mb)
            .or(old.map(|o| o.memory_mb))
            .unwrap_or(limits::MEMORY_DEFAULT_MB),
        environment,
        network: manifest
            .network
            .clone()
            .or_else(|| old.map(|o| o.network.clone()))
            .unwrap_or_default(),
    };
    config.validate()?;
    let settings = settings(manifest, deployed);
    Ok(PutFunction { config, settings, code: Some(digest.to_owned()), publish: wishes.publish })
}

fn runtime(
    wishes: &Wishes,
    manifest: &Manifest,
    old: Option<&FunctionConfig>,
    contents: &Contents,
) -> Result<String, CliError> {
    if let Some(runtime) = wishes.runtime.as_ref().or(manifest.runtime.as_ref()) {
        return Ok(runtime.clone());
    }
    let guessed = contents.runtime();
    let family = |r: &str| r.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.').to_owned();
    match (old, guessed) {
        // The same language: the version that was chosen before stays. Otherwise the function was rewritten.
        (Some(old), Some(new)) if family(&old.runtime) == family(new) => Ok(old.runtime.clone()),
        (_, Some(new)) => Ok(new.to_owned()),
        (Some(old), None) => Ok(old.runtime.clone()),
        (None, None) => Err(CliError::new("the runtime cannot be guessed from the files").hint(
            "pass --runtime nodejs20 or --runtime python3.11, or write `runtime = \"…\"` into hanshu.toml",
        )),
    }
}

fn handler(
    wishes: &Wishes,
    manifest: &Manifest,
    old: Option<&FunctionConfig>,
    contents: &Contents,
    runtime: &str,
) -> Result<String, CliError> {
    if let Some(handler) = wishes.handler.as_ref().or(manifest.handler.as_ref()) {
        return Ok(handler.clone());
    }
    let old = old.map(|o| &o.handler).filter(|h| contents.holds(runtime, h));
    old.cloned().or_else(|| contents.handler(runtime)).ok_or_else(|| {
        CliError::new("the handler cannot be guessed from the files").hint(
            "pass --handler FILE.EXPORT, for instance index.handler, or write `handler = \"…\"` into hanshu.toml",
        )
    })
}

fn settings(manifest: &Manifest, deployed: Option<&FunctionView>) -> Option<FunctionSettings> {
    let said =
        manifest.max_instances.is_some() || manifest.url_auth.is_some() || manifest.tags.is_some();
    if !said {
        return None;
    }
    let mut settings = deployed.map(|d| d.settings.clone()).unwrap_or_default();
    settings.max_instances = manifest.max_instances.or(settings.max_instances);
    settings.url_auth = manifest.url_auth.unwrap_or(settings.url_auth);
    if let Some(tags) = &manifest.tags {
        settings.tags.clone_from(tags);
    }
    Some(settings)
}

#[cfg(test)]
mod tests {
    use model::api::PackageView;
    use model::function::{RuntimeInfo, UrlAuth};
    use model::network::NetworkMode;

    use super::*;

    fn contents(name: &str) -> Contents {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, "").unwrap();
        Contents::of_entries(&[super::super::collect::Entry::of_file(name, &path).unwrap()])
    }

    fn deployed() -> FunctionView {
        FunctionView {
            namespace: "default".into(),
            name: "f".into(),
            version: "$LATEST".into(),
            arn: String::new(),
            url: String::new(),
            config: FunctionConfig {
                description: "kept".into(),
                runtime: "nodejs22".into(),
                handler: "index.other".into(),
                timeout_ms: 9_000,
                memory_mb: 512,
                environment: BTreeMap::from([("A".into(), "old".into())]),
                network: NetworkMode::Egress.into(),
            },
            settings: FunctionSettings::default(),
            resolved_runtime: RuntimeInfo { name: "nodejs20".into(), version: "20".into() },
            code: PackageView { digest: String::new(), size_bytes: 0, unpacked_bytes: 0 },
            created_at: String::new(),
            modified_at: String::new(),
            revision: 1,
        }
    }

    #[test]
    fn a_new_function_gets_guesses_and_defaults() {
        let put = put(&Wishes::default(), &Manifest::default(), None, &contents("index.js"), "d")
            .unwrap();
        assert_eq!(put.config.runtime, "nodejs20");
        assert_eq!(put.config.handler, "index.handler");
        assert_eq!(put.config.timeout_ms, limits::TIMEOUT_DEFAULT_MS);
        assert_eq!(put.settings, None);
        assert_eq!(put.code.as_deref(), Some("d"));
    }

    #[test]
    fn what_is_not_mentioned_stays() {
        let wishes = Wishes {
            memory_mb: Some(256),
            environment: BTreeMap::from([("B".into(), "new".into())]),
            ..Wishes::default()
        };
        let manifest = Manifest { url_auth: Some(UrlAuth::None), ..Manifest::default() };
        let put = put(&wishes, &manifest, Some(&deployed()), &contents("index.js"), "d").unwrap();
        assert_eq!(put.config.runtime, "nodejs22");
        assert_eq!(put.config.handler, "index.other");
        assert_eq!((put.config.timeout_ms, put.config.memory_mb), (9_000, 256));
        assert_eq!(put.config.environment.len(), 2);
        assert_eq!(put.config.network, NetworkMode::Egress.into());
        assert_eq!(put.settings.unwrap().url_auth, UrlAuth::None);
    }

    #[test]
    fn a_rewrite_in_another_language_is_noticed() {
        let put = put(
            &Wishes::default(),
            &Manifest::default(),
            Some(&deployed()),
            &contents("main.py"),
            "d",
        )
        .unwrap();
        assert_eq!(put.config.runtime, "python3.11");
        assert_eq!(put.config.handler, "main.handler");
    }

    #[test]
    fn no_guess_says_what_to_pass() {
        let e = put(&Wishes::default(), &Manifest::default(), None, &contents("a.txt"), "d")
            .unwrap_err();
        assert!(e.hint_text().unwrap().contains("--runtime"));
        let wishes = Wishes { runtime: Some("nodejs20".into()), ..Wishes::default() };
        let e = put(&wishes, &Manifest::default(), None, &contents("a.txt"), "d").unwrap_err();
        assert!(e.hint_text().unwrap().contains("--handler"));
    }
}
