//! Functions: created, read, listed, changed, deleted.

use http::StatusCode;
use model::api::PutFunction;
use model::error::{Code, Error};
use model::function::{FunctionSettings, WASM};
use model::ids::{FunctionKey, FunctionRef, Qualifier};
use model::network::{NetworkMode, NetworkPolicy};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Answer;
use super::asked::Asked;
use super::code::{self, WantedCode};
use super::configuration::{self, Shown, Tags, Wanted, changed, expected, revision_id, shown};
use super::error::{Fault, Kind};
use super::names::Target;
use super::reply;
use crate::catalog::{FunctionAt, Precondition};
use crate::control::to_the_end;

/// How often a change that names no revision is tried again because somebody else changed the function in between.
const ATTEMPTS: usize = 8;

/// `CreateFunction`, but for its configuration.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Create<'a> {
    function_name: String,
    #[serde(borrow)]
    code: WantedCode<'a>,
    #[serde(default)]
    publish: bool,
    #[serde(default)]
    tags: Option<Tags>,
    #[serde(default)]
    package_type: Option<String>,
    #[serde(default)]
    architectures: Option<Vec<String>>,
    #[serde(default)]
    code_signing_config_arn: Option<String>,
    #[serde(flatten)]
    wanted: Wanted,
}

pub(super) async fn create(mut asked: Asked) -> Answer {
    let body = asked.body.clone();
    let create: Create<'_> = crate::extract::read_json(&body)?;
    let key = configuration::new_key(&asked.home, &create.function_name)?;
    if create.package_type.as_deref().is_some_and(|kind| kind != "Zip") {
        return Err(Fault::invalid("PackageType is not supported by this daemon: expected Zip"));
    }
    if create.code_signing_config_arn.is_some() {
        return Err(Fault::invalid(
            "CodeSigningConfigArn is not supported by this daemon: expected none",
        ));
    }
    code::check_architectures(create.architectures.as_deref())?;
    let mut config = create.wanted.config(&asked.home)?;
    if config.runtime != WASM {
        // Functions that were written for the service reach the network.
        config.network = network(&asked).await?;
    }
    // Before the package is stored: a name that is taken is the usual mistake.
    let latest = FunctionRef { key: key.clone(), qualifier: Qualifier::Latest };
    if asked.app.catalog.function(&latest).await.is_ok() {
        return Err(exists(&key));
    }
    let zip = create.code.zip()?;
    let settings = FunctionSettings { tags: create.tags.unwrap_or_default(), ..Default::default() };
    let publish = create.publish;
    // The body may have 70 MB: it is not needed any more.
    drop((std::mem::take(&mut asked.body), body));
    let stored = code::store(&mut asked, zip).await?;
    let put = PutFunction {
        config,
        settings: Some(settings),
        code: Some(stored.digest.to_string()),
        publish,
        force: true,
    };
    let intent = asked.intent(Precondition::Absent);
    let name = key.clone();
    let put = to_the_end(&asked.app, |app| async move {
        Box::pin(app.catalog.put_function(&key, put, &intent)).await
    });
    let put = put.await.map_err(|error| match error.code() {
        Code::AlreadyExists => exists(&name),
        _ => error.into(),
    })?;
    Ok(reply::json(StatusCode::CREATED, &changed(&asked.home, &put.function)))
}

/// The network of a new function: public addresses, unless the host or the namespace gives none.
async fn network(asked: &Asked) -> Result<NetworkPolicy, Fault> {
    let egress = NetworkPolicy::from(NetworkMode::Egress);
    let policy = asked.app.catalog.namespace(&asked.home.namespace).await?.settings.policy;
    let allowed = policy.networks.is_none_or(|networks| networks.contains(&egress.mode));
    let possible = asked.app.sandbox.check_network(&egress).is_ok();
    Ok(if allowed && possible { egress } else { NetworkPolicy::default() })
}

fn exists(key: &FunctionKey) -> Fault {
    Fault::new(Kind::CONFLICT, format!("Function already exist: {}", key.name))
}

pub(super) async fn get(asked: &Asked) -> Answer {
    let target = asked.target()?;
    let at = asked.look_up(&target).await?;
    let mut answer = json!({
        "Configuration": shown_at(asked, &at, &target),
        "Code": { "RepositoryType": "S3", "Location": code::location(asked, &target) },
    });
    let settings = &at.function.settings;
    if !settings.tags.is_empty() {
        answer["Tags"] = json!(settings.tags);
    }
    if let Some(reserved) = settings.reserved_instances {
        answer["Concurrency"] = json!({ "ReservedConcurrentExecutions": reserved });
    }
    Ok(reply::json(StatusCode::OK, &answer))
}

pub(super) async fn get_configuration(asked: &Asked) -> Answer {
    let target = asked.target()?;
    let at = asked.look_up(&target).await?;
    Ok(reply::json(StatusCode::OK, &shown_at(asked, &at, &target)))
}

fn shown_at(asked: &Asked, at: &FunctionAt, target: &Target) -> Shown {
    let mut at = at.clone();
    at.version.config.resolve_memory(asked.app.engine.host_memory_mb());
    shown(&asked.home, &at, target.qualifier())
}

/// Functions by name; with `FunctionVersion=ALL` each with its published versions behind it.
pub(super) async fn list(asked: &Asked) -> Answer {
    let most = asked.max_items()?;
    let all = match asked.query("FunctionVersion").as_deref() {
        None => false,
        Some("ALL") => true,
        Some(_) => return Err(Fault::invalid("FunctionVersion is not valid: expected ALL")),
    };
    let marker = asked.query("Marker");
    let (items, next) = if all {
        with_versions(asked, marker.as_deref(), most).await?
    } else {
        let namespace = &asked.home.namespace;
        let (page, next) = asked.app.catalog.functions(namespace, marker.as_deref(), most).await?;
        (page.iter().map(|at| listed(asked, at)).collect(), next)
    };
    let mut answer = json!({ "Functions": items });
    if let Some(next) = next {
        answer["NextMarker"] = next.into();
    }
    Ok(reply::json(StatusCode::OK, &answer))
}

/// A function in a listing of many: each says its version in its ARN.
fn listed(asked: &Asked, at: &FunctionAt) -> Shown {
    let mut at = at.clone();
    at.version.config.resolve_memory(asked.app.engine.host_memory_mb());
    let label = at.version.label();
    let qualifier = (at.version.number.is_some()).then_some(&label);
    shown(&asked.home, &at, qualifier)
}

/// Entries behind the marker `NAME:VERSION`, where the version before all others is 0 and means `$LATEST`.
async fn with_versions(
    asked: &Asked,
    marker: Option<&str>,
    most: usize,
) -> Result<(Vec<Shown>, Option<String>), Fault> {
    let catalog = &asked.app.catalog;
    let bad = || Fault::invalid("Marker is not valid: expected NextMarker of the page before");
    let mut from = match marker {
        None => None,
        Some(marker) => {
            let (name, version) = marker.split_once(':').ok_or_else(bad)?;
            Some((name.to_owned(), version.parse::<u64>().map_err(|_| bad())?))
        }
    };
    let mut items = Vec::new();
    loop {
        let (name, mut after) = match from.take() {
            Some((name, after)) => (name, after),
            None => {
                let (page, _) = catalog.functions(&asked.home.namespace, None, 1).await?;
                let Some(first) = page.first() else { return Ok((items, None)) };
                items.push(listed(asked, first));
                (first.version.key.name.to_string(), 0)
            }
        };
        let key = FunctionKey { namespace: asked.home.namespace.clone(), name: name.parse()? };
        let room = most.saturating_sub(items.len());
        let (versions, more) = match catalog.versions(&key, after, room).await {
            // It was deleted since the page before.
            Err(e) if e.code() == Code::NotFound => (Vec::new(), false),
            found => found?,
        };
        for (summary, _) in versions {
            after = summary.number;
            let qualifier = Qualifier::Version(summary.number);
            let reference = FunctionRef { key: key.clone(), qualifier };
            if let Ok(at) = catalog.function(&reference).await {
                items.push(listed(asked, &at));
            }
        }
        if more {
            return Ok((items, Some(format!("{name}:{after}"))));
        }
        let (page, _) = catalog.functions(&asked.home.namespace, Some(&name), 1).await?;
        let Some(next) = page.first() else { return Ok((items, None)) };
        if items.len() >= most {
            return Ok((items, Some(format!("{name}:{after}"))));
        }
        items.push(listed(asked, next));
        from = Some((next.version.key.name.to_string(), 0));
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct UpdateCode<'a> {
    #[serde(default)]
    publish: bool,
    #[serde(default)]
    dry_run: bool,
    #[serde(default)]
    revision_id: Option<String>,
    #[serde(flatten, borrow)]
    code: WantedCode<'a>,
}

pub(super) async fn update_code(mut asked: Asked) -> Answer {
    let key = asked.function()?;
    let body = asked.body.clone();
    let update: UpdateCode<'_> = crate::extract::read_json(&body)?;
    let zip = update.code.zip()?;
    let (publish, dry_run, revision) = (update.publish, update.dry_run, update.revision_id.clone());
    drop((std::mem::take(&mut asked.body), body));
    let mut current = asked.latest(&key).await?;
    let precondition = precondition(revision.as_deref(), &current)?;
    let code = code::store(&mut asked, zip).await?;
    if dry_run {
        current.version.code = code;
        return Ok(reply::json(StatusCode::OK, &changed(&asked.home, &current)));
    }
    let intent = asked.intent(precondition);
    let put = to_the_end(&asked.app, |app| async move {
        app.catalog.put_code(&key, code, publish, &intent).await
    });
    Ok(reply::json(StatusCode::OK, &changed(&asked.home, &put.await?.function)))
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct UpdateConfiguration {
    #[serde(default)]
    revision_id: Option<String>,
    #[serde(flatten)]
    wanted: Wanted,
}

pub(super) async fn update_configuration(asked: &Asked) -> Answer {
    let key = asked.function()?;
    let update: UpdateConfiguration = asked.json()?;
    for _ in 0..ATTEMPTS {
        let current = asked.latest(&key).await?;
        precondition(update.revision_id.as_deref(), &current)?;
        let patch = update.wanted.patch(&asked.home, &current)?;
        // Which variables go depends on which there are.
        let intent = asked.intent(Precondition::Revision(current.function.revision));
        let key = key.clone();
        let put = to_the_end(&asked.app, |app| async move {
            app.catalog.patch_config(&key, &patch, &intent).await
        });
        match put.await {
            Err(e) if e.code() == Code::PreconditionFailed && update.revision_id.is_none() => {}
            put => {
                let answer = changed(&asked.home, &put?.function);
                return Ok(reply::json(StatusCode::OK, &answer));
            }
        }
    }
    Err(busy(&key).into())
}

fn precondition(given: Option<&str>, current: &FunctionAt) -> Result<Precondition, Fault> {
    let function = &current.function;
    expected(given, &revision_id(function, None), function.revision)
}

fn busy(key: &FunctionKey) -> Error {
    Error::caller(
        Code::Conflict,
        format!("function '{key}' is changed by too many callers at once"),
    )
}

/// Deletes a function, or one published version of it.
pub(super) async fn delete(asked: &Asked) -> Answer {
    let target = asked.target()?;
    let intent = asked.intent(Precondition::None);
    let key = target.key().clone();
    let number = match target.qualifier() {
        None => None,
        Some(Qualifier::Version(number)) => Some(*number),
        Some(Qualifier::Latest) => {
            return Err(Fault::invalid(
                "$LATEST version cannot be deleted without deleting the function.",
            ));
        }
        Some(Qualifier::Alias(_)) => {
            return Err(Fault::invalid("Qualifier is not valid: expected the number of a version"));
        }
    };
    let deleted = to_the_end(&asked.app, |app| async move {
        match number {
            None => app.catalog.delete_function(&key, &intent).await,
            Some(number) => app.catalog.delete_version(&key, number, &intent).await,
        }
    });
    deleted.await.map_err(|error| asked.not_found(error, &target))?;
    Ok(reply::empty(StatusCode::NO_CONTENT))
}

/// A page of what is shown under `name`.
pub(super) fn page(name: &str, items: Vec<Value>, next: Option<String>) -> Value {
    let mut answer = json!({ name: items });
    if let Some(next) = next {
        answer["NextMarker"] = next.into();
    }
    answer
}
