//! Function URLs. Every function has one here, so a configuration of it is there if it is open to everybody: `AuthType` `NONE`.

use http::StatusCode;
use model::api::PatchConfig;
use model::function::UrlAuth;
use model::ids::FunctionKey;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Answer;
use super::asked::Asked;
use super::error::{Fault, Kind};
use super::functions::page;
use super::reply;
use crate::catalog::{FunctionAt, Precondition};
use crate::control::to_the_end;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Wanted {
    #[serde(default)]
    auth_type: Option<String>,
    #[serde(default)]
    cors: Option<Value>,
    #[serde(default)]
    invoke_mode: Option<String>,
}

impl Wanted {
    fn check(&self) -> Result<(), Fault> {
        match self.auth_type.as_deref() {
            None | Some("NONE") => {}
            Some("AWS_IAM") => {
                return Err(Fault::invalid(
                    "AuthType AWS_IAM is not supported by this daemon: a URL that is not open asks for one of its keys",
                ));
            }
            Some(_) => return Err(Fault::invalid("AuthType is not valid: expected NONE")),
        }
        let cors = self.cors.as_ref().and_then(Value::as_object);
        if cors.is_some_and(|cors| !cors.is_empty()) {
            return Err(Fault::invalid("Cors is not supported by this daemon: expected none"));
        }
        match self.invoke_mode.as_deref() {
            None | Some("BUFFERED" | "RESPONSE_STREAM") => Ok(()),
            Some(_) => {
                Err(Fault::invalid("InvokeMode is not valid: expected BUFFERED or RESPONSE_STREAM"))
            }
        }
    }
}

/// The function that the request is about.
fn function(asked: &Asked) -> Result<FunctionKey, Fault> {
    let target = asked.target()?;
    if target.qualified {
        return Err(Fault::invalid(
            "Qualifier is not supported by this daemon: who may use a URL is one for the whole function",
        ));
    }
    Ok(target.reference.key)
}

fn is_open(at: &FunctionAt) -> bool {
    at.function.settings.url_auth == UrlAuth::None
}

fn shown(asked: &Asked, at: &FunctionAt) -> Value {
    let (key, function) = (at.function.key(), &at.function);
    let base = asked.app.config.public_url.trim_end_matches('/');
    // The last change of the function is at least as young as that of its settings.
    let modified = function.change.as_ref().map_or(function.created_at, |change| change.at);
    json!({
        "FunctionUrl": format!("{base}/fn/{}/{}/", key.namespace, key.name),
        "FunctionArn": asked.home.arn(key, None),
        "AuthType": "NONE",
        "CreationTime": reply::time(function.created_at),
        "LastModifiedTime": reply::time(modified),
    })
}

async fn set(asked: &Asked, key: FunctionKey, auth: UrlAuth) -> Result<FunctionAt, Fault> {
    let patch = PatchConfig { url_auth: Some(auth), ..PatchConfig::default() };
    let intent = asked.intent(Precondition::None);
    let put = to_the_end(&asked.app, |app| async move {
        app.catalog.patch_config(&key, &patch, &intent).await
    });
    Ok(put.await?.function)
}

/// The function, if its URL is open.
async fn open(asked: &Asked, key: &FunctionKey) -> Result<FunctionAt, Fault> {
    let at = asked.latest(key).await?;
    if is_open(&at) {
        return Ok(at);
    }
    Err(Fault::new(Kind::NOT_FOUND, "The resource you requested does not exist."))
}

pub(super) async fn create(asked: &Asked) -> Answer {
    let key = function(asked)?;
    let wanted: Wanted = asked.json()?;
    if wanted.auth_type.is_none() {
        return Err(Fault::invalid("AuthType is missing: expected NONE"));
    }
    wanted.check()?;
    if is_open(&asked.latest(&key).await?) {
        let arn = asked.home.arn(&key, None);
        let message = format!("FunctionUrlConfig exists for this function: {arn}");
        return Err(Fault::new(Kind::CONFLICT, message));
    }
    let at = set(asked, key, UrlAuth::None).await?;
    let mut shown = shown(asked, &at);
    if let Some(members) = shown.as_object_mut() {
        members.remove("LastModifiedTime");
    }
    Ok(reply::json(StatusCode::CREATED, &shown))
}

pub(super) async fn update(asked: &Asked) -> Answer {
    let key = function(asked)?;
    let wanted: Wanted = asked.json()?;
    wanted.check()?;
    let at = open(asked, &key).await?;
    Ok(reply::json(StatusCode::OK, &shown(asked, &at)))
}

pub(super) async fn get(asked: &Asked) -> Answer {
    let at = open(asked, &function(asked)?).await?;
    Ok(reply::json(StatusCode::OK, &shown(asked, &at)))
}

pub(super) async fn list(asked: &Asked) -> Answer {
    let at = asked.latest(&function(asked)?).await?;
    let items = if is_open(&at) { vec![shown(asked, &at)] } else { Vec::new() };
    Ok(reply::json(StatusCode::OK, &page("FunctionUrlConfigs", items, None)))
}

/// The URL asks for a key from now on.
pub(super) async fn delete(asked: &Asked) -> Answer {
    let key = function(asked)?;
    open(asked, &key).await?;
    set(asked, key, UrlAuth::Key).await?;
    Ok(reply::empty(StatusCode::NO_CONTENT))
}
