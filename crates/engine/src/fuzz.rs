//! What the fuzzers of this crate call (`fuzz/`, `cargo x fuzz`), and its tests replay over `fuzz/corpus`, with what has to hold whatever the bytes
//! are. Present in tests and with the feature `fuzzing`.

use model::limits;
use model::map::InputFormat;
use serde::de::IgnoredAny;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::maps;
use crate::route::Fields;

/// Fields that an alias may name.
const NAMED: [&[&str]; 8] = [
    &["a"],
    &["a", "b"],
    &["a", "b", "c"],
    &["a", "0"],
    &["a", "1", "b"],
    &["body"],
    &["body", "a"],
    &["", "b"],
];

/// Reads fields of an event. Where a library makes a tree of the same bytes, both find the same fields, and the same texts.
///
/// # Panics
///
/// If any of this does not hold.
pub fn fields(bytes: &[u8]) {
    let mut fields = Fields::default();
    let names = NAMED.map(|steps| steps.iter().map(|step| (*step).to_owned()).collect::<Vec<_>>());
    names.iter().for_each(|steps| fields.add(steps));
    let found = fields.read(bytes);
    let Ok(tree) = serde_json::from_slice::<Value>(bytes) else { return };
    for steps in &names {
        let Some(slot) = fields.slot(steps) else { panic!("{steps:?} has no place") };
        let found = found.get(slot).and_then(Option::as_deref);
        match (within(&tree, steps), found) {
            (None, None) => {}
            // Of long values a part.
            (Some(_), Some(found)) if found.len() + 3 >= limits::FIELD_BYTES => {}
            (Some(Value::String(text)), Some(found)) => assert_eq!(text, found, "{steps:?}"),
            // Numbers keep the form they were sent in, objects the order.
            (Some(value), Some(found)) => {
                assert_eq!(serde_json::from_str::<Value>(found).ok(), Some(value), "{steps:?}");
            }
            other => panic!("{steps:?}: {other:?}"),
        }
    }
}

/// Finds the items of an input that comes in pieces, the first byte of which says how long they are. What is taken for an array is one, for a library as well, with the same
/// elements; what comes in other pieces is the same.
///
/// # Panics
///
/// If any of this does not hold.
pub fn items(bytes: &[u8]) {
    let Some((first, input)) = bytes.split_first() else { return };
    for format in [InputFormat::Json, InputFormat::JsonLines, InputFormat::Lines] {
        let found = maps::items_of(format, input, usize::from(*first) + 1);
        assert_eq!(found, maps::items_of(format, input, usize::MAX), "in pieces and at once");
        for item in found.iter().flatten() {
            assert!(serde_json::from_slice::<IgnoredAny>(item).is_ok(), "an item is JSON");
        }
        if format != InputFormat::Json {
            continue;
        }
        match (found, serde_json::from_slice::<Vec<&RawValue>>(input)) {
            (Some(found), Ok(elements)) => {
                let elements: Vec<_> = elements.iter().map(|e| e.get().as_bytes()).collect();
                assert_eq!(found, elements);
            }
            (Some(_), Err(e)) => panic!("taken for an array: {e}"),
            // It nests too deep.
            (None, Ok(_)) => assert!(input.len() > 128, "an array is refused"),
            (None, Err(_)) => {}
        }
    }
}

/// The value that steps lead to, by way of trees.
fn within(value: &Value, steps: &[String]) -> Option<Value> {
    let Some((first, rest)) = steps.split_first() else { return Some(value.clone()) };
    match value {
        Value::Object(members) => within(members.get(first)?, rest),
        Value::Array(elements) => {
            let at = first.parse::<usize>().ok().filter(|at| at.to_string() == *first)?;
            within(elements.get(at)?, rest)
        }
        Value::String(text) => within(&serde_json::from_str(text).ok()?, steps),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_corpus_passes() {
        model::suites::corpus::replay("fields", fields);
        model::suites::corpus::replay("items", items);
    }
}
