//! `GET /2020-01-01/extension/event/next`: an extension is done with the event before, and waits for the next one.

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use model::ids::RequestId;

use super::identifier;
use crate::runtime_api::answers::{Reply, json};
use crate::runtime_api::desk::Desk;

const EVENT: HeaderName = HeaderName::from_static("lambda-extension-event-identifier");

pub(in crate::runtime_api) async fn handle(desk: &Desk, headers: &HeaderMap) -> Reply {
    let id = match identifier(headers) {
        Ok(id) => id,
        Err(why) => return why.reply(),
    };
    match desk.next_event(id).await {
        Ok(event) => {
            let mut reply = json(StatusCode::OK, event);
            if let Ok(id) = HeaderValue::from_str(&RequestId::generate().to_string()) {
                reply.headers_mut().insert(EVENT, id);
            }
            reply
        }
        Err(why) => why.reply(),
    }
}
