//! Operations on namespaces and keys.

use model::api::{CreateKey, CreateNamespace, KeyView, NamespaceView, NewKeyView, PatchNamespace};
use model::ids::NamespaceName;
use ureq::http::Method;

use super::{Client, Expected, NO_BODY, encode};
use crate::cli::failure::CliError;

impl Client {
    /// All namespaces.
    pub(crate) fn namespaces(&self) -> Result<Vec<NamespaceView>, CliError> {
        self.pages("/v1/namespaces")
    }

    /// One namespace.
    pub(crate) fn namespace(&self, name: &NamespaceName) -> Result<NamespaceView, CliError> {
        self.json(&Method::GET, &format!("/v1/namespaces/{name}"), NO_BODY)
    }

    /// Creates a namespace.
    pub(crate) fn create_namespace(
        &self,
        new: &CreateNamespace,
    ) -> Result<NamespaceView, CliError> {
        self.json(&Method::POST, "/v1/namespaces", Some(new))
    }

    /// Changes a namespace that was seen at `revision`.
    pub(crate) fn patch_namespace(
        &self,
        name: &NamespaceName,
        patch: &PatchNamespace,
        revision: u64,
    ) -> Result<NamespaceView, CliError> {
        let path = format!("/v1/namespaces/{name}");
        self.change(&Method::PATCH, &path, Expected::Revision(revision), Some(patch))?.json()
    }

    /// Deletes a namespace; what it holds only with `everything`.
    pub(crate) fn delete_namespace(
        &self,
        name: &NamespaceName,
        everything: bool,
    ) -> Result<(), CliError> {
        let query = if everything { format!("?everything={name}") } else { String::new() };
        self.delete(&format!("/v1/namespaces/{name}{query}"))
    }

    /// All keys, without the keys themselves.
    pub(crate) fn keys(&self) -> Result<Vec<KeyView>, CliError> {
        self.pages("/v1/keys")
    }

    /// Makes a key.
    pub(crate) fn create_key(&self, new: &CreateKey) -> Result<NewKeyView, CliError> {
        self.json(&Method::POST, "/v1/keys", Some(new))
    }

    /// Deletes a key: it opens nothing any more.
    pub(crate) fn delete_key(&self, name: &str) -> Result<(), CliError> {
        self.delete(&format!("/v1/keys/{}", encode(name)))
    }
}
