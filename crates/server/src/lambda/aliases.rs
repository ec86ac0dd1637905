//! Aliases, with the weights of a second version as the service has them. What an alias has beside that stays as it is.

use std::collections::BTreeMap;

use http::StatusCode;
use model::alias::{Alias, AliasRecord};
use model::api::{PutAlias, VariableView};
use model::error::Code;
use model::function::Function;
use model::ids::{AliasName, FunctionKey, Qualifier, VersionRef};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::Answer;
use super::asked::Asked;
use super::configuration::{expected, named_revision};
use super::error::{Fault, Kind};
use super::functions::page;
use super::names::Home;
use super::reply;
use crate::catalog::Precondition;
use crate::control::to_the_end;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Wanted {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    function_version: Option<VersionRef>,
    #[serde(default)]
    description: Option<String>,
    #[serde(default)]
    routing_config: Option<Routing>,
    #[serde(default)]
    revision_id: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Routing {
    #[serde(default)]
    additional_version_weights: Option<BTreeMap<VersionRef, f64>>,
}

/// The first target has what the others leave; their shares are of all weights.
fn shown(
    home: &Home,
    key: &FunctionKey,
    function: &Function,
    name: &AliasName,
    record: &AliasRecord,
) -> Value {
    let Alias { targets, description, .. } = &record.alias;
    let main = targets.first().map(|target| target.version.to_string()).unwrap_or_default();
    let all: f64 = targets.iter().map(|target| f64::from(target.weight)).sum();
    let others = targets.iter().skip(1);
    let weights: Map<String, Value> = others
        .map(|target| (target.version.to_string(), (f64::from(target.weight) / all).into()))
        .collect();
    let mut alias = json!({
        "AliasArn": home.arn(key, Some(&Qualifier::Alias(name.clone()))),
        "Name": name.as_str(),
        "FunctionVersion": main,
        "Description": description,
        "RevisionId": alias_revision(function, name, record),
    });
    if !weights.is_empty() {
        alias["RoutingConfig"] = json!({ "AdditionalVersionWeights": weights });
    }
    alias
}

fn alias_revision(function: &Function, name: &AliasName, record: &AliasRecord) -> String {
    named_revision(function.id, name.as_str(), record.revision)
}

/// The alias that the path names.
fn alias_name(asked: &Asked) -> Result<AliasName, Fault> {
    Ok(asked.name(1).parse()?)
}

/// A function with one of its aliases.
async fn look_up(
    asked: &Asked,
    key: &FunctionKey,
    name: &AliasName,
) -> Result<(Function, AliasRecord), Fault> {
    let function = asked.latest(key).await?.function;
    let record = function.aliases.get(name).cloned().ok_or_else(|| {
        let arn = asked.home.arn(key, Some(&Qualifier::Alias(name.clone())));
        Fault::new(Kind::NOT_FOUND, format!("Cannot find alias arn: {arn}"))
    })?;
    Ok((function, record))
}

async fn answer(asked: &Asked, status: StatusCode, key: &FunctionKey, name: &AliasName) -> Answer {
    let (function, record) = look_up(asked, key, name).await?;
    Ok(reply::json(status, &shown(&asked.home, key, &function, name, &record)))
}

pub(super) async fn create(asked: &Asked) -> Answer {
    let key = asked.function()?;
    let wanted: Wanted = asked.json()?;
    let name = wanted.name.as_deref().ok_or_else(|| Fault::invalid("Name is missing"))?;
    let name: AliasName = name.parse()?;
    let version = wanted
        .function_version
        .ok_or_else(|| Fault::invalid("FunctionVersion is missing: expected a version"))?;
    let weights = wanted.routing_config.and_then(|routing| routing.additional_version_weights);
    let put = PutAlias {
        description: wanted.description.unwrap_or_default(),
        version: Some(version),
        additional_version_weights: weights.unwrap_or_default(),
        ..PutAlias::default()
    };
    put_alias(asked, &key, &name, put, Precondition::Absent).await?;
    answer(asked, StatusCode::CREATED, &key, &name).await
}

pub(super) async fn update(asked: &Asked) -> Answer {
    let (key, name) = (asked.function()?, alias_name(asked)?);
    let wanted: Wanted = asked.json()?;
    let (function, record) = look_up(asked, &key, &name).await?;
    let own = alias_revision(&function, &name, &record);
    expected(wanted.revision_id.as_deref(), &own, record.revision)?;
    let Alias { description, targets, rules, sticky, environment, shadow } = record.alias;
    let kept = environment.iter().map(|(name, value)| (name.clone(), VariableView::from(value)));
    let mut put = PutAlias {
        description: wanted.description.unwrap_or(description),
        rules,
        sticky,
        environment: kept.collect(),
        shadow,
        ..PutAlias::default()
    };
    let weights = wanted.routing_config.map(|r| r.additional_version_weights.unwrap_or_default());
    match (wanted.function_version, weights) {
        (None, None) => put.targets = Some(targets),
        (version, weights) => {
            put.version = version.or_else(|| targets.first().map(|target| target.version));
            // Weights that are not named stay, as those of the service do.
            put.additional_version_weights = weights.unwrap_or_else(|| {
                let all: f64 = targets.iter().map(|target| f64::from(target.weight)).sum();
                let others = targets.iter().skip(1);
                others.map(|t| (t.version, f64::from(t.weight) / all)).collect()
            });
        }
    }
    // What stays was read before: nobody may have changed it meanwhile.
    put_alias(asked, &key, &name, put, Precondition::Revision(record.revision)).await?;
    answer(asked, StatusCode::OK, &key, &name).await
}

async fn put_alias(
    asked: &Asked,
    key: &FunctionKey,
    name: &AliasName,
    put: PutAlias,
    precondition: Precondition,
) -> Result<(), Fault> {
    let intent = asked.intent(precondition);
    let (of, alias) = (key.clone(), name.clone());
    let put = to_the_end(&asked.app, |app| async move {
        app.catalog.put_alias(&of, &alias, put, &intent).await
    });
    let arn = || asked.home.arn(key, Some(&Qualifier::Alias(name.clone())));
    put.await.map(drop).map_err(|error| match error.code() {
        Code::AlreadyExists => {
            Fault::new(Kind::CONFLICT, format!("Alias already exists: {}", arn()))
        }
        _ => error.into(),
    })
}

pub(super) async fn get(asked: &Asked) -> Answer {
    let (key, name) = (asked.function()?, alias_name(asked)?);
    answer(asked, StatusCode::OK, &key, &name).await
}

/// Aliases by name; the marker is the last one before. With a version, those that lead to it.
pub(super) async fn list(asked: &Asked) -> Answer {
    let key = asked.function()?;
    let most = asked.max_items()?;
    let version = asked.query("FunctionVersion").map(|v| v.parse::<VersionRef>()).transpose()?;
    let marker = asked.query("Marker");
    let function = asked.latest(&key).await?.function;
    let behind = |name: &AliasName| marker.as_deref().is_none_or(|m| name.as_str() > m);
    let leads = |record: &AliasRecord| {
        version.is_none_or(|version| record.alias.targets.iter().any(|t| t.version == version))
    };
    let mut found: Vec<_> =
        function.aliases.iter().filter(|(name, record)| behind(name) && leads(record)).collect();
    let more = found.len() > most;
    found.truncate(most);
    let next = found.last().filter(|_| more).map(|(name, _)| name.to_string());
    let items =
        found.iter().map(|(name, record)| shown(&asked.home, &key, &function, name, record));
    Ok(reply::json(StatusCode::OK, &page("Aliases", items.collect(), next)))
}

/// Deletes an alias; one that is not there counts as deleted, as with the service.
pub(super) async fn delete(asked: &Asked) -> Answer {
    let (key, name) = (asked.function()?, alias_name(asked)?);
    asked.latest(&key).await?;
    let intent = asked.intent(Precondition::None);
    let deleted = to_the_end(&asked.app, |app| async move {
        app.catalog.delete_alias(&key, &name, &intent).await
    });
    match deleted.await {
        Err(e) if e.code() != Code::NotFound => Err(e.into()),
        _ => Ok(reply::empty(StatusCode::NO_CONTENT)),
    }
}
