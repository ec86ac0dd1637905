//! A rate, as text with a unit or as a number.

use std::fmt;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::limits;

/// Bytes per second, within [`limits::BANDWIDTH_MIN`] and [`limits::BANDWIDTH_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Bandwidth(u64);

/// Units, as SI and IEC have them.
const UNITS: [(&str, u64); 8] = [
    ("", 1),
    ("B", 1),
    ("kB", 1_000),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
];

impl Bandwidth {
    /// Checks a number of bytes per second.
    pub fn new(bytes_per_second: u64) -> Result<Self, String> {
        let range = limits::BANDWIDTH_MIN..=limits::BANDWIDTH_MAX;
        if range.contains(&bytes_per_second) {
            return Ok(Self(bytes_per_second));
        }
        Err(format!(
            "network.bandwidth {bytes_per_second} is out of range: expected {} to {} bytes per second",
            limits::BANDWIDTH_MIN,
            limits::BANDWIDTH_MAX
        ))
    }

    /// The rate.
    pub fn bytes_per_second(self) -> u64 {
        self.0
    }
}

impl std::str::FromStr for Bandwidth {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at_checked(digits).unwrap_or((text, ""));
        let factor = UNITS.iter().find(|(name, _)| *name == unit.trim_start());
        let bytes =
            number.parse::<u64>().ok().zip(factor).and_then(|(n, (_, by))| n.checked_mul(*by));
        let bytes = bytes.ok_or_else(|| {
            format!(
                "network.bandwidth '{text}' is not valid: expected bytes per second, for instance 10MB, 512KiB or 1000000"
            )
        })?;
        Self::new(bytes)
    }
}

impl<'de> Deserialize<'de> for Bandwidth {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl Visitor<'_> for Either {
            type Value = Bandwidth;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(
                    "network.bandwidth to be bytes per second, for instance 10MB or 10000000",
                )
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Bandwidth, E> {
                text.parse().map_err(E::custom)
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Bandwidth, E> {
                Bandwidth::new(number).map_err(E::custom)
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Bandwidth, E> {
                // TOML's numbers are signed; a negative one is out of range as 0 is.
                self.visit_u64(u64::try_from(number).unwrap_or(0))
            }
        }
        deserializer.deserialize_any(Either)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_read() {
        for (text, bytes) in [
            ("1000", 1_000),
            ("10MB", 10_000_000),
            ("10 MB", 10_000_000),
            ("64KiB", 65_536),
            ("2MiB", 2 << 20),
            ("1GB", 1_000_000_000),
        ] {
            assert_eq!(text.parse::<Bandwidth>().unwrap().bytes_per_second(), bytes, "{text}");
        }
        for text in ["", "MB", "10Mbit", "-5", "1.5MB", "99999999999GB", "10MB/s", "999", "2GB"] {
            let message = text.parse::<Bandwidth>().unwrap_err();
            assert!(message.starts_with("network.bandwidth "), "{message}");
            assert!(message.contains("expected"), "{message}");
        }
    }
}
