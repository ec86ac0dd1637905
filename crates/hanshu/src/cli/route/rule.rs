//! Rules of aliases as text: `CONDITION and CONDITION -> VERSION`.
//!
//! A condition is `PARAM = TEXT`, `PARAM ^= PREFIX`, `PARAM range [1,10)`, `PARAM one-of a, b`, `PARAM present` or `PARAM absent`. What holds
//! ` and `, `->`, a comma in a list, or spaces at its ends stands in double quotes, written as in JSON.

use model::alias::{Condition, Parameter, Rule, Test};

const AND: &str = " and ";
const ARROW: &str = "->";
const EXPECTED: &str = "expected for instance 'header.x-beta = yes -> 8'";

/// Reads a rule.
pub(in crate::cli) fn parse(text: &str) -> Result<Rule, String> {
    let parts = split(text, ARROW)?;
    let [conditions, to] = parts.as_slice() else {
        return Err(format!("rule '{text}' is not valid: {EXPECTED}"));
    };
    let when: Result<_, String> = split(conditions, AND)?.into_iter().map(condition).collect();
    Ok(Rule { when: when?, to: super::version(to.trim())? })
}

/// Writes a rule so that [`parse`] reads it.
pub(in crate::cli) fn text(rule: &Rule) -> String {
    let when: Vec<String> = rule.when.iter().map(condition_text).collect();
    format!("{} {ARROW} {}", when.join(AND), rule.to)
}

fn condition(text: &str) -> Result<Condition, String> {
    let text = text.trim();
    let bad = || {
        format!(
            "condition '{text}' is not valid: expected PARAM = TEXT, PARAM ^= PREFIX, PARAM one-of A,B, PARAM range [1,10), PARAM present or \
             PARAM absent"
        )
    };
    let (name, rest) = parameter(text)?;
    let on: Parameter = name.parse()?;
    let test = if let Some(prefix) = rest.strip_prefix("^=") {
        Test::Prefix(value(prefix)?)
    } else if let Some(wanted) = rest.strip_prefix('=') {
        Test::Exact(value(wanted)?)
    } else {
        let (word, rest) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        match (word, rest.trim()) {
            ("present", "") => Test::Present(true),
            ("absent", "") => Test::Present(false),
            ("range", range) if !range.is_empty() => Test::Range(range.parse()?),
            ("one-of", list) if !list.is_empty() => {
                Test::OneOf(split(list, ",")?.into_iter().map(value).collect::<Result<_, _>>()?)
            }
            _ => return Err(bad()),
        }
    };
    Ok(Condition { on, test })
}

/// The parameter's name, and what stands behind it.
fn parameter(text: &str) -> Result<(String, &str), String> {
    if text.starts_with('"') {
        let end = quoted_end(text).ok_or_else(|| open_quote(text))?;
        let (name, rest) = text.split_at_checked(end).unwrap_or((text, ""));
        return Ok((value(name)?, rest.trim_start()));
    }
    let ends = |(at, c): (usize, char)| {
        let here = text.get(at..).unwrap_or_default();
        (c.is_whitespace() || c == '=' || here.starts_with("^=")).then_some(at)
    };
    let end = text.char_indices().find_map(ends).unwrap_or(text.len());
    let (name, rest) = text.split_at_checked(end).unwrap_or((text, ""));
    Ok((name.to_owned(), rest.trim_start()))
}

/// A text as it stands, or in quotes.
fn value(text: &str) -> Result<String, String> {
    let text = text.trim();
    if !text.starts_with('"') {
        return Ok(text.to_owned());
    }
    serde_json::from_str(text)
        .map_err(|_| format!("{text} is not valid: expected \"TEXT\", with \\\" for a quote in it"))
}

/// The parts of a text between separators that do not stand in quotes.
fn split<'a>(text: &'a str, separator: &str) -> Result<Vec<&'a str>, String> {
    let mut parts = Vec::new();
    let mut rest = text;
    let mut at = 0;
    while let Some(here) = rest.get(at..).filter(|here| !here.is_empty()) {
        if here.starts_with(separator) {
            parts.push(rest.get(..at).unwrap_or_default());
            rest = here.get(separator.len()..).unwrap_or_default();
            at = 0;
        } else if here.starts_with('"') {
            at += quoted_end(here).ok_or_else(|| open_quote(text))?;
        } else {
            at += here.chars().next().map_or(1, char::len_utf8);
        }
    }
    parts.push(rest);
    Ok(parts)
}

fn open_quote(text: &str) -> String {
    format!("'{text}' is not valid: expected a closing quote")
}

/// Where the quoted text ends that `text` begins with.
fn quoted_end(text: &str) -> Option<usize> {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return Some(at + 1),
            _ => {}
        }
    }
    None
}

fn condition_text(condition: &Condition) -> String {
    let on = condition.on.to_string();
    let plain = !on.contains(|c: char| c.is_whitespace() || c == '=') && quoted(&on, false) == on;
    let on = if plain { on } else { in_quotes(&on) };
    match &condition.test {
        Test::Exact(text) => format!("{on} = {}", quoted(text, false)),
        Test::Prefix(text) => format!("{on} ^= {}", quoted(text, false)),
        Test::Range(range) => format!("{on} range {range}"),
        Test::Present(true) => format!("{on} present"),
        Test::Present(false) => format!("{on} absent"),
        Test::OneOf(texts) => {
            let texts: Vec<String> = texts.iter().map(|text| quoted(text, true)).collect();
            format!("{on} one-of {}", texts.join(", "))
        }
    }
}

/// In quotes, where it would not be read as it stands.
fn quoted(text: &str, in_list: bool) -> String {
    let plain = !text.is_empty()
        && text.trim() == text
        && !text.contains(['"', '\\'])
        && !text.contains(char::is_control)
        // ` and ` as well where the text ends or begins the condition.
        && !format!(" {text} ").contains(AND)
        && !text.contains(ARROW)
        && !(in_list && text.contains(','));
    if plain { text.to_owned() } else { in_quotes(text) }
}

fn in_quotes(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rule(text: &str) -> serde_json::Value {
        serde_json::to_value(parse(text).unwrap_or_else(|e| panic!("{text}: {e}"))).unwrap()
    }

    #[test]
    fn each_test_has_its_words() {
        for (text, condition) in [
            ("header.X-Beta = yes -> 8", json!({"on": "header.x-beta", "exact": "yes"})),
            ("header.x-beta=yes->8", json!({"on": "header.x-beta", "exact": "yes"})),
            ("header.x = a = b -> 8", json!({"on": "header.x", "exact": "a = b"})),
            ("path ^= /v2/ -> 8", json!({"on": "path", "prefix": "/v2/"})),
            ("query.page range [1,10) -> 8", json!({"on": "query.page", "range": "[1,10)"})),
            ("source = 10.0.0.0/8 -> 8", json!({"on": "source", "exact": "10.0.0.0/8"})),
            (
                "event.user.plan one-of gold, \"a, b\" -> 8",
                json!({"on": "event.user.plan", "one_of": ["gold", "a, b"]}),
            ),
            ("cookie.session present -> 8", json!({"on": "cookie.session", "present": true})),
            ("cookie.session absent -> 8", json!({"on": "cookie.session", "present": false})),
            (
                "\"query.a b\" = \" x and y -> z \" -> 8",
                json!({"on": "query.a b", "exact": " x and y -> z "}),
            ),
        ] {
            assert_eq!(rule(text), json!({"when": [condition], "to": "8"}), "{text}");
        }
    }

    #[test]
    fn conditions_are_joined() {
        let read = rule("method = POST and header.x = brand and path ^= /a -> $LATEST");
        assert_eq!(
            read,
            json!({"when": [
                {"on": "method", "exact": "POST"},
                {"on": "header.x", "exact": "brand"},
                {"on": "path", "prefix": "/a"},
            ], "to": "$LATEST"})
        );
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, part) in [
            ("header.x = 1", "'header.x = 1' is not valid"),
            ("header.x = 1 -> live", "version 'live'"),
            ("header.x = 1 -> 2 -> 3", "is not valid"),
            ("body = 1 -> 2", "parameter 'body'"),
            ("header.x -> 2", "PARAM present"),
            ("header.x is 1 -> 2", "PARAM present"),
            ("header.x present 1 -> 2", "PARAM present"),
            ("header.x range 1-2 -> 2", "range"),
            ("header.x one-of -> 2", "PARAM one-of"),
            ("header.x = \"a -> 2", "closing quote"),
            ("header.x = \"a\" b -> 2", "expected \"TEXT\""),
            ("-> 2", "parameter ''"),
        ] {
            let e = parse(text).unwrap_err();
            assert!(e.contains(part), "{text}: {e}");
        }
    }

    #[test]
    fn what_is_written_is_read_alike() {
        let odd = [
            "yes", "", " a", "a ", "a and b", "and b", "a and", "and", "->", "a,b", "\"", "a\"b",
            "\\", "ä\u{1b}", "a = b", "^= a", "\n",
        ];
        let names = [
            "header.x",
            "query.a b",
            "query.a=b",
            "query.a^=b",
            "query.\"",
            "event/a.b/c and d",
            "path",
        ];
        for name in names {
            let on: Parameter = name.parse().unwrap();
            let mut when: Vec<Condition> = Vec::new();
            for text in odd {
                for test in [Test::Exact(text.into()), Test::Prefix(text.into())] {
                    when.push(Condition { on: on.clone(), test });
                }
            }
            for test in [
                Test::OneOf(odd.map(str::to_owned).to_vec()),
                Test::Present(true),
                Test::Present(false),
                Test::Range("(,5]".parse().unwrap()),
            ] {
                when.push(Condition { on: on.clone(), test });
            }
            let rule = Rule { when, to: "8".parse().unwrap() };
            let written = text(&rule);
            assert_eq!(parse(&written).unwrap_or_else(|e| panic!("{written}: {e}")), rule);
        }
    }
}
