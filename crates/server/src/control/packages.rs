//! Code packages.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Request, State};
use http::{HeaderMap, StatusCode};
use model::api::{ErrorBody, PackageView};
use model::function::CodeRef;
use model::ids::NamespaceName;
use serde::Deserialize;
use utoipa::IntoParams;

use super::{Answer, to_the_end, views};
use crate::App;
use crate::body::{self, Limit};
use crate::catalog::SourceName;
use crate::extract::{NamespacePath, Params};
use crate::openapi::Refusals;

/// Query parameters of an upload.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct UploadParams {
    /// The body is one source file, to be put under this name, for instance `index.js`; absent: the body is a zip.
    filename: Option<String>,
}

/// Stores a package: a zip of at most 100 MiB, 250 MiB unpacked, or a single source file.
///
/// Storing the same package again is no error. Functions of the namespace name it by its digest.
#[utoipa::path(
    post, path = "/v1/namespaces/{namespace}/packages", operation_id = "uploadPackage", tag = "packages",
    params(("namespace" = String, Path, description = "the namespace's name"), UploadParams),
    request_body(content = Vec<u8>, content_type = "application/zip", description = "the zip, or the source file"),
    responses(
        (status = 201, body = PackageView),
        (status = 408, description = "`request-timeout`", body = ErrorBody),
        (status = 413, description = "`package-too-large`", body = ErrorBody),
        (status = 507, description = "`storage-full`; nothing was stored", body = ErrorBody),
        Refusals,
    ),
)]
pub(crate) async fn upload(
    State(app): State<Arc<App>>,
    NamespacePath(namespace): NamespacePath,
    Params(params): Params<UploadParams>,
    request: Request,
) -> Answer<(StatusCode, Json<PackageView>)> {
    let source = params.filename.as_deref().map(SourceName::new).transpose()?;
    app.catalog.namespace(&namespace).await?;
    let (parts, body) = request.into_parts();
    let code = store(&app, &namespace, &parts.headers, body, source).await?;
    Ok((StatusCode::CREATED, Json(views::package(&code))))
}

/// Reads a package from a request and stores it.
pub(super) async fn store(
    app: &Arc<App>,
    namespace: &NamespaceName,
    headers: &HeaderMap,
    body: Body,
    source: Option<SourceName>,
) -> model::Result<CodeRef> {
    let slot = app.catalog.upload_slot().await?;
    let timeout = app.config.body_timeout;
    let body = body::collect(headers, body, Limit::PACKAGE, timeout, &app.tasks).await?;
    let namespace = namespace.clone();
    to_the_end(
        app,
        |app| async move { app.catalog.add_package(&namespace, body, source, slot).await },
    )
    .await
}
