//! Whether a shadow answered as the version did whose call was copied.
//!
//! Answers may hold anything, made to be costly to compare: what is parsed, compared and shown of them is bounded.

use engine::{Answer, ShadowPair};
use model::api::Difference;
use model::difference::differences;
use model::invocation::Failure;
use serde_json::{Map, Value, json};

/// Differences of one pair that are shown.
const DIFFERENCES: usize = 20;
/// Longest value or path that is shown, in characters.
const SHOWN_CHARS: usize = 200;
/// Most bytes of all paths of a document together; one with more, made of long names, is compared by its text.
const PATH_BYTES: usize = 32 * 1024 * 1024;
/// Members of a failure that differ from version to version although it is the same one.
const TRACES: [&str; 2] = ["stackTrace", "trace"];

/// How two answers compare.
#[derive(Debug, Default)]
pub(super) struct Compared {
    /// Whether one failed, they failed in other ways, or their HTTP status differs.
    pub status: bool,
    /// Whether something else differs.
    pub body: bool,
    /// What differs.
    pub differences: Vec<Difference>,
}

/// Compares the answers of a pair.
pub(super) fn compare(pair: &ShadowPair) -> Compared {
    let ShadowPair { answer, shadow, .. } = pair;
    let mut compared = match (&answer.result, &shadow.result) {
        _ if pair.identical => Compared::default(),
        (Ok(_), Ok(_)) => answers(answer, shadow),
        _ => failures(answer, shadow),
    };
    compared.differences.truncate(DIFFERENCES);
    for difference in &mut compared.differences {
        difference.path = cut(std::mem::take(&mut difference.path));
        difference.before = difference.before.take().map(cut_value);
        difference.after = difference.after.take().map(cut_value);
    }
    compared
}

/// Of two answers, one of which failed at least.
fn failures(answer: &Answer, shadow: &Answer) -> Compared {
    let kind = |answer: &Answer| answer.result.as_ref().err().map(|f| json!(f.kind.as_str()));
    let (before, after) = (kind(answer), kind(shadow));
    let mut found = Vec::new();
    let status = before != after;
    if status {
        found.push(Difference { path: "failure".into(), before, after });
    }
    let errors = |answer: &Answer| match &answer.result {
        Ok(_) => json!({}),
        Err(failure) => json!({ "error": error(answer, failure) }),
    };
    let errors = unlike(&errors(answer), &errors(shadow));
    let body = !status && !errors.is_empty();
    found.extend(errors);
    Compared { status, body, differences: found }
}

fn error(answer: &Answer, failure: &Failure) -> Value {
    match whole(answer) {
        Some(Value::Object(mut error)) => {
            error.retain(|name, _| !TRACES.contains(&name.as_str()));
            Value::Object(error)
        }
        Some(error) => error,
        None => text(&failure.payload),
    }
}

/// Of two answers that did not fail.
fn answers(answer: &Answer, shadow: &Answer) -> Compared {
    let (Some(answer_json), Some(shadow_json)) = (whole(answer), whole(shadow)) else {
        let text = |answer: &Answer| Some(text(answer.bytes()));
        let (before, after) = (text(answer), text(shadow));
        let mut found = vec![Difference { path: "body".into(), before, after }];
        if answer.length != shadow.length && (answer.is_cut() || shadow.is_cut()) {
            let (before, after) = (Some(json!(answer.length)), Some(json!(shadow.length)));
            found.push(Difference { path: "length".into(), before, after });
        }
        return Compared { status: false, body: true, differences: found };
    };
    let (Some(answer_reply), Some(shadow_reply)) = (reply(&answer_json), reply(&shadow_json))
    else {
        let found = unlike(&json!({ "body": answer_json }), &json!({ "body": shadow_json }));
        return Compared { status: false, body: !found.is_empty(), differences: found };
    };
    replies(answer_reply, shadow_reply)
}

/// Of two HTTP replies.
fn replies(answer: &Map<String, Value>, shadow: &Map<String, Value>) -> Compared {
    let mut found = Vec::new();
    let (before, after) = (answer.get(STATUS), shadow.get(STATUS));
    let status = before != after;
    if status {
        let (before, after) = (before.cloned(), after.cloned());
        found.push(Difference { path: STATUS.into(), before, after });
    }
    let (before, after) = comparable(answer, shadow);
    let others = unlike(&before, &after);
    let body = !others.is_empty();
    found.extend(others);
    Compared { status, body, differences: found }
}

const STATUS: &str = "statusCode";

/// The members of an HTTP reply (AWS Lambda, "Response payload format").
fn reply(answer: &Value) -> Option<&Map<String, Value>> {
    answer.as_object().filter(|reply| reply.get(STATUS).is_some_and(Value::is_number))
}

/// What counts of two replies beside their status.
fn comparable(answer: &Map<String, Value>, shadow: &Map<String, Value>) -> (Value, Value) {
    let body = |reply: &Map<String, Value>| match reply.get("body") {
        None | Some(Value::Null) => json!(""),
        Some(body) => body.clone(),
    };
    let (mut before, mut after) = (body(answer), body(shadow));
    let within = |body: &Value| serde_json::from_str::<Value>(body.as_str()?).ok();
    if let (Some(a), Some(b)) = (within(&before), within(&after)) {
        (before, after) = (a, b);
    }
    let with_body = |reply: &Map<String, Value>, body: Value| {
        let base64 = reply.get("isBase64Encoded").and_then(Value::as_bool).unwrap_or_default();
        let cookies = reply.get("cookies").filter(|cookies| !cookies.is_null());
        json!({
            "body": body,
            "cookies": cookies.unwrap_or(&json!([])),
            "headers": headers(reply.get("headers")),
            "isBase64Encoded": base64,
            "multiValueHeaders": headers(reply.get("multiValueHeaders")),
        })
    };
    (with_body(answer, before), with_body(shadow, after))
}

/// Headers by their names in lower case, numbers as texts, without the date.
fn headers(headers: Option<&Value>) -> Value {
    let Some(headers) = headers.filter(|headers| !headers.is_null()) else { return json!({}) };
    let Value::Object(headers) = headers else { return headers.clone() };
    let plain = headers.iter().map(|(name, value)| {
        let value = match value {
            Value::Number(_) | Value::Bool(_) => json!(value.to_string()),
            value => value.clone(),
        };
        (name.to_ascii_lowercase(), value)
    });
    Value::Object(plain.filter(|(name, _)| name != "date").collect())
}

/// What differs between two documents, as far as that is worth finding out.
fn unlike(before: &Value, after: &Value) -> Vec<Difference> {
    if before == after {
        return Vec::new();
    }
    if path_bytes(before, 0).saturating_add(path_bytes(after, 0)) > PATH_BYTES {
        let (before, after) = (Some(before.clone()), Some(after.clone()));
        return vec![Difference { path: String::new(), before, after }];
    }
    differences(before, after, DIFFERENCES)
}

/// How long the paths of all values in a document are together, about; `path` is how long its own is.
fn path_bytes(value: &Value, path: usize) -> usize {
    // Punctuation, or the index of an element.
    let step = path.saturating_add(8);
    let sum = |sum: usize, (name, value): (usize, &Value)| {
        sum.saturating_add(path_bytes(value, step.saturating_add(name)))
    };
    match value {
        Value::Object(members) => {
            members.iter().map(|(name, value)| (name.len(), value)).fold(path, sum)
        }
        Value::Array(elements) => elements.iter().map(|value| (0, value)).fold(path, sum),
        _ => path,
    }
}

/// An answer as JSON, if it is that, and there whole.
fn whole(answer: &Answer) -> Option<Value> {
    let bytes = Some(answer.bytes()).filter(|_| !answer.is_cut())?;
    serde_json::from_slice(bytes).ok()
}

/// The beginning of what is no JSON.
fn text(bytes: &[u8]) -> Value {
    // No character has more bytes than four; one more character, so that it shows that there is more.
    let begin = bytes.get(..(SHOWN_CHARS + 1) * 4).unwrap_or(bytes);
    json!(cut(String::from_utf8_lossy(begin).into_owned()))
}

fn cut_value(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(cut(text)),
        Value::Array(_) | Value::Object(_) => {
            let text = value.to_string();
            if text.chars().nth(SHOWN_CHARS).is_none() { value } else { Value::String(cut(text)) }
        }
        short => short,
    }
}

fn cut(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().nth(SHOWN_CHARS) {
        text.truncate(end);
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests;
