//! Namespaces.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use model::api::{CreateNamespace, ErrorBody, NamespaceView, Page, PatchNamespace};
use model::error::{Code, Error};
use model::namespace::Namespace;
use serde::Deserialize;
use utoipa::IntoParams;

use super::{Answer, PageParams, revised, to_the_end, views};
use crate::App;
use crate::catalog::Intent;
use crate::extract::{By, JsonBody, NamespacePath, Operator, Params};
use crate::openapi::{ChangeHeaders, NamespaceParam, Refusals};

impl App {
    fn namespace_view(&self, namespace: Namespace) -> NamespaceView {
        let used = self.engine.namespace_use(&namespace.name);
        views::namespace(namespace, used)
    }
}

/// Namespaces by name; those that the key opens.
#[utoipa::path(
    get, path = "/v1/namespaces", operation_id = "listNamespaces", tag = "namespaces",
    params(PageParams),
    responses((status = 200, body = Page<NamespaceView>), Refusals),
)]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    By(caller): By,
    Params(params): Params<PageParams>,
) -> Answer<Json<Page<NamespaceView>>> {
    let (after, limit) = (params.after.as_deref(), params.limit()?);
    let (namespaces, next) = match &caller.namespace {
        None => app.catalog.namespaces(after, limit).await?,
        Some(own) if after.is_some_and(|after| own.as_str() <= after) => (Vec::new(), None),
        Some(own) => match app.catalog.namespace(own).await {
            Err(e) if e.code() == Code::NotFound => (Vec::new(), None),
            own => (vec![own?], None),
        },
    };
    let items = namespaces.into_iter().map(|n| app.namespace_view(n)).collect();
    Ok(Json(Page { items, next }))
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
    _: Operator,
    intent: Intent,
    JsonBody(new): JsonBody<CreateNamespace>,
) -> Answer<Response> {
    let create = |app: Arc<App>| async move { app.catalog.create_namespace(&new, intent).await };
    let namespace = to_the_end(&app, create).await?;
    let view = app.namespace_view(namespace);
    Ok(revised(StatusCode::CREATED, view.revision, view))
}

/// One namespace, with what it uses of its quotas.
#[utoipa::path(
    get, path = "/v1/namespaces/{namespace}", operation_id = "getNamespace", tag = "namespaces",
    params(NamespaceParam),
    responses((status = 200, body = NamespaceView), Refusals),
)]
pub(crate) async fn get(
    State(app): State<Arc<App>>,
    NamespacePath(name): NamespacePath,
) -> Answer<Response> {
    let view = app.namespace_view(app.catalog.namespace(&name).await?);
    Ok(revised(StatusCode::OK, view.revision, view))
}

/// Changes description, quotas or policy of a namespace. What its functions are already is not touched by a new policy.
#[utoipa::path(
    patch, path = "/v1/namespaces/{namespace}", operation_id = "patchNamespace", tag = "namespaces",
    params(NamespaceParam, ChangeHeaders),
    request_body = PatchNamespace,
    responses(
        (status = 200, body = NamespaceView),
        (status = 412, description = "`precondition-failed`: it is not at the revision of `If-Match`", body = ErrorBody),
        Refusals,
    ),
)]
pub(crate) async fn patch(
    State(app): State<Arc<App>>,
    _: Operator,
    NamespacePath(name): NamespacePath,
    intent: Intent,
    JsonBody(patch): JsonBody<PatchNamespace>,
) -> Answer<Response> {
    let namespace =
        to_the_end(
            &app,
            |app| async move { app.catalog.patch_namespace(&name, &patch, &intent).await },
        )
        .await?;
    let view = app.namespace_view(namespace);
    Ok(revised(StatusCode::OK, view.revision, view))
}

/// Query parameters of a deletion.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct DeleteParams {
    /// The namespace's name once more: delete its functions and layers as well.
    everything: Option<String>,
}

/// Deletes a namespace and the keys that open nothing else; one that has functions or layers only if `everything` names it once more. `default` always exists.
#[utoipa::path(
    delete, path = "/v1/namespaces/{namespace}", operation_id = "deleteNamespace", tag = "namespaces",
    params(NamespaceParam, DeleteParams, ChangeHeaders),
    responses(
        (status = 204, description = "deleted"),
        (status = 409, description = "`not-empty`: it still has functions or layers", body = ErrorBody),
        (status = 412, description = "`precondition-failed`: it is not at the revision of `If-Match`", body = ErrorBody),
        Refusals,
    ),
)]
pub(crate) async fn delete(
    State(app): State<Arc<App>>,
    _: Operator,
    NamespacePath(name): NamespacePath,
    Params(params): Params<DeleteParams>,
    intent: Intent,
) -> Answer<StatusCode> {
    if let Some(confirmed) = params.everything.as_deref().filter(|c| *c != name.as_str()) {
        let confirmed: String = confirmed.chars().take(60).flat_map(char::escape_debug).collect();
        return Err(Error::caller(
            Code::InvalidParameter,
            format!("everything is '{confirmed}': expected '{name}', the namespace that shall go with everything in it"),
        )
        .into());
    }
    let everything = params.everything.is_some();
    to_the_end(&app, |app| async move {
        app.catalog.delete_namespace(&name, everything, &intent).await?;
        // Who makes a namespace of this name next shall not find them. What is left of them is forgotten in its time.
        if let Err(error) = app.engine.forget_maps(&name).await {
            tracing::error!(namespace = %name, %error, "maps of a deleted namespace are left");
        }
        Ok(())
    })
    .await?;
    Ok(StatusCode::NO_CONTENT)
}
