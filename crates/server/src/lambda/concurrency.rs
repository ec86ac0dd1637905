//! Instances that are a function's own (reserved concurrency), and those that are kept started (provisioned concurrency).

use http::StatusCode;
use model::api::PatchConfig;
use model::error::Code;
use model::ids::{FunctionRef, Qualifier};
use model::provisioned::Provisioned;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Answer;
use super::asked::Asked;
use super::error::{Fault, Kind};
use super::functions::page;
use super::names::Target;
use super::reply;
use crate::catalog::{Precondition, ProvisionedAt};
use crate::control::to_the_end;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Reserve {
    reserved_concurrent_executions: u32,
}

pub(super) async fn reserve(asked: &Asked) -> Answer {
    let Reserve { reserved_concurrent_executions: count } = asked.json()?;
    set_reserved(asked, Some(count)).await?;
    Ok(reply::json(StatusCode::OK, &json!({ "ReservedConcurrentExecutions": count })))
}

pub(super) async fn reserved(asked: &Asked) -> Answer {
    let key = asked.function()?;
    let reserved = asked.latest(&key).await?.function.settings.reserved_instances;
    let answer = reserved.map_or(json!({}), |n| json!({ "ReservedConcurrentExecutions": n }));
    Ok(reply::json(StatusCode::OK, &answer))
}

pub(super) async fn unreserve(asked: &Asked) -> Answer {
    set_reserved(asked, None).await?;
    Ok(reply::empty(StatusCode::NO_CONTENT))
}

async fn set_reserved(asked: &Asked, count: Option<u32>) -> Result<(), Fault> {
    let key = asked.function()?;
    asked.latest(&key).await?;
    let patch = PatchConfig { reserved_instances: Some(count), ..PatchConfig::default() };
    let intent = asked.intent(Precondition::None);
    to_the_end(
        &asked.app,
        |app| async move { app.catalog.patch_config(&key, &patch, &intent).await },
    )
    .await?;
    Ok(())
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Provision {
    provisioned_concurrent_executions: u32,
}

/// The version or alias that the query names.
fn provisioned_target(asked: &Asked) -> Result<Target, Fault> {
    let target = asked.target()?;
    match target.qualifier() {
        Some(Qualifier::Version(_) | Qualifier::Alias(_)) => Ok(target),
        Some(Qualifier::Latest) => Err(Fault::invalid(
            "Provisioned Concurrency Configs cannot be applied to unpublished function versions.",
        )),
        None => Err(Fault::invalid("Qualifier is missing: expected a version or an alias")),
    }
}

fn shown(asked: &Asked, at: &ProvisionedAt) -> Value {
    // What was deleted meanwhile has none.
    let readiness = asked.app.engine.readiness(&at.target).unwrap_or_default();
    let ready = readiness.ready >= readiness.wanted;
    json!({
        "RequestedProvisionedConcurrentExecutions": at.record.provisioned.instances,
        "AvailableProvisionedConcurrentExecutions": readiness.ready,
        "AllocatedProvisionedConcurrentExecutions": readiness.ready,
        "Status": if ready { "READY" } else { "IN_PROGRESS" },
        "LastModified": reply::time(at.record.modified_at),
    })
}

pub(super) async fn provision(asked: &Asked) -> Answer {
    let target = provisioned_target(asked)?;
    let Provision { provisioned_concurrent_executions: instances } = asked.json()?;
    if instances == 0 {
        return Err(Fault::invalid(
            "ProvisionedConcurrentExecutions is not valid: expected 1 or more",
        ));
    }
    asked.look_up(&target).await?;
    let intent = asked.intent(Precondition::None);
    let wanted = Provisioned { instances, schedule: Vec::new(), timezone: None };
    let at = target.reference.clone();
    let (at, _) = to_the_end(&asked.app, |app| async move {
        app.catalog.put_provisioned(&at, &wanted, &intent).await
    })
    .await?;
    Ok(reply::json(StatusCode::ACCEPTED, &shown(asked, &at)))
}

/// One, or with `List=ALL` all of a function.
pub(super) async fn provisioned(asked: &Asked) -> Answer {
    if asked.query("List").is_some() {
        return list(asked).await;
    }
    let target = provisioned_target(asked)?;
    asked.look_up(&target).await?;
    let found = asked.app.catalog.provisioned(&target.reference).await;
    let at = found.map_err(|error| missing(error.into()))?;
    Ok(reply::json(StatusCode::OK, &shown(asked, &at)))
}

async fn list(asked: &Asked) -> Answer {
    let key = asked.function()?;
    let most = asked.max_items()?;
    asked.latest(&key).await?;
    let function = FunctionRef { key: key.clone(), qualifier: Qualifier::Latest };
    let marker = asked.query("Marker").map(|m| m.parse::<Qualifier>()).transpose()?;
    let mut all = asked.app.catalog.all_provisioned(&function).await?;
    all.retain(|at| marker.as_ref().is_none_or(|marker| at.target.qualifier > *marker));
    let more = all.len() > most;
    all.truncate(most);
    let next = all.last().filter(|_| more).map(|at| at.target.qualifier.to_string());
    let items = all.iter().map(|at| {
        let mut item = shown(asked, at);
        item["FunctionArn"] = asked.home.arn(&key, Some(&at.target.qualifier)).into();
        item
    });
    let answer = page("ProvisionedConcurrencyConfigs", items.collect(), next);
    Ok(reply::json(StatusCode::OK, &answer))
}

pub(super) async fn unprovision(asked: &Asked) -> Answer {
    let target = provisioned_target(asked)?;
    asked.look_up(&target).await?;
    let intent = asked.intent(Precondition::None);
    let deleted = to_the_end(&asked.app, |app| async move {
        app.catalog.delete_provisioned(&target.reference, &intent).await
    });
    match deleted.await {
        // The service says nothing of one that was not there.
        Err(e) if e.code() != Code::NotFound => Err(e.into()),
        _ => Ok(reply::empty(StatusCode::NO_CONTENT)),
    }
}

fn missing(fault: Fault) -> Fault {
    fault.renamed(Kind::NOT_FOUND, Kind::NOT_PROVISIONED, || {
        "No Provisioned Concurrency Config found for this function".to_owned()
    })
}
