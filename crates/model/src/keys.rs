//! Metadata keys: where each document lies.

use crate::function::{Fingerprint, VersionSummary};
use crate::ids::{AliasName, Digest, FunctionKey, NamespaceName, RequestId};
use crate::layer::LayerKey;

/// All functions.
pub const FUNCTIONS: &str = "function/";
/// All namespaces.
pub const NAMESPACES: &str = "namespace/";
/// All published versions of all functions.
pub const VERSIONS: &str = "version/";
/// All layers.
pub const LAYERS: &str = "layer/";
/// All maps.
pub const MAPS: &str = "map/";
/// All kept changes.
pub const HISTORY: &str = "history/";

/// One [`crate::function::Function`].
pub fn function(key: &FunctionKey) -> String {
    format!("{FUNCTIONS}{}/{}", key.namespace, key.name)
}

/// All functions of one namespace.
pub fn functions_of(namespace: &NamespaceName) -> String {
    format!("{FUNCTIONS}{namespace}/")
}

/// One published [`crate::function::Version`]; `id` is the function's. The number alone would not do: two publishers may write a body each
/// for the next number, and one of them lists it.
pub fn version(id: &RequestId, number: u64, fingerprint: Fingerprint) -> String {
    format!("{VERSIONS}{id}/{number}-{fingerprint}")
}

/// The body that a line of the list stands for.
pub fn version_of(id: &RequestId, summary: &VersionSummary) -> String {
    version(id, summary.number, summary.fingerprint)
}

/// All published versions of one function.
pub fn versions_of(id: &RequestId) -> String {
    format!("{VERSIONS}{id}/")
}

/// One [`crate::namespace::Namespace`].
pub fn namespace(name: &NamespaceName) -> String {
    format!("{NAMESPACES}{name}")
}

/// One [`crate::layer::Layer`].
pub fn layer(key: &LayerKey) -> String {
    format!("{LAYERS}{}/{}", key.namespace, key.name)
}

/// All layers of one namespace.
pub fn layers_of(namespace: &NamespaceName) -> String {
    format!("{LAYERS}{namespace}/")
}

/// One [`crate::map::Map`].
pub fn map(namespace: &NamespaceName, id: &RequestId) -> String {
    format!("{}{id}", maps_of(namespace))
}

/// All maps of one namespace, the oldest first.
pub fn maps_of(namespace: &NamespaceName) -> String {
    format!("{MAPS}{namespace}/")
}

/// The record of a package that was uploaded to a namespace, a [`crate::function::CodeRef`].
pub fn package(namespace: &NamespaceName, digest: &Digest) -> String {
    format!("{}{digest}", packages_of(namespace))
}

/// The records of all packages of one namespace.
pub fn packages_of(namespace: &NamespaceName) -> String {
    format!("package/{namespace}/")
}

/// All kept changes of the document under `document`, in order.
pub fn history_of(document: &str) -> String {
    format!("{HISTORY}{document}/")
}

/// One kept [`crate::change::Change`] of the document under `document`.
pub fn change(document: &str, revision: u64) -> String {
    format!("{HISTORY}{document}/{revision:012}")
}

/// What the shadow of an alias showed; `id` is the function's.
pub fn shadow(id: &RequestId, alias: &AliasName) -> String {
    format!("{}{alias}", shadows_of(id))
}

/// What the shadows of all aliases of a function showed.
pub fn shadows_of(id: &RequestId) -> String {
    format!("shadow/{id}/")
}
