//! How the end of a call becomes a function's failure, in the words that ends of processes have.

use std::io;

use model::invocation::{Failure, FailureKind};
use model::limits;
use tokio::task::JoinError;
use wasmtime::{Error, Trap};
use wasmtime_wasi::I32Exit;

pub(super) use crate::process::failure::{protocol, response_too_large, timed_out};

/// As much as is told of what a program said last, in characters.
const SAID_CHARS: usize = 400;

/// The package holds no such program.
pub(super) fn no_program(name: &str, why: &io::Error) -> Failure {
    let message = format!(
        "'{name}' is not in the package ({why}): expected the handler to be the program's path, for instance hello.wasm"
    );
    Failure::new(FailureKind::Init, "Runtime.NoProgram", &message)
}

/// The program cannot be compiled.
pub(super) fn not_compiled(name: &str, why: &str) -> Failure {
    let message = format!("'{name}' cannot be compiled: {why}");
    Failure::new(FailureKind::Init, "Runtime.NotCompiled", &message)
}

/// The program wants what there is not, or has not what is wanted.
pub(super) fn not_linked(why: &str) -> Failure {
    Failure::new(FailureKind::Init, "Runtime.NotLinked", why)
}

/// How a run ended that has no answer.
#[derive(Debug)]
pub(super) enum End {
    /// It left with this code.
    Exit(i32),
    /// It was stopped by a trap, or by an error of ours, in words.
    Trap(String),
}

impl End {
    /// What stands behind an error of a run.
    pub(super) fn of(error: &Error) -> Self {
        if let Some(exit) = error.downcast_ref::<I32Exit>() {
            return Self::Exit(exit.0);
        }
        match error.downcast_ref::<Trap>() {
            Some(trap) => Self::Trap(trap.to_string()),
            None => Self::Trap(error.root_cause().to_string()),
        }
    }

    /// The failure. `said`: what the program printed last. `denied`: whether it asked for more than its memory limit before.
    pub(super) fn failure(&self, said: &str, denied: bool, memory_mb: u32) -> Failure {
        let (kind, ended) = match self {
            Self::Exit(0) => {
                ("Runtime.ExitError", "Runtime exited without providing a reason".to_owned())
            }
            Self::Exit(code) => {
                ("Runtime.ExitError", format!("Runtime exited with error: exit status {code}"))
            }
            Self::Trap(trap) => ("Runtime.Trap", format!("Runtime exited with error: {trap}")),
        };
        if denied {
            let message = format!("Memory limit of {memory_mb} MB exceeded. {ended}");
            return Failure::new(FailureKind::MemoryExceeded, "Runtime.OutOfMemory", &message);
        }
        let said: String = said.trim().chars().take(SAID_CHARS).collect();
        let message = if said.is_empty() { ended } else { format!("{ended}: {said}") };
        Failure::new(FailureKind::Exited, kind, &message)
    }
}

/// Its folders cannot be made.
pub(super) fn no_files(why: &io::Error) -> Failure {
    protocol(&format!("its files cannot be made: {why}"))
}

/// The task that ran it is gone.
pub(super) fn task(why: &JoinError) -> Failure {
    if why.is_cancelled() {
        return Failure::new(FailureKind::Exited, "Runtime.ExitError", "the call was ended");
    }
    protocol("the guest's task broke down")
}

/// The answer cannot be handed on as JSON.
pub(super) fn not_json(why: &str) -> Failure {
    Failure::new(FailureKind::Handler, "Runtime.MarshalError", why)
}

/// The answer is over the limit; how far over is not known.
pub(super) fn too_large(bytes: usize) -> Failure {
    response_too_large(bytes, limits::RESPONSE_BYTES)
}

pub(super) use crate::process::failure::is_own;
