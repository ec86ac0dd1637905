//! Operations on functions and packages, and the daemon's state.

use std::io::Read;
use std::time::Duration;

use model::api::{FunctionView, Health, PackageView, PatchConfig, PutFunction, RollbackFunction};
use model::ids::{FunctionKey, NamespaceName};
use ureq::http::Method;

use super::{Ask, Client, NO_BODY, encode};
use crate::cli::failure::CliError;

/// How long the daemon may take to say how it is: it looks at nothing but its memory.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(5);

/// Where a function is.
pub(super) fn function_path(key: &FunctionKey) -> String {
    format!("/v1/namespaces/{}/functions/{}", key.namespace, key.name)
}

impl Client {
    /// State of the daemon.
    pub(crate) fn health(&self) -> Result<Health, CliError> {
        let ask =
            Ask { patience: Some(HEALTH_TIMEOUT), ..Ask::control(&Method::GET, "/v1/health") };
        self.ask(ask, b"")?.json()
    }

    /// Stores a package of `length` bytes.
    pub(crate) fn upload(
        &self,
        namespace: &NamespaceName,
        package: &mut dyn Read,
        length: u64,
    ) -> Result<PackageView, CliError> {
        self.send_zip(&format!("/v1/namespaces/{namespace}/packages"), package, length)?.json()
    }

    /// All functions of a namespace.
    pub(crate) fn functions(&self, ns: &NamespaceName) -> Result<Vec<FunctionView>, CliError> {
        self.pages(&format!("/v1/namespaces/{ns}/functions"))
    }

    /// One function, at a qualifier or at `$LATEST`.
    pub(crate) fn function(
        &self,
        key: &FunctionKey,
        qualifier: Option<&str>,
    ) -> Result<FunctionView, CliError> {
        let query = qualifier.map(|q| format!("?qualifier={}", encode(q))).unwrap_or_default();
        self.json(&Method::GET, &format!("{}{query}", function_path(key)), NO_BODY)
    }

    /// One function, or `None` if there is none of that name.
    pub(crate) fn find_function(
        &self,
        key: &FunctionKey,
    ) -> Result<Option<FunctionView>, CliError> {
        self.find(&function_path(key))
    }

    /// Creates a function or replaces it in one step.
    pub(crate) fn put_function(
        &self,
        key: &FunctionKey,
        put: &PutFunction,
    ) -> Result<FunctionView, CliError> {
        self.json(&Method::PUT, &function_path(key), Some(put))
    }

    /// Changes some fields of a function's configuration.
    pub(crate) fn patch_config(
        &self,
        key: &FunctionKey,
        patch: &PatchConfig,
    ) -> Result<FunctionView, CliError> {
        self.json(&Method::PATCH, &format!("{}/config", function_path(key)), Some(patch))
    }

    /// Brings `$LATEST` back to a version.
    pub(crate) fn roll_back_function(
        &self,
        key: &FunctionKey,
        version: u64,
    ) -> Result<FunctionView, CliError> {
        let body = RollbackFunction { version };
        self.json(&Method::POST, &format!("{}/rollback", function_path(key)), Some(&body))
    }

    /// Deletes a function with everything that belongs to it.
    pub(crate) fn delete_function(&self, key: &FunctionKey) -> Result<(), CliError> {
        self.delete(&function_path(key))
    }
}
