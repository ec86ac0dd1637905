//! Freezes an idle instance: its timers and threads use no processor and do nothing until its next call.
//!
//! Freezing is asked for by whoever holds the instance ([`Freezer::ask`]) and done by whoever has time ([`Freezer::carry_out`]); a call that comes
//! in between, or at the same time, finds an instance that runs when [`Freezer::thaw`] returns. An instance that is awake costs a call one load.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::jail::Pauses;

/// It runs.
const AWAKE: u8 = 0;
/// It is to be frozen.
const ASKED: u8 = 1;
/// It stands still.
const FROZEN: u8 = 2;

/// How the processes of an instance are frozen. All of these can be killed while they are.
#[derive(Debug)]
pub(super) enum Means {
    /// By the control group with this `cgroup.freeze`.
    Group(PathBuf),
    /// By signals.
    Signals(Pauses),
}

impl Means {
    fn set(&self, frozen: bool) -> io::Result<()> {
        match self {
            Self::Group(file) => {
                File::options().write(true).open(file)?.write_all(if frozen { b"1" } else { b"0" })
            }
            Self::Signals(pauses) => pauses.ask(frozen),
        }
    }
}

/// Of one instance.
#[derive(Debug)]
pub(super) struct Freezer {
    state: AtomicU8,
    /// Held while the state is changed from `ASKED` or `FROZEN`.
    means: Mutex<Means>,
}

impl Freezer {
    pub(super) fn new(means: Means) -> Self {
        Self { state: AtomicU8::new(AWAKE), means: Mutex::new(means) }
    }

    /// Whether it runs, and nobody has asked for anything else.
    pub(super) fn is_awake(&self) -> bool {
        self.state.load(Ordering::Acquire) == AWAKE
    }

    /// Whether it stands still.
    pub(super) fn is_frozen(&self) -> bool {
        self.state.load(Ordering::Acquire) == FROZEN
    }

    /// Asks for it to be frozen, while it has no call.
    pub(super) fn ask(&self) {
        self.state.store(ASKED, Ordering::Release);
    }

    /// Does what was asked for, unless a call has come since; whether it did.
    pub(super) fn carry_out(&self) -> bool {
        let means = self.means.lock().unwrap_or_else(PoisonError::into_inner);
        if self.state.load(Ordering::Acquire) != ASKED {
            return false;
        }
        match means.set(true) {
            Ok(()) => {
                self.state.store(FROZEN, Ordering::Release);
                true
            }
            Err(error) => {
                // One that has ended meanwhile, most likely.
                tracing::debug!(%error, "an idle instance is not frozen");
                self.state.store(AWAKE, Ordering::Release);
                false
            }
        }
    }

    /// It runs when this returns, or cannot be used any more; whether it stood still.
    pub(super) fn thaw(&self) -> io::Result<bool> {
        let means = self.means.lock().unwrap_or_else(PoisonError::into_inner);
        let frozen = self.is_frozen();
        if frozen {
            means.set(false)?;
        }
        self.state.store(AWAKE, Ordering::Release);
        Ok(frozen)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn freezer() -> (tempfile::TempDir, PathBuf, Freezer) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("cgroup.freeze");
        fs::write(&file, "-").unwrap();
        let freezer = Freezer::new(Means::Group(file.clone()));
        (folder, file, freezer)
    }

    #[test]
    fn it_is_frozen_once_and_thawed_by_the_call() {
        let (_folder, file, freezer) = freezer();
        assert!(freezer.is_awake() && !freezer.carry_out(), "nobody asked");
        freezer.ask();
        assert!(freezer.carry_out() && freezer.is_frozen() && !freezer.carry_out());
        assert_eq!(fs::read(&file).unwrap(), b"1");
        assert!(freezer.thaw().unwrap() && freezer.is_awake());
        assert_eq!(fs::read(&file).unwrap(), b"0");
    }

    #[test]
    fn a_call_that_comes_first_is_not_frozen_afterwards() {
        let (_folder, file, freezer) = freezer();
        freezer.ask();
        assert!(!freezer.thaw().unwrap(), "it stood not still yet");
        assert!(!freezer.carry_out() && freezer.is_awake());
        assert_eq!(fs::read(&file).unwrap(), b"-");
    }

    #[test]
    fn what_cannot_be_frozen_stays_awake_and_what_cannot_be_thawed_is_an_error() {
        let (folder, _, freezer) = freezer();
        freezer.ask();
        assert!(freezer.carry_out());
        drop(folder);
        freezer.thaw().unwrap_err();
        freezer.ask();
        assert!(!freezer.carry_out() && freezer.is_awake());
    }
}
