//! The filter of system calls: from the list that people review (`policy/process.policy`) to the program that the kernel runs.
//!
//! [`policy`] reads the list, [`program`] makes one program of it, [`Filter`] loads it. The spawner compiles once, when it starts; every instance
//! loads the same program as the last thing before `exec`.

mod policy;
mod program;

use std::io;
use std::str::FromStr as _;

use seccompiler::BpfProgram;
use syscalls::Sysno;

use super::sys;

/// What processes of functions may ask of the kernel.
const PROCESS_POLICY: &str = include_str!("../../policy/process.policy");

/// A compiled filter, or none where the kernel has no filters; then the feature `seccomp` is reported as missing.
#[derive(Clone, Debug)]
pub(super) struct Filter(Option<BpfProgram>);

impl Filter {
    /// The one for functions. An error is a fault of the list or an architecture that has none.
    pub(super) fn of_functions() -> io::Result<Self> {
        if !sys::has_seccomp() {
            return Ok(Self(None));
        }
        let rules = policy::parse(PROCESS_POLICY, std::env::consts::ARCH, number);
        let program = rules.and_then(|rules| program::compile(&rules, std::env::consts::ARCH));
        program.map(|program| Self(Some(program))).map_err(io::Error::other)
    }

    /// The program as the kernel takes it, instruction by instruction; none where the kernel has no filters.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let instruction = |i: &seccompiler::sock_filter| {
            let mut bytes = [0; 8];
            bytes[..2].copy_from_slice(&i.code.to_ne_bytes());
            bytes[2..4].copy_from_slice(&[i.jt, i.jf]);
            bytes[4..].copy_from_slice(&i.k.to_ne_bytes());
            bytes
        };
        self.0.iter().flatten().flat_map(instruction).collect()
    }

    /// Puts this process, and all it will start, behind the filter, for good.
    pub(super) fn load(&self) -> io::Result<()> {
        let Some(program) = &self.0 else { return Ok(()) };
        seccompiler::apply_filter(program).map_err(|e| match e {
            seccompiler::Error::Seccomp(e) | seccompiler::Error::Prctl(e) => e,
            other => io::Error::other(other),
        })
    }
}

/// A system call's number on the architecture of this program.
fn number(name: &str) -> Option<u32> {
    Sysno::from_str(name).ok().and_then(|call| u32::try_from(call.id()).ok())
}

#[cfg(test)]
mod tests;
