//! An environment variable's value in requests and answers.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Error as _, MapAccess, SeqAccess, Visitor};
use serde::ser::SerializeMap as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, OneOfBuilder, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

use crate::function::{EnvironmentValue, Variable};
use crate::secret::SecretText;

const SECRET: &str = "secret";
const EXPECTED: &str = "expected a text, {\"secret\": \"TEXT\"} or {\"secret\": true}";

/// The value of an environment variable: `"TEXT"`, `{"secret": "TEXT"}` in requests alone, or `{"secret": true}`.
///
/// Errors of reading one never repeat what was read.
#[derive(Clone, Debug)]
pub enum VariableView {
    /// A plain value, shown to whoever may see the function.
    Plain(String),
    /// A new secret value, to be sealed. Never in an answer.
    Secret(SecretText),
    /// A secret: in an answer, that there is one; in a request, that the stored value stays.
    Kept,
}

impl From<&Variable> for VariableView {
    fn from(value: &Variable) -> Self {
        match value {
            Variable::Plain(text) => Self::Plain(text.clone()),
            Variable::Sealed { .. } => Self::Kept,
        }
    }
}

impl EnvironmentValue for VariableView {
    fn bytes(&self) -> usize {
        match self {
            Self::Plain(text) => text.len(),
            Self::Secret(text) => text.expose().len(),
            Self::Kept => 0,
        }
    }

    fn has_nul(&self) -> bool {
        match self {
            Self::Plain(text) => text.contains('\0'),
            Self::Secret(text) => text.expose().contains('\0'),
            Self::Kept => false,
        }
    }

    fn is_secret(&self) -> bool {
        !matches!(self, Self::Plain(_))
    }
}

impl Serialize for VariableView {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if let Self::Plain(text) = self {
            return serializer.serialize_str(text);
        }
        let mut map = serializer.serialize_map(Some(1))?;
        match self {
            // The command line's request to the daemon is the one document that a secret's text is in.
            Self::Secret(text) => map.serialize_entry(SECRET, text.expose())?,
            _ => map.serialize_entry(SECRET, &true)?,
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for VariableView {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Whole)
    }
}

/// What stands at `"secret"`.
struct Inner(VariableView);

impl<'de> Deserialize<'de> for Inner {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Secret).map(Self)
    }
}

struct Whole;
struct Secret;

/// The methods of a visitor whose answer does not depend on what they were given. Serde's own repeat the value in their error.
macro_rules! refuse_without_repeating {
    () => {
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(EXPECTED)
        }

        fn visit_i64<E: serde::de::Error>(self, _: i64) -> Result<VariableView, E> {
            Err(E::custom(EXPECTED))
        }

        fn visit_u64<E: serde::de::Error>(self, _: u64) -> Result<VariableView, E> {
            Err(E::custom(EXPECTED))
        }

        fn visit_f64<E: serde::de::Error>(self, _: f64) -> Result<VariableView, E> {
            Err(E::custom(EXPECTED))
        }

        fn visit_unit<E: serde::de::Error>(self) -> Result<VariableView, E> {
            Err(E::custom(EXPECTED))
        }

        fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<VariableView, A::Error> {
            Err(A::Error::custom(EXPECTED))
        }
    };
}

impl<'de> Visitor<'de> for Whole {
    type Value = VariableView;

    refuse_without_repeating!();

    fn visit_bool<E: serde::de::Error>(self, _: bool) -> Result<VariableView, E> {
        Err(E::custom(EXPECTED))
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<VariableView, E> {
        Ok(VariableView::Plain(text.to_owned()))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<VariableView, A::Error> {
        let bad = || A::Error::custom(EXPECTED);
        // A misplaced key may be the value itself: it is not repeated either.
        if map.next_key::<Cow<'de, str>>()?.as_deref() != Some(SECRET) {
            return Err(bad());
        }
        let Inner(value) = map.next_value()?;
        match map.next_key::<serde::de::IgnoredAny>()? {
            None => Ok(value),
            Some(_) => Err(bad()),
        }
    }
}

impl<'de> Visitor<'de> for Secret {
    type Value = VariableView;

    refuse_without_repeating!();

    fn visit_bool<E: serde::de::Error>(self, yes: bool) -> Result<VariableView, E> {
        if yes { Ok(VariableView::Kept) } else { Err(E::custom(EXPECTED)) }
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<VariableView, E> {
        Ok(VariableView::Secret(SecretText::new(text)))
    }

    fn visit_map<A: MapAccess<'de>>(self, _: A) -> Result<VariableView, A::Error> {
        Err(A::Error::custom(EXPECTED))
    }
}

impl PartialSchema for VariableView {
    fn schema() -> RefOr<Schema> {
        let inner = OneOfBuilder::new()
            .item(ObjectBuilder::new().schema_type(Type::String).description(Some(
                "in requests: the new value, sealed before it is stored and never shown",
            )))
            .item(
                ObjectBuilder::new()
                    .schema_type(Type::Boolean)
                    .enum_values(Some([true]))
                    .description(Some(
                        "in answers: there is one; in requests: keep the one there is",
                    )),
            );
        let secret =
            ObjectBuilder::new().property(SECRET, inner).required(SECRET).additional_properties(
                Some(utoipa::openapi::schema::AdditionalProperties::<Schema>::FreeForm(false)),
            );
        OneOfBuilder::new()
            .item(ObjectBuilder::new().schema_type(Type::String).description(Some("a plain value")))
            .item(secret)
            .into()
    }
}

/// The schema of changes to an environment: values by name, `null` to remove one.
pub(super) fn changes() -> Schema {
    let null = ObjectBuilder::new().schema_type(Type::Null);
    let value = OneOfBuilder::new()
        .item(null)
        .item(utoipa::openapi::Ref::from_schema_name(VariableView::name()))
        .build();
    ObjectBuilder::new()
        .schema_type(utoipa::openapi::schema::SchemaType::from_iter([Type::Object, Type::Null]))
        .additional_properties(Some(RefOr::T(Schema::OneOf(value))))
        .description(Some(
            "Variables to set; `null` removes one, `{\"secret\": true}` leaves a secret as it is.",
        ))
        .into()
}

impl ToSchema for VariableView {
    fn name() -> Cow<'static, str> {
        Cow::Borrowed("Variable")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_forms_are_read_and_written() {
        for (json, form) in [
            ("\"text\"", "Plain(\"text\")"),
            ("{\"secret\":\"hunter2\"}", "Secret(SecretText(not shown))"),
            ("{\"secret\":true}", "Kept"),
        ] {
            let value: VariableView = serde_json::from_str(json).unwrap();
            assert_eq!(format!("{value:?}"), form);
            assert_eq!(serde_json::to_string(&value).unwrap(), json);
        }
    }

    #[test]
    fn errors_do_not_repeat_the_value() {
        for json in [
            "4711",
            "-4711",
            "4711.5",
            "true",
            "null",
            "[\"4711\"]",
            "{}",
            "{\"4711\":true}",
            "{\"sealed\":\"4711\"}",
            "{\"secret\":4711}",
            "{\"secret\":false}",
            "{\"secret\":null}",
            "{\"secret\":[4711]}",
            "{\"secret\":{\"4711\":4711}}",
            "{\"secret\":\"4711\",\"4711\":1}",
        ] {
            let error = serde_json::from_str::<VariableView>(json).unwrap_err().to_string();
            assert!(error.contains(EXPECTED) && !error.contains("4711"), "{json}: {error}");
        }
    }
}
