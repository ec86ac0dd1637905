//! Operations on aliases: routes, shifts, shadows.

use std::fmt;

use model::alias::Shadow;
use model::api::{
    AliasView, PutAlias, ResolveCall, ResolvedView, RollbackAlias, ShadowReport, StartShift,
};
use model::ids::{AliasName, FunctionKey};
use ureq::http::Method;

use super::control::function_path;
use super::{Client, Expected, NO_BODY};
use crate::cli::failure::CliError;

/// An alias of a function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AliasKey {
    /// The function.
    pub function: FunctionKey,
    /// The alias's name.
    pub name: AliasName,
}

impl AliasKey {
    fn path(&self) -> String {
        format!("{}/aliases/{}", function_path(&self.function), self.name)
    }
}

/// As it is given on the command line: `NAME:ALIAS`.
impl fmt::Display for AliasKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.function.name, self.name)
    }
}

impl Client {
    /// All aliases of a function.
    pub(crate) fn aliases(&self, function: &FunctionKey) -> Result<Vec<AliasView>, CliError> {
        self.pages(&format!("{}/aliases", function_path(function)))
    }

    /// One alias.
    pub(crate) fn alias(&self, key: &AliasKey) -> Result<AliasView, CliError> {
        self.json(&Method::GET, &key.path(), NO_BODY)
    }

    /// One alias, or `None` if there is none of that name.
    pub(crate) fn find_alias(&self, key: &AliasKey) -> Result<Option<AliasView>, CliError> {
        self.find(&key.path())
    }

    /// Creates an alias or replaces it.
    pub(crate) fn put_alias(
        &self,
        key: &AliasKey,
        put: &PutAlias,
        expected: Expected,
    ) -> Result<AliasView, CliError> {
        self.change(&Method::PUT, &key.path(), expected, Some(put))?.json()
    }

    /// Deletes an alias.
    pub(crate) fn delete_alias(&self, key: &AliasKey) -> Result<(), CliError> {
        self.delete(&key.path())
    }

    /// Brings an alias back to how it was.
    pub(crate) fn roll_back_alias(
        &self,
        key: &AliasKey,
        revision: Option<u64>,
    ) -> Result<AliasView, CliError> {
        let body = RollbackAlias { revision };
        self.json(&Method::POST, &format!("{}/rollback", key.path()), Some(&body))
    }

    /// Which version a call would reach.
    pub(crate) fn resolve(
        &self,
        key: &AliasKey,
        call: &ResolveCall,
    ) -> Result<ResolvedView, CliError> {
        self.json(&Method::POST, &format!("{}/resolve", key.path()), Some(call))
    }

    /// Begins a shift.
    pub(crate) fn start_shift(
        &self,
        key: &AliasKey,
        shift: &StartShift,
    ) -> Result<AliasView, CliError> {
        self.json(&Method::PUT, &format!("{}/shift", key.path()), Some(shift))
    }

    /// Stops a shift and takes it back.
    pub(crate) fn stop_shift(&self, key: &AliasKey) -> Result<AliasView, CliError> {
        self.json(&Method::DELETE, &format!("{}/shift", key.path()), NO_BODY)
    }

    /// Has a version get copies of calls.
    pub(crate) fn set_shadow(
        &self,
        key: &AliasKey,
        shadow: &Shadow,
    ) -> Result<AliasView, CliError> {
        self.json(&Method::PUT, &format!("{}/shadow", key.path()), Some(shadow))
    }

    /// Ends the copying of calls.
    pub(crate) fn end_shadow(&self, key: &AliasKey) -> Result<AliasView, CliError> {
        self.json(&Method::DELETE, &format!("{}/shadow", key.path()), NO_BODY)
    }

    /// What the shadow showed.
    pub(crate) fn shadow_report(&self, key: &AliasKey) -> Result<ShadowReport, CliError> {
        self.json(&Method::GET, &format!("{}/shadow", key.path()), NO_BODY)
    }
}
