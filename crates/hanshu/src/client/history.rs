//! Reads what was changed.

use model::api::{ChangeView, Page};
use model::ids::{AliasName, FunctionKey, NamespaceName};
use model::layer::LayerKey;
use ureq::http::Method;

use super::control::function_path;
use super::layers::layer_path;
use super::{Client, NO_BODY, encode};
use crate::cli::failure::CliError;

/// Most changes that one request asks for.
const PAGE: usize = 100;

/// What has a history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    /// A function, or one alias of it.
    Function(FunctionKey, Option<AliasName>),
    /// A layer, or one alias of it.
    Layer(LayerKey, Option<AliasName>),
    /// A namespace.
    Namespace(NamespaceName),
}

impl Subject {
    fn path(&self) -> String {
        match self {
            Self::Function(key, _) => format!("{}/history", function_path(key)),
            Self::Layer(key, _) => format!("{}/history", layer_path(key)),
            Self::Namespace(name) => format!("/v1/namespaces/{name}/history"),
        }
    }

    fn query(&self, limit: usize, after: Option<&str>) -> String {
        let mut query = format!("?limit={limit}");
        if let Self::Function(_, Some(alias)) | Self::Layer(_, Some(alias)) = self {
            query.push_str("&alias=");
            query.push_str(alias.as_str());
        }
        if let Some(after) = after {
            query.push_str("&after=");
            query.push_str(&encode(after));
        }
        query
    }
}

impl Client {
    /// The newest changes, at most `limit`, newest first.
    pub(crate) fn history(
        &self,
        subject: &Subject,
        limit: usize,
    ) -> Result<Vec<ChangeView>, CliError> {
        let path = subject.path();
        let mut changes = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let wanted = limit.saturating_sub(changes.len()).min(PAGE);
            let query = subject.query(wanted, after.as_deref());
            let mut page: Page<ChangeView> =
                self.json(&Method::GET, &format!("{path}{query}"), NO_BODY)?;
            changes.append(&mut page.items);
            after = page.next;
            if after.is_none() || changes.len() >= limit {
                return Ok(changes);
            }
        }
    }

    /// One change, whole.
    pub(crate) fn revision(
        &self,
        subject: &Subject,
        revision: u64,
    ) -> Result<ChangeView, CliError> {
        self.json(&Method::GET, &format!("{}/{revision}", subject.path()), NO_BODY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_subject_has_its_route() {
        let namespace: NamespaceName = "team".parse().unwrap();
        let key = FunctionKey { namespace: namespace.clone(), name: "f".parse().unwrap() };
        let alias = Subject::Function(key, Some("live".parse().unwrap()));
        assert_eq!(alias.path(), "/v1/namespaces/team/functions/f/history");
        assert_eq!(alias.query(20, Some("7")), "?limit=20&alias=live&after=7");
        let layer = LayerKey { namespace: namespace.clone(), name: "l".parse().unwrap() };
        assert_eq!(Subject::Layer(layer, None).path(), "/v1/namespaces/team/layers/l/history");
        let own = Subject::Namespace(namespace);
        assert_eq!(own.path() + &own.query(5, None), "/v1/namespaces/team/history?limit=5");
    }
}
