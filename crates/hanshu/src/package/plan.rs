//! Decides what a deployed function will be: flags over `hanshu.toml` over what is deployed already over guesses.

use std::collections::BTreeMap;

use model::api::{ConfigView, FunctionView, PutFunction, VariableView};
use model::function::{FunctionConfig, FunctionSettings, MemoryShare};
use model::layer::LayerRef;
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
    /// Overrides the memory limit.
    pub memory: Option<Memory>,
    /// Variables added to the environment.
    pub environment: BTreeMap<String, VariableView>,
    /// Overrides the layers.
    pub layers: Option<Vec<LayerRef>>,
    /// Publish the result as a version.
    pub publish: bool,
    /// Deploy also what cannot be loaded.
    pub force: bool,
}

/// A memory limit, in the two ways to give it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Memory {
    /// In MiB.
    Size(u32),
    /// Of what the host gives to functions.
    Share(MemoryShare),
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
    let environment = environment(wishes, manifest, old)?;
    let mut config = FunctionConfig {
        description: manifest
            .description
            .clone()
            .or_else(|| old.map(|o| o.description.clone()))
            .unwrap_or_default(),
        timeout_ms: wishes
            .timeout_ms
            .or(manifest.timeout_ms)
            .or(old.map(|o| o.timeout_ms))
            .unwrap_or(limits::TIMEOUT_DEFAULT_MS),
        environment,
        network: manifest
            .network
            .clone()
            .or_else(|| old.map(|o| o.network.clone()))
            .unwrap_or_default(),
        layers: layers(wishes, manifest, old),
        ..resources(manifest, old, FunctionConfig::new(runtime, handler))
    };
    match wishes.memory.or(memory(manifest)?) {
        Some(Memory::Size(mb)) => (config.memory_mb, config.memory_share) = (mb, None),
        Some(Memory::Share(share)) => config.memory_share = Some(share),
        None => {}
    }
    config.validate()?;
    let settings = settings(manifest, deployed);
    let Wishes { publish, force, .. } = *wishes;
    Ok(PutFunction { config, settings, code: Some(digest.to_owned()), publish, force })
}

/// Options over the file over what is deployed.
fn layers(wishes: &Wishes, manifest: &Manifest, old: Option<&ConfigView>) -> Vec<LayerRef> {
    let named = wishes.layers.as_ref().or(manifest.layers.as_ref());
    named.or(old.map(|old| &old.layers)).cloned().unwrap_or_default()
}

/// The memory limit of the file, which is given once at most.
fn memory(manifest: &Manifest) -> Result<Option<Memory>, CliError> {
    match (manifest.memory_mb, manifest.memory_share) {
        (Some(_), Some(_)) => Err(CliError::new(
            "hanshu.toml has both memory_mb and memory_share: expected one of them",
        )),
        (Some(mb), None) => Ok(Some(Memory::Size(mb))),
        (None, share) => Ok(share.map(Memory::Share)),
    }
}

/// `new` with what one instance may use: the file's, else that of the deployed function, else the defaults.
fn resources(manifest: &Manifest, old: Option<&ConfigView>, new: ConfigView) -> ConfigView {
    let base = old.unwrap_or(&new);
    FunctionConfig {
        memory_mb: base.memory_mb,
        memory_share: base.memory_share,
        cpu_weight: manifest.cpu_weight.or(base.cpu_weight),
        cpu_cores: manifest.cpu_cores.or(base.cpu_cores),
        processes: manifest.processes.unwrap_or(base.processes),
        open_files: manifest.open_files.unwrap_or(base.open_files),
        tmp_mb: manifest.tmp_mb.unwrap_or(base.tmp_mb),
        output_bytes_per_second: manifest
            .output_bytes_per_second
            .unwrap_or(base.output_bytes_per_second),
        instance_concurrency: manifest.instance_concurrency.or(base.instance_concurrency),
        instance_calls: manifest.instance_calls.or(base.instance_calls),
        files: manifest.files.or(base.files),
        readiness_path: manifest.readiness_path.clone().or_else(|| base.readiness_path.clone()),
        role: base.role.clone(),
        ..new
    }
}

/// Options over the file, whose plain variables are the whole; secrets of the deployed function stay.
fn environment(
    wishes: &Wishes,
    manifest: &Manifest,
    old: Option<&ConfigView>,
) -> Result<BTreeMap<String, VariableView>, CliError> {
    let deployed = old.map(|o| o.environment.clone()).unwrap_or_default();
    let mut environment = deployed.clone();
    if let Some(named) = &manifest.environment {
        environment.retain(|_, value| matches!(value, VariableView::Kept));
        environment.extend(named.clone());
    }
    environment.extend(wishes.environment.clone());
    let has_value = |name: &str, value: &VariableView| {
        !matches!(value, VariableView::Kept)
            || matches!(deployed.get(name), Some(VariableView::Kept))
    };
    match environment.iter().find(|(name, value)| !has_value(name, value)) {
        None => Ok(environment),
        Some((name, _)) => Err(CliError::new(format!("the secret {name} has no value yet")).hint(
            format!("pass --secret {name}=@FILE, or --secret {name}=- to read standard input"),
        )),
    }
}

fn runtime(
    wishes: &Wishes,
    manifest: &Manifest,
    old: Option<&ConfigView>,
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
            "pass --runtime nodejs20, python3.11, java17 or wasm, or write `runtime = \"…\"` into hanshu.toml",
        )),
    }
}

fn handler(
    wishes: &Wishes,
    manifest: &Manifest,
    old: Option<&ConfigView>,
    contents: &Contents,
    runtime: &str,
) -> Result<String, CliError> {
    if let Some(handler) = wishes.handler.as_ref().or(manifest.handler.as_ref()) {
        return Ok(handler.clone());
    }
    let old = old.map(|o| &o.handler).filter(|h| contents.holds(runtime, h));
    old.cloned().or_else(|| contents.handler(runtime)).ok_or_else(|| {
        CliError::new("the handler cannot be guessed from the files").hint(
            "pass --handler FILE.EXPORT, for instance index.handler (in Java PACKAGE.CLASS::METHOD, of WebAssembly the program's file), or write `handler = \"…\"` into hanshu.toml",
        )
    })
}

fn settings(manifest: &Manifest, deployed: Option<&FunctionView>) -> Option<FunctionSettings> {
    let said = manifest.max_instances.is_some()
        || manifest.reserved_instances.is_some()
        || manifest.max_queued_calls.is_some()
        || manifest.max_queued_bytes.is_some()
        || manifest.url_auth.is_some()
        || manifest.tags.is_some()
        || manifest.publish.is_some()
        || manifest.async_calls.is_some()
        || manifest.idempotency.is_some();
    if !said {
        return None;
    }
    let mut settings = deployed.map(|d| d.settings.clone()).unwrap_or_default();
    settings.max_instances = manifest.max_instances.or(settings.max_instances);
    settings.reserved_instances = manifest.reserved_instances.or(settings.reserved_instances);
    settings.max_queued_calls = manifest.max_queued_calls.or(settings.max_queued_calls);
    settings.max_queued_bytes = manifest.max_queued_bytes.or(settings.max_queued_bytes);
    settings.url_auth = manifest.url_auth.unwrap_or(settings.url_auth);
    settings.publish = manifest.publish.unwrap_or(settings.publish);
    if let Some(tags) = &manifest.tags {
        settings.tags.clone_from(tags);
    }
    if let Some(rules) = &manifest.idempotency {
        settings.idempotency.clone_from(rules);
    }
    if let Some(policy) = &manifest.async_calls {
        settings.async_calls.clone_from(policy);
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
                timeout_ms: 9_000,
                memory_mb: 512,
                tmp_mb: 64,
                environment: BTreeMap::from([
                    ("A".into(), VariableView::Plain("old".into())),
                    ("T".into(), VariableView::Kept),
                ]),
                network: NetworkMode::Egress.into(),
                layers: vec!["old:1".parse().unwrap()],
                role: Some("arn:aws:iam::000000000000:role/kept".into()),
                ..FunctionConfig::new("nodejs22", "index.other")
            },
            settings: FunctionSettings::default(),
            resolved_runtime: RuntimeInfo { name: "nodejs20".into(), version: "20".into() },
            code: PackageView { digest: String::new(), size_bytes: 0, unpacked_bytes: 0 },
            layers: Vec::new(),
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
            memory: Some(Memory::Size(256)),
            environment: BTreeMap::from([("B".into(), VariableView::Plain("new".into()))]),
            ..Wishes::default()
        };
        let manifest = Manifest { url_auth: Some(UrlAuth::None), ..Manifest::default() };
        let put = put(&wishes, &manifest, Some(&deployed()), &contents("index.js"), "d").unwrap();
        assert_eq!(put.config.runtime, "nodejs22");
        assert_eq!(put.config.handler, "index.other");
        assert_eq!((put.config.timeout_ms, put.config.memory_mb), (9_000, 256));
        assert_eq!(put.config.tmp_mb, 64);
        assert_eq!(put.config.environment.len(), 3);
        assert_eq!(put.config.network, NetworkMode::Egress.into());
        assert_eq!(put.settings.unwrap().url_auth, UrlAuth::None);
    }

    #[test]
    fn layers_come_from_options_then_the_file_then_what_is_deployed() {
        let list = |name: &str| Some(vec![name.parse::<LayerRef>().unwrap()]);
        let plan = |wishes: &Wishes, manifest: &Manifest| {
            let put = put(wishes, manifest, Some(&deployed()), &contents("index.js"), "d").unwrap();
            put.config.layers.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let wishes = Wishes { layers: list("new:stable"), ..Wishes::default() };
        let manifest = Manifest { layers: list("file:2"), ..Manifest::default() };
        assert_eq!(plan(&wishes, &manifest), ["new:stable"]);
        assert_eq!(plan(&Wishes::default(), &manifest), ["file:2"]);
        assert_eq!(plan(&Wishes::default(), &Manifest::default()), ["old:1"]);
        let none = Manifest { layers: Some(Vec::new()), ..Manifest::default() };
        assert!(plan(&Wishes::default(), &none).is_empty());
    }

    #[test]
    fn a_share_and_a_size_of_memory_replace_each_other() {
        let share: MemoryShare = "25%".parse().unwrap();
        let shared = Manifest { memory_share: Some(share), ..Manifest::default() };
        let contents = contents("index.js");
        let plan = |wishes: &Wishes, manifest: &Manifest, old: &FunctionView| {
            put(wishes, manifest, Some(old), &contents, "d")
        };
        let mut old = deployed();
        old.config = plan(&Wishes::default(), &shared, &old).unwrap().config;
        assert_eq!(old.config.memory_share, Some(share));
        let kept = plan(&Wishes::default(), &Manifest::default(), &old).unwrap();
        assert_eq!(kept.config.memory_share, Some(share));
        let wishes = Wishes { memory: Some(Memory::Size(256)), ..Wishes::default() };
        let sized = plan(&wishes, &shared, &old).unwrap();
        assert_eq!((sized.config.memory_mb, sized.config.memory_share), (256, None));
        let both = Manifest { memory_mb: Some(64), ..shared };
        let e = plan(&Wishes::default(), &both, &old).unwrap_err();
        assert!(e.to_string().contains("memory_share"), "{e}");
    }

    #[test]
    fn the_files_environment_is_whole_but_for_secrets() {
        let manifest = |text: &str| Manifest {
            environment: Some(serde_json::from_str(text).unwrap()),
            ..Manifest::default()
        };
        let plan = |wishes: &Wishes, manifest: &Manifest, deployed: Option<&FunctionView>| {
            put(wishes, manifest, deployed, &contents("index.js"), "d")
        };
        let none = Wishes::default();
        let new = plan(&none, &manifest(r#"{"B":"1"}"#), Some(&deployed())).unwrap();
        let names: Vec<_> = new.config.environment.keys().map(String::as_str).collect();
        assert_eq!(names, ["B", "T"]);
        plan(&none, &manifest(r#"{"T":{"secret":true}}"#), Some(&deployed())).unwrap();
        for deployed in [None, Some(deployed())] {
            // A was plain until now: a secret needs a value of its own.
            let secret = manifest(r#"{"A":{"secret":true}}"#);
            let e = plan(&none, &secret, deployed.as_ref()).unwrap_err();
            assert!(e.to_string().contains("secret A"), "{e}");
            let value = VariableView::Secret(model::secret::SecretText::new("x"));
            let wishes =
                Wishes { environment: BTreeMap::from([("A".into(), value)]), ..Wishes::default() };
            plan(&wishes, &secret, deployed.as_ref()).unwrap();
        }
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
