//! A request that is known to be its caller's, and how operations read it.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use engine::Faulty;
use http::request::Parts;
use model::change::Author;
use model::error::{Code, Error};
use model::ids::{FunctionKey, FunctionRef, RequestId};
use percent_encoding::percent_decode_str;
use serde::de::DeserializeOwned;
use tokio::sync::OwnedSemaphorePermit;

use super::error::{Fault, Kind};
use super::names::{Home, Target};
use crate::App;
use crate::auth::{AccessKey, Caller};
use crate::catalog::{FunctionAt, Intent, Precondition};
use crate::extract::read_json;

/// Entries of a page that does not say how many, and the most it has (AWS Lambda API reference, `MaxItems` of `ListFunctions`).
pub(super) const PAGE: usize = 50;
/// The most that a request may ask for; it gets [`PAGE`] at once all the same.
const MAX_ITEMS: usize = 10_000;

/// A request.
#[derive(Debug)]
pub(super) struct Asked {
    pub app: Arc<App>,
    pub home: Home,
    pub caller: Caller,
    /// What it was signed with; nothing in dev mode.
    pub key: Option<Arc<AccessKey>>,
    pub from: IpAddr,
    pub id: RequestId,
    pub parts: Parts,
    /// What the path names, decoded.
    pub names: Vec<String>,
    pub body: Bytes,
    /// Held while the package in the body is.
    pub slot: Option<OwnedSemaphorePermit>,
}

impl Asked {
    /// A parameter of the query, decoded.
    pub(super) fn query(&self, name: &str) -> Option<String> {
        let query = self.parts.uri.query()?;
        let pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        let mut found = pairs.filter(|(found, _)| *found == name);
        let (_, value) = found.next()?;
        Some(percent_decode_str(value).decode_utf8_lossy().into_owned())
    }

    /// The name at a place of the path.
    pub(super) fn name(&self, at: usize) -> &str {
        self.names.get(at).map_or("", String::as_str)
    }

    /// The function that the path names, with the query's qualifier.
    pub(super) fn target(&self) -> Result<Target, Fault> {
        self.home.target(self.name(0), self.query("Qualifier").as_deref())
    }

    /// The function that the path names, where a qualifier has no meaning.
    pub(super) fn function(&self) -> Result<FunctionKey, Fault> {
        Ok(self.home.target(self.name(0), None)?.reference.key)
    }

    /// The body as JSON; nothing is an object without members.
    pub(super) fn json<T: DeserializeOwned>(&self) -> Result<T, Fault> {
        let body: &[u8] = if self.body.is_empty() { b"{}" } else { &self.body };
        Ok(read_json(body)?)
    }

    /// Who changes something. Code that cannot be loaded is taken, as the service does.
    pub(super) fn intent(&self, precondition: Precondition) -> Intent {
        let author = Author {
            who: self.caller.name.to_string(),
            from: Some(self.from.to_string()),
            reason: None,
        };
        Intent { author, precondition, faulty: Faulty::Accepted }
    }

    /// The function at a version, or the refusal in the service's words.
    pub(super) async fn look_up(&self, target: &Target) -> Result<FunctionAt, Fault> {
        let found = self.app.catalog.function(&target.reference).await;
        found.map_err(|error| self.not_found(error, target))
    }

    /// A refusal because a function is not there, in the service's words.
    pub(super) fn not_found(&self, error: Error, target: &Target) -> Fault {
        let words =
            || format!("Function not found: {}", self.home.arn(target.key(), target.qualifier()));
        match error.code() {
            Code::NotFound => Fault::from(error).reworded(Kind::NOT_FOUND, words),
            _ => error.into(),
        }
    }

    /// [`Self::look_up`] of `$LATEST`.
    pub(super) async fn latest(&self, key: &FunctionKey) -> Result<FunctionAt, Fault> {
        let reference = FunctionRef { key: key.clone(), qualifier: model::ids::Qualifier::Latest };
        self.look_up(&Target { reference, qualified: false }).await
    }

    /// How many entries the next page may have.
    pub(super) fn max_items(&self) -> Result<usize, Fault> {
        let Some(text) = self.query("MaxItems") else { return Ok(PAGE) };
        match text.parse() {
            Ok(n) if (1..=MAX_ITEMS).contains(&n) => Ok(n.min(PAGE)),
            _ => Err(Fault::invalid(format!("MaxItems is not valid: expected 1 to {MAX_ITEMS}"))),
        }
    }
}
