//! Operations on layers.

use std::io::{Read, Write};

use model::api::{LayerAliasMoved, LayerVersionView, LayerView, PutLayerAlias};
use model::ids::{AliasName, NamespaceName};
use model::layer::LayerKey;
use ureq::http::Method;

use super::{Client, NO_BODY, encode};
use crate::cli::failure::CliError;

/// Where a layer is.
pub(super) fn layer_path(key: &LayerKey) -> String {
    format!("/v1/namespaces/{}/layers/{}", key.namespace, key.name)
}

fn alias_path(key: &LayerKey, alias: &AliasName) -> String {
    format!("{}/aliases/{alias}", layer_path(key))
}

impl Client {
    /// All layers of a namespace.
    pub(crate) fn layers(&self, namespace: &NamespaceName) -> Result<Vec<LayerView>, CliError> {
        self.pages(&format!("/v1/namespaces/{namespace}/layers"))
    }

    /// One layer.
    pub(crate) fn layer(&self, key: &LayerKey) -> Result<LayerView, CliError> {
        self.json(&Method::GET, &layer_path(key), NO_BODY)
    }

    /// The versions of a layer, ascending.
    pub(crate) fn layer_versions(&self, key: &LayerKey) -> Result<Vec<LayerVersionView>, CliError> {
        self.pages(&format!("{}/versions", layer_path(key)))
    }

    /// Publishes a zip of `length` bytes; also tells whether that made a new version.
    pub(crate) fn publish_layer(
        &self,
        key: &LayerKey,
        description: &str,
        runtimes: &[String],
        zip: &mut dyn Read,
        length: u64,
    ) -> Result<(LayerVersionView, bool), CliError> {
        let mut query = Vec::new();
        if !description.is_empty() {
            query.push(format!("description={}", encode(description)));
        }
        if !runtimes.is_empty() {
            query.push(format!("runtimes={}", encode(&runtimes.join(","))));
        }
        let mark = if query.is_empty() { "" } else { "?" };
        let path = format!("{}/versions{mark}{}", layer_path(key), query.join("&"));
        let answer = self.send_zip(&path, zip, length)?;
        Ok((answer.json()?, answer.created()))
    }

    /// Writes the package of a version to `target`; its bytes.
    pub(crate) fn download_layer(
        &self,
        key: &LayerKey,
        version: u64,
        target: &mut dyn Write,
    ) -> Result<u64, CliError> {
        self.receive_zip(&format!("{}/versions/{version}/code", layer_path(key)), target)
    }

    /// Deletes a layer with its versions.
    pub(crate) fn delete_layer(&self, key: &LayerKey) -> Result<(), CliError> {
        self.delete(&layer_path(key))
    }

    /// Deletes a version of a layer.
    pub(crate) fn delete_layer_version(
        &self,
        key: &LayerKey,
        version: u64,
    ) -> Result<(), CliError> {
        self.delete(&format!("{}/versions/{version}", layer_path(key)))
    }

    /// Points an alias of a layer to a version.
    pub(crate) fn put_layer_alias(
        &self,
        key: &LayerKey,
        alias: &AliasName,
        version: u64,
    ) -> Result<LayerAliasMoved, CliError> {
        self.json(&Method::PUT, &alias_path(key, alias), Some(&PutLayerAlias { version }))
    }

    /// Deletes an alias of a layer.
    pub(crate) fn delete_layer_alias(
        &self,
        key: &LayerKey,
        alias: &AliasName,
    ) -> Result<(), CliError> {
        self.delete(&alias_path(key, alias))
    }
}
