//! Layers and their versions.

use axum::body::Body;
use http::{Response, StatusCode};
use model::error::Code;
use model::ids::LayerName;
use model::layer::{Layer, LayerKey, LayerVersion};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Answer;
use super::asked::Asked;
use super::code::{self, WantedCode};
use super::configuration::{layer_arn, sha256};
use super::error::{Fault, Kind};
use super::functions::page;
use super::reply;
use crate::catalog::{NewLayerVersion, Precondition};
use crate::control::to_the_end;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Publish<'a> {
    #[serde(borrow)]
    content: WantedCode<'a>,
    #[serde(default)]
    description: Option<String>,
    #[serde(default)]
    compatible_runtimes: Option<Vec<String>>,
    #[serde(default)]
    license_info: Option<String>,
}

/// The layer that the path names: by its name, or by its ARN.
fn layer_key(asked: &Asked) -> Result<LayerKey, Fault> {
    key_of(asked, asked.name(0))
}

fn key_of(asked: &Asked, named: &str) -> Result<LayerKey, Fault> {
    let name = match named.split(':').collect::<Vec<_>>()[..] {
        ["arn", _, "lambda", _, account, "layer", name] => {
            asked.home.check_account(account, named)?;
            name
        }
        _ => named,
    };
    let name: LayerName = name.parse()?;
    Ok(LayerKey { namespace: asked.home.namespace.clone(), name })
}

fn number(text: &str) -> Result<u64, Fault> {
    text.parse().map_err(|_| Fault::invalid("VersionNumber is not valid: expected a number"))
}

/// A version as it is listed.
fn shown(asked: &Asked, key: &LayerKey, version: &LayerVersion) -> Value {
    let mut shown = json!({
        "LayerVersionArn": layer_arn(&asked.home, key.name.as_str(), version.number),
        "Version": version.number,
        "Description": version.description,
        "CreatedDate": reply::time(version.published_at),
    });
    if !version.runtimes.is_empty() {
        shown["CompatibleRuntimes"] = json!(version.runtimes);
    }
    shown
}

fn arn(asked: &Asked, key: &LayerKey) -> String {
    let home = &asked.home;
    format!("arn:aws:lambda:{}:{}:layer:{}", home.region, home.account, key.name)
}

/// A version with its content.
fn whole(asked: &Asked, key: &LayerKey, version: &LayerVersion) -> Value {
    let mut shown = shown(asked, key, version);
    shown["LayerArn"] = arn(asked, key).into();
    shown["Content"] = json!({
        "Location": code::layer_location(asked, key, version.number),
        "CodeSha256": sha256(&version.code.digest),
        "CodeSize": version.code.size_bytes,
    });
    shown
}

pub(super) async fn publish(mut asked: Asked) -> Answer {
    let key = layer_key(&asked)?;
    let body = asked.body.clone();
    let wanted: Publish<'_> = crate::extract::read_json(&body)?;
    if wanted.license_info.is_some_and(|text| !text.is_empty()) {
        return Err(Fault::invalid("LicenseInfo is not supported by this daemon: expected none"));
    }
    let (description, runtimes) = (wanted.description, wanted.compatible_runtimes);
    let zip = wanted.content.zip()?;
    drop((std::mem::take(&mut asked.body), body));
    let code = code::store(&mut asked, zip).await?;
    let new = NewLayerVersion {
        code,
        description: description.unwrap_or_default(),
        runtimes: runtimes.unwrap_or_default(),
    };
    let intent = asked.intent(Precondition::None);
    let layer = key.clone();
    let (version, _) = to_the_end(&asked.app, |app| async move {
        app.catalog.publish_layer(&layer, new, &intent).await
    })
    .await?;
    Ok(reply::json(StatusCode::CREATED, &whole(&asked, &key, &version)))
}

pub(super) async fn get(asked: &Asked) -> Answer {
    let (key, number) = (layer_key(asked)?, number(asked.name(1))?);
    get_version(asked, &key, number).await
}

async fn get_version(asked: &Asked, key: &LayerKey, number: u64) -> Answer {
    let version = version(asked, key, number).await?;
    Ok(reply::json(StatusCode::OK, &whole(asked, key, &version)))
}

async fn version(asked: &Asked, key: &LayerKey, number: u64) -> Result<LayerVersion, Fault> {
    let found = asked.app.catalog.layer_version(key, number).await;
    found.map_err(|error| {
        Fault::from(error)
            .reworded(Kind::NOT_FOUND, || "The resource you requested does not exist.".to_owned())
    })
}

/// The zip of a version.
pub(super) async fn content(asked: &Asked) -> Result<Response<Body>, Fault> {
    let (key, number) = (layer_key(asked)?, number(asked.name(1))?);
    let version = version(asked, &key, number).await?;
    code::package(asked, &version.code, key.name.as_str()).await
}

/// Layers by name, or with `find=LayerVersion` the version that an ARN names.
pub(super) async fn list(asked: &Asked) -> Answer {
    if asked.query("find").is_some() {
        let arn = asked.query("Arn").unwrap_or_default();
        let (layer, version) = arn.rsplit_once(':').unwrap_or((&arn, ""));
        return get_version(asked, &key_of(asked, layer)?, number(version)?).await;
    }
    let (most, marker) = (asked.max_items()?, asked.query("Marker"));
    let runtime = asked.query("CompatibleRuntime");
    let namespace = &asked.home.namespace;
    let (layers, next) = asked.app.catalog.layers(namespace, marker.as_deref(), most).await?;
    let items = layers.iter().filter_map(|layer: &Layer| {
        let newest = layer.versions.iter().rev().find(|v| fits(v, runtime.as_deref()))?;
        Some(json!({
            "LayerName": layer.key.name.as_str(),
            "LayerArn": arn(asked, &layer.key),
            "LatestMatchingVersion": shown(asked, &layer.key, newest),
        }))
    });
    Ok(reply::json(StatusCode::OK, &page("Layers", items.collect(), next)))
}

fn fits(version: &LayerVersion, runtime: Option<&str>) -> bool {
    let named = |runtime: &str| version.runtimes.iter().any(|own| own == runtime);
    runtime.is_none_or(named)
}

/// Versions of a layer, the newest first. The marker is the number of the last one before.
pub(super) async fn versions(asked: &Asked) -> Answer {
    let key = layer_key(asked)?;
    let most = asked.max_items()?;
    let before = asked.query("Marker").map(|marker| number(&marker)).transpose()?;
    let runtime = asked.query("CompatibleRuntime");
    let layer = match asked.app.catalog.layer(&key).await {
        // As with the service, what is not there has no versions.
        Err(e) if e.code() == Code::NotFound => {
            return Ok(reply::json(StatusCode::OK, &page("LayerVersions", Vec::new(), None)));
        }
        layer => layer?,
    };
    let mut found: Vec<_> = layer
        .versions
        .iter()
        .rev()
        .filter(|version| before.is_none_or(|before| version.number < before))
        .filter(|version| fits(version, runtime.as_deref()))
        .collect();
    let more = found.len() > most;
    found.truncate(most);
    let next = found.last().filter(|_| more).map(|version| version.number.to_string());
    let items = found.iter().map(|version| shown(asked, &key, version)).collect();
    Ok(reply::json(StatusCode::OK, &page("LayerVersions", items, next)))
}

/// Deletes a version; one that is not there counts as deleted, as with the service.
pub(super) async fn delete(asked: &Asked) -> Answer {
    let (key, number) = (layer_key(asked)?, number(asked.name(1))?);
    let intent = asked.intent(Precondition::None);
    let deleted = to_the_end(&asked.app, |app| async move {
        app.catalog.delete_layer_version(&key, number, &intent).await
    });
    match deleted.await {
        Err(e) if e.code() != Code::NotFound => Err(e.into()),
        _ => Ok(reply::empty(StatusCode::NO_CONTENT)),
    }
}
