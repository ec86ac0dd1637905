//! A patch of a configuration: the named fields change, the others stay.

use std::collections::BTreeMap;

use model::api::PatchConfig;
use model::function::{FunctionConfig, FunctionSettings};

/// Everything but the environment.
pub(super) fn patched(config: &FunctionConfig, patch: &PatchConfig) -> FunctionConfig {
    let mut new = config.clone();
    set(&mut new.description, patch.description.as_ref());
    set(&mut new.runtime, patch.runtime.as_ref());
    set(&mut new.handler, patch.handler.as_ref());
    set(&mut new.timeout_ms, patch.timeout_ms.as_ref());
    if let Some(memory_mb) = patch.memory_mb {
        new.memory_mb = memory_mb;
        new.memory_share = None;
    }
    set(&mut new.memory_share, patch.memory_share.as_ref());
    set(&mut new.cpu_weight, patch.cpu_weight.as_ref());
    set(&mut new.cpu_cores, patch.cpu_cores.as_ref());
    set(&mut new.processes, patch.processes.as_ref());
    set(&mut new.open_files, patch.open_files.as_ref());
    set(&mut new.tmp_mb, patch.tmp_mb.as_ref());
    set(&mut new.output_bytes_per_second, patch.output_bytes_per_second.as_ref());
    set(&mut new.instance_concurrency, patch.instance_concurrency.as_ref());
    set(&mut new.instance_calls, patch.instance_calls.as_ref());
    set(&mut new.files, patch.files.as_ref());
    set(&mut new.readiness_path, patch.readiness_path.as_ref());
    set(&mut new.network, patch.network.as_ref());
    set(&mut new.layers, patch.layers.as_ref());
    set(&mut new.role, patch.role.as_ref());
    new
}

pub(super) fn patch_settings(settings: &mut FunctionSettings, patch: &PatchConfig) {
    settings.max_instances = patch.max_instances.or(settings.max_instances);
    set(&mut settings.reserved_instances, patch.reserved_instances.as_ref());
    if let Some(idempotency) = &patch.idempotency {
        settings.idempotency = idempotency.clone().unwrap_or_default();
    }
    set(&mut settings.max_queued_calls, patch.max_queued_calls.as_ref());
    set(&mut settings.max_queued_bytes, patch.max_queued_bytes.as_ref());
    set(&mut settings.url_auth, patch.url_auth.as_ref());
    set(&mut settings.publish, patch.publish.as_ref());
    merge(&mut settings.tags, patch.tags.as_ref());
    if let Some(patch) = &patch.async_calls {
        patch.apply(&mut settings.async_calls);
    }
}

fn set<T: Clone>(field: &mut T, new: Option<&T>) {
    if let Some(new) = new {
        field.clone_from(new);
    }
}

fn merge(map: &mut BTreeMap<String, String>, changes: Option<&BTreeMap<String, Option<String>>>) {
    for (key, value) in changes.into_iter().flatten() {
        match value {
            Some(value) => drop(map.insert(key.clone(), value.clone())),
            None => drop(map.remove(key)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> FunctionConfig {
        serde_json::from_str(
            r#"{"runtime":"nodejs20","handler":"a.b","environment":{"A":"1","B":"2"}}"#,
        )
        .unwrap()
    }

    #[test]
    fn a_patch_changes_the_named_fields_only() {
        let patch: PatchConfig =
            serde_json::from_str(r#"{"memory_mb":256,"network":"egress"}"#).unwrap();
        let new = patched(&config(), &patch);
        assert_eq!(new.memory_mb, 256);
        assert_eq!(new.network.mode.as_str(), "egress");
        assert_eq!(new.handler, "a.b");
        assert_eq!(new.environment, config().environment);
        assert_eq!(patched(&config(), &PatchConfig::default()), config());
    }

    #[test]
    fn a_size_ends_a_share_and_null_removes_what_is_optional() {
        let patched = |config: &FunctionConfig, json: &str| {
            let patch: PatchConfig = serde_json::from_str(json).unwrap();
            patched(config, &patch)
        };
        let shared = patched(&config(), r#"{"memory_share":"25%","cpu_cores":0.5,"cpu_weight":7}"#);
        assert_eq!(shared.memory_share.unwrap().to_string(), "25%");
        assert_eq!((shared.cpu_cores.unwrap().millis(), shared.cpu_weight), (500, Some(7)));
        assert_eq!(patched(&shared, r#"{"timeout_ms":5}"#).memory_share, shared.memory_share);
        let sized = patched(&shared, r#"{"memory_mb":256}"#);
        assert_eq!((sized.memory_mb, sized.memory_share), (256, None));
        // As it is shown: the size belongs to the share.
        let both = patched(&shared, r#"{"memory_mb":256,"memory_share":"50%"}"#);
        assert_eq!(both.memory_share.unwrap().to_string(), "50%");
        let null = r#"{"memory_share":null,"cpu_cores":null,"cpu_weight":null,"processes":64}"#;
        let none = patched(&shared, null);
        assert_eq!((none.memory_share, none.cpu_cores, none.cpu_weight), (None, None, None));
        assert_eq!(none.processes, 64);
    }

    #[test]
    fn settings_are_patched_alike() {
        let mut settings = FunctionSettings::default();
        let patch: PatchConfig = serde_json::from_str(
            r#"{"max_instances":0,"url_auth":"none","tags":{"team":"a","old":null}}"#,
        )
        .unwrap();
        patch_settings(&mut settings, &patch);
        assert_eq!(settings.max_instances, Some(0));
        assert_eq!(settings.url_auth, model::function::UrlAuth::None);
        assert_eq!(settings.tags.len(), 1);
        patch_settings(&mut settings, &PatchConfig::default());
        assert_eq!(settings.max_instances, Some(0));
    }
}
