//! Changes of what happens to a function's asynchronous calls.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::given;
use crate::function::{AsyncPolicy, Destination, RetryCurve};

/// Request: change some fields of what happens to a function's asynchronous calls. Absent fields stay, `null` brings the default back.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PatchAsync {
    /// See [`AsyncPolicy::attempts`].
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u32>)]
    pub attempts: Option<Option<u32>>,
    /// See [`AsyncPolicy::max_age_seconds`].
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>)]
    pub max_age_seconds: Option<Option<u64>>,
    /// See [`AsyncPolicy::retry`]; replaced whole.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<RetryCurve>)]
    pub retry: Option<Option<Box<RetryCurve>>>,
    /// See [`AsyncPolicy::keep_result_seconds`].
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>)]
    pub keep_result_seconds: Option<Option<u64>>,
    /// See [`AsyncPolicy::keep_dead_seconds`].
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>)]
    pub keep_dead_seconds: Option<Option<u64>>,
    /// See [`AsyncPolicy::on_success`]; replaced whole.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Destination>)]
    pub on_success: Option<Option<Box<Destination>>>,
    /// See [`AsyncPolicy::on_failure`]; replaced whole.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Destination>)]
    pub on_failure: Option<Option<Box<Destination>>>,
}

impl PatchAsync {
    /// Makes the change.
    pub fn apply(&self, policy: &mut AsyncPolicy) {
        set(&mut policy.attempts, self.attempts.as_ref());
        set(&mut policy.max_age_seconds, self.max_age_seconds.as_ref());
        set(&mut policy.retry, self.retry.as_ref());
        set(&mut policy.keep_result_seconds, self.keep_result_seconds.as_ref());
        set(&mut policy.keep_dead_seconds, self.keep_dead_seconds.as_ref());
        set(&mut policy.on_success, self.on_success.as_ref());
        set(&mut policy.on_failure, self.on_failure.as_ref());
    }
}

fn set<T: Clone>(field: &mut T, new: Option<&T>) {
    if let Some(new) = new {
        field.clone_from(new);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn named_fields_change_and_null_brings_the_default_back() {
        let mut policy = AsyncPolicy::default();
        for (patch, expected) in [
            (
                r#"{"attempts":5,"retry":{"first_seconds":1}}"#,
                r#"{"attempts":5,"retry":{"first_seconds":1}}"#,
            ),
            (
                r#"{"max_age_seconds":60}"#,
                r#"{"attempts":5,"max_age_seconds":60,"retry":{"first_seconds":1}}"#,
            ),
            (
                r#"{"attempts":null,"retry":{"factor":3}}"#,
                r#"{"max_age_seconds":60,"retry":{"factor":3}}"#,
            ),
            (r#"{"max_age_seconds":null,"retry":null}"#, "{}"),
        ] {
            serde_json::from_str::<PatchAsync>(patch).unwrap().apply(&mut policy);
            assert_eq!(serde_json::to_string(&policy).unwrap(), expected);
        }
    }
}
