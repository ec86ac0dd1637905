//! Tags of functions.

use http::StatusCode;
use model::api::PatchConfig;
use model::ids::FunctionKey;
use percent_encoding::percent_decode_str;
use serde::Deserialize;
use serde_json::json;

use super::Answer;
use super::asked::Asked;
use super::configuration::Tags;
use super::error::Fault;
use super::reply;
use crate::catalog::Precondition;
use crate::control::to_the_end;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Wanted {
    tags: Tags,
}

/// The function whose ARN the path holds.
fn resource(asked: &Asked) -> Result<FunctionKey, Fault> {
    let arn = asked.name(0);
    if !arn.starts_with("arn:") {
        return Err(Fault::invalid("Resource is not valid: expected the ARN of a function"));
    }
    let target = asked.home.target(arn, None)?;
    if target.qualified {
        return Err(Fault::invalid(
            "Tags on function aliases and versions are not supported. Please specify either a function ARN or an event source mapping ARN.",
        ));
    }
    Ok(target.reference.key)
}

pub(super) async fn list(asked: &Asked) -> Answer {
    let key = resource(asked)?;
    let tags = asked.latest(&key).await?.function.settings.tags;
    Ok(reply::json(StatusCode::OK, &json!({ "Tags": tags })))
}

pub(super) async fn set(asked: &Asked) -> Answer {
    let key = resource(asked)?;
    let wanted: Wanted = asked.json()?;
    change(asked, key, wanted.tags.into_iter().map(|(name, value)| (name, Some(value)))).await
}

pub(super) async fn remove(asked: &Asked) -> Answer {
    let key = resource(asked)?;
    let query = asked.parts.uri.query().unwrap_or_default();
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let names = pairs
        .filter(|(name, _)| *name == "tagKeys")
        .map(|(_, value)| (percent_decode_str(value).decode_utf8_lossy().into_owned(), None));
    let names: Vec<_> = names.collect();
    if names.is_empty() {
        return Err(Fault::invalid("TagKeys are missing: expected at least one"));
    }
    change(asked, key, names.into_iter()).await
}

async fn change(
    asked: &Asked,
    key: FunctionKey,
    tags: impl Iterator<Item = (String, Option<String>)>,
) -> Answer {
    asked.latest(&key).await?;
    let patch = PatchConfig { tags: Some(tags.collect()), ..PatchConfig::default() };
    let intent = asked.intent(Precondition::None);
    to_the_end(
        &asked.app,
        |app| async move { app.catalog.patch_config(&key, &patch, &intent).await },
    )
    .await?;
    Ok(reply::empty(StatusCode::NO_CONTENT))
}
