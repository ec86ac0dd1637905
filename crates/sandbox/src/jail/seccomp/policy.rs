//! Reads a policy: what its lines look like stands at the top of `policy/process.policy`.

use std::collections::BTreeMap;

use seccompiler::{SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompRule};

/// The answer to one system call.
#[derive(Clone, Debug)]
pub(super) enum Answer {
    /// It is made.
    Allow,
    /// It is made if all conditions of any of these rules hold, else refused with `EPERM`.
    AllowIf(Vec<SeccompRule>),
    /// The kernel pretends to have no such call.
    Absent,
}

/// Answers by number; every other call is refused.
pub(super) type Answers = BTreeMap<u32, Answer>;

/// Why a policy could not be compiled.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PolicyError {
    /// Line of the policy, from 1; `None` if the whole is at fault.
    pub(super) line: Option<usize>,
    /// What is wrong.
    pub(super) message: String,
}

impl std::fmt::Display for PolicyError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.line {
            Some(line) => write!(f, "system call policy, line {line}: {}", self.message),
            None => write!(f, "system call policy: {}", self.message),
        }
    }
}

impl std::error::Error for PolicyError {}

/// Gives a system call's number on an architecture by its name.
pub(super) type Numbers = fn(&str) -> Option<u32>;

/// The answers of a policy on an architecture, by its numbers.
pub(super) fn parse(policy: &str, arch: &str, numbers: Numbers) -> Result<Answers, PolicyError> {
    let mut answers = Answers::new();
    for (index, line) in policy.lines().enumerate() {
        let line = line.split_once('#').map_or(line, |(rule, _)| rule).trim();
        let added = if line.is_empty() { Ok(()) } else { add(&mut answers, line, arch, numbers) };
        added.map_err(|message| PolicyError { line: Some(index + 1), message })?;
    }
    Ok(answers)
}

fn add(answers: &mut Answers, line: &str, arch: &str, numbers: Numbers) -> Result<(), String> {
    let (name, mut rest) = first_word(line);
    if let Some(only) = rest.strip_prefix('@') {
        let (only, after) = first_word(only);
        if only != arch {
            return Ok(());
        }
        rest = after;
    }
    let number =
        numbers(name).ok_or_else(|| format!("no system call is named {name} on {arch}"))?;
    let twice = || Err(format!("{name} has another line"));
    match first_word(rest) {
        ("", "") => match answers.insert(number, Answer::Allow) {
            None => Ok(()),
            Some(_) => twice(),
        },
        ("errno", "ENOSYS") => match answers.insert(number, Answer::Absent) {
            None => Ok(()),
            Some(_) => twice(),
        },
        ("if", conditions) => {
            let rule = rule(conditions)?;
            match answers.entry(number).or_insert_with(|| Answer::AllowIf(Vec::new())) {
                Answer::AllowIf(rules) => rules.push(rule),
                Answer::Allow | Answer::Absent => return twice(),
            }
            Ok(())
        }
        _ => Err(format!("{rest:?} cannot be read: expected `if …` or `errno ENOSYS`")),
    }
}

fn first_word(text: &str) -> (&str, &str) {
    let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    (word, rest.trim())
}

/// `a0 == 1, a1 & 0xff == 2`: all must hold.
fn rule(conditions: &str) -> Result<SeccompRule, String> {
    let conditions = conditions.split(',').map(condition).collect::<Result<Vec<_>, _>>()?;
    SeccompRule::new(conditions).map_err(|e| e.to_string())
}

fn condition(text: &str) -> Result<SeccompCondition, String> {
    use SeccompCmpArgLen::{Dword, Qword};
    let words: Vec<&str> = text.split_whitespace().collect();
    let parts = match words.as_slice() {
        [argument, "==", value] => Some((*argument, None, *value)),
        [argument, "&", mask, "==", value] => Some((*argument, Some(*mask), *value)),
        _ => None,
    };
    let read = parts.and_then(|(argument, mask, value)| {
        let argument: u8 = argument.strip_prefix('a')?.parse().ok()?;
        Some(match (mask, value) {
            (None, "null") => (argument, Qword, SeccompCmpOp::Eq, 0),
            (None, _) => (argument, Dword, SeccompCmpOp::Eq, number(value)?),
            (Some(mask), _) => {
                (argument, Dword, SeccompCmpOp::MaskedEq(number(mask)?.into()), number(value)?)
            }
        })
    });
    let (argument, length, operator, value) = read.ok_or_else(|| {
        format!("the condition {text:?} cannot be read: expected for instance `a0 & 0xff == 1`")
    })?;
    // The kernel itself takes all arguments that have conditions as 32 bits, but for pointers.
    SeccompCondition::new(argument, length, operator, value.into()).map_err(|e| e.to_string())
}

fn number(text: &str) -> Option<u32> {
    match text.strip_prefix("0x") {
        Some(hex) => u32::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}
