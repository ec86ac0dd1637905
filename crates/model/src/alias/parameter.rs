//! What rules and sticky keys read of a call.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::limits;

/// One parameter of a call. Text in documents: `header.NAME`, `query.NAME`, `cookie.NAME`, `path`, `method`, `source`, `event.A.B` or
/// `event/A/B` (a JSON pointer, RFC 6901, for names that hold dots).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Parameter {
    /// A header's first value; the name is in lower case.
    Header(String),
    /// A query parameter's first value, decoded.
    Query(String),
    /// A cookie's value.
    Cookie(String),
    /// The path behind the function's name, as it was sent.
    Path,
    /// The HTTP method, in upper case.
    Method,
    /// The caller's address.
    Source,
    /// A field of the event: names of members and numbers of elements, from the top.
    Event(Vec<String>),
}

/// What a call offers beside its event. Absent is what the call does not have: a call that did not come by HTTP has no path.
pub trait Parameters: fmt::Debug + Send + Sync {
    /// A header's first value; `name` is in lower case.
    fn header(&self, name: &str) -> Option<&str>;
    /// A query parameter's first value, decoded.
    fn query(&self, name: &str) -> Option<Cow<'_, str>>;
    /// A cookie's value.
    fn cookie(&self, name: &str) -> Option<&str>;
    /// The path behind the function's name.
    fn path(&self) -> Option<&str>;
    /// The HTTP method.
    fn method(&self) -> Option<&str>;
    /// The caller's address.
    fn source(&self) -> Option<IpAddr>;
}

impl dyn Parameters + '_ {
    /// The value of a parameter other than a field of the event.
    pub fn get(&self, parameter: &Parameter) -> Option<Cow<'_, str>> {
        match parameter {
            Parameter::Header(name) => self.header(name).map(Cow::Borrowed),
            Parameter::Query(name) => self.query(name),
            Parameter::Cookie(name) => self.cookie(name).map(Cow::Borrowed),
            Parameter::Path => self.path().map(Cow::Borrowed),
            Parameter::Method => self.method().map(Cow::Borrowed),
            Parameter::Source => self.source().map(|address| Cow::Owned(address.to_string())),
            Parameter::Event(_) => None,
        }
    }
}

/// Parameters apart from the request that they came with: of a queued call, of a dry run, of a call that has none ([`Carried::default`]).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Carried(BTreeMap<Parameter, String>);

impl Carried {
    /// Those of `from` that `wanted` names and `from` has; fields of the event stay in the event.
    pub fn take<'a>(
        from: &dyn Parameters,
        wanted: impl IntoIterator<Item = &'a Parameter>,
    ) -> Self {
        let taken = wanted.into_iter().filter_map(|parameter| {
            from.get(parameter).map(|value| (parameter.clone(), value.into_owned()))
        });
        Self(taken.collect())
    }

    /// Adds a parameter.
    pub fn insert(&mut self, parameter: Parameter, value: String) {
        self.0.insert(parameter, value);
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn text(&self, parameter: &Parameter) -> Option<&str> {
        self.0.get(parameter).map(String::as_str)
    }
}

impl Parameters for Carried {
    fn header(&self, name: &str) -> Option<&str> {
        self.text(&Parameter::Header(name.to_owned()))
    }

    fn query(&self, name: &str) -> Option<Cow<'_, str>> {
        self.text(&Parameter::Query(name.to_owned())).map(Cow::Borrowed)
    }

    fn cookie(&self, name: &str) -> Option<&str> {
        self.text(&Parameter::Cookie(name.to_owned()))
    }

    fn path(&self) -> Option<&str> {
        self.text(&Parameter::Path)
    }

    fn method(&self) -> Option<&str> {
        self.text(&Parameter::Method)
    }

    fn source(&self) -> Option<IpAddr> {
        self.text(&Parameter::Source).and_then(|address| address.parse().ok())
    }
}

impl Parameter {
    /// Whether a key can be made of it; else what is wrong.
    pub(super) fn validate_sticky(&self) -> Result<(), String> {
        match self {
            Self::Path | Self::Method => Err(format!(
                "'{self}' is no key: expected header.NAME, cookie.NAME, query.NAME, source or event.FIELD"
            )),
            _ => Ok(()),
        }
    }
}

impl FromStr for Parameter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || {
            let text: String = text.chars().take(80).flat_map(char::escape_debug).collect();
            format!(
                "parameter '{text}' is not valid: expected header.NAME, query.NAME, cookie.NAME, path, method, source, \
                 event.FIELD.FIELD or event/FIELD/FIELD"
            )
        };
        if text.len() > limits::PARAMETER_BYTES {
            return Err(format!(
                "a parameter's name is too long: expected at most {} bytes",
                limits::PARAMETER_BYTES
            ));
        }
        let named = |prefix: &str| text.strip_prefix(prefix).filter(|name| !name.is_empty());
        match text {
            "path" => return Ok(Self::Path),
            "method" => return Ok(Self::Method),
            "source" => return Ok(Self::Source),
            _ => {}
        }
        if let Some(name) = named("header.") {
            let token =
                name.bytes().all(|b| b.is_ascii_graphic() && !b"()<>@,;:\\\"/[]?={}".contains(&b));
            return if token { Ok(Self::Header(name.to_ascii_lowercase())) } else { Err(bad()) };
        }
        if let Some(name) = named("query.") {
            return Ok(Self::Query(name.to_owned()));
        }
        if let Some(name) = named("cookie.") {
            return Ok(Self::Cookie(name.to_owned()));
        }
        let steps: Vec<String> = if let Some(dotted) = named("event.") {
            dotted.split('.').map(str::to_owned).collect()
        } else if let Some(pointer) = named("event/") {
            pointer.split('/').map(|step| step.replace("~1", "/").replace("~0", "~")).collect()
        } else {
            return Err(bad());
        };
        let pointer = text.starts_with("event/");
        if steps.len() > limits::PARAMETER_STEPS || !pointer && steps.iter().any(String::is_empty) {
            return Err(bad());
        }
        Ok(Self::Event(steps))
    }
}

impl fmt::Display for Parameter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(name) => write!(f, "header.{name}"),
            Self::Query(name) => write!(f, "query.{name}"),
            Self::Cookie(name) => write!(f, "cookie.{name}"),
            Self::Path => f.write_str("path"),
            Self::Method => f.write_str("method"),
            Self::Source => f.write_str("source"),
            Self::Event(steps) if steps.iter().all(|s| !s.is_empty() && !s.contains('.')) => {
                write!(f, "event.{}", steps.join("."))
            }
            Self::Event(steps) => {
                f.write_str("event")?;
                steps.iter().try_for_each(|step| {
                    write!(f, "/{}", step.replace('~', "~0").replace('/', "~1"))
                })
            }
        }
    }
}

impl TryFrom<String> for Parameter {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Parameter> for String {
    fn from(parameter: Parameter) -> Self {
        parameter.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_text() {
        for (text, parameter) in [
            ("header.x-user", Parameter::Header("x-user".into())),
            ("query.a b", Parameter::Query("a b".into())),
            ("cookie.session", Parameter::Cookie("session".into())),
            ("path", Parameter::Path),
            ("method", Parameter::Method),
            ("source", Parameter::Source),
            ("event.user.0", Parameter::Event(vec!["user".into(), "0".into()])),
            ("event/a.b/c~1d~0", Parameter::Event(vec!["a.b".into(), "c/d~".into()])),
            ("event/a.b/", Parameter::Event(vec!["a.b".into(), String::new()])),
        ] {
            let read: Parameter = text.parse().unwrap();
            assert_eq!(read, parameter);
            assert_eq!(read.to_string(), text);
        }
        assert_eq!("header.X-User".parse(), Ok(Parameter::Header("x-user".into())));
        for bad in ["", "header.", "header", "header.a b", "body", "event", "event.", "event.a..b"]
        {
            assert!(bad.parse::<Parameter>().unwrap_err().contains("expected"), "{bad}");
        }
        let long = format!("query.{}", "x".repeat(limits::PARAMETER_BYTES));
        assert!(long.parse::<Parameter>().unwrap_err().contains("too long"));
    }

    #[test]
    fn what_is_carried_is_what_was_asked_for() {
        let mut all = Carried::default();
        for (name, value) in [("header.a", "1"), ("source", "10.0.0.1"), ("path", "/x")] {
            all.insert(name.parse().unwrap(), value.into());
        }
        let wanted = ["header.a", "source", "query.q"].map(|name| name.parse().unwrap());
        let taken = Carried::take(&all, &wanted);
        let taken: &dyn Parameters = &taken;
        assert_eq!(taken.header("a"), Some("1"));
        assert_eq!(taken.get(&Parameter::Source).as_deref(), Some("10.0.0.1"));
        assert_eq!((taken.path(), taken.query("q")), (None, None));
    }
}
