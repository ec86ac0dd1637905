//! Network policy of a function: which addresses its instances reach, and how fast.
//!
//! Start at [`NetworkPolicy`]. [`Reach`] is one entry of an allow-list, [`Cidr`] a block of addresses, [`Bandwidth`] a rate. IPv4 only:
//! functions have no IPv6. What each mode means on the wire, and what enforces it, is the sandbox's (`docs/network.md`).

mod bandwidth;
mod reach;

use std::fmt;

use serde::de::{self, MapAccess, Visitor, value::MapAccessDeserializer};
use serde::ser::SerializeStruct as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::openapi::schema::OneOfBuilder;
use utoipa::openapi::{Ref, RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

pub use bandwidth::Bandwidth;
pub use reach::{Cidr, Ports, Protocol, Reach};

use crate::error::{Code, Error};
use crate::limits;

/// What the network of an instance is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum NetworkMode {
    /// Loopback only.
    #[default]
    None,
    /// Public addresses, and of the others those allowed by name.
    Egress,
    /// Only what is allowed by name.
    Private,
}

impl NetworkMode {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Egress => "egress",
            Self::Private => "private",
        }
    }
}

impl std::str::FromStr for NetworkMode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::None, Self::Egress, Self::Private]
            .into_iter()
            .find(|mode| mode.as_str() == text)
            .ok_or_else(|| format!("'{text}' is not valid: expected none, egress or private"))
    }
}

/// Which addresses the instances of a function reach, and how fast. Written as a mode alone (`"egress"`), or as a table with the fields below.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetworkPolicy {
    /// What is reached.
    pub mode: NetworkMode,
    /// Allowed beside that; at most [`limits::NETWORK_ALLOW`] entries.
    pub allow: Vec<Reach>,
    /// Most bytes per second of one instance, in each direction; absent means no limit.
    pub bandwidth: Option<Bandwidth>,
}

impl NetworkPolicy {
    /// Checks that the fields fit each other; the error names the field and what was expected.
    pub fn validate(&self) -> Result<(), Error> {
        let bad = |message: &str| Err(Error::caller(Code::InvalidParameter, message));
        if self.allow.len() > limits::NETWORK_ALLOW {
            return Err(Error::caller(
                Code::InvalidParameter,
                format!(
                    "network.allow has {} entries: expected at most {}",
                    self.allow.len(),
                    limits::NETWORK_ALLOW
                ),
            ));
        }
        match self.mode {
            NetworkMode::None if !self.allow.is_empty() => bad(
                "network.allow has entries, but network.mode is none: expected egress or private",
            ),
            NetworkMode::None if self.bandwidth.is_some() => bad(
                "network.bandwidth is set, but network.mode is none: expected egress or private",
            ),
            NetworkMode::Private if self.allow.is_empty() => bad(
                "network.allow is empty, but network.mode is private: expected at least one CIDR[:PORT[-PORT]][/tcp|/udp]",
            ),
            _ => Ok(()),
        }
    }

    /// Whether instances have anything but loopback.
    pub fn is_connected(&self) -> bool {
        self.mode != NetworkMode::None
    }
}

impl From<NetworkMode> for NetworkPolicy {
    fn from(mode: NetworkMode) -> Self {
        Self { mode, ..Self::default() }
    }
}

/// A mode alone stays a word.
impl Serialize for NetworkPolicy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.allow.is_empty() && self.bandwidth.is_none() {
            return self.mode.serialize(serializer);
        }
        let mut table = serializer.serialize_struct("NetworkPolicy", 3)?;
        table.serialize_field("mode", &self.mode)?;
        table.serialize_field("allow", &self.allow)?;
        match &self.bandwidth {
            Some(bandwidth) => table.serialize_field("bandwidth", bandwidth)?,
            None => table.skip_field("bandwidth")?,
        }
        table.end()
    }
}

impl<'de> Deserialize<'de> for NetworkMode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|e| de::Error::custom(format!("network.mode {e}")))
    }
}

/// A network policy with more than a mode.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Table {
    /// What is reached.
    mode: NetworkMode,
    /// Allowed beside that: `CIDR[:PORT[-PORT]][/tcp|/udp]`, for instance `10.1.2.0/24:5432`. At most 64 entries.
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    allow: Vec<Reach>,
    /// Most bytes per second of one instance, in each direction; absent means no limit. Read also as text with a unit, `10MB`.
    #[serde(default)]
    #[schema(value_type = Option<u64>)]
    bandwidth: Option<Bandwidth>,
}

impl PartialSchema for NetworkPolicy {
    fn schema() -> RefOr<Schema> {
        OneOfBuilder::new()
            .description(Some("What instances reach: a mode alone, or a table."))
            .item(Ref::from_schema_name(NetworkMode::name()))
            .item(Table::schema())
            .into()
    }
}

impl ToSchema for NetworkPolicy {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push((NetworkMode::name().into_owned(), NetworkMode::schema()));
    }
}

// By hand, because an untagged enum would lose the message that names the field.
impl<'de> Deserialize<'de> for NetworkPolicy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = NetworkPolicy;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("network to be none, egress or private, or a table of mode, allow and bandwidth")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<NetworkPolicy, E> {
                let mode = text.parse::<NetworkMode>();
                mode.map(NetworkPolicy::from).map_err(|e| E::custom(format!("network {e}")))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<NetworkPolicy, A::Error> {
                let Table { mode, allow, bandwidth } =
                    Table::deserialize(MapAccessDeserializer::new(map))?;
                Ok(NetworkPolicy { mode, allow, bandwidth })
            }
        }
        deserializer.deserialize_any(Either)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<NetworkPolicy, String> {
        let policy: NetworkPolicy = serde_json::from_str(json).map_err(|e| e.to_string())?;
        policy.validate().map_err(|e| e.message().to_owned())?;
        Ok(policy)
    }

    #[test]
    fn a_word_or_a_table() {
        assert_eq!(read(r#""egress""#).unwrap(), NetworkMode::Egress.into());
        let policy = read(
            r#"{"mode":"private","allow":["10.1.2.0/24:5432","10.0.0.1:53/udp"],"bandwidth":"10MB"}"#,
        )
        .unwrap();
        assert_eq!(policy.allow.len(), 2);
        assert_eq!(policy.bandwidth.unwrap().bytes_per_second(), 10_000_000);
        let json = serde_json::to_string(&policy).unwrap();
        assert_eq!(
            json,
            r#"{"mode":"private","allow":["10.1.2.0/24:5432","10.0.0.1/32:53/udp"],"bandwidth":10000000}"#
        );
        assert_eq!(read(&json).unwrap(), policy);
        assert_eq!(serde_json::to_string(&NetworkPolicy::default()).unwrap(), r#""none""#);
    }

    #[test]
    fn bad_input_names_the_field_and_what_was_expected() {
        let cases: [(&str, &[&str]); 11] = [
            (r#""open""#, &["network", "open", "none, egress or private"]),
            ("7", &["network", "none, egress or private"]),
            (r#"{"mode":"open"}"#, &["network.mode", "open", "none, egress or private"]),
            (r#"{"allow":[]}"#, &["mode"]),
            (r#"{"mode":"egress","deny":[]}"#, &["deny", "allow"]),
            (r#"{"mode":"private"}"#, &["network.allow", "at least one"]),
            (r#"{"mode":"none","allow":["10.0.0.0/8"]}"#, &["network.allow", "egress or private"]),
            (r#"{"mode":"none","bandwidth":5000}"#, &["network.bandwidth", "egress or private"]),
            (r#"{"mode":"egress","allow":["db"]}"#, &["network.allow", "'db'", "CIDR"]),
            (r#"{"mode":"egress","bandwidth":"fast"}"#, &["network.bandwidth", "fast", "10MB"]),
            (r#"{"mode":"egress","bandwidth":1}"#, &["network.bandwidth", "1000"]),
        ];
        for (json, words) in cases {
            let message = read(json).unwrap_err();
            for word in words {
                assert!(message.contains(word), "{json}: {message}");
            }
        }
        let many = vec!["10.0.0.0/8"; limits::NETWORK_ALLOW + 1];
        let many = serde_json::json!({ "mode": "egress", "allow": many }).to_string();
        assert!(read(&many).unwrap_err().contains("at most 64"));
    }
}
