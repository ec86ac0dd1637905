//! Merges the sources into one value per setting, each remembering where it came from.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use super::environment::Environment;
use super::settings::{ALL, Default, Kind, NumberDefault, Setting};

/// Variables that start with `HANSHU_` and are not settings of the daemon: the command line's own.
const NOT_SETTINGS: &[&str] =
    &["HANSHU_URL", "HANSHU_KEY", "HANSHU_NAMESPACE", "HANSHU_OUTPUT", "HANSHU_CONFIG"];

/// Where settings come from, weakest first.
#[derive(Debug)]
pub(crate) struct Sources<'a> {
    /// The file's name and text, if there is one.
    pub file: Option<(String, String)>,
    /// The environment.
    pub env: &'a Environment,
    /// Settings given as flags.
    pub flags: Vec<(&'static Setting, String)>,
}

/// The configuration cannot be used.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ConfigError {
    message: String,
    hint: Option<String>,
}

impl ConfigError {
    /// With this message.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None }
    }

    /// Adds what to do next.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// What to do next.
    pub(crate) fn hint_text(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ConfigError {}

/// A value as written, with the place where it stands.
#[derive(Debug)]
struct Given {
    text: String,
    place: String,
}

/// One value per setting that any source gives.
#[derive(Debug)]
pub(crate) struct Values(BTreeMap<&'static str, Given>);

impl Values {
    /// Reads all sources; the strongest wins. Refuses keys that are not in the table.
    pub(crate) fn merge(sources: &Sources<'_>) -> Result<Self, ConfigError> {
        let mut values = Self(BTreeMap::new());
        if let Some((name, text)) = &sources.file {
            values.read_file(name, text)?;
        }
        for (variable, text) in sources.env.with_prefix("HANSHU_") {
            if NOT_SETTINGS.contains(&variable) {
                continue;
            }
            let setting = ALL.iter().find(|s| s.variable() == variable).ok_or_else(|| {
                ConfigError::new(format!("environment variable {variable} is not a known setting"))
                    .hint("unset it, or see docs/reference/config.md for the names there are")
            })?;
            values.put(setting, text.to_owned(), format!("environment variable {variable}"));
        }
        for (setting, text) in &sources.flags {
            values.put(setting, text.clone(), setting.flag.unwrap_or(setting.key).to_owned());
        }
        Ok(values)
    }

    fn put(&mut self, setting: &'static Setting, text: String, place: String) {
        self.0.insert(setting.key, Given { text, place });
    }

    fn read_file(&mut self, name: &str, text: &str) -> Result<(), ConfigError> {
        let table: toml::Table =
            text.parse().map_err(|e| ConfigError::new(format!("{name} is not valid TOML: {e}")))?;
        for (key, value) in &table {
            match value {
                toml::Value::Table(section) => {
                    for (inner, value) in section {
                        self.read_key(name, &format!("{key}.{inner}"), value)?;
                    }
                }
                _ => self.read_key(name, key, value)?,
            }
        }
        Ok(())
    }

    fn read_key(&mut self, file: &str, key: &str, value: &toml::Value) -> Result<(), ConfigError> {
        let setting = ALL.iter().find(|s| s.key == key).ok_or_else(|| {
            ConfigError::new(format!("{file}: {key} is not a known setting"))
                .hint("see docs/reference/config.md for the settings there are")
        })?;
        let text = match (&setting.kind, value) {
            (Kind::Number { .. }, toml::Value::Integer(n)) => n.to_string(),
            (Kind::Flag, toml::Value::Boolean(b)) => b.to_string(),
            (Kind::Number { .. } | Kind::Flag, _) => return Err(wrong_type(file, setting)),
            (_, toml::Value::String(s)) => s.clone(),
            _ => return Err(wrong_type(file, setting)),
        };
        self.put(setting, text, format!("{file}: {key}"));
        Ok(())
    }

    fn given(&self, setting: &Setting) -> Option<&Given> {
        self.0.get(setting.key)
    }

    /// The value of an address.
    pub(crate) fn address(&self, setting: &Setting) -> Result<SocketAddr, ConfigError> {
        let Kind::Address { default } = setting.kind else { return Err(misuse(setting)) };
        let given = self.given(setting);
        let text = given.map_or(default, |g| &g.text);
        text.parse().map_err(|_| {
            let place = given.map_or(setting.key, |g| &g.place);
            ConfigError::new(format!(
                "{place}: '{text}' is not valid: expected ADDR:PORT, for instance 127.0.0.1:9000"
            ))
        })
    }

    /// The value of a flag.
    pub(crate) fn flag(&self, setting: &Setting) -> Result<bool, ConfigError> {
        match self.given(setting) {
            None => Ok(false),
            Some(Given { text, place }) => match text.as_str() {
                "true" | "1" => Ok(true),
                "false" | "0" => Ok(false),
                _ => Err(ConfigError::new(format!(
                    "{place}: '{text}' is not valid: expected true or false"
                ))),
            },
        }
    }

    /// The value of a text, choice or URL; `None` if it is computed or absent by default.
    pub(crate) fn text(&self, setting: &Setting) -> Result<Option<String>, ConfigError> {
        let given = self.given(setting);
        let bad = |g: &Given, expected: String| {
            Err(ConfigError::new(format!(
                "{}: '{}' is not valid: expected {expected}",
                g.place, g.text
            )))
        };
        match (setting.kind, given) {
            (Kind::Text { .. }, Some(g)) if g.text.is_empty() => bad(g, "some text".into()),
            (Kind::Choice { options, .. }, Some(g)) if !options.contains(&g.text.as_str()) => {
                bad(g, format!("one of {}", options.join(", ")))
            }
            (Kind::Url { .. }, Some(g))
                if !(g.text.starts_with("http://") || g.text.starts_with("https://")) =>
            {
                bad(g, "a URL that starts with http:// or https://".into())
            }
            (_, Some(g)) => Ok(Some(g.text.clone())),
            (Kind::Text { default: Default::Fixed(d) } | Kind::Choice { default: d, .. }, None) => {
                Ok(Some(d.to_owned()))
            }
            (_, None) => Ok(None),
        }
    }

    /// The parts of a text, separated by commas; nothing if it has no default.
    pub(crate) fn list<T: FromStr>(
        &self,
        setting: &Setting,
        expected: &str,
    ) -> Result<Vec<T>, ConfigError> {
        let text = self.text(setting)?.unwrap_or_default();
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        let parsed: Result<Vec<T>, _> = parts.map(str::parse).collect();
        parsed.map_err(|_| self.refuse(setting, expected))
    }

    /// What to say of a value that is not as expected.
    pub(crate) fn refuse(&self, setting: &Setting, expected: &str) -> ConfigError {
        let given = self.given(setting);
        let (place, text) = given.map_or((setting.key, ""), |g| (&g.place, &g.text));
        ConfigError::new(format!("{place}: '{text}' is not valid: expected {expected}"))
    }

    /// The value of a number; `None` if it is computed by default.
    pub(crate) fn number(&self, setting: &Setting) -> Result<Option<u64>, ConfigError> {
        let Kind::Number { unit, min, max, default } = setting.kind else {
            return Err(misuse(setting));
        };
        let Some(Given { text, place }) = self.given(setting) else {
            return Ok(match default {
                NumberDefault::Fixed(n) => Some(n),
                NumberDefault::Computed(_) => None,
            });
        };
        match text.parse() {
            Ok(n) if (min..=max).contains(&n) => Ok(Some(n)),
            _ => Err(ConfigError::new(format!(
                "{place}: '{text}' is not valid: expected {min} to {max} ({unit})"
            ))),
        }
    }

    /// A number that fits 32 bits, as its bounds say.
    pub(crate) fn small(&self, setting: &Setting) -> Result<u32, ConfigError> {
        u32::try_from(self.number(setting)?.unwrap_or_default()).map_err(|_| misuse(setting))
    }

    /// A number of things in memory.
    pub(crate) fn count(&self, setting: &Setting) -> Result<usize, ConfigError> {
        usize::try_from(self.number(setting)?.unwrap_or_default()).map_err(|_| misuse(setting))
    }

    /// A number of seconds.
    pub(crate) fn seconds(&self, setting: &Setting) -> Result<Duration, ConfigError> {
        Ok(Duration::from_secs(self.number(setting)?.unwrap_or_default()))
    }
}

fn wrong_type(file: &str, setting: &Setting) -> ConfigError {
    let expected = match setting.kind {
        Kind::Number { .. } => "a whole number",
        Kind::Flag => "true or false",
        _ => "a string",
    };
    ConfigError::new(format!("{file}: {} has the wrong type: expected {expected}", setting.key))
}

/// The table and its reader disagree: a fault of ours, found by any test that loads a configuration.
fn misuse(setting: &Setting) -> ConfigError {
    ConfigError::new(format!("{} is read as another type than its table entry has", setting.key))
}
