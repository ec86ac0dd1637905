//! Fields of the event, read from its JSON without a tree of it: one pass for all fields that an alias names, everything else is skipped.
//!
//! A field's value is text: of a string its characters, of any other scalar its JSON, of an object or an array its JSON without white
//! space. Where a name is there twice the last one counts, as for the languages that functions are written in. A step into a string goes into the JSON
//! that the string holds, so that `event.body.user` reads an HTTP event. An event that is no JSON, or over `limits::ROUTED_EVENT_BYTES`, has no
//! fields; of a long value the first `limits::FIELD_BYTES` count.

use std::collections::HashMap;
use std::fmt;

use model::limits;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// The fields that an alias names, as a tree of steps.
#[derive(Debug, Default)]
pub(crate) struct Fields {
    root: Node,
    count: usize,
}

#[derive(Debug, Default)]
struct Node {
    /// Place of the field's value; `None` if only fields within it are named.
    slot: Option<usize>,
    within: Vec<Node>,
    /// Where the member of a name is among `within`. An alias may name a thousand, and an event have a hundred thousand.
    names: HashMap<String, usize>,
    /// Where the element of a number is among `within`.
    elements: HashMap<usize, usize>,
}

/// Values in the order of their slots.
type Slots = [Option<String>];

impl Fields {
    /// Adds a field.
    pub(crate) fn add(&mut self, steps: &[String]) {
        let mut node = &mut self.root;
        for name in steps {
            let at = node.names.get(name).copied().unwrap_or_else(|| {
                let at = node.within.len();
                // "01" is a name, and no number.
                if let Some(number) = name.parse().ok().filter(|n: &usize| n.to_string() == *name) {
                    node.elements.insert(number, at);
                }
                node.names.insert(name.clone(), at);
                node.within.push(Node::default());
                at
            });
            let Some(within) = node.within.get_mut(at) else { return };
            node = within;
        }
        if node.slot.is_none() {
            node.slot = Some(self.count);
            self.count += 1;
        }
    }

    /// The place of a field that was added.
    pub(crate) fn slot(&self, steps: &[String]) -> Option<usize> {
        let mut node = &self.root;
        for name in steps {
            node = node.named(name)?;
        }
        node.slot
    }

    /// Reads all fields of `event`.
    pub(crate) fn read(&self, event: &[u8]) -> Vec<Option<String>> {
        let mut slots = vec![None; self.count];
        // Nobody's rules hold up the calls of others for longer than that takes.
        if self.count > 0 && event.len() <= limits::ROUTED_EVENT_BYTES {
            let mut json = serde_json::Deserializer::from_slice(event);
            let read = Reader { node: &self.root, slots: &mut slots }.deserialize(&mut json);
            if read.and_then(|()| json.end()).is_err() {
                slots.fill(None);
            }
        }
        slots
    }
}

impl Node {
    fn named(&self, name: &str) -> Option<&Self> {
        self.within.get(*self.names.get(name)?)
    }

    fn at(&self, index: usize) -> Option<&Self> {
        self.within.get(*self.elements.get(&index)?)
    }

    fn clear(&self, slots: &mut Slots) {
        if let Some(slot) = self.slot.and_then(|slot| slots.get_mut(slot)) {
            *slot = None;
        }
        for within in &self.within {
            within.clear(slots);
        }
    }
}

/// Reads one value for the fields at and under `node`.
struct Reader<'n> {
    node: &'n Node,
    slots: &'n mut Slots,
}

impl Reader<'_> {
    /// The fields within a value that is at hand as JSON; those of broken JSON are absent.
    fn read_within(self, json: &str) {
        let Self { node, slots } = self;
        let mut json = serde_json::Deserializer::from_str(json);
        let within = Within { node, slots: &mut *slots };
        let read = json.deserialize_any(within);
        if read.and_then(|()| json.end()).is_err() {
            node.within.iter().for_each(|within| within.clear(slots));
        }
    }
}

impl<'de> DeserializeSeed<'de> for Reader<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        let Self { node, slots } = self;
        // What an earlier member of the same name left.
        node.clear(slots);
        let Some(slot) = node.slot else {
            return json.deserialize_any(Within { node, slots });
        };
        let raw = <&RawValue as serde::Deserialize>::deserialize(json)?.get();
        if let Some(slot) = slots.get_mut(slot) {
            *slot = text(raw);
        }
        if !node.within.is_empty() {
            Reader { node, slots }.read_within(raw);
        }
        Ok(())
    }
}

/// Reads the fields under `node`.
struct Within<'n> {
    node: &'n Node,
    slots: &'n mut Slots,
}

impl<'de> Visitor<'de> for Within<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(found) = map.next_key_seed(Name(self.node))? {
            match found {
                Some(node) => map.next_value_seed(Reader { node, slots: self.slots })?,
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let mut index = 0;
        loop {
            let read = match self.node.at(index) {
                Some(node) => seq.next_element_seed(Reader { node, slots: self.slots })?,
                None => seq.next_element::<IgnoredAny>()?.map(drop),
            };
            if read.is_none() {
                return Ok(());
            }
            index += 1;
        }
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        if !self.node.within.is_empty() {
            Reader { node: self.node, slots: self.slots }.read_within(text);
        }
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }
}

/// Finds the node that a member's name leads to.
struct Name<'n>(&'n Node);

impl<'de, 'n> DeserializeSeed<'de> for Name<'n> {
    type Value = Option<&'n Node>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        json.deserialize_str(self)
    }
}

impl<'n> Visitor<'_> for Name<'n> {
    type Value = Option<&'n Node>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.0.named(name))
    }
}

/// The text of a value; `None` for a string that is no text, such as half a pair of surrogates.
fn text(json: &str) -> Option<String> {
    let mut text: String = match json.as_bytes().first()? {
        b'"' => serde_json::from_str(json).ok()?,
        b'{' | b'[' => compact(json),
        _ => json.to_owned(),
    };
    text.truncate(text.floor_char_boundary(limits::FIELD_BYTES));
    Some(text)
}

/// JSON without the white space between its parts.
fn compact(json: &str) -> String {
    let (mut in_string, mut escaped) = (false, false);
    let keep = |c: &char| {
        let inside = in_string;
        match c {
            _ if escaped => escaped = false,
            '\\' if in_string => escaped = true,
            '"' => in_string = !in_string,
            _ => {}
        }
        inside || !matches!(c, ' ' | '\t' | '\n' | '\r')
    };
    json.chars().filter(keep).take(limits::FIELD_BYTES).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::alias::Parameter;
    use proptest::prelude::*;

    fn read(names: &[&str], event: &str) -> Vec<Option<String>> {
        let mut fields = Fields::default();
        let steps: Vec<Vec<String>> = names
            .iter()
            .map(|name| match name.parse() {
                Ok(Parameter::Event(steps)) => steps,
                other => panic!("{name}: {other:?}"),
            })
            .collect();
        steps.iter().for_each(|steps| fields.add(steps));
        let slots = fields.read(event.as_bytes());
        steps.iter().map(|steps| slots[fields.slot(steps).unwrap()].clone()).collect()
    }

    fn one(name: &str, event: &str) -> Option<String> {
        read(&[name], event).remove(0)
    }

    #[test]
    fn values_are_text() {
        let event = r#" {"s":"a\n\u00e4","n":1.50,"t":true,"z":null,"o":{"a": [1, {"b c": "x \" y"}]},"e":""} "#;
        for (name, value) in [
            ("event.s", "a\nä"),
            ("event.n", "1.50"),
            ("event.t", "true"),
            ("event.z", "null"),
            ("event.o", r#"{"a":[1,{"b c":"x \" y"}]}"#),
            ("event.o.a", r#"[1,{"b c":"x \" y"}]"#),
            ("event.o.a.0", "1"),
            ("event/o/a/1/b c", "x \" y"),
            ("event.e", ""),
        ] {
            assert_eq!(one(name, event).as_deref(), Some(value), "{name}");
        }
        for absent in
            ["event.x", "event.s.x", "event.n.x", "event.o.a.2", "event.o.a.00", "event.z.a"]
        {
            assert_eq!(one(absent, event), None, "{absent}");
        }
    }

    #[test]
    fn one_pass_reads_fields_within_fields() {
        let names = ["event.a", "event.a.b", "event.a.b.c", "event.d", "event.a.b"];
        let event = r#"{"a": {"b": {"c": 1}, "x": [[[{}]]]}, "d": 2}"#;
        let found: Vec<_> = read(&names, event).into_iter().map(Option::unwrap).collect();
        let expected = [r#"{"b":{"c":1},"x":[[[{}]]]}"#, r#"{"c":1}"#, "1", "2", r#"{"c":1}"#];
        assert_eq!(found, expected);
    }

    #[test]
    fn strings_are_entered_as_json() {
        let event = r#"{"body":"{\"user\":{\"id\":\"u\\u0031\"}}","list":"[7]","text":"{oops"}"#;
        assert_eq!(one("event.body.user.id", event).as_deref(), Some("u1"));
        assert_eq!(one("event.list.0", event).as_deref(), Some("7"));
        assert_eq!(one("event.text.x", event), None);
        let both = read(&["event.body", "event.body.user.id"], event);
        assert_eq!(both[0].as_deref(), Some(r#"{"user":{"id":"u\u0031"}}"#));
        assert_eq!(both[1].as_deref(), Some("u1"));
    }

    #[test]
    fn the_last_of_two_counts() {
        assert_eq!(one("event.a", r#"{"a":1,"a":2}"#).as_deref(), Some("2"));
        assert_eq!(one("event.a.b", r#"{"a":{"b":1},"a":{}}"#), None);
        assert_eq!(one("event.a.b", r#"{"a":{"b":1},"a":7}"#), None);
    }

    #[test]
    fn broken_json_has_no_fields() {
        for event in ["", "{", r#"{"a":1"#, r#"{"a":1}x"#, r#"{"a":1,}"#, "\u{feff}{\"a\":1}"] {
            assert_eq!(one("event.a", event), None, "{event}");
        }
        assert_eq!(one("event.a", r#"{"a":"\ud800"}"#), None);
        let mut fields = Fields::default();
        fields.add(&["a".into()]);
        assert_eq!(fields.read(b"{\"a\":\"\xff\"}"), [None]);
    }

    #[test]
    fn depth_is_no_danger() {
        let deep = format!(r#"{{"x":{}{},"a":1}}"#, "[".repeat(500_000), "]".repeat(500_000));
        assert_eq!(one("event.a", &deep).as_deref(), Some("1"));
        let text = one("event.x", &deep).unwrap();
        assert_eq!(text, "[".repeat(limits::FIELD_BYTES));
    }

    #[test]
    fn long_values_are_cut_and_long_events_have_no_fields() {
        let long = format!(r#"{{"a":"{}"}}"#, "ä".repeat(limits::FIELD_BYTES));
        assert_eq!(one("event.a", &long).unwrap().len(), limits::FIELD_BYTES);
        let blanks = |bytes: usize| format!(r#"{{"a":1{}}}"#, " ".repeat(bytes - 7));
        assert_eq!(one("event.a", &blanks(limits::ROUTED_EVENT_BYTES)).as_deref(), Some("1"));
        assert_eq!(one("event.a", &blanks(limits::ROUTED_EVENT_BYTES + 1)), None);
    }

    #[test]
    fn many_names_and_many_members_meet_quickly() {
        let names: Vec<String> = (0..1_000).map(|n| format!("event.n{n}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let members: Vec<String> = (0..60_000).map(|n| format!(r#""m{n}":{n}"#)).collect();
        let event = format!(r#"{{{},"n7":"found"}}"#, members.join(","));
        assert!(event.len() < limits::ROUTED_EVENT_BYTES);
        let found = read(&names, &event);
        assert_eq!(found.iter().flatten().collect::<Vec<_>>(), ["found"]);
        assert_eq!(found[7].as_deref(), Some("found"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_fault(event in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut fields = Fields::default();
            fields.add(&["a".into(), "0".into()]);
            fields.add(&["a".into()]);
            fields.read(&event);
        }
    }
}
