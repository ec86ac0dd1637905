//! A function's code: replaced by one request, downloaded as a zip.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode, header};
use model::api::{ErrorBody, FunctionView};
use model::function::CodeRef;
use model::ids::{FunctionRef, Qualifier};
use serde::Deserialize;
use utoipa::IntoParams;

use super::{Answer, function_answer, packages, to_the_end};
use crate::App;
use crate::catalog::{Intent, SourceName};
use crate::extract::{FunctionPath, Params, QualifierParam, TargetPath};
use crate::openapi::{ChangeHeaders, FunctionParams, Refusals};

/// Query parameters of a code upload.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct CodeParams {
    /// The body is one source file, to be put under this name; absent: the body is a zip.
    filename: Option<String>,
    /// Publish the result as a numbered version.
    #[serde(default)]
    #[param(required = false)]
    publish: bool,
    /// Let the new code take the calls of a function in use even if it cannot be loaded.
    #[serde(default)]
    #[param(required = false)]
    force: bool,
}

/// Replaces a function's code by the package in the body.
#[utoipa::path(
    put, path = "/v1/namespaces/{namespace}/functions/{function}/code", operation_id = "putCode", tag = "functions",
    params(FunctionParams, CodeParams, ChangeHeaders),
    request_body(content = Vec<u8>, content_type = "application/zip", description = "the zip, or the source file"),
    responses(
        (status = 200, body = FunctionView),
        (status = 408, description = "`request-timeout`", body = ErrorBody),
        (status = 412, description = "`precondition-failed`: it is not at the revision of `If-Match`", body = ErrorBody),
        (status = 413, description = "`package-too-large`", body = ErrorBody),
        (status = 422, description = "`init-failed`: the function is in use and the code cannot be loaded; nothing was changed", body = ErrorBody),
        (status = 507, description = "`storage-full`; nothing was changed", body = ErrorBody),
        Refusals,
    ),
)]
pub(crate) async fn put(
    State(app): State<Arc<App>>,
    FunctionPath(key): FunctionPath,
    intent: Intent,
    Params(params): Params<CodeParams>,
    request: Request,
) -> Answer<Response> {
    let source = params.filename.as_deref().map(SourceName::new).transpose()?;
    // Nobody shall send 100 MB to learn that the name is wrong.
    app.catalog.function(&FunctionRef { key: key.clone(), qualifier: Qualifier::Latest }).await?;
    let (parts, body) = request.into_parts();
    let code = packages::store(&app, &key.namespace, &parts.headers, body, source).await?;
    let intent = intent.forced(params.force);
    let put = to_the_end(&app, |app| async move {
        app.catalog.put_code(&key, code, params.publish, &intent).await
    })
    .await?;
    Ok(function_answer(StatusCode::OK, app.view(put.function)))
}

/// Downloads a function's package. The entity tag is its digest.
#[utoipa::path(
    get, path = "/v1/namespaces/{namespace}/functions/{function}/code", operation_id = "getCode", tag = "functions",
    params(FunctionParams, QualifierParam),
    responses(
        (status = 200, description = "the zip", body = Vec<u8>, content_type = "application/zip"),
        (status = 304, description = "it is what `If-None-Match` names"),
        Refusals,
    ),
)]
pub(crate) async fn get(
    State(app): State<Arc<App>>,
    TargetPath(target): TargetPath,
    headers: HeaderMap,
) -> Answer<Response> {
    let at = app.catalog.function(&target).await?;
    Ok(package_answer(&app, &headers, &at.version.code, target.key.name.as_str()).await?)
}

/// A package as an answer, unless the client has it. The entity tag is its digest.
pub(crate) async fn package_answer(
    app: &App,
    headers: &HeaderMap,
    code: &CodeRef,
    name: &str,
) -> model::Result<Response> {
    let tag = format!("\"{}\"", code.digest);
    if headers.get(header::IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes()) {
        return Ok((StatusCode::NOT_MODIFIED, [(header::ETAG, tag)]).into_response());
    }
    let package = app.catalog.package_bytes(code).await?;
    let fields = [
        (header::CONTENT_TYPE, "application/zip".to_owned()),
        (header::ETAG, tag),
        (header::CONTENT_DISPOSITION, format!("attachment; filename=\"{name}.zip\"")),
    ];
    Ok((fields, Body::from(package)).into_response())
}
