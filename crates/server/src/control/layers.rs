//! Layers.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode};
use model::api::{ErrorBody, LayerAliasMoved, LayerVersionView, LayerView, Page, PutLayerAlias};
use model::error::{Code, Error};
use serde::Deserialize;
use utoipa::IntoParams;

use super::code::package_answer;
use super::{Answer, PageParams, created, packages, page, revised, to_the_end, views};
use crate::App;
use crate::catalog::{Intent, NewLayerVersion};
use crate::extract::{AliasNamePath, JsonBody, LayerPath, NamespacePath, Params, VersionPath};
use crate::openapi::{
    AliasParam, ChangeHeaders, LayerParams, NamespaceParam, Refusals, VersionParam,
};

/// Layers of a namespace by name.
#[utoipa::path(
    get, path = "/v1/namespaces/{namespace}/layers", operation_id = "listLayers", tag = "layers",
    params(NamespaceParam, PageParams),
    responses((status = 200, body = Page<LayerView>), Refusals),
)]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    NamespacePath(namespace): NamespacePath,
    Params(params): Params<PageParams>,
) -> Answer<Json<Page<LayerView>>> {
    let (layers, next) =
        app.catalog.layers(&namespace, params.after.as_deref(), params.limit()?).await?;
    let items = layers.into_iter().map(views::layer).collect();
    Ok(Json(Page { items, next }))
}

/// One layer.
#[utoipa::path(
    get, path = "/v1/namespaces/{namespace}/layers/{layer}", operation_id = "getLayer", tag = "layers",
    params(LayerParams),
    responses((status = 200, body = LayerView), Refusals),
)]
pub(crate) async fn get(
    State(app): State<Arc<App>>,
    LayerPath(key): LayerPath,
) -> Answer<Response> {
    let view = views::layer(app.catalog.layer(&key).await?);
    Ok(revised(StatusCode::OK, view.revision, view))
}

/// Deletes a layer with its versions and aliases, none of which a function follows. Functions that have a version of it keep it.
#[utoipa::path(
    delete, path = "/v1/namespaces/{namespace}/layers/{layer}", operation_id = "deleteLayer", tag = "layers",
    params(LayerParams, ChangeHeaders),
    responses(
        (status = 204, description = "deleted"),
        (status = 409, description = "`conflict`: a function follows one of its aliases", body = ErrorBody),
        (status = 412, description = "`precondition-failed`: it is not at the revision of `If-Match`", body = ErrorBody),
        Refusals,
    ),
)]
pub(crate) async fn delete(
    State(app): State<Arc<App>>,
    LayerPath(key): LayerPath,
    intent: Intent,
) -> Answer<StatusCode> {
    to_the_end(&app, |app| async move { app.catalog.delete_layer(&key, &intent).await }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Query parameters of a layer's publication.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct PublishParams {
    /// What the version is; at most 1 000 characters.
    #[serde(default)]
    #[param(required = false)]
    description: String,
    /// Runtimes that it is meant for, separated by commas, for instance `python3.11,python3.12`; absent: any.
    #[serde(default)]
    #[param(required = false)]
    runtimes: String,
}

/// Publishes the package in the body as a version of a layer, which is created with its first one.
///
/// What the newest version is already is not published again: it is the answer, with status 200.
#[utoipa::path(
    post, path = "/v1/namespaces/{namespace}/layers/{layer}/versions", operation_id = "publishLayer", tag = "layers",
    params(LayerParams, PublishParams, ChangeHeaders),
    request_body(content = Vec<u8>, content_type = "application/zip", description = "the zip; its root becomes /opt"),
    responses(
        (status = 200, description = "it was published before", body = LayerVersionView),
        (status = 201, description = "published", body = LayerVersionView),
        (status = 408, description = "`request-timeout`", body = ErrorBody),
        (status = 412, description = "`precondition-failed`: it is not at the revision of `If-Match`", body = ErrorBody),
        (status = 413, description = "`package-too-large`", body = ErrorBody),
        (status = 507, description = "`storage-full`; nothing was changed", body = ErrorBody),
        Refusals,
    ),
)]
pub(crate) async fn publish(
    State(app): State<Arc<App>>,
    LayerPath(key): LayerPath,
    Params(params): Params<PublishParams>,
    intent: Intent,
    request: Request,
) -> Answer<Response> {
    // Nobody shall send 100 MB to learn that the name is wrong.
    app.catalog.namespace(&key.namespace).await?;
    let (parts, body) = request.into_parts();
    let code = packages::store(&app, &key.namespace, &parts.headers, body, None).await?;
    let runtimes = params.runtimes.split(',').map(str::trim).filter(|name| !name.is_empty());
    let new = NewLayerVersion {
        code,
        description: params.description,
        runtimes: runtimes.map(str::to_owned).collect(),
    };
    let layer = key.clone();
    let (version, new) =
        to_the_end(
            &app,
            |app| async move { app.catalog.publish_layer(&layer, new, &intent).await },
        )
        .await?;
    Ok((created(new), Json(views::layer_version(&key, &version))).into_response())
}

/// Versions of a layer by number.
#[utoipa::path(
    get, path = "/v1/namespaces/{namespace}/layers/{layer}/versions", operation_id = "listLayerVersions", tag = "layers",
    params(LayerParams, PageParams),
    responses((status = 200, body = Page<LayerVersionView>), Refusals),
)]
pub(crate) async fn versions(
    State(app): State<Arc<App>>,
    LayerPath(key): LayerPath,
    Params(params): Params<PageParams>,
) -> Answer<Json<Page<LayerVersionView>>> {
    let after = super::versions::number_after(&params)?;
    let limit = params.limit()?;
    let layer = app.catalog.layer(&key).await?;
    let mut views: Vec<_> = layer
        .versions
        .iter()
        .filter(|v| v.number > after)
        .take(limit.saturating_add(1))
        .map(|v| views::layer_version(&key, v))
        .collect();
    let more = views.len() > limit;
    views.truncate(limit);
    Ok(page(views, more, |v: &LayerVersionView| v.version.to_string()))
}

/// One version of a layer.
#[utoipa::path(
    get, path = "/v1/namespaces/{namespace}/layers/{layer}/versions/{version}", operation_id = "getLayerVersion", tag = "layers",
    params(LayerParams, VersionParam),
    responses((status = 200, body = LayerVersionView), Refusals),
)]
pub(crate) async fn version(
    State(app): State<Arc<App>>,
    LayerPath(key): LayerPath,
    VersionPath(number): VersionPath,
) -> Answer<Json<LayerVersionView>> {
    Ok(Json(views::layer_version(&key, &app.catalog.layer_version(&key, number).await?)))
}

/// Deletes a version of a layer. Functions that have it keep it; its number is not used again.
#[utoipa::path(
    delete, path = "/v1/namespaces/{namespace}/layers/{layer}/versions/{version}", operation_id = "deleteLayerVersion", tag = "layers",
    params(LayerParams, VersionParam, ChangeHeaders),
    responses(
        (status = 204, description = "deleted"),
        (status = 409, description = "`conflict`: an alias points to it", body = ErrorBody),
        (status = 412, description = "`precondition-failed`: the layer is not at the revision of `If-Match`", body = ErrorBody),
        Refusals,
    ),
)]
pub(crate) async fn delete_version(
    State(app): State<Arc<App>>,
    LayerPath(key): LayerPath,
    VersionPath(number): VersionPath,
    intent: Intent,
) -> Answer<StatusCode> {
    to_the_end(
        &app,
        |app| async move { app.catalog.delete_layer_version(&key, number, &intent).await },
    )
    .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Downloads the package of a layer's version. The entity tag is its digest.
#[utoipa::path(
    get, path = "/v1/namespaces/{namespace}/layers/{layer}/versions/{version}/code", operation_id = "getLayerCode", tag = "layers",
    params(LayerParams, VersionParam),
    responses(
        (status = 200, description = "the zip", body = Vec<u8>, content_type = "application/zip"),
        (status = 304, description = "it is what `If-None-Match` names"),
        Refusals,
    ),
)]
pub(crate) async fn code(
    State(app): State<Arc<App>>,
    LayerPath(key): LayerPath,
    VersionPath(number): VersionPath,
    headers: HeaderMap,
) -> Answer<Response> {
    let version = app.catalog.layer_version(&key, number).await?;
    Ok(package_answer(&app, &headers, &version.code, key.name.as_str()).await?)
}

/// Points an alias of a layer to a version. `$LATEST` of the functions that follow the alias gets that version before the answer.
///
/// A function that cannot have it keeps what it has, and is named in the answer with the reason.
#[utoipa::path(
    put, path = "/v1/namespaces/{namespace}/layers/{layer}/aliases/{alias}", operation_id = "putLayerAlias", tag = "layers",
    params(LayerParams, AliasParam, ChangeHeaders),
    request_body = PutLayerAlias,
    responses(
        (status = 200, body = LayerAliasMoved),
        (status = 412, description = "`precondition-failed`: the layer is not at the revision of `If-Match`", body = ErrorBody),
        Refusals,
    ),
)]
pub(crate) async fn put_alias(
    State(app): State<Arc<App>>,
    LayerPath(key): LayerPath,
    AliasNamePath(name): AliasNamePath,
    intent: Intent,
    JsonBody(PutLayerAlias { version }): JsonBody<PutLayerAlias>,
) -> Answer<Json<LayerAliasMoved>> {
    if version == 0 {
        return Err(Error::caller(
            Code::InvalidParameter,
            "version 0 is not valid: expected the number of a layer's version",
        )
        .into());
    }
    let alias = name.clone();
    let followers = to_the_end(&app, |app| async move {
        app.catalog.put_layer_alias(&key, &alias, version, &intent).await
    })
    .await?;
    Ok(Json(views::layer_alias_moved(&name, version, followers)))
}

/// Deletes an alias of a layer.
#[utoipa::path(
    delete, path = "/v1/namespaces/{namespace}/layers/{layer}/aliases/{alias}", operation_id = "deleteLayerAlias", tag = "layers",
    params(LayerParams, AliasParam, ChangeHeaders),
    responses(
        (status = 204, description = "deleted"),
        (status = 409, description = "`conflict`: a function follows it", body = ErrorBody),
        (status = 412, description = "`precondition-failed`: the layer is not at the revision of `If-Match`", body = ErrorBody),
        Refusals,
    ),
)]
pub(crate) async fn delete_alias(
    State(app): State<Arc<App>>,
    LayerPath(key): LayerPath,
    AliasNamePath(name): AliasNamePath,
    intent: Intent,
) -> Answer<StatusCode> {
    to_the_end(
        &app,
        |app| async move { app.catalog.delete_layer_alias(&key, &name, &intent).await },
    )
    .await?;
    Ok(StatusCode::NO_CONTENT)
}
