//! Namespaces.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use model::api::{CreateNamespace, ErrorBody, NamespaceView, Page};

use super::{Answer, PageParams, page, to_the_end, views};
use crate::App;
use crate::extract::{JsonBody, NamespacePath, Params};
use crate::openapi::Refusals;

/// Namespaces by name.
#[utoipa::path(
    get, path = "/v1/namespaces", operation_id = "listNamespaces", tag = "namespaces",
    params(PageParams),
    responses((status = 200, body = Page<NamespaceView>), Refusals),
)]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    Params(params): Params<PageParams>,
) -> Answer<Json<Page<NamespaceView>>> {
    let (namespaces, more) =
        app.catalog.namespaces(params.after.as_deref(), params.limit()?).await?;
    let views = namespaces.into_iter().map(views::namespace).collect();
    Ok(page(views, more, |n: &NamespaceView| n.name.clone()))
}

/// Creates a namespace.
#[utoipa::path(
    post, path = "/v1/namespaces", operation_id = "createNamespace", tag = "namespaces",
    request_body = CreateNamespace,
    responses(
        (status = 201, body = NamespaceView),
        (status = 409, description = "`already-exists`", body = ErrorBody),
        Refusals,
    ),
)]
pub(crate) async fn create(
    State(app): State<Arc<App>>,
    JsonBody(new): JsonBody<CreateNamespace>,
) -> Answer<(StatusCode, Json<NamespaceView>)> {
    let namespace = app.catalog.create_namespace(&new).await?;
    Ok((StatusCode::CREATED, Json(views::namespace(namespace))))
}

/// One namespace.
#[utoipa::path(
    get, path = "/v1/namespaces/{namespace}", operation_id = "getNamespace", tag = "namespaces",
    params(("namespace" = String, Path, description = "the namespace's name")),
    responses((status = 200, body = NamespaceView), Refusals),
)]
pub(crate) async fn get(
    State(app): State<Arc<App>>,
    NamespacePath(name): NamespacePath,
) -> Answer<Json<NamespaceView>> {
    Ok(Json(views::namespace(app.catalog.namespace(&name).await?)))
}

/// Deletes a namespace that has no functions. `default` always exists.
#[utoipa::path(
    delete, path = "/v1/namespaces/{namespace}", operation_id = "deleteNamespace", tag = "namespaces",
    params(("namespace" = String, Path, description = "the namespace's name")),
    responses(
        (status = 204, description = "deleted"),
        (status = 409, description = "`not-empty`: it still has functions", body = ErrorBody),
        Refusals,
    ),
)]
pub(crate) async fn delete(
    State(app): State<Arc<App>>,
    NamespacePath(name): NamespacePath,
) -> Answer<StatusCode> {
    let own = app.clone();
    to_the_end(&app, async move { own.catalog.delete_namespace(&name).await }).await?;
    Ok(StatusCode::NO_CONTENT)
}
