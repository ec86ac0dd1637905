//! Operations on namespaces, functions and packages. One method per route, no logic.

use std::io::Read;
use std::time::Duration;

use model::api::{
    CreateNamespace, FunctionView, Health, NamespaceView, PackageView, Page, PatchConfig,
    PutFunction, VersionView,
};
use model::ids::{FunctionName, NamespaceName};
use ureq::SendBody;
use ureq::http::Method;

use super::{Ask, Client, encode};
use crate::cli::failure::CliError;

/// How long the daemon may take over a package: unpacking and checking 250 MiB on a slow disk.
const PACKAGE_TIMEOUT: Duration = Duration::from_secs(300);

/// How long the daemon may take to say how it is: it looks at nothing but its memory.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(5);

const NO_BODY: Option<&()> = None;

fn function_path(namespace: &NamespaceName, name: &FunctionName) -> String {
    format!("/v1/namespaces/{namespace}/functions/{name}")
}

impl Client {
    /// State of the daemon.
    pub(crate) fn health(&self) -> Result<Health, CliError> {
        let ask =
            Ask { patience: Some(HEALTH_TIMEOUT), ..Ask::control(&Method::GET, "/v1/health") };
        self.ask(ask, b"")?.json()
    }

    /// All namespaces.
    pub(crate) fn namespaces(&self) -> Result<Vec<NamespaceView>, CliError> {
        self.pages("/v1/namespaces")
    }

    /// Creates a namespace.
    pub(crate) fn create_namespace(
        &self,
        new: &CreateNamespace,
    ) -> Result<NamespaceView, CliError> {
        self.json(&Method::POST, "/v1/namespaces", Some(new))
    }

    /// Deletes an empty namespace.
    pub(crate) fn delete_namespace(&self, name: &NamespaceName) -> Result<(), CliError> {
        let path = format!("/v1/namespaces/{name}");
        self.ask(Ask::control(&Method::DELETE, &path), b"").map(drop)
    }

    /// Stores a package of `length` bytes.
    pub(crate) fn upload(
        &self,
        namespace: &NamespaceName,
        package: &mut dyn Read,
        length: u64,
    ) -> Result<PackageView, CliError> {
        let path = format!("/v1/namespaces/{namespace}/packages");
        let length = length.to_string();
        let headers = [("content-type", "application/zip"), ("content-length", length.as_str())];
        let ask = Ask {
            headers: &headers,
            patience: Some(PACKAGE_TIMEOUT),
            ..Ask::control(&Method::POST, &path)
        };
        self.accept(self.send(ask, SendBody::from_reader(package))?)?.json()
    }

    /// All functions of a namespace.
    pub(crate) fn functions(&self, ns: &NamespaceName) -> Result<Vec<FunctionView>, CliError> {
        self.pages(&format!("/v1/namespaces/{ns}/functions"))
    }

    /// One function, at a qualifier or at `$LATEST`.
    pub(crate) fn function(
        &self,
        ns: &NamespaceName,
        name: &FunctionName,
        qualifier: Option<&str>,
    ) -> Result<FunctionView, CliError> {
        let query = qualifier.map(|q| format!("?qualifier={}", encode(q))).unwrap_or_default();
        self.json(&Method::GET, &format!("{}{query}", function_path(ns, name)), NO_BODY)
    }

    /// One function, or `None` if there is none of that name.
    pub(crate) fn find_function(
        &self,
        ns: &NamespaceName,
        name: &FunctionName,
    ) -> Result<Option<FunctionView>, CliError> {
        match self.function(ns, name, None) {
            Ok(view) => Ok(Some(view)),
            Err(e) if e.code_text() == Some("not-found") => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Creates a function or replaces it in one step.
    pub(crate) fn put_function(
        &self,
        ns: &NamespaceName,
        name: &FunctionName,
        put: &PutFunction,
    ) -> Result<FunctionView, CliError> {
        self.json(&Method::PUT, &function_path(ns, name), Some(put))
    }

    /// Changes some fields of a function's configuration.
    pub(crate) fn patch_config(
        &self,
        ns: &NamespaceName,
        name: &FunctionName,
        patch: &PatchConfig,
    ) -> Result<FunctionView, CliError> {
        self.json(&Method::PATCH, &format!("{}/config", function_path(ns, name)), Some(patch))
    }

    /// Deletes a function with everything that belongs to it.
    pub(crate) fn delete_function(
        &self,
        ns: &NamespaceName,
        name: &FunctionName,
    ) -> Result<(), CliError> {
        self.ask(Ask::control(&Method::DELETE, &function_path(ns, name)), b"").map(drop)
    }

    /// Published versions, ascending.
    pub(crate) fn versions(
        &self,
        ns: &NamespaceName,
        name: &FunctionName,
    ) -> Result<Vec<VersionView>, CliError> {
        self.pages(&format!("{}/versions", function_path(ns, name)))
    }

    /// Reads a listing to its end.
    fn pages<T: serde::de::DeserializeOwned>(&self, path: &str) -> Result<Vec<T>, CliError> {
        let mut items = Vec::new();
        let mut page: Page<T> = self.json(&Method::GET, path, NO_BODY)?;
        loop {
            items.append(&mut page.items);
            let Some(after) = page.next else { return Ok(items) };
            page = self.json(&Method::GET, &format!("{path}?after={}", encode(&after)), NO_BODY)?;
        }
    }
}
