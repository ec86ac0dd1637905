//! The compiler's side: a process that reads WebAssembly on standard input, writes native code to standard output, and ends.
//!
//! A process of its own, for a compiler that reads a stranger's bytes may take all memory, take for ever, overflow its stack or panic; it cannot be interrupted, and
//! none of that may be the daemon's. It is this program once more, without the daemon's environment, and limits itself before it reads anything.

use std::ffi::OsString;
use std::io::{self, Read as _, Write as _};

use rustix::process::{
    Resource, Rlimit, Signal, getppid, set_parent_process_death_signal, setrlimit,
};

use super::machine;

/// The first argument that makes this program a compiler.
pub(crate) const COMPILER_ARGUMENT: &str = "__wasm-compiler";
/// Largest program, in bytes: those with an interpreter inside have 10 to 20 MB.
pub(super) const PROGRAM_BYTES: u64 = 64 << 20;
/// Largest compiled code, in bytes.
const CODE_BYTES: u64 = 512 << 20;
/// Memory of the compiler, in bytes.
pub(super) const MEMORY_BYTES: u64 = 2 << 30;

/// The compiler's whole life; its exit code. To be called while there is one thread. `arguments`: the daemon's process id, and how many seconds
/// of a processor it may take.
pub(crate) fn run(arguments: impl Iterator<Item = OsString>) -> i32 {
    let mut numbers = arguments.into_iter().map(|n| n.to_str()?.parse().ok());
    match compile(numbers.next().flatten(), numbers.next().flatten()) {
        Ok(()) => 0,
        Err(why) => {
            // Nobody is left to tell if this fails.
            drop(io::stderr().write_all(why.as_bytes()));
            1
        }
    }
}

fn compile(daemon: Option<u32>, seconds: Option<u32>) -> Result<(), String> {
    limit(daemon, seconds.unwrap_or(1))
        .map_err(|e| format!("the compiler cannot limit itself: {e}"))?;
    let mut bytes = Vec::new();
    let read = io::stdin().take(PROGRAM_BYTES + 1).read_to_end(&mut bytes);
    read.map_err(|e| format!("the program cannot be read: {e}"))?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > PROGRAM_BYTES {
        return Err(format!("the program is too large: expected at most {PROGRAM_BYTES} bytes"));
    }
    let engine = machine::compiling().map_err(|e| format!("{e:#}"))?;
    let code = match Kind::of(&bytes) {
        Some(Kind::Module) => engine.precompile_module(&bytes),
        Some(Kind::Component) => engine.precompile_component(&bytes),
        None => return Err("it is no WebAssembly: expected a core module or a component".into()),
    };
    let code = code.map_err(|e| format!("{e:#}"))?;
    io::stdout().write_all(&code).map_err(|e| format!("the code cannot be written: {e}"))
}

/// Sets this process its limits, and has it end with the daemon.
fn limit(daemon: Option<u32>, seconds: u32) -> io::Result<()> {
    let most = |n| Rlimit { current: Some(n), maximum: Some(n) };
    setrlimit(Resource::Data, most(MEMORY_BYTES))?;
    setrlimit(Resource::Cpu, most(seconds.into()))?;
    setrlimit(Resource::Fsize, most(CODE_BYTES))?;
    setrlimit(Resource::Core, most(model::limits::CORE_DUMP_BYTES))?;
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // It may have ended before.
    let parent = getppid().and_then(|parent| u32::try_from(parent.as_raw_nonzero().get()).ok());
    if parent != daemon {
        return Err(io::Error::other("the daemon is gone"));
    }
    Ok(())
}

/// What a program says that it is, in its first eight bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Module,
    Component,
}

impl Kind {
    fn of(bytes: &[u8]) -> Option<Self> {
        // Magic number, then version and layer (component-model/design/mvp/Binary.md).
        match bytes.get(..8)? {
            [0, b'a', b's', b'm', 1, 0, 0, 0] => Some(Self::Module),
            [0, b'a', b's', b'm', _, _, 1, 0] => Some(Self::Component),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_told_by_their_beginning() {
        assert_eq!(Kind::of(b"\0asm\x01\0\0\0"), Some(Kind::Module));
        assert_eq!(Kind::of(b"\0asm\x0d\0\x01\0rest"), Some(Kind::Component));
        for other in [&b"\0asm"[..], b"(module)", b"\x7fELF\x02\x01\x01\0", b"\0asm\x02\0\0\0"] {
            assert_eq!(Kind::of(other), None);
        }
    }
}
