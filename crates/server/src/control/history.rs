//! History: what was changed of functions, layers and namespaces. That of what was deleted is there still.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use model::Result;
use model::api::{ChangeView, Page};
use model::change::Change;
use model::ids::AliasName;
use serde::Deserialize;
use serde_json::Value;
use utoipa::IntoParams;

use super::{Answer, page};
use crate::App;
use crate::catalog::{as_json, difference_of, function_state, without_marks};
use crate::extract::{self, FunctionPath, LayerPath, NamespacePath, Params, RevisionPath};
use crate::openapi::{FunctionParams, LayerParams, NamespaceParam, Refusals, RevisionParam};

/// Changes on a page where no limit is asked for.
const PAGE_DEFAULT: usize = 50;
/// Most changes on a page.
const PAGE_MAX: usize = 500;

/// Query parameters of a history.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct HistoryParams {
    /// Of this alias only; of functions and layers.
    alias: Option<String>,
    /// Start behind this revision, towards older ones: `next` of the page before.
    after: Option<u64>,
    /// Most changes on the page: 1 to 500; absent: 50.
    limit: Option<usize>,
}

impl HistoryParams {
    fn limit(&self) -> Result<usize> {
        extract::limit(self.limit, PAGE_DEFAULT, PAGE_MAX)
    }

    fn alias(&self) -> Result<Option<AliasName>> {
        self.alias.as_deref().map(str::parse).transpose()
    }
}

/// Changes of a function, its versions and aliases, newest first.
#[utoipa::path(
    get, path = "/v1/namespaces/{namespace}/functions/{function}/history", operation_id = "functionHistory", tag = "history",
    params(FunctionParams, HistoryParams),
    responses((status = 200, body = Page<ChangeView>), Refusals),
)]
pub(crate) async fn of_function(
    State(app): State<Arc<App>>,
    FunctionPath(key): FunctionPath,
    Params(params): Params<HistoryParams>,
) -> Answer<Json<Page<ChangeView>>> {
    let (alias, limit) = (params.alias()?, params.limit()?);
    let (changes, more) =
        app.catalog.function_changes(&key, alias.as_ref(), params.after, limit).await?;
    Ok(listed(changes, more, function_state))
}

/// One change of a function, with how it was before and after.
#[utoipa::path(
    get, path = "/v1/namespaces/{namespace}/functions/{function}/history/{revision}", operation_id = "functionChange", tag = "history",
    params(FunctionParams, RevisionParam),
    responses((status = 200, body = ChangeView), Refusals),
)]
pub(crate) async fn one_of_function(
    State(app): State<Arc<App>>,
    FunctionPath(key): FunctionPath,
    RevisionPath(revision): RevisionPath,
) -> Answer<Json<ChangeView>> {
    let change = app.catalog.function_change(&key, revision).await?;
    Ok(Json(view(change, function_state, true)))
}

/// Changes of a layer, its versions and aliases, newest first.
#[utoipa::path(
    get, path = "/v1/namespaces/{namespace}/layers/{layer}/history", operation_id = "layerHistory", tag = "history",
    params(LayerParams, HistoryParams),
    responses((status = 200, body = Page<ChangeView>), Refusals),
)]
pub(crate) async fn of_layer(
    State(app): State<Arc<App>>,
    LayerPath(key): LayerPath,
    Params(params): Params<HistoryParams>,
) -> Answer<Json<Page<ChangeView>>> {
    let (alias, limit) = (params.alias()?, params.limit()?);
    let (changes, more) =
        app.catalog.layer_changes(&key, alias.as_ref(), params.after, limit).await?;
    Ok(listed(changes, more, as_json))
}

/// One change of a layer, with how it was before and after.
#[utoipa::path(
    get, path = "/v1/namespaces/{namespace}/layers/{layer}/history/{revision}", operation_id = "layerChange", tag = "history",
    params(LayerParams, RevisionParam),
    responses((status = 200, body = ChangeView), Refusals),
)]
pub(crate) async fn one_of_layer(
    State(app): State<Arc<App>>,
    LayerPath(key): LayerPath,
    RevisionPath(revision): RevisionPath,
) -> Answer<Json<ChangeView>> {
    Ok(Json(view(app.catalog.layer_change(&key, revision).await?, as_json, true)))
}

/// Changes of a namespace itself, newest first: its description, quotas and policy.
#[utoipa::path(
    get, path = "/v1/namespaces/{namespace}/history", operation_id = "namespaceHistory", tag = "history",
    params(NamespaceParam, HistoryParams),
    responses((status = 200, body = Page<ChangeView>), Refusals),
)]
pub(crate) async fn of_namespace(
    State(app): State<Arc<App>>,
    NamespacePath(name): NamespacePath,
    Params(params): Params<HistoryParams>,
) -> Answer<Json<Page<ChangeView>>> {
    let (changes, more) =
        app.catalog.namespace_changes(&name, params.after, params.limit()?).await?;
    Ok(listed(changes, more, as_json))
}

/// One change of a namespace, with how it was before and after.
#[utoipa::path(
    get, path = "/v1/namespaces/{namespace}/history/{revision}", operation_id = "namespaceChange", tag = "history",
    params(NamespaceParam, RevisionParam),
    responses((status = 200, body = ChangeView), Refusals),
)]
pub(crate) async fn one_of_namespace(
    State(app): State<Arc<App>>,
    NamespacePath(name): NamespacePath,
    RevisionPath(revision): RevisionPath,
) -> Answer<Json<ChangeView>> {
    Ok(Json(view(app.catalog.namespace_change(&name, revision).await?, as_json, true)))
}

fn listed<S>(
    changes: Vec<Change<S>>,
    more: bool,
    shown: impl Fn(&S) -> Value + Copy,
) -> Json<Page<ChangeView>> {
    let views = changes.into_iter().map(|change| view(change, shown, false)).collect();
    page(views, more, |change: &ChangeView| change.revision.to_string())
}

fn view<S>(change: Change<S>, shown: impl Fn(&S) -> Value, whole: bool) -> ChangeView {
    let (before, after) = (change.before.as_ref().map(&shown), change.after.as_ref().map(&shown));
    let differences = difference_of(before.as_ref(), after.as_ref());
    let state = |state: Option<Value>| state.filter(|_| whole).map(without_marks);
    ChangeView {
        revision: change.revision,
        at: change.at.to_string(),
        who: change.author.who,
        from: change.author.from,
        reason: change.author.reason,
        what: change.what,
        of: change.of,
        differences,
        before: state(before),
        after: state(after),
    }
}
