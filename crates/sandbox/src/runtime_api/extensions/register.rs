//! `POST /2020-01-01/extension/register`: an extension says which events it wants to hear of.

use http::{HeaderName, HeaderValue, StatusCode};
use hyper::Request;
use hyper::body::Incoming;
use serde::Deserialize;
use serde_json::json;

use super::{BODY_BYTES, IDENTIFIER, NAME_BYTES, Refused};
use crate::runtime_api::answers::{Reply, json, too_large, truncated};
use crate::runtime_api::body::{Unread, whole};
use crate::runtime_api::desk::Desk;

const NAME: HeaderName = HeaderName::from_static("lambda-extension-name");
const FEATURES: HeaderName = HeaderName::from_static("lambda-extension-accept-feature");
/// The feature of hearing the account's number, and the one that all functions here have.
const ACCOUNT: (&str, &str) = ("accountId", "000000000000");

/// What it sends. What else is in it is of no account.
#[derive(Debug, Deserialize)]
struct Wanted {
    #[serde(default)]
    events: Vec<String>,
}

pub(in crate::runtime_api) async fn handle(desk: &Desk, request: Request<Incoming>) -> Reply {
    let (head, body) = request.into_parts();
    let name = head.headers.get(NAME).and_then(|name| name.to_str().ok()).unwrap_or_default();
    if name.is_empty() || name.len() > NAME_BYTES {
        return Refused::new("Extension.InvalidExtensionName", "Empty extension name").reply();
    }
    let body = match whole(body, BODY_BYTES).await {
        Ok(body) => body,
        Err(Unread::TooLarge(_)) => return too_large(BODY_BYTES),
        Err(Unread::Broken) => return truncated(),
    };
    let wanted: Wanted = match serde_json::from_slice(&body) {
        Ok(wanted) => wanted,
        Err(error) => return Refused::new("InvalidRequestFormat", error.to_string()).reply(),
    };
    let id = match desk.register(name, &wanted.events) {
        Ok(id) => id,
        Err(why) => return why.reply(),
    };
    let about = desk.about();
    let mut said = json!({
        "functionName": about.name,
        "functionVersion": about.version,
        "handler": about.handler,
    });
    let features = head.headers.get(FEATURES).and_then(|names| names.to_str().ok());
    if features.is_some_and(|names| names.split(',').any(|name| name.trim() == ACCOUNT.0)) {
        said[ACCOUNT.0] = json!(ACCOUNT.1);
    }
    let mut reply = json(StatusCode::OK, said.to_string());
    if let Ok(id) = HeaderValue::from_str(&id.to_string()) {
        reply.headers_mut().insert(IDENTIFIER, id);
    }
    reply
}
