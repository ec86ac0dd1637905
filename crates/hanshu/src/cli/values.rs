//! Small values on the command line: time spans, `KEY=VALUE`, points in time, payloads.

use std::io::Read as _;
use std::time::Duration;

use anyhow::Context as _;
use jiff::{SignedDuration, Span, SpanRelativeTo, Timestamp};
use model::limits;

use super::failure::CliError;
use crate::package::plan::Memory;

/// `500ms`, `20s`, `5m`: a time span in whole milliseconds.
pub(super) fn milliseconds(text: &str) -> Result<u32, String> {
    let span = duration(text).ok_or_else(|| {
        format!("'{text}' is no time span: expected for instance 500ms, 20s or 5m")
    })?;
    u32::try_from(span.as_millis()).map_err(|_| format!("'{text}' is too long"))
}

/// `90s`, `6h` or `7d`: a time span in whole seconds.
pub(super) fn seconds(text: &str) -> Result<u64, String> {
    let span = duration(text).filter(|span| span.subsec_nanos() == 0);
    span.map(|span| span.as_secs()).ok_or_else(|| {
        format!("'{text}' is no time span in whole seconds: expected for instance 90s, 6h or 7d")
    })
}

/// A whole number from `least` to `most`.
pub(super) fn within<T: TryFrom<u64>>(text: &str, least: u64, most: u64) -> Result<T, String> {
    let number = text.parse().ok().filter(|n| (least..=most).contains(n));
    let number = number.and_then(|n: u64| T::try_from(n).ok());
    number.ok_or_else(|| format!("expected {least} to {most}"))
}

/// `512` (MiB) or `25%`.
pub(super) fn memory(text: &str) -> Result<Memory, String> {
    if text.ends_with('%') {
        return text.parse().map(Memory::Share);
    }
    text.parse().map(Memory::Size).map_err(|_| {
        format!("'{text}' is no memory limit: expected MiB, for instance 512, or a share, for instance 25%")
    })
}

/// `10GiB`, `500MB` or a number of bytes.
pub(super) fn size(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, u64); 9] = [
        ("", 1),
        ("B", 1),
        ("kB", 1_000),
        ("MB", 1_000_000),
        ("GB", 1_000_000_000),
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
        ("TiB", 1 << 40),
    ];
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits).unwrap_or((text, ""));
    let factor = UNITS.iter().find(|(name, _)| *name == unit.trim_start());
    let number = number.parse::<u64>().ok().zip(factor);
    number.and_then(|(n, (_, by))| n.checked_mul(*by)).ok_or_else(|| {
        format!("'{text}' is no size: expected bytes, for instance 10GiB, 500MB or 1000000")
    })
}

fn duration(text: &str) -> Option<Duration> {
    // A bare number would leave its unit to chance.
    let span: Span = text.parse().ok()?;
    let span: SignedDuration = span.to_duration(SpanRelativeTo::days_are_24_hours()).ok()?;
    span.try_into().ok()
}

/// `KEY=VALUE`.
pub(super) fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("'{text}' is not valid: expected KEY=VALUE")),
    }
}

/// `10m` (so long before `now`) or an RFC 3339 time, as RFC 3339.
pub(super) fn moment(text: &str, now: Timestamp) -> Result<String, CliError> {
    let at = match duration(text) {
        Some(span) => SignedDuration::try_from(span).ok().and_then(|s| now.checked_sub(s).ok()),
        None => text.parse().ok(),
    };
    at.map(|at| format!("{at:.3}")).ok_or_else(|| {
        CliError::new(format!("'{text}' is no point in time"))
            .hint("expected a span such as 10m, 2h or 1d, or a time such as 2026-01-01T00:00:00Z")
    })
}

/// A payload: JSON as it stands, `@FILE`, or `-` for standard input.
pub(super) fn payload(text: Option<&str>) -> anyhow::Result<Vec<u8>> {
    // One byte over the limit is enough to say that it is over.
    let most = u64::try_from(limits::SYNC_PAYLOAD_BYTES).unwrap_or(u64::MAX).saturating_add(1);
    let mut bytes = Vec::new();
    match text {
        None => bytes.extend_from_slice(b"{}"),
        Some("-") => {
            std::io::stdin().take(most).read_to_end(&mut bytes).context("reading the payload")?;
        }
        Some(text) => match text.strip_prefix('@') {
            Some(file) => {
                let opened = std::fs::File::open(file).map_err(|e| {
                    CliError::new(format!("payload file {file} cannot be read: {e}"))
                })?;
                opened.take(most).read_to_end(&mut bytes).context("reading the payload")?;
            }
            None => bytes.extend_from_slice(text.as_bytes()),
        },
    }
    let over = bytes.len() > limits::SYNC_PAYLOAD_BYTES;
    if !over && let Err(e) = serde_json::from_slice::<serde::de::IgnoredAny>(&bytes) {
        return Err(CliError::new(format!("payload is not valid JSON: {e}"))
            .hint("text has to be quoted twice: --payload '\"text\"'; a file is --payload @FILE")
            .into());
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_units() {
        assert_eq!(milliseconds("500ms"), Ok(500));
        assert_eq!(milliseconds("20s"), Ok(20_000));
        assert_eq!(milliseconds("1m30s"), Ok(90_000));
        assert!(milliseconds("20").is_err());
        assert!(milliseconds("-3s").is_err());
        assert_eq!(
            (seconds("90s"), seconds("6h"), seconds("7d")),
            (Ok(90), Ok(21_600), Ok(604_800))
        );
        assert!(seconds("90").is_err() && seconds("500ms").is_err() && seconds("-1s").is_err());
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!(size("10GiB"), Ok(10 << 30));
        assert_eq!(size("500 MB"), Ok(500_000_000));
        assert_eq!(size("17"), Ok(17));
        for bad in ["", "GB", "1.5GB", "-1", "10 apples", "99999999999TiB"] {
            assert!(size(bad).unwrap_err().contains("for instance 10GiB"), "{bad}");
        }
    }

    #[test]
    fn moments_are_relative_or_absolute() {
        let now: Timestamp = "2026-01-02T00:00:00Z".parse().unwrap();
        assert_eq!(moment("10m", now).unwrap(), "2026-01-01T23:50:00.000Z");
        assert_eq!(moment("1d", now).unwrap(), "2026-01-01T00:00:00.000Z");
        assert_eq!(moment("2025-05-05T05:05:05Z", now).unwrap(), "2025-05-05T05:05:05.000Z");
        assert!(moment("yesterday", now).is_err());
    }

    #[test]
    fn payloads_are_json() {
        assert_eq!(payload(None).unwrap(), b"{}");
        assert_eq!(payload(Some("[1]")).unwrap(), b"[1]");
        assert!(payload(Some("{a:1}")).unwrap_err().to_string().contains("not valid JSON"));
        assert!(payload(Some("@/no/such/file")).is_err());
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("e.json");
        std::fs::write(&file, "{\"a\":1}").unwrap();
        assert_eq!(payload(Some(&format!("@{}", file.display()))).unwrap(), b"{\"a\":1}");
    }

    #[test]
    fn pairs_split_at_the_first_equals_sign() {
        assert_eq!(pair("A=b=c"), Ok(("A".into(), "b=c".into())));
        assert_eq!(pair("A="), Ok(("A".into(), String::new())));
        assert!(pair("A").is_err() && pair("=b").is_err());
    }
}
