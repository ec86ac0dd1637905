//! What a namespace lets its functions be, and what it lets them use together.

use engine::Engine;
use model::Result;
use model::api::NamespaceUse;
use model::error::{Code, Error};
use model::function::Function;
use model::ids::NamespaceName;
use model::namespace::{NamespaceSettings, Policy};
use tokio::sync::{Mutex, MutexGuard};

/// The rules of a namespace for one change.
#[derive(Debug)]
pub(super) struct Rules<'a> {
    name: NamespaceName,
    settings: NamespaceSettings,
    used: NamespaceUse,
    /// Held where quotas are counted, until the engine has seen the change: so what is counted is never old.
    _counting: Option<MutexGuard<'a, ()>>,
}

impl<'a> Rules<'a> {
    pub(super) async fn new(
        name: &NamespaceName,
        settings: NamespaceSettings,
        counting: &'a Mutex<()>,
        engine: &Engine,
    ) -> Result<Self> {
        let counted = settings.quotas.functions.is_some() || settings.quotas.code_bytes.is_some();
        let guard = if counted { Some(counting.lock().await) } else { None };
        let used = engine.namespace_use(name);
        Ok(Self { name: name.clone(), settings, used, _counting: guard })
    }

    pub(super) fn policy(&self) -> &Policy {
        &self.settings.policy
    }

    /// Whether a function may change so; a change that uses no more than before always may.
    pub(super) fn check_function(&self, before: Option<&Function>, after: &Function) -> Result<()> {
        if let Some(most) = self.settings.quotas.functions
            && before.is_none()
            && self.used.functions >= u64::from(most)
        {
            return Err(self.over("functions", most.into(), self.used.functions + 1));
        }
        self.check_code(before.map_or(0, code_bytes), code_bytes(after))
    }

    /// Whether something whose packages had `before` bytes may have `after`.
    pub(super) fn check_code(&self, before: u64, after: u64) -> Result<()> {
        let Some(most) = self.settings.quotas.code_bytes else { return Ok(()) };
        let wanted = self.used.code_bytes.saturating_sub(before).saturating_add(after);
        if after > before && wanted > most {
            return Err(self.over("code_bytes", most, wanted));
        }
        Ok(())
    }

    /// Whether so many instances of `memory_mb` may be kept started.
    pub(super) fn check_provisioned(&self, instances: u32, memory_mb: u32) -> Result<()> {
        if let Some(most) = self.settings.quotas.instances
            && instances > most
        {
            return Err(self.over("instances", most.into(), instances.into()));
        }
        let wanted = u64::from(instances) * u64::from(memory_mb);
        match self.settings.quotas.memory_mb {
            Some(most) if wanted > most => Err(self.over("memory_mb", most, wanted)),
            _ => Ok(()),
        }
    }

    fn over(&self, quota: &str, most: u64, wanted: u64) -> Error {
        Error::caller(
            Code::Forbidden,
            format!(
                "namespace '{}' would be over its quota of {quota}: {wanted}, expected at most {most}",
                self.name
            ),
        )
        .with_hint("delete what is not needed any more, or raise the quota with `hanshu namespaces set`")
    }
}

/// Bytes of the packages that a function names, each as often as it is named.
fn code_bytes(function: &Function) -> u64 {
    let versions: u64 = function.versions.iter().map(|v| v.size_bytes).sum();
    versions.saturating_add(function.latest.code.size_bytes)
}
