//! What differs between two JSON documents.

use serde_json::Value;

use crate::api::Difference;

/// The values that differ, in the order of the first document, then what only the second has; at most `most`.
pub fn differences(before: &Value, after: &Value, most: usize) -> Vec<Difference> {
    let mut found = Vec::new();
    if most > 0 {
        compare(&mut found, most, "", Some(before), Some(after));
    }
    found
}

fn compare(
    found: &mut Vec<Difference>,
    most: usize,
    path: &str,
    before: Option<&Value>,
    after: Option<&Value>,
) {
    if before == after {
        return;
    }
    match (before, after) {
        (Some(Value::Object(a)), Some(Value::Object(b))) => {
            let mine = a.iter().map(|(name, value)| (name, Some(value), b.get(name)));
            let theirs = b.iter().filter(|(name, _)| !a.contains_key(*name));
            let members = mine.chain(theirs.map(|(name, value)| (name, None, Some(value))));
            // Paths are only made for what differs: names may be long, and documents a stranger's.
            for (name, before, after) in members.filter(|(_, before, after)| before != after) {
                if found.len() >= most {
                    return;
                }
                compare(found, most, &member(path, name), before, after);
            }
        }
        (Some(Value::Array(a)), Some(Value::Array(b))) => {
            for at in (0..a.len().max(b.len())).filter(|at| a.get(*at) != b.get(*at)) {
                if found.len() >= most {
                    return;
                }
                compare(found, most, &format!("{path}[{at}]"), a.get(at), b.get(at));
            }
        }
        _ => found.push(Difference {
            path: path.to_owned(),
            before: before.cloned(),
            after: after.cloned(),
        }),
    }
}

fn member(path: &str, name: &str) -> String {
    let plain = !name.is_empty()
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    match (path, plain) {
        ("", true) => name.to_owned(),
        (_, true) => format!("{path}.{name}"),
        (_, false) => format!("{path}[{name:?}]"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_differs_is_found() {
        let before = json!({"a": 1, "b": {"c": [1, 2], "d": "x"}, "gone": true, "same": [1]});
        let after = json!({"a": 2, "b": {"c": [1, 3, 4], "d": "x"}, "same": [1], "new.name": null});
        let found = differences(&before, &after, 100);
        let text: Vec<String> =
            found.iter().map(|d| format!("{} {:?} {:?}", d.path, d.before, d.after)).collect();
        assert_eq!(
            text,
            [
                "a Some(Number(1)) Some(Number(2))",
                "b.c[1] Some(Number(2)) Some(Number(3))",
                "b.c[2] None Some(Number(4))",
                "gone Some(Bool(true)) None",
                "[\"new.name\"] None Some(Null)",
            ]
        );
        assert_eq!(differences(&before, &after, 2).len(), 2);
        assert!(differences(&before, &before, 9).is_empty());
    }
}
