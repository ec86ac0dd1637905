//! Keys. They are made, listed and deleted with a key that opens everything.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use model::api::{CreateKey, ErrorBody, KeyView, NewKeyView, Page};
use model::ids::NamespaceName;

use super::{Answer, to_the_end, views};
use crate::App;
use crate::extract::{JsonBody, KeyPath, Operator, new_key_name};
use crate::openapi::{KeyParam, Refusals};

/// Keys by name, without the keys themselves.
#[utoipa::path(
    get, path = "/v1/keys", operation_id = "listKeys", tag = "keys",
    responses((status = 200, body = Page<KeyView>), Refusals),
)]
pub(crate) async fn list(State(app): State<Arc<App>>, _: Operator) -> Answer<Json<Page<KeyView>>> {
    let keys = app.keys.list().await?;
    let items = keys.into_iter().map(|(name, record)| views::key(name, &record)).collect();
    Ok(Json(Page { items, next: None }))
}

/// Makes a key. The answer is the only place that ever shows it.
#[utoipa::path(
    post, path = "/v1/keys", operation_id = "createKey", tag = "keys",
    request_body = CreateKey,
    responses(
        (status = 201, body = NewKeyView),
        (status = 409, description = "`already-exists`", body = ErrorBody),
        Refusals,
    ),
)]
pub(crate) async fn create(
    State(app): State<Arc<App>>,
    Operator(by): Operator,
    JsonBody(new): JsonBody<CreateKey>,
) -> Answer<(StatusCode, Json<NewKeyView>)> {
    let name = new_key_name(&new.name)?;
    let namespace: Option<NamespaceName> = new.namespace.as_deref().map(str::parse).transpose()?;
    let named = name.clone();
    let create = |app: Arc<App>| async move {
        let stands = async {
            match &namespace {
                Some(namespace) => app.catalog.namespace(namespace).await.map(drop),
                None => Ok(()),
            }
        };
        app.keys.create(&named, namespace.clone(), stands, app.clock.now(), &by).await
    };
    let (key, secret, record) = to_the_end(&app, create).await?;
    let new = NewKeyView {
        record: views::key(name.to_string(), &record),
        key: key.as_str().to_owned(),
        secret_access_key: secret.map(|secret| secret.expose().to_owned()),
    };
    Ok((StatusCode::CREATED, Json(new)))
}

/// Deletes a key. It opens nothing from then on. The last one that opens everything stays.
#[utoipa::path(
    delete, path = "/v1/keys/{key}", operation_id = "deleteKey", tag = "keys",
    params(KeyParam),
    responses((status = 204, description = "deleted"), Refusals),
)]
pub(crate) async fn delete(
    State(app): State<Arc<App>>,
    _: Operator,
    KeyPath(name): KeyPath,
) -> Answer<StatusCode> {
    to_the_end(&app, |app| async move { app.keys.delete(&name).await }).await?;
    Ok(StatusCode::NO_CONTENT)
}
