//! Fields `async.…` of `hanshu config`: what happens to asynchronous calls.

use std::fmt::Display;

use model::api::{PatchAsync, PatchConfig};
use model::function::{AsyncPolicy, Destination, RetryCurve};

use crate::cli::failure::CliError;
use crate::cli::values;

/// What can be set, without the times' units.
const FIELDS: &str = "attempts, max_age, keep_result, keep_dead, retry.first, retry.factor, retry.ceiling, retry.jitter, retry.pauses, or function, webhook or secret of on_success or on_failure";

/// Sets one field.
pub(super) fn set(patch: &mut PatchConfig, key: &str, value: &str) -> Result<(), CliError> {
    let patch = patch.async_calls.get_or_insert_default();
    match field(key) {
        "attempts" => patch.attempts = Some(Some(number(key, value)?)),
        "max_age" => patch.max_age_seconds = Some(Some(seconds(key, value)?)),
        "keep_result" => patch.keep_result_seconds = Some(Some(seconds(key, value)?)),
        "keep_dead" => patch.keep_dead_seconds = Some(Some(seconds(key, value)?)),
        "retry.first" => retry(patch).first_seconds = Some(pause(key, value)?),
        "retry.factor" => retry(patch).factor = Some(number(key, value)?),
        "retry.ceiling" => retry(patch).ceiling_seconds = Some(pause(key, value)?),
        "retry.jitter" => {
            let percent = value.strip_suffix('%').unwrap_or(value);
            retry(patch).jitter_percent = Some(number(key, percent)?);
        }
        "retry.pauses" => {
            let pauses = value.split(',').map(|text| pause(key, text.trim()));
            retry(patch).pauses_seconds = pauses.collect::<Result<_, _>>()?;
        }
        "on_success.function" => told(&mut patch.on_success).function = Some(value.to_owned()),
        "on_success.webhook" => told(&mut patch.on_success).webhook = Some(value.to_owned()),
        "on_success.secret" => told(&mut patch.on_success).secret = Some(value.to_owned()),
        "on_failure.function" => told(&mut patch.on_failure).function = Some(value.to_owned()),
        "on_failure.webhook" => told(&mut patch.on_failure).webhook = Some(value.to_owned()),
        "on_failure.secret" => told(&mut patch.on_failure).secret = Some(value.to_owned()),
        _ => return Err(unknown(key)),
    }
    Ok(())
}

/// Brings a field's default back.
pub(super) fn unset(patch: &mut PatchConfig, key: &str) -> Result<(), CliError> {
    let patch = patch.async_calls.get_or_insert_default();
    match field(key) {
        "attempts" => patch.attempts = Some(None),
        "max_age" => patch.max_age_seconds = Some(None),
        "keep_result" => patch.keep_result_seconds = Some(None),
        "keep_dead" => patch.keep_dead_seconds = Some(None),
        "retry" => patch.retry = Some(None),
        "on_success" => patch.on_success = Some(None),
        "on_failure" => patch.on_failure = Some(None),
        field if field.starts_with("retry.") => {
            return Err(CliError::new(format!("'{key}' cannot be removed: expected async.retry")));
        }
        _ => return Err(unknown(key)),
    }
    Ok(())
}

fn field(key: &str) -> &str {
    key.strip_prefix("async.").unwrap_or(key)
}

fn unknown(key: &str) -> CliError {
    CliError::new(format!("'{key}' is not a field of async: expected {FIELDS}"))
}

fn retry(patch: &mut PatchAsync) -> &mut RetryCurve {
    patch.retry.get_or_insert_default().get_or_insert_default()
}

fn told(destination: &mut Option<Option<Box<Destination>>>) -> &mut Destination {
    destination.get_or_insert_default().get_or_insert_default()
}

fn number(key: &str, value: &str) -> Result<u32, CliError> {
    let bad = || CliError::new(format!("{key} '{value}' is not valid: expected a whole number"));
    value.parse().map_err(|_| bad())
}

fn seconds(key: &str, value: &str) -> Result<u64, CliError> {
    values::seconds(value).map_err(|e| CliError::new(format!("{key} {e}")))
}

fn pause(key: &str, value: &str) -> Result<u32, CliError> {
    let seconds = seconds(key, value)?;
    let bad = || CliError::new(format!("{key} '{value}' is too long"));
    u32::try_from(seconds).map_err(|_| bad())
}

/// What is set, in the form that [`set`] takes.
pub(super) fn lines(policy: &AsyncPolicy) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = |field: &str, value: Option<String>| {
        lines.extend(value.map(|value| format!("async.{field}={value}")));
    };
    line("attempts", policy.attempts.map(|n| n.to_string()));
    line("max_age", policy.max_age_seconds.map(span));
    line("keep_result", policy.keep_result_seconds.map(span));
    line("keep_dead", policy.keep_dead_seconds.map(span));
    if let Some(retry) = &policy.retry {
        line("retry.first", retry.first_seconds.map(span));
        line("retry.factor", retry.factor.map(|n| n.to_string()));
        line("retry.ceiling", retry.ceiling_seconds.map(span));
        let pauses: Vec<String> = retry.pauses_seconds.iter().map(span).collect();
        line("retry.pauses", (!pauses.is_empty()).then(|| pauses.join(",")));
        line("retry.jitter", retry.jitter_percent.map(|n| format!("{n}%")));
    }
    let both = [("on_success", &policy.on_success), ("on_failure", &policy.on_failure)];
    for (end, told) in both.into_iter().filter_map(|(end, told)| Some((end, told.as_ref()?))) {
        line(&format!("{end}.function"), told.function.clone());
        line(&format!("{end}.webhook"), told.webhook.clone());
        line(&format!("{end}.secret"), told.secret.clone());
    }
    lines
}

fn span(seconds: impl Display) -> String {
    format!("{seconds}s")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_are_set_shown_and_taken_back() {
        let mut patch = PatchConfig::default();
        let shown = [
            "async.attempts=5",
            "async.max_age=3600s",
            "async.keep_result=60s",
            "async.keep_dead=2592000s",
            "async.retry.pauses=1s,60s",
            "async.retry.jitter=20%",
            "async.on_success.function=next:live",
            "async.on_failure.webhook=https://example.com/hook",
            "async.on_failure.secret=KEY",
        ];
        for line in shown {
            let (key, value) = line.split_once('=').unwrap();
            set(&mut patch, key, value).unwrap();
        }
        assert_eq!(
            serde_json::to_value(&patch).unwrap(),
            json!({ "async": {
                "attempts": 5, "max_age_seconds": 3600, "keep_result_seconds": 60, "keep_dead_seconds": 2_592_000,
                "retry": { "pauses_seconds": [1, 60], "jitter_percent": 20 },
                "on_success": { "function": "next:live" },
                "on_failure": { "webhook": "https://example.com/hook", "secret": "KEY" }
            } })
        );
        let mut policy = AsyncPolicy::default();
        patch.async_calls.unwrap().apply(&mut policy);
        policy.validate().unwrap();
        assert_eq!(lines(&policy), shown);
        let mut patch = PatchConfig::default();
        for key in [
            "async.attempts",
            "async.max_age",
            "async.keep_result",
            "async.keep_dead",
            "async.retry",
            "async.on_success",
            "async.on_failure",
        ] {
            unset(&mut patch, key).unwrap();
        }
        patch.async_calls.unwrap().apply(&mut policy);
        assert!(policy.is_default() && lines(&policy).is_empty());
    }

    #[test]
    fn bad_fields_are_named() {
        for (key, value, part) in [
            ("async.attempts", "many", "async.attempts 'many'"),
            ("async.max_age", "60", "async.max_age '60' is no time span"),
            ("async.retry.pauses", "1s,", "async.retry.pauses ''"),
            ("async.retry.first", "9999999999s", "too long"),
            ("async.retries", "1", "expected attempts"),
        ] {
            let e = set(&mut PatchConfig::default(), key, value).unwrap_err();
            assert!(e.to_string().contains(part), "{e}");
        }
        for key in ["async.retry.first", "async.x"] {
            assert!(
                unset(&mut PatchConfig::default(), key)
                    .unwrap_err()
                    .to_string()
                    .contains("expected")
            );
        }
    }
}
