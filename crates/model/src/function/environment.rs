//! What a function's environment may hold.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::{Code, Error};
use crate::limits;
use crate::secret::Sealed;

/// The value of an environment variable, as it is stored: a text, or `{"sealed": {…}}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Variable {
    /// Plain: whoever may see the function may see it.
    Plain(String),
    /// Secret: only the function sees it.
    Sealed {
        /// What is stored of it.
        sealed: Sealed,
    },
}

impl From<&str> for Variable {
    fn from(text: &str) -> Self {
        Self::Plain(text.to_owned())
    }
}

/// What [`super::FunctionConfig::validate`] has to know of an environment value.
pub trait EnvironmentValue {
    /// Length of its text in bytes; 0 if it is not known here.
    fn bytes(&self) -> usize;
    /// Whether its text holds a NUL character, as far as the text is known here.
    fn has_nul(&self) -> bool;
    /// Whether it is secret.
    fn is_secret(&self) -> bool;
}

impl EnvironmentValue for Variable {
    fn bytes(&self) -> usize {
        match self {
            Self::Plain(text) => text.len(),
            Self::Sealed { sealed } => sealed.bytes,
        }
    }

    fn has_nul(&self) -> bool {
        matches!(self, Self::Plain(text) if text.contains('\0'))
    }

    fn is_secret(&self) -> bool {
        matches!(self, Self::Sealed { .. })
    }
}

/// Environment variables that the platform sets and a configuration may not (AWS Lambda, "Reserved environment variables").
pub const RESERVED_ENVIRONMENT: &[&str] = &[
    "_HANDLER",
    "_X_AMZN_TRACE_ID",
    "AWS_DEFAULT_REGION",
    "AWS_REGION",
    "AWS_EXECUTION_ENV",
    "AWS_LAMBDA_FUNCTION_NAME",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
    "AWS_LAMBDA_FUNCTION_VERSION",
    "AWS_LAMBDA_INITIALIZATION_TYPE",
    "AWS_LAMBDA_LOG_GROUP_NAME",
    "AWS_LAMBDA_LOG_STREAM_NAME",
    "AWS_LAMBDA_RUNTIME_API",
    "LAMBDA_TASK_ROOT",
    "LAMBDA_RUNTIME_DIR",
];

/// Checks an environment: names, sizes, number of secrets.
pub(crate) fn validate_environment<V: EnvironmentValue>(
    environment: &BTreeMap<String, V>,
) -> Result<(), Error> {
    let bad = |message: String| Err(Error::caller(Code::InvalidParameter, message));
    let (mut bytes, mut secrets) = (0, 0_usize);
    for (key, value) in environment {
        bytes += key.len() + value.bytes();
        secrets += usize::from(value.is_secret());
        let starts = key.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        if !starts || !key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            return bad(format!(
                "environment key {key:?} is not valid: expected a letter or '_', then letters, digits or '_'"
            ));
        }
        if RESERVED_ENVIRONMENT.contains(&key.as_str()) {
            return bad(format!("environment key {key:?} is reserved: the platform sets it"));
        }
        if value.has_nul() {
            return bad(format!("environment value of {key:?} holds a NUL character"));
        }
    }
    if bytes > limits::ENVIRONMENT_BYTES {
        return bad(format!(
            "environment is too large: {bytes} bytes of keys and values, expected at most {}",
            limits::ENVIRONMENT_BYTES
        ));
    }
    if secrets > limits::SECRETS {
        return bad(format!(
            "environment holds {secrets} secrets, expected at most {}",
            limits::SECRETS
        ));
    }
    Ok(())
}
