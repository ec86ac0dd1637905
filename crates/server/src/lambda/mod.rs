//! The API of AWS Lambda, for the clients, tools and libraries that speak it: `/2015-03-31/functions/…` and its other dated paths.
//!
//! A request passes [`route`] (which operation), [`signature`] (whose it is) and the operation's own file, which reads it, asks the same catalogue and engine as
//! `control` does, and words the answer as the service's own model has it. Nothing is decided here that is not about this interface. What differs from the
//! service itself is listed in `docs/reference/lambda-api.md`.
//!
//! [`names`] knows names and ARNs, [`error`] the refusals, [`configuration`] what is shown of a function.

mod account;
mod aliases;
mod asked;
mod code;
mod concurrency;
mod configuration;
mod error;
mod events;
mod functions;
mod invoke;
mod layers;
mod names;
mod reply;
mod route;
mod signature;
mod stream;
mod tags;
mod urls;
mod versions;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Body;
use bytes::Bytes;
use http::request::Parts;
use http::{Method, Request, Response};
use hyper::body::Incoming;
use model::ids::{NamespaceName, RequestId};
use tokio::sync::OwnedSemaphorePermit;

use crate::App;
use crate::auth::{self, AccessKey, Caller};
use crate::body::{self, Limit};
use asked::Asked;
use error::{Fault, Kind};
use names::{Home, REGION};
use route::{BodyKind, Operation};
use signature::Claim;

pub(crate) use route::owns;

/// What an operation answers.
type Answer = Result<Response<Body>, Fault>;

/// Answers a request of this API.
pub(crate) async fn serve(
    app: &Arc<App>,
    peer: SocketAddr,
    request: Request<Incoming>,
) -> Response<Body> {
    let id = RequestId::generate();
    let response = match answer(app, peer, id, request).await {
        Ok(response) => response,
        Err(fault) => fault.render(id),
    };
    reply::named(response, id)
}

async fn answer(
    app: &Arc<App>,
    peer: SocketAddr,
    id: RequestId,
    request: Request<Incoming>,
) -> Answer {
    let (parts, body) = request.into_parts();
    let found = route::find(&parts.method, parts.uri.path());
    let (operation, names) = found.ok_or_else(|| unknown(&parts.method, parts.uri.path()))?;
    let signer = Signer::of(app, &parts).await?;
    let (body, slot) = read_body(app, operation, &parts, body).await?;
    signer.check(&parts, &body)?;
    let (home, caller, key) = signer.home();
    let app = Arc::clone(app);
    let asked = Asked { app, home, caller, key, from: peer.ip(), id, parts, names, body, slot };
    if operation == Operation::Invoke {
        return invoke::invoke(asked).await;
    }
    // Boxed: the futures of these are large, and that of a call shall not be.
    Box::pin(control(operation, asked)).await
}

async fn control(operation: Operation, asked: Asked) -> Answer {
    match operation {
        Operation::Invoke => invoke::invoke(asked).await,
        Operation::InvokeWithResponseStream => stream::invoke(asked).await,
        Operation::CreateFunction => functions::create(asked).await,
        Operation::DeleteFunction => functions::delete(&asked).await,
        Operation::GetCode => code::get(&asked).await,
        Operation::GetFunction => functions::get(&asked).await,
        Operation::GetFunctionConfiguration => functions::get_configuration(&asked).await,
        Operation::ListFunctions => functions::list(&asked).await,
        Operation::PublishVersion => versions::publish(&asked).await,
        Operation::ListVersionsByFunction => versions::list(&asked).await,
        Operation::CreateAlias => aliases::create(&asked).await,
        Operation::GetAlias => aliases::get(&asked).await,
        Operation::ListAliases => aliases::list(&asked).await,
        Operation::UpdateAlias => aliases::update(&asked).await,
        Operation::DeleteAlias => aliases::delete(&asked).await,
        Operation::GetAccountSettings => account::settings(&asked).await,
        Operation::ListTags => tags::list(&asked).await,
        Operation::TagResource => tags::set(&asked).await,
        Operation::UntagResource => tags::remove(&asked).await,
        Operation::PutFunctionConcurrency => concurrency::reserve(&asked).await,
        Operation::GetFunctionConcurrency => concurrency::reserved(&asked).await,
        Operation::DeleteFunctionConcurrency => concurrency::unreserve(&asked).await,
        Operation::PutProvisionedConcurrency => concurrency::provision(&asked).await,
        Operation::GetProvisionedConcurrency => concurrency::provisioned(&asked).await,
        Operation::DeleteProvisionedConcurrency => concurrency::unprovision(&asked).await,
        Operation::PutEventInvokeConfig => events::put(&asked).await,
        Operation::UpdateEventInvokeConfig => events::update(&asked).await,
        Operation::GetEventInvokeConfig => events::get(&asked).await,
        Operation::ListEventInvokeConfigs => events::list(&asked).await,
        Operation::DeleteEventInvokeConfig => events::delete(&asked).await,
        Operation::CreateUrl => urls::create(&asked).await,
        Operation::GetUrl => urls::get(&asked).await,
        Operation::UpdateUrl => urls::update(&asked).await,
        Operation::ListUrls => urls::list(&asked).await,
        Operation::DeleteUrl => urls::delete(&asked).await,
        Operation::PublishLayerVersion => layers::publish(asked).await,
        Operation::GetLayerVersion => layers::get(&asked).await,
        Operation::GetLayerContent => layers::content(&asked).await,
        Operation::ListLayers => layers::list(&asked).await,
        Operation::ListLayerVersions => layers::versions(&asked).await,
        Operation::DeleteLayerVersion => layers::delete(&asked).await,
        Operation::UpdateFunctionCode => functions::update_code(asked).await,
        Operation::UpdateFunctionConfiguration => functions::update_configuration(&asked).await,
        Operation::Unsupported(about) => {
            Err(Fault::new(Kind::UNSUPPORTED, format!("{about}: not supported by this daemon")))
        }
    }
}

/// Reads the whole body. A package is held in memory while it is checked, so it waits for its turn first.
async fn read_body(
    app: &Arc<App>,
    operation: Operation,
    parts: &Parts,
    body: Incoming,
) -> Result<(Bytes, Option<OwnedSemaphorePermit>), Fault> {
    let (limit, slot) = match operation.body() {
        BodyKind::Payload if invoke::is_event(&parts.headers) => (Limit::ASYNC_PAYLOAD, None),
        BodyKind::Payload => (Limit::SYNC_PAYLOAD, None),
        BodyKind::Package => (Limit::PACKAGE_IN_JSON, Some(app.catalog.upload_slot().await?)),
        BodyKind::Control => (Limit::CONTROL, None),
    };
    let timeout = app.config.body_timeout;
    let body = body::collect(&parts.headers, body, limit, timeout, &app.tasks).await?;
    Ok((body, slot))
}

fn unknown(method: &Method, path: &str) -> Fault {
    Fault::new(Kind::UNKNOWN_OPERATION, format!("there is no operation {method} {path}"))
}

/// Whose request it is.
#[derive(Debug)]
enum Signer {
    /// In dev mode nobody is asked; the region is what the signature says, if there is one.
    Dev { region: String },
    /// Whoever has this access key, once the signature is found to be made with it.
    Key { claim: Claim, key: Arc<AccessKey> },
}

impl Signer {
    /// Finds the access key that a request names. What is wrong with the request's time or form is said before its body is read.
    async fn of(app: &App, parts: &Parts) -> Result<Self, Fault> {
        let claim = Claim::read(parts);
        if app.config.dev {
            auth::check_local(&parts.headers)?;
            let region = claim.map_or_else(|_| REGION.to_owned(), |claim| claim.region);
            return Ok(Self::Dev { region });
        }
        let claim = claim?;
        let unknown = || {
            let message = "The security token included in the request is invalid.";
            Fault::new(Kind::UNKNOWN_CLIENT, message)
        };
        let key = app.keys.access_key(&claim.access_key).await?.ok_or_else(unknown)?;
        // There are no sessions here that such a token could be of.
        if parts.headers.contains_key("x-amz-security-token") {
            return Err(unknown());
        }
        claim.check_time(app.clock.now())?;
        Ok(Self::Key { claim, key })
    }

    fn check(&self, parts: &Parts, body: &[u8]) -> Result<(), Fault> {
        match self {
            Self::Dev { .. } => Ok(()),
            Self::Key { claim, key } => claim.check(&key.secret, parts, body),
        }
    }

    /// Where the caller's functions are, who that is, and with which access key.
    fn home(self) -> (Home, Caller, Option<Arc<AccessKey>>) {
        match self {
            Self::Dev { region } => {
                let home = Home::new(NamespaceName::default_namespace(), &region, true);
                (home, Caller::dev(), None)
            }
            Self::Key { claim, key } => {
                // Every access key belongs to a key of one namespace.
                let namespace = key.caller.namespace.clone();
                let namespace = namespace.unwrap_or_else(NamespaceName::default_namespace);
                let home = Home::new(namespace, &claim.region, false);
                (home, key.caller.clone(), Some(key))
            }
        }
    }
}
