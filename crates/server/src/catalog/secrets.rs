//! Environment values as they are asked for → as they are stored. Here secrets are sealed; nothing before this stores them, nothing
//! after it has them in plain.

use std::collections::BTreeMap;

use model::Result;
use model::api::VariableView;
use model::error::{Code, Error};
use model::function::{EnvironmentValue as _, Variable};
use model::ids::FunctionKey;
use model::ports::Vault;
use model::secret::{SecretPlace, SecretText};
use subtle::ConstantTimeEq as _;

/// The environment of one function: what is stored of it, and the vault that its secrets go to.
pub(super) struct Environment<'a> {
    /// Seals.
    pub(super) vault: &'a dyn Vault,
    /// The function.
    pub(super) function: &'a FunctionKey,
    /// What is stored now.
    pub(super) stored: &'a BTreeMap<String, Variable>,
}

impl Environment<'_> {
    /// A new environment, whole.
    pub(super) fn replaced(
        &self,
        wanted: &BTreeMap<String, VariableView>,
    ) -> Result<BTreeMap<String, Variable>> {
        let settled =
            wanted.iter().map(|(name, value)| Ok((name.clone(), self.settle(name, value)?)));
        settled.collect()
    }

    /// The stored environment with some variables changed or, by `None`, removed.
    pub(super) fn patched(
        &self,
        changes: &BTreeMap<String, Option<VariableView>>,
    ) -> Result<BTreeMap<String, Variable>> {
        let mut new = self.stored.clone();
        for (name, change) in changes {
            match change {
                Some(value) => drop(new.insert(name.clone(), self.settle(name, value)?)),
                None => drop(new.remove(name)),
            }
        }
        Ok(new)
    }

    fn settle(&self, name: &str, wanted: &VariableView) -> Result<Variable> {
        if wanted.has_nul() {
            // Checked here too: sealed, nobody sees it any more.
            let message = format!("environment value of {name:?} holds a NUL character");
            return Err(Error::caller(Code::InvalidParameter, message));
        }
        let stored = self.stored.get(name).filter(|v| matches!(v, Variable::Sealed { .. }));
        match wanted {
            VariableView::Plain(text) => Ok(Variable::Plain(text.clone())),
            VariableView::Kept => stored.cloned().ok_or_else(|| {
                Error::caller(
                    Code::InvalidParameter,
                    format!("environment value of '{name}' is missing: there is no secret of this name to keep"),
                )
                .with_hint(format!(
                    "send it once as {{\"secret\": \"TEXT\"}}, or with `hanshu config set {} secret.{name}=@FILE`",
                    self.function.name
                ))
            }),
            VariableView::Secret(text) => match stored {
                // Setting what is set changes nothing: a repeated deploy keeps its version and its instances.
                Some(stored) if self.holds(name, stored, text) => Ok(stored.clone()),
                _ => Ok(Variable::Sealed { sealed: self.vault.seal(self.place(name), text)? }),
            },
        }
    }

    fn holds(&self, name: &str, stored: &Variable, text: &SecretText) -> bool {
        let Variable::Sealed { sealed } = stored else { return false };
        // One that cannot be opened any more is replaced.
        self.vault
            .open(self.place(name), sealed)
            .is_ok_and(|old| old.expose().as_bytes().ct_eq(text.expose().as_bytes()).into())
    }

    fn place<'a>(&'a self, name: &'a str) -> SecretPlace<'a> {
        SecretPlace { function: self.function, variable: name }
    }
}

#[cfg(test)]
mod tests {
    use model::ids::FunctionRef;
    use model::suites::memory::MemoryVault;

    use super::*;

    type Stored = BTreeMap<String, Variable>;

    fn replaced(vault: &MemoryVault, stored: &Stored, wanted: &str) -> Result<Stored> {
        let function = FunctionRef::parse("default", "f").unwrap().key;
        let wanted = serde_json::from_str(wanted).unwrap();
        Environment { vault, function: &function, stored }.replaced(&wanted)
    }

    fn patched(vault: &MemoryVault, stored: &Stored, changes: &str) -> Result<Stored> {
        let function = FunctionRef::parse("default", "f").unwrap().key;
        let changes = serde_json::from_str(changes).unwrap();
        Environment { vault, function: &function, stored }.patched(&changes)
    }

    #[test]
    fn secrets_are_sealed_kept_replaced_and_removed() {
        let vault = MemoryVault::default();
        let first =
            replaced(&vault, &Stored::new(), r#"{"A":"plain","T":{"secret":"one"}}"#).unwrap();
        assert!(!serde_json::to_string(&first).unwrap().contains("one"));
        assert!(matches!(&first["T"], Variable::Sealed { sealed } if sealed.bytes == 3));

        let kept = replaced(&vault, &first, r#"{"T":{"secret":true}}"#).unwrap();
        assert_eq!(kept.get("T"), first.get("T"));
        assert!(!kept.contains_key("A"), "the environment is replaced whole");
        let same = replaced(&vault, &first, r#"{"T":{"secret":"one"}}"#).unwrap();
        assert_eq!(same.get("T"), first.get("T"));
        let other = replaced(&vault, &first, r#"{"T":{"secret":"two"}}"#).unwrap();
        assert_ne!(other.get("T"), first.get("T"));
        let plain = replaced(&vault, &first, r#"{"T":"shown"}"#).unwrap();
        assert_eq!(plain["T"], "shown".into());

        let patch = patched(&vault, &first, r#"{"A":null,"T":{"secret":true},"U":{"secret":"x"}}"#);
        let patch = patch.unwrap();
        assert_eq!((patch.get("T"), patch.len()), (first.get("T"), 2));
        assert!(patched(&vault, &first, r#"{"T":null}"#).unwrap().contains_key("A"));
    }

    #[test]
    fn only_a_secret_can_be_kept() {
        let vault = MemoryVault::default();
        let plain = replaced(&vault, &Stored::new(), r#"{"A":"hunter2"}"#).unwrap();
        for stored in [&plain, &Stored::new()] {
            let e = replaced(&vault, stored, r#"{"A":{"secret":true}}"#).unwrap_err();
            assert_eq!(e.code(), Code::InvalidParameter);
            assert!(e.message().contains("'A'") && !e.message().contains("hunter2"), "{e}");
        }
        let e = patched(&vault, &plain, r#"{"B":{"secret":"hunter2\u0000"}}"#).unwrap_err();
        assert!(e.message().contains("NUL") && !e.message().contains("hunter2"), "{e}");
    }

    #[test]
    fn a_value_that_cannot_be_opened_any_more_can_be_set_again() {
        let first =
            replaced(&MemoryVault::default(), &Stored::new(), r#"{"T":{"secret":"one"}}"#).unwrap();
        let other = MemoryVault::default();
        let again = replaced(&other, &first, r#"{"T":{"secret":"one"}}"#).unwrap();
        assert_ne!(again, first);
    }
}
