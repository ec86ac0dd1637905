//! States as JSON, to be compared and shown.
//!
//! Two secrets look alike when they are shown, and have to differ when they are compared. So a state that is compared has a mark in place of
//! each secret, which names its value without telling it; [`difference_of`] and [`without_marks`] put what is shown in its place.

use std::collections::BTreeMap;

use model::api::{ConfigView, Difference, VariableView};
use model::difference::differences;
use model::function::{FunctionState, Variable, Version};
use serde::Serialize;
use serde_json::{Value, json};

/// Most differences of two states that are shown.
const DIFFERENCES: usize = 200;
/// What a mark begins with. No plain variable holds a NUL character.
const MARK: &str = "\0secret ";

/// A function's state as it is compared. [`without_marks`] makes it one that may be shown.
pub(crate) fn function_state(state: &FunctionState) -> Value {
    match state {
        FunctionState::Function { settings, latest } => {
            let mut state = comparable(latest);
            set(&mut state, "settings", as_json(settings));
            state
        }
        FunctionState::Version(summary) => json!({
            "version": summary.number,
            "fingerprint": summary.fingerprint,
            "published_at": summary.published_at.to_string(),
            "size_bytes": summary.size_bytes,
        }),
        FunctionState::Provisioned(provisioned) => as_json(provisioned),
        FunctionState::Alias { alias, rollout } => {
            let mut state = as_json(&alias.with_environment(BTreeMap::<_, VariableView>::new()));
            if !alias.environment.is_empty() {
                set(&mut state, "environment", marked(&alias.environment));
            }
            if let Some(rollout) = rollout {
                set(&mut state, "shift", as_json(rollout));
            }
            state
        }
    }
}

/// What differs between two states, at most [`DIFFERENCES`] values; `None` is one that is not there. Nothing in it is marked.
pub(crate) fn difference_of(before: Option<&Value>, after: Option<&Value>) -> Vec<Difference> {
    // What is not there has no members: so each member of the other is a difference of its own.
    let nothing = json!({});
    let (before, after) = (before.unwrap_or(&nothing), after.unwrap_or(&nothing));
    let mut found = differences(before, after, DIFFERENCES);
    for difference in &mut found {
        difference.before = difference.before.take().map(without_marks);
        difference.after = difference.after.take().map(without_marks);
    }
    found
}

/// A state as it may be shown.
pub(crate) fn without_marks(mut value: Value) -> Value {
    unmark(&mut value);
    value
}

fn unmark(value: &mut Value) {
    match value {
        Value::String(text) if text.starts_with(MARK) => *value = as_json(&VariableView::Kept),
        Value::Array(values) => values.iter_mut().for_each(unmark),
        Value::Object(members) => members.values_mut().for_each(unmark),
        _ => {}
    }
}

/// A version as it is compared: configuration, resolved runtime, layers and code.
pub(super) fn comparable(version: &Version) -> Value {
    let config: ConfigView = version.config.with_environment(BTreeMap::new());
    let mut config = as_json(&config);
    set(&mut config, "environment", marked(&version.config.environment));
    let layers = version.layers.iter().map(|layer| {
        json!({
            "layer": format!("{}:{}", layer.name, layer.version),
            "digest": layer.code.digest.to_string(),
        })
    });
    json!({
        "config": config,
        "runtime": version.runtime,
        "layers": layers.collect::<Vec<_>>(),
        "code": { "digest": version.code.digest.to_string() },
    })
}

fn marked(environment: &BTreeMap<String, Variable>) -> Value {
    let marked = environment.iter().map(|(name, value)| {
        let value = match value {
            Variable::Plain(text) => text.clone(),
            Variable::Sealed { sealed } => format!("{MARK}{}", sealed.id),
        };
        (name.clone(), Value::String(value))
    });
    Value::Object(marked.collect())
}

fn set(state: &mut Value, member: &str, value: Value) {
    if let Value::Object(members) = state {
        members.insert(member.to_owned(), value);
    }
}

/// The document of a type whose names are texts: it always has one.
pub(crate) fn as_json<T: Serialize>(value: &T) -> Value {
    serde_json::to_value(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use model::alias::Alias;
    use model::clock::UnixMillis;
    use model::function::{CodeRef, FunctionConfig, FunctionSettings, RuntimeInfo};
    use model::ids::{Digest, FunctionRef, RequestId, VersionRef};
    use model::layer::AttachedLayer;
    use model::secret::Sealed;

    use super::*;

    fn secret(id: u8) -> Variable {
        let id = RequestId::from_bytes([id; 16]);
        Variable::Sealed { sealed: Sealed { id, bytes: 7, envelope: "ciphertext".into() } }
    }

    fn code(text: &str) -> CodeRef {
        CodeRef { digest: Digest::of(text.as_bytes()), size_bytes: 3, unpacked_bytes: 3 }
    }

    fn version(secret_id: u8) -> Version {
        let mut config = FunctionConfig::new("nodejs20", "index.handler");
        config.environment.insert("A".into(), "plain".into());
        config.environment.insert("T".into(), secret(secret_id));
        Version {
            key: FunctionRef::parse("default", "f").unwrap().key,
            number: None,
            config,
            code: code("zip"),
            layers: vec![AttachedLayer {
                name: "numpy".parse().unwrap(),
                version: 3,
                code: code("layer"),
            }],
            runtime: RuntimeInfo { name: "nodejs20".into(), version: "20.0.0".into() },
            modified_at: UnixMillis(1),
        }
    }

    fn texts(found: &[Difference]) -> Vec<String> {
        let text = |value: &Option<Value>| value.as_ref().map_or("-".into(), Value::to_string);
        found.iter().map(|d| format!("{} {} {}", d.path, text(&d.before), text(&d.after))).collect()
    }

    #[test]
    fn a_changed_secret_differs_and_is_not_shown() {
        let (before, after) = (comparable(&version(1)), comparable(&version(2)));
        assert_eq!(
            texts(&difference_of(Some(&before), Some(&after))),
            [r#"config.environment.T {"secret":true} {"secret":true}"#]
        );
        assert!(difference_of(Some(&before), Some(&before)).is_empty());
        let shown = without_marks(before);
        assert_eq!(shown["config"]["environment"], json!({"A": "plain", "T": {"secret": true}}));
        let text = shown.to_string();
        assert!(!text.contains("ciphertext") && !text.contains("01010101"), "{text}");
    }

    #[test]
    fn a_new_state_is_all_difference() {
        let state = function_state(&FunctionState::Function {
            settings: FunctionSettings::default(),
            latest: Box::new(version(1)),
        });
        let found = difference_of(None, Some(&state));
        let paths: Vec<&str> = found.iter().map(|d| d.path.as_str()).collect();
        assert_eq!(paths, ["code", "config", "layers", "runtime", "settings"]);
        assert!(!texts(&found).concat().contains("\\u0000"));
        assert_eq!(texts(&difference_of(Some(&state), None)).len(), 5);
    }

    #[test]
    fn everything_that_runs_is_compared() {
        let before = comparable(&version(1));
        let mut other = version(1);
        other.config.timeout_ms = 5;
        other.runtime.version = "20.0.1".into();
        other.layers[0].version = 4;
        other.code = code("other");
        let found = difference_of(Some(&before), Some(&comparable(&other)));
        let paths: Vec<&str> = found.iter().map(|d| d.path.as_str()).collect();
        assert_eq!(
            paths,
            ["code.digest", "config.timeout_ms", "layers[0].layer", "runtime.version"]
        );
    }

    #[test]
    fn aliases_are_compared_with_their_secrets() {
        let state = |id: u8| {
            let mut alias = Alias::to(VersionRef::Number(7));
            alias.environment.insert("T".into(), secret(id));
            function_state(&FunctionState::Alias { alias: Box::new(alias), rollout: None })
        };
        assert_eq!(
            texts(&difference_of(Some(&state(1)), Some(&state(2)))),
            [r#"environment.T {"secret":true} {"secret":true}"#]
        );
        assert_eq!(without_marks(state(1))["targets"], json!([{"version": "7", "weight": 1}]));
    }

    #[test]
    fn differences_have_a_limit() {
        let long = Value::Array(vec![Value::Null; 1_000]);
        let other = Value::Array(vec![Value::Bool(true); 1_000]);
        assert_eq!(difference_of(Some(&long), Some(&other)).len(), DIFFERENCES);
    }
}
