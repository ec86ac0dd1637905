//! Operations on asynchronous calls.

use model::api::{CallState, CallSummary, CallView, Page, SweepDead, SweptDead};
use model::ids::{FunctionName, NamespaceName};
use ureq::http::Method;

use super::{Client, Expected, NO_BODY, encode};
use crate::cli::failure::CliError;

/// Which calls to list.
#[derive(Clone, Debug)]
pub(crate) struct CallFilter {
    pub(crate) namespace: NamespaceName,
    pub(crate) function: Option<FunctionName>,
    pub(crate) state: Option<CallState>,
    pub(crate) after: Option<String>,
    pub(crate) limit: usize,
}

fn path(namespace: &NamespaceName, id: &str) -> String {
    format!("/v1/namespaces/{namespace}/calls/{}", encode(id))
}

impl Client {
    /// A page of calls, the newest first.
    pub(crate) fn calls(&self, filter: &CallFilter) -> Result<Page<CallSummary>, CliError> {
        let mut path = format!("/v1/namespaces/{}/calls?limit={}", filter.namespace, filter.limit);
        let function = filter.function.as_ref().map(FunctionName::as_str);
        let state = filter.state.map(CallState::as_str);
        let given = [("function", function), ("state", state), ("after", filter.after.as_deref())];
        for (name, value) in given {
            if let Some(value) = value {
                path.push_str(&format!("&{name}={}", encode(value)));
            }
        }
        self.json(&Method::GET, &path, NO_BODY)
    }

    /// All that is kept of a call; waits up to so many seconds for its end.
    pub(crate) fn call(
        &self,
        namespace: &NamespaceName,
        id: &str,
        wait_seconds: u64,
    ) -> Result<CallView, CliError> {
        let path = format!("{}?wait={wait_seconds}", path(namespace, id));
        self.json(&Method::GET, &path, NO_BODY)
    }

    /// Calls a call off.
    pub(crate) fn cancel_call(&self, namespace: &NamespaceName, id: &str) -> Result<(), CliError> {
        let path = format!("{}/cancel", path(namespace, id));
        self.change(&Method::POST, &path, Expected::Anything, NO_BODY).map(drop)
    }

    /// Accepts a dead call once more.
    pub(crate) fn redrive_call(&self, namespace: &NamespaceName, id: &str) -> Result<(), CliError> {
        let path = format!("{}/redrive", path(namespace, id));
        self.change(&Method::POST, &path, Expected::Anything, NO_BODY).map(drop)
    }

    /// Accepts some dead calls once more.
    pub(crate) fn redrive_dead(
        &self,
        namespace: &NamespaceName,
        which: &SweepDead,
    ) -> Result<SweptDead, CliError> {
        let path = format!("/v1/namespaces/{namespace}/dead-letters/redrive");
        self.json(&Method::POST, &path, Some(which))
    }

    /// Forgets some dead calls.
    pub(crate) fn purge_dead(
        &self,
        namespace: &NamespaceName,
        which: &SweepDead,
    ) -> Result<SweptDead, CliError> {
        let path = format!("/v1/namespaces/{namespace}/dead-letters/purge");
        self.json(&Method::POST, &path, Some(which))
    }
}
