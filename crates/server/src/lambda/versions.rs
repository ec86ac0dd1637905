//! Published versions.

use http::StatusCode;
use model::ids::{FunctionRef, Qualifier};
use serde::Deserialize;
use serde_json::json;

use super::Answer;
use super::asked::Asked;
use super::configuration::{changed, expected, revision_id, sha256, shown};
use super::error::Fault;
use super::functions::page;
use super::reply;
use crate::catalog::Precondition;
use crate::control::to_the_end;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Publish {
    #[serde(default, rename = "CodeSha256")]
    code_sha256: Option<String>,
    #[serde(default)]
    description: Option<String>,
    #[serde(default)]
    revision_id: Option<String>,
    #[serde(default)]
    publish_to: Option<String>,
}

pub(super) async fn publish(asked: &Asked) -> Answer {
    let key = asked.function()?;
    let wanted: Publish = asked.json()?;
    if wanted.publish_to.is_some() {
        return Err(Fault::invalid("PublishTo is not supported by this daemon: expected none"));
    }
    let current = asked.latest(&key).await?;
    let function = &current.function;
    let (revision, own) = (function.revision, revision_id(function, None));
    let mut precondition = expected(wanted.revision_id.as_deref(), &own, revision)?;
    if let Some(wanted) = &wanted.code_sha256 {
        let there = sha256(&function.latest.code.digest);
        if *wanted != there {
            return Err(Fault::invalid(format!(
                "CodeSHA256 ({wanted}) is different from current CodeSHA256 in $LATEST ({there}). Please try again with the CodeSHA256 in $LATEST."
            )));
        }
        precondition = Precondition::Revision(revision);
    }
    let intent = asked.intent(precondition);
    let put = to_the_end(&asked.app, |app| async move {
        app.catalog.publish(&key, wanted.description.as_deref(), &intent).await
    });
    Ok(reply::json(StatusCode::CREATED, &changed(&asked.home, &put.await?.function)))
}

/// `$LATEST`, then the published versions by number. The marker is the number of the last one before.
pub(super) async fn list(asked: &Asked) -> Answer {
    let target = asked.target()?;
    let most = asked.max_items()?;
    let latest = asked.look_up(&target).await?;
    let mut items = Vec::new();
    let mut after = 0;
    match asked.query("Marker") {
        None => items.push(json!(shown(&asked.home, &latest, Some(&Qualifier::Latest)))),
        Some(marker) => {
            after = marker.parse().map_err(|_| {
                Fault::invalid("Marker is not valid: expected NextMarker of the page before")
            })?;
        }
    }
    let key = target.key();
    let catalog = &asked.app.catalog;
    let (versions, more) = catalog.versions(key, after, most.saturating_sub(items.len())).await?;
    for (summary, _) in versions {
        after = summary.number;
        let qualifier = Qualifier::Version(summary.number);
        let reference = FunctionRef { key: key.clone(), qualifier: qualifier.clone() };
        // One that was deleted meanwhile is not listed.
        if let Ok(at) = catalog.function(&reference).await {
            items.push(json!(shown(&asked.home, &at, Some(&qualifier))));
        }
    }
    let next = more.then(|| after.to_string());
    Ok(reply::json(StatusCode::OK, &page("Versions", items, next)))
}
