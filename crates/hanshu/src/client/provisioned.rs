//! Operations on the provisioned instances of a function.

use model::api::ProvisionedView;
use model::ids::{FunctionKey, FunctionRef};
use model::provisioned::Provisioned;
use ureq::http::Method;

use super::control::function_path;
use super::{Client, encode};
use crate::cli::failure::CliError;

fn path(target: &FunctionRef) -> String {
    let qualifier = encode(&target.qualifier.to_string());
    format!("{}/provisioned/{qualifier}", function_path(&target.key))
}

impl Client {
    /// Everything that is kept started of a function.
    pub(crate) fn provisioned(&self, key: &FunctionKey) -> Result<Vec<ProvisionedView>, CliError> {
        self.pages(&format!("{}/provisioned", function_path(key)))
    }

    /// Keeps instances started for a version or an alias.
    pub(crate) fn provision(
        &self,
        target: &FunctionRef,
        wanted: &Provisioned,
    ) -> Result<ProvisionedView, CliError> {
        self.json(&Method::PUT, &path(target), Some(wanted))
    }

    /// Keeps none started any more.
    pub(crate) fn unprovision(&self, target: &FunctionRef) -> Result<(), CliError> {
        self.delete(&path(target))
    }
}
