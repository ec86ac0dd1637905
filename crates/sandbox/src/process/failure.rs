//! How an instance's end becomes a function's failure, in the words of AWS Lambda.

use std::collections::BTreeMap;
use std::time::Duration;

use model::invocation::{Failure, FailureKind};

use super::runtimes::MemoryEnd;
use crate::jail::Exit;

/// What is known of a dead instance.
#[derive(Clone, Copy, Debug)]
pub(super) struct Autopsy {
    /// How it ended.
    pub(super) exit: Exit,
    /// Most memory it used, in bytes: of the whole instance, or else of its largest process.
    pub(super) peak_bytes: Option<u64>,
    /// Processes that the kernel killed for being over the memory limit.
    pub(super) oom_kills: u64,
    /// Its memory limit, in MiB.
    pub(super) memory_mb: u32,
    /// How the runtime itself ends when it has no memory left.
    pub(super) memory_end: Option<MemoryEnd>,
}

impl Autopsy {
    fn out_of_memory(&self) -> bool {
        let by_itself = match (self.memory_end, self.peak_bytes) {
            (Some(end), Some(peak)) => self.exit == end.exit && peak >= end.from_bytes,
            _ => false,
        };
        self.oom_kills > 0 || by_itself
    }

    /// The failure of a function whose instance ended by itself.
    pub(super) fn failure(&self) -> Failure {
        let ended = match self.exit {
            Exit::Code(0) => "Runtime exited without providing a reason".to_owned(),
            Exit::Code(code) => format!("Runtime exited with error: exit status {code}"),
            Exit::Signal(signal) => {
                format!("Runtime exited with error: signal: {}", signal_name(signal))
            }
            Exit::Killed => "Runtime exited with error: signal: killed".to_owned(),
        };
        if self.out_of_memory() {
            let peak =
                self.peak_bytes.map(|bytes| format!(", peak {} MB", bytes.div_ceil(1 << 20)));
            let peak = peak.unwrap_or_default();
            let message = format!("Memory limit of {} MB exceeded{peak}. {ended}", self.memory_mb);
            return Failure::new(FailureKind::MemoryExceeded, "Runtime.OutOfMemory", &message);
        }
        Failure::new(FailureKind::Exited, "Runtime.ExitError", &ended)
    }
}

/// The deadline passed.
pub(crate) fn timed_out(after: Duration) -> Failure {
    let message = format!("Task timed out after {:.2} seconds", after.as_secs_f64());
    Failure::new(FailureKind::Timeout, "Sandbox.Timedout", &message)
}

/// The code was not loaded in time.
pub(super) fn init_timed_out(after: Duration) -> Failure {
    let message = format!("Init timed out after {:.2} seconds", after.as_secs_f64());
    Failure::new(FailureKind::InitTimeout, "Sandbox.InitTimedout", &message)
}

/// The answer was too large.
pub(crate) fn response_too_large(bytes: usize, limit: usize) -> Failure {
    let message = format!(
        "Response payload size ({bytes} bytes) exceeded maximum allowed payload size ({limit} bytes)."
    );
    Failure::new(FailureKind::ResponseTooLarge, "Function.ResponseSizeTooLarge", &message)
}

/// The process did not keep to the protocol.
pub(crate) fn protocol(what: &str) -> Failure {
    let message = format!("Runtime broke the protocol: {what}");
    Failure::new(FailureKind::Protocol, "Runtime.ProtocolError", &message)
}

/// A signal in the words of Go's `syscall.Signal`, which AWS Lambda's messages use.
fn signal_name(signal: i32) -> String {
    match signal {
        libc::SIGHUP => "hangup",
        libc::SIGINT => "interrupt",
        libc::SIGQUIT => "quit",
        libc::SIGILL => "illegal instruction",
        libc::SIGTRAP => "trace/breakpoint trap",
        libc::SIGABRT => "aborted",
        libc::SIGBUS => "bus error",
        libc::SIGFPE => "floating point exception",
        libc::SIGKILL => "killed",
        libc::SIGSEGV => "segmentation fault",
        libc::SIGPIPE => "broken pipe",
        libc::SIGALRM => "alarm clock",
        libc::SIGTERM => "terminated",
        other => return format!("signal {other}"),
    }
    .to_owned()
}

/// Whether bytes are JSON; nothing of them is kept.
pub(crate) fn is_json(bytes: &[u8]) -> bool {
    serde_json::from_slice::<serde::de::IgnoredAny>(bytes).is_ok()
}

/// Whether these bytes say why in the form of errors: then it is the function's own error, and no end of a process.
pub(crate) fn is_own(bytes: &[u8]) -> bool {
    type Object = BTreeMap<String, serde::de::IgnoredAny>;
    serde_json::from_slice::<Object>(bytes).is_ok_and(|object| object.contains_key("errorMessage"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_told_by_their_form() {
        assert!(is_own(br#"{"errorType":"E","errorMessage":"no"}"#));
        for other in ["", "null", "{}", "[1]", "errorMessage"] {
            assert!(!is_own(other.as_bytes()), "{other}");
        }
    }

    fn autopsy(exit: Exit) -> Autopsy {
        Autopsy {
            exit,
            peak_bytes: Some(100 << 20),
            oom_kills: 0,
            memory_mb: 128,
            memory_end: Some(MemoryEnd { exit: Exit::Signal(libc::SIGABRT), from_bytes: 75 << 20 }),
        }
    }

    fn text(failure: &Failure) -> String {
        String::from_utf8(failure.payload.to_vec()).unwrap()
    }

    #[test]
    fn ends_are_worded_as_on_aws() {
        for (exit, words) in [
            (Exit::Code(0), "Runtime exited without providing a reason"),
            (Exit::Code(3), "Runtime exited with error: exit status 3"),
            (Exit::Signal(9), "Runtime exited with error: signal: killed"),
            (Exit::Signal(11), "signal: segmentation fault"),
            (Exit::Signal(40), "signal: signal 40"),
        ] {
            let failure = autopsy(exit).failure();
            assert_eq!(failure.kind, FailureKind::Exited);
            assert!(text(&failure).contains(words), "{}", text(&failure));
        }
    }

    #[test]
    fn memory_is_told_from_other_ends() {
        let kind = |a: Autopsy| a.failure().kind;
        let killed = autopsy(Exit::Signal(9));
        assert_eq!(kind(Autopsy { oom_kills: 1, ..killed }), FailureKind::MemoryExceeded);
        let out = text(&Autopsy { oom_kills: 1, ..killed }.failure());
        assert!(out.contains("Memory limit of 128 MB exceeded, peak 100 MB. Runtime"), "{out}");
        let aborted = autopsy(Exit::Signal(libc::SIGABRT));
        assert_eq!(kind(aborted), FailureKind::MemoryExceeded);
        assert_eq!(kind(Autopsy { peak_bytes: Some(30 << 20), ..aborted }), FailureKind::Exited);
        assert_eq!(kind(Autopsy { memory_end: None, ..aborted }), FailureKind::Exited);
    }

    #[test]
    fn a_timeout_says_how_long() {
        assert!(text(&timed_out(Duration::from_millis(3000))).contains("after 3.00 seconds"));
    }
}
