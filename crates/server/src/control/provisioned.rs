//! Provisioned instances: how many are kept started for a version or an alias.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use model::api::{ErrorBody, Page, ProvisionedView};
use model::ids::{FunctionRef, Qualifier};
use model::provisioned::Provisioned;

use super::{Answer, created, revised, to_the_end};
use crate::App;
use crate::catalog::{Intent, ProvisionedAt};
use crate::extract::{FunctionPath, JsonBody, QualifierPath};
use crate::openapi::{ChangeHeaders, FunctionParams, QualifierPathParam, Refusals};

impl App {
    fn provisioned_view(&self, at: ProvisionedAt) -> ProvisionedView {
        let ProvisionedAt { target, record } = at;
        // What was deleted meanwhile has none.
        let readiness = self.engine.readiness(&target).unwrap_or_default();
        ProvisionedView {
            function: target.key.name.to_string(),
            qualifier: target.qualifier.to_string(),
            instances: record.provisioned.instances,
            schedule: record.provisioned.schedule,
            timezone: record.provisioned.timezone,
            wanted: readiness.wanted,
            ready: readiness.ready,
            modified_at: record.modified_at.to_string(),
            revision: record.revision,
        }
    }

    fn provisioned_answer(&self, status: StatusCode, at: ProvisionedAt) -> Response {
        let view = self.provisioned_view(at);
        revised(status, view.revision, view)
    }
}

/// Everything that is kept started of a function.
#[utoipa::path(
    get, path = "/v1/namespaces/{namespace}/functions/{function}/provisioned", operation_id = "listProvisioned", tag = "provisioned",
    params(FunctionParams),
    responses((status = 200, body = Page<ProvisionedView>), Refusals),
)]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    FunctionPath(key): FunctionPath,
) -> Answer<Json<Page<ProvisionedView>>> {
    let function = FunctionRef { key, qualifier: Qualifier::Latest };
    let all = app.catalog.all_provisioned(&function).await?;
    let items = all.into_iter().map(|at| app.provisioned_view(at)).collect();
    Ok(Json(Page { items, next: None }))
}

/// Keeps instances started for a version or an alias, as many as the schedule says. They are started in the background.
#[utoipa::path(
    put, path = "/v1/namespaces/{namespace}/functions/{function}/provisioned/{qualifier}", operation_id = "putProvisioned", tag = "provisioned",
    params(FunctionParams, QualifierPathParam, ChangeHeaders),
    request_body = Provisioned,
    responses(
        (status = 200, description = "replaced", body = ProvisionedView),
        (status = 201, description = "there was nothing before", body = ProvisionedView),
        (status = 409, description = "`already-exists`", body = ErrorBody),
        (status = 412, description = "`precondition-failed`: it is not at the revision of `If-Match`", body = ErrorBody),
        (status = 507, description = "`storage-full`; nothing was changed", body = ErrorBody),
        Refusals,
    ),
)]
pub(crate) async fn put(
    State(app): State<Arc<App>>,
    QualifierPath(target): QualifierPath,
    intent: Intent,
    JsonBody(wanted): JsonBody<Provisioned>,
) -> Answer<Response> {
    let (at, new) = to_the_end(&app, |app| async move {
        app.catalog.put_provisioned(&target, &wanted, &intent).await
    })
    .await?;
    Ok(app.provisioned_answer(created(new), at))
}

/// What is kept started for a version or an alias: how many are wanted now, and how many are there.
#[utoipa::path(
    get, path = "/v1/namespaces/{namespace}/functions/{function}/provisioned/{qualifier}", operation_id = "getProvisioned", tag = "provisioned",
    params(FunctionParams, QualifierPathParam),
    responses((status = 200, body = ProvisionedView), Refusals),
)]
pub(crate) async fn get(
    State(app): State<Arc<App>>,
    QualifierPath(target): QualifierPath,
) -> Answer<Response> {
    Ok(app.provisioned_answer(StatusCode::OK, app.catalog.provisioned(&target).await?))
}

/// Keeps none started any more. Those that are there are ordinary idle instances from then on.
#[utoipa::path(
    delete, path = "/v1/namespaces/{namespace}/functions/{function}/provisioned/{qualifier}", operation_id = "deleteProvisioned", tag = "provisioned",
    params(FunctionParams, QualifierPathParam, ChangeHeaders),
    responses(
        (status = 204, description = "deleted"),
        (status = 412, description = "`precondition-failed`: it is not at the revision of `If-Match`", body = ErrorBody),
        Refusals,
    ),
)]
pub(crate) async fn delete(
    State(app): State<Arc<App>>,
    QualifierPath(target): QualifierPath,
    intent: Intent,
) -> Answer<StatusCode> {
    to_the_end(&app, |app| async move { app.catalog.delete_provisioned(&target, &intent).await })
        .await?;
    Ok(StatusCode::NO_CONTENT)
}
