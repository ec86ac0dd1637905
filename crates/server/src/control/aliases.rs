//! Aliases: routes, and what is done with them: going back, dry runs, shifts, shadows.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use model::alias::{Carried, Parameter, Shadow};
use model::api::{
    AliasView, ErrorBody, Page, PutAlias, ResolveCall, ResolvedView, RollbackAlias, ShadowReport,
    StartShift,
};
use model::error::Error;
use model::ids::{FunctionRef, Qualifier};

use super::{Answer, ForceParams, PageParams, created, page, revised, to_the_end, views};
use crate::App;
use crate::catalog::{AliasAt, Intent};
use crate::extract::{AliasPath, FunctionPath, JsonBody, Params};
use crate::openapi::{AliasParam, ChangeHeaders, FunctionParams, Refusals};

impl App {
    fn alias_view(&self, at: AliasAt) -> AliasView {
        let window = self.catalog.shift_window(&at);
        views::alias(at, &window, &self.config.public_url)
    }

    fn alias_answer(&self, status: StatusCode, at: AliasAt) -> Response {
        let view = self.alias_view(at);
        revised(status, view.revision, view)
    }
}

/// Aliases of a function by name.
#[utoipa::path(
    get, path = "/v1/namespaces/{namespace}/functions/{function}/aliases", operation_id = "listAliases", tag = "aliases",
    params(FunctionParams, PageParams),
    responses((status = 200, body = Page<AliasView>), Refusals),
)]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    FunctionPath(key): FunctionPath,
    Params(params): Params<PageParams>,
) -> Answer<Json<Page<AliasView>>> {
    let (aliases, more) =
        app.catalog.aliases(&key, params.after.as_deref(), params.limit()?).await?;
    let views = aliases.into_iter().map(|at| app.alias_view(at)).collect();
    Ok(page(views, more, |a: &AliasView| a.name.clone()))
}

/// Creates an alias, or replaces one whole. A shift under way ends where it is.
#[utoipa::path(
    put, path = "/v1/namespaces/{namespace}/functions/{function}/aliases/{alias}", operation_id = "putAlias", tag = "aliases",
    params(FunctionParams, AliasParam, ChangeHeaders, ForceParams),
    request_body = PutAlias,
    responses(
        (status = 200, description = "replaced", body = AliasView),
        (status = 201, description = "created", body = AliasView),
        (status = 409, description = "`already-exists`", body = ErrorBody),
        (status = 412, description = "`precondition-failed`: it is not at the revision of `If-Match`", body = ErrorBody),
        (status = 507, description = "`storage-full`; nothing was changed", body = ErrorBody),
        (status = 422, description = "`init-failed`: the function is in use and what calls would reach cannot be loaded; nothing was changed", body = ErrorBody),
        Refusals,
    ),
)]
pub(crate) async fn put(
    State(app): State<Arc<App>>,
    AliasPath(key, name): AliasPath,
    intent: Intent,
    Params(forced): Params<ForceParams>,
    JsonBody(put): JsonBody<PutAlias>,
) -> Answer<Response> {
    let intent = intent.forced(forced.force);
    let put =
        to_the_end(
            &app,
            |app| async move { app.catalog.put_alias(&key, &name, put, &intent).await },
        )
        .await?;
    Ok(app.alias_answer(created(put.created), put.alias))
}

/// One alias.
#[utoipa::path(
    get, path = "/v1/namespaces/{namespace}/functions/{function}/aliases/{alias}", operation_id = "getAlias", tag = "aliases",
    params(FunctionParams, AliasParam),
    responses((status = 200, body = AliasView), Refusals),
)]
pub(crate) async fn get(
    State(app): State<Arc<App>>,
    AliasPath(key, name): AliasPath,
) -> Answer<Response> {
    Ok(app.alias_answer(StatusCode::OK, app.catalog.alias(&key, &name).await?))
}

/// Deletes an alias. Its history stays, and a rollback brings it back.
#[utoipa::path(
    delete, path = "/v1/namespaces/{namespace}/functions/{function}/aliases/{alias}", operation_id = "deleteAlias", tag = "aliases",
    params(FunctionParams, AliasParam, ChangeHeaders),
    responses(
        (status = 204, description = "deleted"),
        (status = 412, description = "`precondition-failed`: it is not at the revision of `If-Match`", body = ErrorBody),
        Refusals,
    ),
)]
pub(crate) async fn delete(
    State(app): State<Arc<App>>,
    AliasPath(key, name): AliasPath,
    intent: Intent,
) -> Answer<StatusCode> {
    to_the_end(&app, |app| async move { app.catalog.delete_alias(&key, &name, &intent).await })
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Brings an alias back to an earlier state, as one new revision. A shift counts as one change.
#[utoipa::path(
    post, path = "/v1/namespaces/{namespace}/functions/{function}/aliases/{alias}/rollback", operation_id = "rollbackAlias", tag = "aliases",
    params(FunctionParams, AliasParam, ChangeHeaders, ForceParams),
    request_body = RollbackAlias,
    responses(
        (status = 200, body = AliasView),
        (status = 412, description = "`precondition-failed`: it is not at the revision of `If-Match`", body = ErrorBody),
        (status = 507, description = "`storage-full`; nothing was changed", body = ErrorBody),
        (status = 422, description = "`init-failed`: the function is in use and what calls would reach cannot be loaded; nothing was changed", body = ErrorBody),
        Refusals,
    ),
)]
pub(crate) async fn rollback(
    State(app): State<Arc<App>>,
    AliasPath(key, name): AliasPath,
    intent: Intent,
    Params(forced): Params<ForceParams>,
    JsonBody(to): JsonBody<RollbackAlias>,
) -> Answer<Response> {
    let intent = intent.forced(forced.force);
    let alias = to_the_end(&app, |app| async move {
        app.catalog.rollback_alias(&key, &name, to.revision, &intent).await
    })
    .await?;
    Ok(app.alias_answer(StatusCode::OK, alias))
}

/// Says which version a call would reach, and why. Nothing is run.
#[utoipa::path(
    post, path = "/v1/namespaces/{namespace}/functions/{function}/aliases/{alias}/resolve", operation_id = "resolveAlias", tag = "aliases",
    params(FunctionParams, AliasParam),
    request_body = ResolveCall,
    responses((status = 200, body = ResolvedView), Refusals),
)]
pub(crate) async fn resolve(
    State(app): State<Arc<App>>,
    AliasPath(key, name): AliasPath,
    JsonBody(call): JsonBody<ResolveCall>,
) -> Answer<Json<ResolvedView>> {
    let event = serde_json::to_vec(&call.event).map_err(Error::internal)?;
    let target = FunctionRef { key, qualifier: Qualifier::Alias(name) };
    Ok(Json(app.engine.explain(&target, &carried(call), &event)?))
}

/// The parameters of a call that is only thought of.
fn carried(call: ResolveCall) -> Carried {
    let mut carried = Carried::default();
    for (name, value) in call.headers {
        carried.insert(Parameter::Header(name.to_ascii_lowercase()), value);
    }
    for (name, value) in call.query {
        carried.insert(Parameter::Query(name), value);
    }
    for (name, value) in call.cookies {
        carried.insert(Parameter::Cookie(name), value);
    }
    let others = [
        (Parameter::Path, call.path),
        (Parameter::Method, call.method),
        (Parameter::Source, call.source),
    ];
    for (parameter, value) in others {
        if let Some(value) = value {
            carried.insert(parameter, value);
        }
    }
    carried
}

/// Shifts an alias to another version, step by step; it goes back by itself when the new version is worse.
#[utoipa::path(
    put, path = "/v1/namespaces/{namespace}/functions/{function}/aliases/{alias}/shift", operation_id = "startShift", tag = "aliases",
    params(FunctionParams, AliasParam, ChangeHeaders, ForceParams),
    request_body = StartShift,
    responses(
        (status = 200, description = "the first step has begun", body = AliasView),
        (status = 409, description = "`conflict`: it shifts already", body = ErrorBody),
        (status = 412, description = "`precondition-failed`: it is not at the revision of `If-Match`", body = ErrorBody),
        (status = 422, description = "`init-failed`: the function is in use and what calls would reach cannot be loaded; nothing was changed", body = ErrorBody),
        Refusals,
    ),
)]
pub(crate) async fn shift(
    State(app): State<Arc<App>>,
    AliasPath(key, name): AliasPath,
    intent: Intent,
    Params(forced): Params<ForceParams>,
    JsonBody(start): JsonBody<StartShift>,
) -> Answer<Response> {
    let intent = intent.forced(forced.force);
    let alias = to_the_end(&app, |app| async move {
        app.catalog.start_shift(&key, &name, &start, &intent).await
    })
    .await?;
    Ok(app.alias_answer(StatusCode::OK, alias))
}

/// Stops a shift: calls go where they went before it.
#[utoipa::path(
    delete, path = "/v1/namespaces/{namespace}/functions/{function}/aliases/{alias}/shift", operation_id = "stopShift", tag = "aliases",
    params(FunctionParams, AliasParam, ChangeHeaders),
    responses(
        (status = 200, body = AliasView),
        (status = 412, description = "`precondition-failed`: it is not at the revision of `If-Match`", body = ErrorBody),
        Refusals,
    ),
)]
pub(crate) async fn stop_shift(
    State(app): State<Arc<App>>,
    AliasPath(key, name): AliasPath,
    intent: Intent,
) -> Answer<Response> {
    let alias =
        to_the_end(&app, |app| async move { app.catalog.stop_shift(&key, &name, &intent).await })
            .await?;
    Ok(app.alias_answer(StatusCode::OK, alias))
}

/// Copies a share of the alias's calls to another version. Callers get the answers of the first; what differs is recorded.
#[utoipa::path(
    put, path = "/v1/namespaces/{namespace}/functions/{function}/aliases/{alias}/shadow", operation_id = "putShadow", tag = "aliases",
    params(FunctionParams, AliasParam, ChangeHeaders),
    request_body = Shadow,
    responses(
        (status = 200, body = AliasView),
        (status = 412, description = "`precondition-failed`: it is not at the revision of `If-Match`", body = ErrorBody),
        Refusals,
    ),
)]
pub(crate) async fn shadow(
    State(app): State<Arc<App>>,
    AliasPath(key, name): AliasPath,
    intent: Intent,
    JsonBody(shadow): JsonBody<Shadow>,
) -> Answer<Response> {
    change_shadow(app, AliasPath(key, name), Some(shadow), intent).await
}

/// Copies no more calls. What was recorded stays.
#[utoipa::path(
    delete, path = "/v1/namespaces/{namespace}/functions/{function}/aliases/{alias}/shadow", operation_id = "deleteShadow", tag = "aliases",
    params(FunctionParams, AliasParam, ChangeHeaders),
    responses(
        (status = 200, body = AliasView),
        (status = 412, description = "`precondition-failed`: it is not at the revision of `If-Match`", body = ErrorBody),
        Refusals,
    ),
)]
pub(crate) async fn stop_shadow(
    State(app): State<Arc<App>>,
    alias: AliasPath,
    intent: Intent,
) -> Answer<Response> {
    change_shadow(app, alias, None, intent).await
}

async fn change_shadow(
    app: Arc<App>,
    AliasPath(key, name): AliasPath,
    shadow: Option<Shadow>,
    intent: Intent,
) -> Answer<Response> {
    let alias = to_the_end(&app, |app| async move {
        app.catalog.put_shadow(&key, &name, shadow, &intent).await
    })
    .await?;
    Ok(app.alias_answer(StatusCode::OK, alias))
}

/// What the alias's shadow answered otherwise: status, body, time.
#[utoipa::path(
    get, path = "/v1/namespaces/{namespace}/functions/{function}/aliases/{alias}/shadow", operation_id = "getShadow", tag = "aliases",
    params(FunctionParams, AliasParam),
    responses((status = 200, body = ShadowReport), Refusals),
)]
pub(crate) async fn shadow_report(
    State(app): State<Arc<App>>,
    AliasPath(key, name): AliasPath,
) -> Answer<Json<ShadowReport>> {
    Ok(Json(app.catalog.shadow_report(&key, &name).await?))
}
