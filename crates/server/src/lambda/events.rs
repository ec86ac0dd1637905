//! What happens to a function's asynchronous calls (`EventInvokeConfig`): how often they are tried again, and how old they may become.
//!
//! It is one for the whole function here, so no version and no alias has its own. It is there once one of the two is set.

use http::StatusCode;
use model::api::{PatchAsync, PatchConfig};
use model::ids::{FunctionKey, Qualifier};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Answer;
use super::asked::Asked;
use super::error::{Fault, Kind};
use super::functions::page;
use super::reply;
use crate::catalog::{FunctionAt, Precondition};
use crate::control::to_the_end;

/// Most times that a call is tried again (AWS Lambda API reference, `MaximumRetryAttempts`).
const RETRIES: u32 = 2;
/// Oldest that a call may become, in seconds (`MaximumEventAgeInSeconds`); and the least that can be said.
const AGES: std::ops::RangeInclusive<u64> = 60..=21_600;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Wanted {
    #[serde(default)]
    maximum_retry_attempts: Option<u32>,
    #[serde(default)]
    maximum_event_age_in_seconds: Option<u64>,
    #[serde(default)]
    destination_config: Option<Destinations>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Destinations {
    #[serde(default)]
    on_success: Option<Destination>,
    #[serde(default)]
    on_failure: Option<Destination>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Destination {
    #[serde(default)]
    destination: Option<String>,
}

impl Wanted {
    fn check(&self) -> Result<(), Fault> {
        if self.maximum_retry_attempts.is_some_and(|n| n > RETRIES) {
            let message = format!("MaximumRetryAttempts is not valid: expected 0 to {RETRIES}");
            return Err(Fault::invalid(message));
        }
        if self.maximum_event_age_in_seconds.is_some_and(|age| !AGES.contains(&age)) {
            let (least, most) = (AGES.start(), AGES.end());
            return Err(Fault::invalid(format!(
                "MaximumEventAgeInSeconds is not valid: expected {least} to {most}"
            )));
        }
        let named = |to: &Option<Destination>| {
            let to = to.as_ref().and_then(|to| to.destination.as_ref());
            to.is_some_and(|to| !to.is_empty())
        };
        match &self.destination_config {
            Some(to) if named(&to.on_success) || named(&to.on_failure) => Err(Fault::invalid(
                "DestinationConfig is not supported by this daemon: expected none",
            )),
            _ => Ok(()),
        }
    }
}

/// The function that the request is about.
fn function(asked: &Asked) -> Result<FunctionKey, Fault> {
    let target = asked.target()?;
    match target.qualifier() {
        None | Some(Qualifier::Latest) => Ok(target.reference.key),
        Some(_) => Err(Fault::invalid(
            "Qualifier is not supported by this daemon: what is set holds for the whole function",
        )),
    }
}

/// What is set; `None` if nothing is.
fn shown(asked: &Asked, at: &FunctionAt) -> Option<Value> {
    let policy = &at.function.settings.async_calls;
    if policy.attempts.is_none() && policy.max_age_seconds.is_none() {
        return None;
    }
    let key = at.function.key();
    // The last change of the function is at least as young as that of its settings.
    let modified = at.function.change.as_ref().map_or(at.function.created_at, |change| change.at);
    let mut shown = json!({
        "FunctionArn": asked.home.arn(key, Some(&Qualifier::Latest)),
        "LastModified": modified.0 / 1_000,
        "DestinationConfig": { "OnSuccess": {}, "OnFailure": {} },
    });
    if let Some(attempts) = policy.attempts {
        shown["MaximumRetryAttempts"] = attempts.saturating_sub(1).into();
    }
    if let Some(age) = policy.max_age_seconds {
        shown["MaximumEventAgeInSeconds"] = age.into();
    }
    Some(shown)
}

fn missing(asked: &Asked, key: &FunctionKey) -> Fault {
    let arn = asked.home.arn(key, Some(&Qualifier::Latest));
    Fault::new(Kind::NOT_FOUND, format!("The function {arn} doesn't have an EventInvokeConfig"))
}

async fn change(asked: &Asked, key: FunctionKey, patch: PatchAsync) -> Result<FunctionAt, Fault> {
    let patch = PatchConfig { async_calls: Some(patch), ..PatchConfig::default() };
    let intent = asked.intent(Precondition::None);
    let put = to_the_end(&asked.app, |app| async move {
        app.catalog.patch_config(&key, &patch, &intent).await
    });
    Ok(put.await?.function)
}

/// Sets both.
pub(super) async fn put(asked: &Asked) -> Answer {
    set(asked, true).await
}

/// Sets what is named.
pub(super) async fn update(asked: &Asked) -> Answer {
    set(asked, false).await
}

async fn set(asked: &Asked, whole: bool) -> Answer {
    let key = function(asked)?;
    let wanted: Wanted = asked.json()?;
    wanted.check()?;
    let current = asked.latest(&key).await?;
    if !whole && shown(asked, &current).is_none() {
        return Err(missing(asked, &key));
    }
    let attempts = wanted.maximum_retry_attempts.map(|retries| retries + 1);
    let age = wanted.maximum_event_age_in_seconds;
    let patch = PatchAsync {
        attempts: (whole || attempts.is_some()).then_some(attempts),
        max_age_seconds: (whole || age.is_some()).then_some(age),
        ..PatchAsync::default()
    };
    let at = change(asked, key.clone(), patch).await?;
    let shown = shown(asked, &at).ok_or_else(|| {
        Fault::invalid("nothing is set: expected MaximumRetryAttempts or MaximumEventAgeInSeconds")
    })?;
    Ok(reply::json(StatusCode::OK, &shown))
}

pub(super) async fn get(asked: &Asked) -> Answer {
    let key = function(asked)?;
    let at = asked.latest(&key).await?;
    let shown = shown(asked, &at).ok_or_else(|| missing(asked, &key))?;
    Ok(reply::json(StatusCode::OK, &shown))
}

pub(super) async fn list(asked: &Asked) -> Answer {
    let key = function(asked)?;
    let at = asked.latest(&key).await?;
    let items = shown(asked, &at).into_iter().collect();
    Ok(reply::json(StatusCode::OK, &page("FunctionEventInvokeConfigs", items, None)))
}

pub(super) async fn delete(asked: &Asked) -> Answer {
    let key = function(asked)?;
    if shown(asked, &asked.latest(&key).await?).is_none() {
        return Err(missing(asked, &key));
    }
    let none =
        PatchAsync { attempts: Some(None), max_age_seconds: Some(None), ..PatchAsync::default() };
    change(asked, key, none).await?;
    Ok(reply::empty(StatusCode::NO_CONTENT))
}
