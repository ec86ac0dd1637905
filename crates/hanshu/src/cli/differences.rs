//! How differences between two documents, or two files, are written.

use model::api::Difference;
use model::ids::Digest;
use serde_json::Value;

use super::screen::{Ink, Screen, tame};

/// Longest value that is written, in characters.
const VALUE_CHARS: usize = 120;
/// Differences that a summary names.
const SUMMARY: usize = 3;
/// Longest value in a summary, in characters.
const SUMMARY_CHARS: usize = 40;
/// Digits of a digest in a summary: enough to tell two apart.
const DIGEST_CHARS: usize = 8;

/// One line each: `~ path: before → after`, `+ path: after`, `- path: before`.
pub(super) fn lines(screen: &Screen, differences: &[Difference]) -> Vec<String> {
    let line = |difference: &Difference| {
        let (ink, sign) = match sign(difference) {
            "" => (Ink::Cyan, "~ "),
            "-" => (Ink::Red, "- "),
            _ => (Ink::Green, "+ "),
        };
        screen.ink(ink, &format!("{sign}{}", text(difference, whole)))
    };
    differences.iter().map(line).collect()
}

/// The first few on one line.
pub(super) fn summary(differences: &[Difference]) -> String {
    let parts = || differences.iter().filter(|difference| !is_nothing(difference));
    let mut told: Vec<String> = parts()
        .take(SUMMARY)
        .map(|difference| format!("{}{}", sign(difference), text(difference, in_short)))
        .collect();
    let more = parts().count().saturating_sub(SUMMARY);
    told.extend((more > 0).then(|| format!("and {more} more")));
    told.join("; ")
}

/// What a line cannot hold, a whole that came or went; and what came or went empty.
fn is_nothing(difference: &Difference) -> bool {
    let empty = |value: &Value| match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(values) => values.is_empty(),
        Value::Object(members) => members.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    };
    match (&difference.before, &difference.after) {
        (Some(only), None) | (None, Some(only)) => difference.path.is_empty() || empty(only),
        _ => false,
    }
}

/// A value on a line among others: of documents only that they are there, of a digest its beginning.
fn in_short(value: &Value) -> String {
    let text = value.to_string();
    match value {
        Value::Object(_) if text.len() > SUMMARY_CHARS => "{…}".to_owned(),
        Value::Array(_) if text.len() > SUMMARY_CHARS => "[…]".to_owned(),
        Value::String(text) if text.parse::<Digest>().is_ok() => shorten(text, DIGEST_CHARS),
        _ => shorten(&text, SUMMARY_CHARS),
    }
}

/// `+` for what is new, `-` for what is gone.
fn sign(difference: &Difference) -> &'static str {
    match (&difference.before, &difference.after) {
        (None, _) => "+",
        (_, None) => "-",
        _ => "",
    }
}

/// Lines of the unified format, coloured.
pub(super) fn unified(screen: &Screen, text: &str) -> Vec<String> {
    let line = |line: &str| {
        // What is piped may be fed to `patch`; on a terminal a file of strangers must not take over.
        let shown = if screen.read_by_a_person() { tame(line) } else { line.to_owned() };
        match line.as_bytes().first() {
            Some(b'+') => screen.ink(Ink::Green, &shown),
            Some(b'-') => screen.ink(Ink::Red, &shown),
            Some(b'@') => screen.ink(Ink::Cyan, &shown),
            _ => shown,
        }
    };
    text.lines().map(line).collect()
}

fn whole(value: &Value) -> String {
    shorten(&value.to_string(), VALUE_CHARS)
}

fn text(difference: &Difference, write: impl Fn(&Value) -> String) -> String {
    let Difference { path, before, after } = difference;
    let value = |value: &Value| tame(&write(value));
    let what = match (before, after) {
        (Some(before), Some(after)) => format!("{} → {}", value(before), value(after)),
        (Some(only), None) | (None, Some(only)) => value(only),
        (None, None) => String::new(),
    };
    // A document that came or went as a whole has no path.
    if path.is_empty() { what } else { format!("{}: {what}", tame(path)) }
}

/// At most `most` characters of a text.
pub(super) fn shorten(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::screen::Format;
    use super::*;
    use crate::config::environment::Environment;

    fn differences() -> Vec<Difference> {
        let d = |path: &str, before, after| Difference { path: path.into(), before, after };
        vec![
            d("config.timeout_ms", Some(json!(3000)), Some(json!(20_000))),
            d("config.environment.A", None, Some(json!("x".repeat(200)))),
            d("config.layers[0]", Some(json!("numpy:3")), None),
            d("code", Some(json!("a")), Some(json!("b\u{1b}"))),
        ]
    }

    #[test]
    fn each_says_what_was_and_what_is() {
        let screen = Screen::detect(Format::Text, &Environment::of(&[("NO_COLOR", "1")]));
        let lines = lines(&screen, &differences());
        assert_eq!(lines[0], "~ config.timeout_ms: 3000 → 20000");
        assert!(lines[1].starts_with("+ config.environment.A: \"xxx") && lines[1].ends_with('…'));
        assert_eq!(lines[2], "- config.layers[0]: \"numpy:3\"");
        assert!(!lines[3].contains('\u{1b}'));
    }

    #[test]
    fn a_summary_is_short() {
        let text = summary(&differences());
        assert!(text.starts_with("config.timeout_ms: 3000 → 20000; +config."), "{text}");
        assert!(text.contains("; -config.layers[0]: "), "{text}");
        assert!(text.ends_with("; and 1 more"), "{text}");
        let new = |path: &str, after| Difference { path: path.into(), before: None, after };
        assert_eq!(summary(&[new("", Some(json!({"a": 1}))), new("a", Some(json!("")))]), "");
        let digest = "6ae6977bfed417f3b7f121585f964cdfb341e3363a648e671925f730decbfb5f";
        let found = [new("code", Some(json!(digest))), new("config", Some(json!({"a": digest})))];
        assert_eq!(summary(&found), "+code: 6ae6977b…; +config: {…}");
    }
}
