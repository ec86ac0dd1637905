//! How differences between two documents, or two files, are written.

use model::api::Difference;
use serde_json::Value;

use super::screen::{Ink, Screen, tame};

/// Longest value that is written, in characters.
const VALUE_CHARS: usize = 120;
/// Differences that a summary names.
const SUMMARY: usize = 3;
/// Longest value in a summary, in characters.
const SUMMARY_CHARS: usize = 30;

/// One line each: `~ path: before → after`, `+ path: after`, `- path: before`.
pub(super) fn lines(screen: &Screen, differences: &[Difference]) -> Vec<String> {
    let line = |difference: &Difference| {
        let (ink, sign) = match sign(difference) {
            "" => (Ink::Cyan, "~ "),
            "-" => (Ink::Red, "- "),
            _ => (Ink::Green, "+ "),
        };
        screen.ink(ink, &format!("{sign}{}", text(difference, VALUE_CHARS)))
    };
    differences.iter().map(line).collect()
}

/// The first few on one line. That a thing came or went as a whole is nothing a line could hold.
pub(super) fn summary(differences: &[Difference]) -> String {
    let parts = || differences.iter().filter(|difference| !difference.path.is_empty());
    let mut told: Vec<String> = parts()
        .take(SUMMARY)
        .map(|difference| format!("{}{}", sign(difference), text(difference, SUMMARY_CHARS)))
        .collect();
    let more = parts().count().saturating_sub(SUMMARY);
    told.extend((more > 0).then(|| format!("and {more} more")));
    told.join("; ")
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

fn text(difference: &Difference, most: usize) -> String {
    let Difference { path, before, after } = difference;
    let value = |value: &Value| shorten(&tame(&value.to_string()), most);
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
        let whole = Difference { path: String::new(), before: None, after: Some(json!({"a": 1})) };
        assert_eq!(summary(&[whole]), "");
    }
}
