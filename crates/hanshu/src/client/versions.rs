//! Operations on the published versions of a function.

use std::io::Write;

use model::api::{FunctionView, VersionDiff, VersionView};
use model::ids::{FunctionKey, VersionRef};
use ureq::http::Method;

use super::control::function_path;
use super::{Client, Expected, NO_BODY, encode};
use crate::cli::failure::CliError;

impl Client {
    /// Published versions, ascending.
    pub(crate) fn versions(&self, key: &FunctionKey) -> Result<Vec<VersionView>, CliError> {
        self.pages(&format!("{}/versions", function_path(key)))
    }

    /// Publishes `$LATEST`; also tells whether that made a new version.
    pub(crate) fn publish(&self, key: &FunctionKey) -> Result<(FunctionView, bool), CliError> {
        let path = format!("{}/versions", function_path(key));
        let answer = self.change(&Method::POST, &path, Expected::Anything, NO_BODY)?;
        Ok((answer.json()?, answer.created()))
    }

    /// A published version.
    pub(crate) fn version(&self, key: &FunctionKey, number: u64) -> Result<FunctionView, CliError> {
        self.json(&Method::GET, &format!("{}/versions/{number}", function_path(key)), NO_BODY)
    }

    /// Deletes a published version.
    pub(crate) fn delete_version(&self, key: &FunctionKey, number: u64) -> Result<(), CliError> {
        self.delete(&format!("{}/versions/{number}", function_path(key)))
    }

    /// What differs between two versions.
    pub(crate) fn version_diff(
        &self,
        key: &FunctionKey,
        from: VersionRef,
        to: VersionRef,
    ) -> Result<VersionDiff, CliError> {
        let (from, to) = (encode(&from.to_string()), encode(&to.to_string()));
        let path = format!("{}/diff?from={from}&to={to}", function_path(key));
        self.json(&Method::GET, &path, NO_BODY)
    }

    /// Writes the package of a version to `target`; its bytes.
    pub(crate) fn download_code(
        &self,
        key: &FunctionKey,
        version: VersionRef,
        target: &mut dyn Write,
    ) -> Result<u64, CliError> {
        let version = encode(&version.to_string());
        self.receive_zip(&format!("{}/code?qualifier={version}", function_path(key)), target)
    }
}
