//! Secret environment values: text that never shows itself, and what is stored in its place.
//!
//! [`SecretText`] is the value itself: it has no way into a log, an error or a document, and is wiped when dropped. [`Sealed`] is its
//! encrypted form, safe to store and to list; [`crate::ports::Vault`] turns one into the other. How it is encrypted is the vault's
//! business (`store::vault`), not this module's.

use std::fmt;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::ids::{FunctionKey, RequestId};

/// A secret in memory. `Debug` says nothing of it, there is no `Display` and no `Serialize`; the memory is wiped on drop.
///
/// Whoever turns it into a plain `String` ([`SecretText::expose`]) answers for that copy.
#[derive(Clone, Default)]
pub struct SecretText(Zeroizing<String>);

impl SecretText {
    /// Takes the text over.
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    /// The text, for the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText(not shown)")
    }
}

/// A secret as it is stored.
///
/// Two with the same `id` hold the same text, however they were encrypted: changing the keys changes `envelope`, not `id`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sealed {
    /// Names the value: a new one for each value that an owner sets.
    pub id: RequestId,
    /// Length of the text, in bytes; the length of the envelope tells it anyway.
    pub bytes: usize,
    /// What the vault made of the text: its own versioned format.
    pub envelope: String,
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealed({})", self.id)
    }
}

/// Where a secret belongs. It can be opened there and nowhere else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SecretPlace<'a> {
    /// The function.
    pub function: &'a FunctionKey,
    /// The environment variable.
    pub variable: &'a str,
}

impl<'a> SecretPlace<'a> {
    /// Stands for the variable in places that are no function's: no variable's name has a `=`.
    const ACCESS_KEY: &'static str = "=access-key";

    /// Of the secret access key that belongs to the key of this namespace and name.
    pub fn access_key(key: &'a FunctionKey) -> Self {
        Self { function: key, variable: Self::ACCESS_KEY }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_form_shows_itself() {
        let text = SecretText::new("hunter2");
        let sealed = Sealed {
            id: RequestId::from_bytes([7; 16]),
            bytes: 7,
            envelope: "1:ciphertext".into(),
        };
        for shown in [format!("{text:?}"), format!("{text:#?}"), format!("{sealed:?}")] {
            assert!(!shown.contains("hunter2") && !shown.contains("ciphertext"), "{shown}");
        }
        assert_eq!(text.expose(), "hunter2");
    }

    #[test]
    fn no_variable_is_where_access_keys_are() {
        let environment =
            [(SecretPlace::ACCESS_KEY.to_owned(), crate::function::Variable::from("x"))].into();
        crate::function::validate_environment(&environment).unwrap_err();
    }
}
