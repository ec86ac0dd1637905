//! Makes one program of a policy's answers: a binary search over ranges of numbers, so that no call costs more than some twenty instructions.
//!
//! The check of the architecture and the comparison of arguments are compiled by the crate `seccompiler`. It puts one call behind the other,
//! though, and knows two answers only. The kernel translates the program at every start, and works out which calls need no look at their
//! arguments by running it for each number: for our list that took 665 µs for a chain of 1 560 instructions, and takes 69 µs for a search of
//! 570. So what is made here is the search, and nothing else.

use std::collections::BTreeMap;

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch, sock_filter};

use super::policy::{Answer, Answers, PolicyError};

/// Numbers from here on belong to the x32 interface of `x86_64` kernels (`__X32_SYSCALL_BIT`).
const X32_FIRST: u32 = 0x4000_0000;
/// Where `struct seccomp_data` has the number.
const NUMBER_OFFSET: u32 = 0;
/// `BPF_LD | BPF_W | BPF_ABS`: loads a word of `struct seccomp_data`.
const LOAD: u16 = 0x20;
/// `BPF_JMP | BPF_JGE | BPF_K`: goes `jt` further if what is loaded is at least `k`, else `jf`.
const JUMP_IF_AT_LEAST: u16 = 0x35;
/// `BPF_JMP | BPF_JA`: goes `k` further.
const JUMP: u16 = 0x05;
/// `BPF_RET | BPF_K`: the answer is `k`.
const RETURN: u16 = 0x06;

/// Numbers from `first` to the next range's, and what to do with them.
#[derive(Debug)]
struct Range {
    first: u32,
    code: BpfProgram,
}

/// The program for an architecture.
pub(super) fn compile(answers: &Answers, arch: &str) -> Result<BpfProgram, PolicyError> {
    let target = TargetArch::try_from(arch).map_err(whole)?;
    let mut program = architecture_check(target)?;
    program.push(sock_filter { code: LOAD, jt: 0, jf: 0, k: NUMBER_OFFSET });
    program.extend(search(&ranges(answers, target)?));
    Ok(program)
}

fn whole(e: impl std::error::Error) -> PolicyError {
    PolicyError { line: None, message: e.to_string() }
}

/// Kills a process that makes calls of another architecture; goes on otherwise.
fn architecture_check(target: TargetArch) -> Result<BpfProgram, PolicyError> {
    // A filter without rules is that check and one answer.
    let mut check = arguments_check(BTreeMap::new(), target)?;
    check.pop();
    Ok(check)
}

fn arguments_check(
    rules: BTreeMap<i64, Vec<seccompiler::SeccompRule>>,
    target: TargetArch,
) -> Result<BpfProgram, PolicyError> {
    let refuse = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    SeccompFilter::new(rules, refuse, SeccompAction::Allow, target)
        .and_then(BpfProgram::try_from)
        .map_err(whole)
}

/// All numbers there are, in order.
fn ranges(answers: &Answers, target: TargetArch) -> Result<Vec<Range>, PolicyError> {
    let refuse = answer(SeccompAction::Errno(libc::EPERM.unsigned_abs()));
    let absent = answer(SeccompAction::Errno(libc::ENOSYS.unsigned_abs()));
    let newest = answers.last_key_value().map_or(0, |(number, _)| *number);
    let mut ranges: Vec<Range> = Vec::new();
    for first in 0..=newest {
        let code = match answers.get(&first) {
            None => refuse.clone(),
            Some(Answer::Absent) => absent.clone(),
            Some(Answer::Allow) => answer(SeccompAction::Allow),
            Some(Answer::AllowIf(rules)) => {
                arguments_check([(i64::from(first), rules.clone())].into(), target)?
            }
        };
        if ranges.last().is_none_or(|range| range.code != code) {
            ranges.push(Range { first, code });
        }
    }
    ranges.push(Range { first: newest + 1, code: absent });
    if target == TargetArch::x86_64 {
        ranges.push(Range { first: X32_FIRST, code: answer(SeccompAction::KillProcess) });
    }
    Ok(ranges)
}

fn answer(action: SeccompAction) -> BpfProgram {
    vec![sock_filter { code: RETURN, jt: 0, jf: 0, k: action.into() }]
}

/// Finds the range of the number that is loaded. No path runs through to the end: each ends with an answer.
fn search(ranges: &[Range]) -> BpfProgram {
    let (lower, upper) = ranges.split_at(ranges.len() / 2);
    let ([_, ..], [middle, ..]) = (lower, upper) else {
        return ranges.first().map(|range| range.code.clone()).unwrap_or_default();
    };
    let below = search(lower);
    let mut code = match u8::try_from(below.len()) {
        Ok(over) => vec![sock_filter { code: JUMP_IF_AT_LEAST, jt: over, jf: 0, k: middle.first }],
        // Only the other kind of jump reaches as far.
        Err(_) => vec![
            sock_filter { code: JUMP_IF_AT_LEAST, jt: 0, jf: 1, k: middle.first },
            sock_filter {
                code: JUMP,
                jt: 0,
                jf: 0,
                k: u32::try_from(below.len()).unwrap_or(u32::MAX),
            },
        ],
    };
    code.extend(below);
    code.extend(search(upper));
    code
}
