//! Rules: which calls go to a version of their own.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::compat::ScfMatch;
use super::parameter::Parameter;
use crate::ids::VersionRef;
use crate::limits;

/// Sends the calls that meet all its conditions to a version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RuleForm", into = "RuleForm")]
pub struct Rule {
    /// All of them have to hold; 1 to 10.
    pub when: Vec<Condition>,
    /// `$LATEST` or a published version's number.
    pub to: VersionRef,
}

/// A rule in a document: `when` and `to`, or Tencent SCF's `Version`, `Key`, `Method`, `Expression`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RuleForm {
    /// All of them have to hold; 1 to 10.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<ConditionForm>>)]
    when: Option<Vec<Condition>>,
    /// `$LATEST` or a published version's number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "8")]
    to: Option<VersionRef>,
    /// SCF: the version.
    #[serde(default, rename = "Version", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    version: Option<VersionRef>,
    /// SCF: `invoke.headers.NAME`.
    #[serde(default, rename = "Key", skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    /// SCF: `exact` or `range`.
    #[serde(default, rename = "Method", skip_serializing_if = "Option::is_none")]
    method: Option<String>,
    /// SCF: a text, or a range such as `[1,10)`.
    #[serde(default, rename = "Expression", skip_serializing_if = "Option::is_none")]
    expression: Option<String>,
}

impl TryFrom<RuleForm> for Rule {
    type Error = String;

    fn try_from(form: RuleForm) -> Result<Self, String> {
        match form {
            RuleForm {
                when: Some(when),
                to: Some(to),
                version: None,
                key: None,
                method: None,
                expression: None,
            } => Ok(Self { when, to }),
            RuleForm {
                when: None,
                to: None,
                version: Some(version),
                key: Some(key),
                method: Some(method),
                expression: Some(expression),
            } => ScfMatch { version, key, method, expression }.rule(),
            _ => Err("a rule is not complete: expected `when` and `to`, or `Version`, `Key`, `Method` and `Expression`".into()),
        }
    }
}

impl From<Rule> for RuleForm {
    fn from(rule: Rule) -> Self {
        Self { when: Some(rule.when), to: Some(rule.to), ..Self::default() }
    }
}

impl Rule {
    /// What is wrong with it, for a message that names the rule.
    pub(super) fn validate(&self) -> Result<(), String> {
        if self.when.is_empty() {
            return Err("has no conditions: expected at least one in `when`".into());
        }
        if self.when.len() > limits::RULE_CONDITIONS {
            return Err(format!(
                "has {} conditions: expected at most {}",
                self.when.len(),
                limits::RULE_CONDITIONS
            ));
        }
        self.when.iter().try_for_each(Condition::validate)
    }
}

/// A parameter and what it is tested for. A call without the parameter does not meet the condition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "ConditionForm", into = "ConditionForm")]
pub struct Condition {
    /// What is tested.
    pub on: Parameter,
    /// For what.
    pub test: Test,
}

/// What a parameter is tested for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Test {
    /// It is this text; of a field of the event that is no text, its JSON. For `source`, also a block of addresses such as `10.0.0.0/8`.
    Exact(String),
    /// It begins so.
    Prefix(String),
    /// It is a number in the range.
    Range(Range),
    /// It is there, or is not.
    Present(bool),
    /// It is one of these, as for `Exact`; 1 to 100.
    OneOf(Vec<String>),
}

/// A condition in a document: `on` and exactly one test.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ConditionForm {
    /// `header.NAME`, `query.NAME`, `cookie.NAME`, `path`, `method`, `source`, `event.FIELD.FIELD` or `event/FIELD/FIELD`.
    #[schema(value_type = String, example = "header.x-beta")]
    on: Option<Parameter>,
    /// It is this text. For `source`, also a block of addresses such as `10.0.0.0/8`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    exact: Option<String>,
    /// It begins so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    prefix: Option<String>,
    /// It is a number in the range, for instance `[1,10)`, `(0,]` or `[,5]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "[1,10)")]
    range: Option<Range>,
    /// It is there (`true`), or is not (`false`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    present: Option<bool>,
    /// It is one of these; 1 to 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    one_of: Option<Vec<String>>,
}

impl TryFrom<ConditionForm> for Condition {
    type Error = String;

    fn try_from(form: ConditionForm) -> Result<Self, String> {
        let ConditionForm { on, exact, prefix, range, present, one_of } = form;
        let on =
            on.ok_or("a condition has no `on`: expected a parameter, for instance header.x-beta")?;
        let tests = [
            exact.map(Test::Exact),
            prefix.map(Test::Prefix),
            range.map(Test::Range),
            present.map(Test::Present),
            one_of.map(Test::OneOf),
        ];
        let mut given = tests.into_iter().flatten();
        match (given.next(), given.next()) {
            (Some(test), None) => Ok(Self { on, test }),
            _ => Err(format!(
                "the condition on {on} is not complete: expected one of exact, prefix, range, present, one_of"
            )),
        }
    }
}

impl From<Condition> for ConditionForm {
    fn from(condition: Condition) -> Self {
        let form = Self { on: Some(condition.on), ..Self::default() };
        match condition.test {
            Test::Exact(text) => Self { exact: Some(text), ..form },
            Test::Prefix(text) => Self { prefix: Some(text), ..form },
            Test::Range(range) => Self { range: Some(range), ..form },
            Test::Present(present) => Self { present: Some(present), ..form },
            Test::OneOf(texts) => Self { one_of: Some(texts), ..form },
        }
    }
}

impl Condition {
    fn validate(&self) -> Result<(), String> {
        self.test.validate()?;
        let addresses = match (&self.on, &self.test) {
            (Parameter::Source, Test::Exact(text)) => std::slice::from_ref(text),
            (Parameter::Source, Test::OneOf(texts)) => texts,
            _ => return Ok(()),
        };
        match addresses.iter().find(|text| block_of(text).is_none()) {
            None => Ok(()),
            Some(bad) => {
                let bad: String = bad.chars().take(80).flat_map(char::escape_debug).collect();
                Err(format!(
                    "compares source with '{bad}': expected an address or a block of them, for instance 10.0.0.0/8 or fd00::/8"
                ))
            }
        }
    }

    /// Whether a call with this value of the parameter meets it; `None` is a call without the parameter.
    pub fn holds(&self, value: Option<&str>) -> bool {
        let same = |wanted: &str, value: &str| match self.on {
            Parameter::Source => wanted == value || in_block(wanted, value).unwrap_or(false),
            _ => wanted == value,
        };
        match (&self.test, value) {
            (Test::Present(present), value) => *present == value.is_some(),
            (_, None) => false,
            (Test::Exact(wanted), Some(value)) => same(wanted, value),
            (Test::Prefix(prefix), Some(value)) => value.starts_with(prefix.as_str()),
            (Test::Range(range), Some(value)) => {
                value.trim().parse().is_ok_and(|number| range.holds(number))
            }
            (Test::OneOf(wanted), Some(value)) => wanted.iter().any(|wanted| same(wanted, value)),
        }
    }
}

/// Whether an address lies in a block; `None` where either is none.
fn in_block(block: &str, address: &str) -> Option<bool> {
    let (first, length) = block_of(block)?;
    let (address, whole) = block_of(address)?;
    let bits = |of: IpAddr| match of {
        IpAddr::V4(of) => u128::from(of.to_bits()) << 96,
        IpAddr::V6(of) => of.to_bits(),
    };
    let same = (bits(first) ^ bits(address)).leading_zeros() >= length;
    Some(same && first.is_ipv4() == address.is_ipv4() && whole >= length)
}

/// The first address of a block, and how many bits all its addresses have in common; of an address alone, it and all its bits. IPv4 written as
/// IPv6 is IPv4.
fn block_of(text: &str) -> Option<(IpAddr, u32)> {
    let (address, length) = match text.split_once('/') {
        Some((address, length)) => (address, Some(length)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().ok()?;
    let most: u32 = if address.is_ipv4() { 32 } else { 128 };
    // No sign, which `parse` would take.
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    let length = match length {
        Some(text) => text.parse().ok().filter(|length| *length <= most && digits(text))?,
        None => most,
    };
    let canonical = address.to_canonical();
    let length = if canonical == address { length } else { length.checked_sub(96)? };
    Some((canonical, length))
}

impl Test {
    fn validate(&self) -> Result<(), String> {
        let texts = match self {
            Self::Exact(text) | Self::Prefix(text) => std::slice::from_ref(text),
            Self::OneOf(texts) => texts,
            Self::Range(_) | Self::Present(_) => return Ok(()),
        };
        if texts.is_empty() || texts.len() > limits::ONE_OF_TEXTS {
            return Err(format!(
                "has a one_of of {} texts: expected 1 to {}",
                texts.len(),
                limits::ONE_OF_TEXTS
            ));
        }
        match texts.iter().find(|text| text.len() > limits::PARAMETER_BYTES) {
            None => Ok(()),
            Some(long) => Err(format!(
                "has a text of {} bytes: expected at most {}",
                long.len(),
                limits::PARAMETER_BYTES
            )),
        }
    }
}

/// A range of numbers, as `[1,10)`: square brackets include the bound, round ones do not; a bound left out is none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Range {
    low: Option<f64>,
    low_included: bool,
    high: Option<f64>,
    high_included: bool,
}

// The bounds are never NaN.
impl Eq for Range {}

impl Range {
    /// Whether a number lies in it.
    pub fn holds(&self, number: f64) -> bool {
        let above = self.low.is_none_or(|low| number > low || self.low_included && number == low);
        let below =
            self.high.is_none_or(|high| number < high || self.high_included && number == high);
        above && below && !number.is_nan()
    }
}

impl FromStr for Range {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parse = || {
            let text = text.trim();
            let low_included = match text.chars().next()? {
                '[' => true,
                '(' => false,
                _ => return None,
            };
            let high_included = match text.chars().next_back()? {
                ']' => true,
                ')' => false,
                _ => return None,
            };
            let (low, high) = text.get(1..text.len().checked_sub(1)?)?.split_once(',')?;
            let bound = |text: &str| match text.trim() {
                "" => Some(None),
                number => number.parse().ok().filter(|n: &f64| n.is_finite()).map(Some),
            };
            let (low, high) = (bound(low)?, bound(high)?);
            let empty = matches!((low, high), (Some(low), Some(high)) if low > high);
            (!empty && (low.is_some() || high.is_some())).then_some(Self {
                low,
                low_included,
                high,
                high_included,
            })
        };
        parse().ok_or_else(|| {
            let text: String = text.chars().take(80).flat_map(char::escape_debug).collect();
            format!("range '{text}' is not valid: expected for instance [1,10], (0,5] or [18,)")
        })
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bound = |bound: Option<f64>| bound.map(|n| n.to_string()).unwrap_or_default();
        let open = if self.low_included { '[' } else { '(' };
        let close = if self.high_included { ']' } else { ')' };
        write!(f, "{open}{},{}{close}", bound(self.low), bound(self.high))
    }
}

impl TryFrom<String> for Range {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Range> for String {
    fn from(range: Range) -> Self {
        range.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(condition: &str, value: Option<&str>) -> bool {
        serde_json::from_str::<Condition>(condition).unwrap().holds(value)
    }

    #[test]
    fn conditions_hold_or_do_not() {
        for (condition, value, expected) in [
            (r#"{"on":"header.a","exact":"x"}"#, Some("x"), true),
            (r#"{"on":"header.a","exact":"x"}"#, Some("X"), false),
            (r#"{"on":"header.a","exact":""}"#, None, false),
            (r#"{"on":"path","prefix":"/v2/"}"#, Some("/v2/a"), true),
            (r#"{"on":"path","prefix":"/v2/"}"#, Some("/v1/a"), false),
            (r#"{"on":"query.n","range":"[1,10)"}"#, Some("1"), true),
            (r#"{"on":"query.n","range":"[1,10)"}"#, Some("9.99"), true),
            (r#"{"on":"query.n","range":"[1,10)"}"#, Some("10"), false),
            (r#"{"on":"query.n","range":"(1,10]"}"#, Some("1"), false),
            (r#"{"on":"query.n","range":"[18,)"}"#, Some("1e9"), true),
            (r#"{"on":"query.n","range":"[1,10)"}"#, Some("five"), false),
            (r#"{"on":"query.n","range":"[,)"}"#, Some("nan"), false),
            (r#"{"on":"cookie.c","present":true}"#, Some(""), true),
            (r#"{"on":"cookie.c","present":true}"#, None, false),
            (r#"{"on":"cookie.c","present":false}"#, None, true),
            (r#"{"on":"event.plan","one_of":["pro","team"]}"#, Some("team"), true),
            (r#"{"on":"event.plan","one_of":["pro","team"]}"#, Some("free"), false),
            (r#"{"on":"source","exact":"10.0.0.0/8"}"#, Some("10.9.9.9"), true),
            (r#"{"on":"source","exact":"10.0.0.0/8"}"#, Some("11.0.0.1"), false),
            (r#"{"on":"source","one_of":["::1","127.0.0.1"]}"#, Some("::1"), true),
            (r#"{"on":"source","exact":"0:0::1"}"#, Some("::1"), true),
            (r#"{"on":"source","exact":"::ffff:10.0.0.0/104"}"#, Some("10.9.9.9"), true),
            (r#"{"on":"source","exact":"10.0.0.0/8"}"#, Some("::ffff:10.0.0.1"), true),
            (r#"{"on":"source","exact":"2001:db8::/33"}"#, Some("2001:db8:7fff::1"), true),
            (r#"{"on":"source","exact":"2001:db8::/33"}"#, Some("2001:db8:8000::1"), false),
            (r#"{"on":"source","exact":"::/0"}"#, Some("10.0.0.1"), false),
            (r#"{"on":"source","exact":"0.0.0.0/0"}"#, Some("10.0.0.1"), true),
        ] {
            if condition.contains("[,)") {
                assert!(serde_json::from_str::<Condition>(condition).is_err());
                continue;
            }
            assert_eq!(holds(condition, value), expected, "{condition} {value:?}");
        }
    }

    #[test]
    fn conditions_have_one_test() {
        for bad in [
            r#"{"on":"header.a"}"#,
            r#"{"on":"header.a","exact":"x","prefix":"y"}"#,
            r#"{"exact":"x"}"#,
            r#"{"on":"header.a","range":"[5,1]"}"#,
            r#"{"on":"header.a","range":"5"}"#,
            r#"{"on":"header.a","equals":"5"}"#,
        ] {
            let e = serde_json::from_str::<Condition>(bad).unwrap_err().to_string();
            assert!(e.contains("expected"), "{bad}: {e}");
        }
    }

    #[test]
    fn sources_are_compared_with_addresses() {
        let validate = |test: &str| {
            let condition = format!(r#"{{"on":"source",{test}}}"#);
            serde_json::from_str::<Condition>(&condition).unwrap().validate()
        };
        for good in [
            r#""exact":"10.0.0.1""#,
            r#""exact":"fd00::/8""#,
            r#""one_of":["::1","10.0.0.0/8"]"#,
            r#""prefix":"10.""#,
            r#""present":true"#,
        ] {
            validate(good).unwrap();
        }
        for bad in [
            r#""exact":"localhost""#,
            r#""exact":"10.0.0.0/33""#,
            r#""exact":"10.0.0.0/+8""#,
            r#""exact":"fd00::/129""#,
            r#""exact":"::ffff:10.0.0.0/8""#,
            r#""one_of":["10.0.0.1","10.0.0"]"#,
        ] {
            let e = validate(bad).unwrap_err();
            assert!(e.contains("expected an address or a block"), "{bad}: {e}");
        }
    }

    #[test]
    fn a_rule_has_one_form() {
        let rule = r#"{"when":[{"on":"header.a","exact":"x"}],"to":"2"}"#;
        let rule: Rule = serde_json::from_str(rule).unwrap();
        assert_eq!(
            serde_json::to_value(&rule).unwrap(),
            serde_json::json!({"when": [{"on": "header.a", "exact": "x"}], "to": "2"})
        );
        for bad in [r#"{"to":"2"}"#, r#"{"when":[],"to":"2","Key":"invoke.headers.a"}"#] {
            let e = serde_json::from_str::<Rule>(bad).unwrap_err().to_string();
            assert!(e.contains("expected `when` and `to`"), "{e}");
        }
    }

    #[test]
    fn ranges_write_as_they_read() {
        for text in ["[1,10]", "(0.5,5]", "[18,)", "(,-3)"] {
            assert_eq!(text.parse::<Range>().unwrap().to_string(), text);
        }
    }
}
