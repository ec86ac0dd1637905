//! Finds the items of an input while it comes in, piece by piece: no more than one item is held.
//!
//! Of a JSON array only the borders of its elements are looked for; each element is then read whole, so that what reaches a function is JSON.

use model::Result;
use model::error::{Code, Error};
use model::limits;
use model::map::InputFormat;
use serde::de::IgnoredAny;

/// Longest item, in bytes.
const ITEM_BYTES: usize = limits::MAP_CHUNK_BYTES as usize;

/// Takes each item as JSON.
pub(super) type Sink<'a> = &'a mut dyn FnMut(&[u8]) -> Result<()>;

/// See the module.
#[derive(Debug)]
pub(super) struct Items {
    format: InputFormat,
    at: At,
    /// As much of an item as has come.
    item: Vec<u8>,
    /// Items found.
    found: u64,
    /// Bytes read.
    read: u64,
}

/// Where in an array the next byte lies.
#[derive(Clone, Copy, Debug)]
enum At {
    /// In front of the array.
    Start,
    /// Behind its bracket.
    First,
    /// Behind a comma.
    Next,
    /// Within an element.
    Within(Value),
    /// Behind an element.
    Behind,
    /// Behind the array.
    End,
}

/// A value under way.
#[derive(Clone, Copy, Debug)]
struct Value {
    /// Arrays and objects that are open.
    depth: u32,
    text: Text,
}

/// Where in a value's texts the next byte lies.
#[derive(Clone, Copy, Debug)]
enum Text {
    Outside,
    Inside,
    /// Behind a backslash.
    Escaped,
}

impl Value {
    fn new() -> Self {
        Self { depth: 0, text: Text::Outside }
    }

    /// Goes on with the value. How many of the bytes are its own, and whether it ends with them; none if it nests too deep.
    fn scan(&mut self, bytes: &[u8]) -> Option<(usize, bool)> {
        for (at, byte) in bytes.iter().enumerate() {
            match (self.text, byte) {
                (Text::Escaped, _) | (Text::Outside, b'"') => self.text = Text::Inside,
                (Text::Inside, b'\\') => self.text = Text::Escaped,
                (Text::Inside, b'"') => {
                    self.text = Text::Outside;
                    if self.depth == 0 {
                        return Some((at + 1, true));
                    }
                }
                (Text::Inside, _) => {}
                (Text::Outside, b'[' | b'{') => {
                    self.depth += 1;
                    if self.depth > limits::MAP_ITEM_DEPTH {
                        return None;
                    }
                }
                (Text::Outside, b']' | b'}') if self.depth > 1 => self.depth -= 1,
                (Text::Outside, b']' | b'}') if self.depth == 1 => return Some((at + 1, true)),
                // A number or a literal ends in front of what cannot belong to it.
                (Text::Outside, b',' | b']' | b'}' | b' ' | b'\t' | b'\r' | b'\n')
                    if self.depth == 0 =>
                {
                    return Some((at, true));
                }
                (Text::Outside, _) => {}
            }
        }
        Some((bytes.len(), false))
    }
}

impl Items {
    pub(super) fn new(format: InputFormat) -> Self {
        Self { format, at: At::Start, item: Vec::new(), found: 0, read: 0 }
    }

    /// Goes on with these bytes.
    ///
    /// Errors: `invalid-body`, `payload-too-large`, and what `sink` says.
    pub(super) fn push(&mut self, bytes: &[u8], sink: Sink<'_>) -> Result<()> {
        match self.format {
            InputFormat::Json => self.push_array(bytes, sink),
            InputFormat::Lines | InputFormat::JsonLines => self.push_lines(bytes, sink),
        }
    }

    /// There are no more bytes.
    ///
    /// Errors: as [`Items::push`].
    pub(super) fn finish(mut self, sink: Sink<'_>) -> Result<()> {
        match (self.format, self.at) {
            (InputFormat::Json, At::End) => Ok(()),
            (InputFormat::Json, At::Start) => {
                Err(invalid("the input is empty: expected a JSON array"))
            }
            (InputFormat::Json, _) => Err(invalid(format!(
                "the input ends within its array, behind {} items: expected ']'",
                self.found
            ))),
            // What follows the last line end is a line if it is anything.
            _ if self.item.is_empty() => Ok(()),
            _ => self.line(sink),
        }
    }

    fn push_array(&mut self, mut bytes: &[u8], sink: Sink<'_>) -> Result<()> {
        while let Some((&byte, rest)) = bytes.split_first() {
            match (self.at, byte) {
                (At::Within(value), _) => {
                    let taken = self.within(value, bytes, sink)?;
                    bytes = bytes.split_at(taken).1;
                    continue;
                }
                (_, b' ' | b'\t' | b'\r' | b'\n') => {}
                (At::Start, b'[') => self.at = At::First,
                (At::First | At::Behind, b']') => self.at = At::End,
                (At::Behind, b',') => self.at = At::Next,
                (At::First | At::Next, b',' | b':' | b']' | b'}') => {
                    return Err(self.unexpected(byte, "an item"));
                }
                (At::First | At::Next, _) => {
                    self.at = At::Within(Value::new());
                    continue;
                }
                (At::Start, _) => {
                    return Err(self.unexpected(byte, "a JSON array").with_hint(
                        "the format 'lines' takes any text, 'json-lines' a JSON value on each line",
                    ));
                }
                (At::Behind, _) => return Err(self.unexpected(byte, "',' or ']'")),
                (At::End, _) => return Err(self.unexpected(byte, "nothing behind the array")),
            }
            self.read += 1;
            bytes = rest;
        }
        Ok(())
    }

    /// Goes on with an element; says how many bytes are its own.
    fn within(&mut self, mut value: Value, bytes: &[u8], sink: Sink<'_>) -> Result<usize> {
        let (taken, ends) = value.scan(bytes).ok_or_else(|| self.too_deep())?;
        self.append(bytes.split_at(taken).0)?;
        self.at = if ends { At::Behind } else { At::Within(value) };
        if ends {
            let item = std::mem::take(&mut self.item);
            self.value(&item, sink)?;
            self.item = item;
            self.item.clear();
        }
        Ok(taken)
    }

    fn push_lines(&mut self, mut bytes: &[u8], sink: Sink<'_>) -> Result<()> {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            let (line, rest) = bytes.split_at(end);
            self.append(line)?;
            self.line(sink)?;
            self.read += 1;
            bytes = rest.split_at(1).1;
        }
        self.append(bytes)
    }

    fn line(&mut self, sink: Sink<'_>) -> Result<()> {
        let mut line = std::mem::take(&mut self.item);
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        if self.format == InputFormat::Lines {
            let text = self.text(&line)?;
            let json = serde_json::to_vec(text).map_err(Error::internal)?;
            self.item_found(&json, sink)?;
        } else {
            let value = line.trim_ascii();
            if !value.is_empty() {
                Value::new().scan(value).ok_or_else(|| self.too_deep())?;
                self.value(value, sink)?;
            }
        }
        line.clear();
        self.item = line;
        Ok(())
    }

    /// An item that has to be JSON.
    fn value(&mut self, item: &[u8], sink: Sink<'_>) -> Result<()> {
        let text = self.text(item)?;
        serde_json::from_str::<IgnoredAny>(text).map_err(|e| {
            invalid(format!(
                "item {} of the input, at byte {}, is not JSON: {e}",
                self.found, self.read
            ))
        })?;
        self.item_found(item, sink)
    }

    fn item_found(&mut self, json: &[u8], sink: Sink<'_>) -> Result<()> {
        self.bounded(json.len())?;
        self.found += 1;
        sink(json)
    }

    fn text<'a>(&self, bytes: &'a [u8]) -> Result<&'a str> {
        std::str::from_utf8(bytes).map_err(|_| {
            let (found, read) = (self.found, self.read);
            invalid(format!("item {found} of the input, at byte {read}, is not UTF-8"))
        })
    }

    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.bounded(self.item.len() + bytes.len())?;
        self.item.extend_from_slice(bytes);
        self.read += bytes.len() as u64;
        Ok(())
    }

    fn bounded(&self, bytes: usize) -> Result<()> {
        if bytes <= ITEM_BYTES {
            return Ok(());
        }
        let message = format!(
            "item {} of the input is too long: expected at most {ITEM_BYTES} bytes",
            self.found
        );
        Err(Error::caller(Code::PayloadTooLarge, message))
    }

    fn too_deep(&self) -> Error {
        invalid(format!(
            "item {} of the input nests too deep: expected at most {} levels",
            self.found,
            limits::MAP_ITEM_DEPTH
        ))
    }

    fn unexpected(&self, byte: u8, expected: &str) -> Error {
        let found = byte.escape_ascii();
        invalid(format!("the input has '{found}' at byte {}: expected {expected}", self.read))
    }
}

fn invalid(message: impl Into<String>) -> Error {
    Error::caller(Code::InvalidBody, message)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value as Json;

    use super::*;

    /// The items of an input that comes in pieces of so many bytes.
    fn items(format: InputFormat, input: &[u8], piece: usize) -> Result<Vec<String>> {
        let (mut items, mut found) = (Items::new(format), Vec::new());
        let mut sink = |item: &[u8]| {
            found.push(String::from_utf8(item.to_vec()).unwrap());
            Ok(())
        };
        for piece in input.chunks(piece) {
            items.push(piece, &mut sink)?;
        }
        items.finish(&mut sink)?;
        Ok(found)
    }

    #[test]
    fn elements_of_an_array_are_items() {
        let input = br#" [ 1,"a\"],[", {"b":[1,{"c":"]"}]} ,null,[],-2.5e3 , "" ] "#;
        for piece in [1, 2, 3, 7, 1_000] {
            assert_eq!(
                items(InputFormat::Json, input, piece).unwrap(),
                ["1", r#""a\"],[""#, r#"{"b":[1,{"c":"]"}]}"#, "null", "[]", "-2.5e3", r#""""#]
            );
            assert_eq!(items(InputFormat::Json, b"[]", piece).unwrap(), [""; 0]);
        }
    }

    #[test]
    fn lines_are_items() {
        for piece in [1, 2, 5, 1_000] {
            let lines = |input: &str| items(InputFormat::Lines, input.as_bytes(), piece).unwrap();
            assert_eq!(lines("a\r\n\nb\"\u{e9}\n"), ["\"a\"", "\"\"", "\"b\\\"\u{e9}\""]);
            assert_eq!(lines("a\nb"), ["\"a\"", "\"b\""]);
            assert_eq!(lines(""), [""; 0]);
            let values = items(InputFormat::JsonLines, b"{\"a\": 1}\n\n \"b\" \r\n3", piece);
            assert_eq!(values.unwrap(), ["{\"a\": 1}", "\"b\"", "3"]);
        }
    }

    #[test]
    fn what_is_none_is_refused_with_the_place() {
        let deep = format!("[{}1{}]", "[".repeat(200), "]".repeat(200));
        for (format, input, said) in [
            (InputFormat::Json, "", "empty"),
            (InputFormat::Json, "{}", "'{' at byte 0: expected a JSON array"),
            (InputFormat::Json, "[1", "within its array"),
            (InputFormat::Json, "[1,", "behind 1 items"),
            (InputFormat::Json, "[1,]", "']' at byte 3: expected an item"),
            (InputFormat::Json, "[,1]", "expected an item"),
            (InputFormat::Json, "[1 2]", "'2' at byte 3: expected ',' or ']'"),
            (InputFormat::Json, "[1]x", "nothing behind"),
            (InputFormat::Json, "[tru]", "is not JSON"),
            (InputFormat::Json, "[[1}]", "is not JSON"),
            (InputFormat::Json, &deep, "too deep"),
            (InputFormat::JsonLines, "1\n1 2", "item 1"),
            (InputFormat::JsonLines, deep.as_str(), "too deep"),
        ] {
            for piece in [1, 1_000] {
                let e = items(format, input.as_bytes(), piece).unwrap_err();
                assert_eq!(e.code(), Code::InvalidBody, "{input}");
                assert!(e.message().contains(said), "{input}: {}", e.message());
            }
        }
        let e = items(InputFormat::Lines, b"a\n\xff\n", 9).unwrap_err();
        assert!(e.message().contains("item 1") && e.message().contains("UTF-8"), "{}", e.message());
        let long = format!("[\"{}\"]", "x".repeat(ITEM_BYTES));
        for format in [InputFormat::Json, InputFormat::Lines] {
            let e = items(format, long.as_bytes(), 100_000).unwrap_err();
            assert_eq!(e.code(), Code::PayloadTooLarge);
        }
    }

    fn json() -> impl Strategy<Value = Json> {
        let leaf = prop_oneof![
            Just(Json::Null),
            any::<bool>().prop_map(Json::from),
            any::<i64>().prop_map(Json::from),
            ".{0,8}".prop_map(Json::from),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Json::from),
                prop::collection::btree_map(".{0,4}", inner, 0..4)
                    .prop_map(|members| members.into_iter().collect::<Json>()),
            ]
        })
    }

    proptest! {
        #[test]
        fn a_library_finds_the_same(values in prop::collection::vec(json(), 0..8), pretty: bool, piece in 1_usize..40) {
            let input =
                if pretty { serde_json::to_vec_pretty(&values) } else { serde_json::to_vec(&values) };
            let found = items(InputFormat::Json, &input.unwrap(), piece).unwrap();
            let found: Vec<Json> = found.iter().map(|item| serde_json::from_str(item).unwrap()).collect();
            prop_assert_eq!(found, values);
        }

        #[test]
        fn what_is_accepted_is_an_array(text in "[\\[\\]{},:\"\\\\ 1a]{0,24}", piece in 1_usize..8) {
            let found = items(InputFormat::Json, text.as_bytes(), piece);
            prop_assert_eq!(found.is_ok(), serde_json::from_str::<Vec<Json>>(&text).is_ok(), "{:?}", found);
        }
    }
}
