//! Fields `idempotency.…` of `hanshu config`: which calls are the same call.

use model::api::PatchConfig;
use model::function::Idempotency;

use crate::cli::failure::CliError;
use crate::cli::values;

/// Sets one field. What is not set has its default.
pub(super) fn set(patch: &mut PatchConfig, key: &str, value: &str) -> Result<(), CliError> {
    let rules = patch.idempotency.get_or_insert_default().get_or_insert_default();
    match key.strip_prefix("idempotency.").unwrap_or(key) {
        "key" => rules.key = Some(value.parse().map_err(|e| CliError::new(format!("{key}: {e}")))?),
        "window" => {
            let seconds = values::seconds(value);
            rules.window_seconds = Some(seconds.map_err(|e| CliError::new(format!("{key} {e}")))?);
        }
        "required" => rules.required = flag(key, value)?,
        "any_event" => rules.any_event = flag(key, value)?,
        _ => {
            return Err(CliError::new(format!(
                "'{key}' is not a field of idempotency: expected key, window, required or any_event"
            )));
        }
    }
    Ok(())
}

fn flag(key: &str, value: &str) -> Result<bool, CliError> {
    let bad = || CliError::new(format!("{key} '{value}' is not valid: expected true or false"));
    value.parse().map_err(|_| bad())
}

/// What is set, in the form that [`set`] takes.
pub(super) fn lines(rules: &Idempotency) -> Vec<String> {
    let mut lines = Vec::new();
    lines.extend(rules.key.as_ref().map(|key| format!("idempotency.key={key}")));
    lines.extend(rules.window_seconds.map(|seconds| format!("idempotency.window={seconds}s")));
    lines.extend(rules.required.then(|| "idempotency.required=true".to_owned()));
    lines.extend(rules.any_event.then(|| "idempotency.any_event=true".to_owned()));
    lines
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_are_set_and_shown() {
        let shown = [
            "idempotency.key=event.order.id",
            "idempotency.window=3600s",
            "idempotency.required=true",
            "idempotency.any_event=true",
        ];
        let mut patch = PatchConfig::default();
        for line in shown {
            let (key, value) = line.split_once('=').unwrap();
            set(&mut patch, key, value).unwrap();
        }
        assert_eq!(
            serde_json::to_value(&patch).unwrap(),
            json!({ "idempotency": {
                "key": "event.order.id", "window_seconds": 3600, "required": true, "any_event": true
            } })
        );
        assert_eq!(lines(&patch.idempotency.flatten().unwrap()), shown);
        for (key, value, part) in [
            ("idempotency.key", "$.id", "event.FIELD"),
            ("idempotency.window", "1", "idempotency.window '1'"),
            ("idempotency.required", "yes", "expected true or false"),
            ("idempotency.path", "x", "expected key, window"),
        ] {
            let e = set(&mut PatchConfig::default(), key, value).unwrap_err();
            assert!(e.to_string().contains(part), "{e}");
        }
    }
}
