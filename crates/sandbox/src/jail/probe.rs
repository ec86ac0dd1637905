//! Tries what the jail needs of the kernel, in a process of its own.
//!
//! [`ask`] starts this program once more as a *prober*: like the spawner it has one thread, so it may clone into namespaces. It tries, says what it
//! found as JSON on standard output ([`Kernel`]), and ends. Trying beats reading version numbers and switches: whether an ordinary user may make
//! namespaces depends on the kernel, on sysctls and on security modules, each with switches of its own.

use std::io::{self, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::fs::{Mode, OFlags};
use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::process::{PidfdFlags, WaitId, WaitIdOptions, getpid, pidfd_open, waitid};
use rustix::thread::UnshareFlags;
use serde::{Deserialize, Serialize};

use super::attach;
use super::sys::{self, Cloned};

/// The first argument that makes this program a prober.
pub(super) const PROBER_ARGUMENT: &str = "__sandbox-prober";
/// The second one where the jail will be set up by root.
const AS_ROOT: &str = "as-root";

/// Each namespace alone, to name the one that cannot be had.
const KINDS: [(&str, i32); 6] = [
    ("pid", libc::CLONE_NEWPID),
    ("mount", libc::CLONE_NEWNS),
    ("network", libc::CLONE_NEWNET),
    ("IPC", libc::CLONE_NEWIPC),
    ("UTS", libc::CLONE_NEWUTS),
    ("cgroup", libc::CLONE_NEWCGROUP),
];

/// What the kernel gives this user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Kernel {
    /// User namespaces, or why there are none.
    pub(crate) user_namespaces: Result<(), String>,
    /// All other namespaces and the right to mount in them, or what is missing.
    pub(crate) namespaces: Result<(), String>,
    /// Descriptors of processes.
    pub(crate) pidfd: Result<(), String>,
    /// Whether `clone3` puts a child straight into a version 2 control group.
    pub(crate) clone_into_cgroup: Result<(), String>,
    /// Filters of system calls.
    pub(crate) seccomp: Result<(), String>,
    /// Whether something can be mounted in an instance that runs.
    pub(crate) attach: Result<(), String>,
    /// Version of the Landlock interface.
    pub(crate) landlock: Result<u32, String>,
}

impl Kernel {
    /// Nothing is known, and so nothing promised; `why` stands at every feature.
    pub(crate) fn unknown(why: &str) -> Self {
        let no = || Err(why.to_owned());
        Self {
            user_namespaces: no(),
            namespaces: no(),
            pidfd: no(),
            clone_into_cgroup: no(),
            seccomp: no(),
            attach: no(),
            landlock: Err(why.to_owned()),
        }
    }
}

/// Asks a prober: `executable` calls [`super::main_if_spawner`] first in its `main`. `as_root`: whether instances get host users of their own.
///
/// Blocks for the prober's few milliseconds.
pub(crate) fn ask(executable: &Path, as_root: bool) -> Kernel {
    #[expect(clippy::disallowed_methods, reason = "only sandbox starts processes")]
    let mut prober = Command::new(executable);
    prober.arg0("hanshu-prober").arg(PROBER_ARGUMENT).args(as_root.then_some(AS_ROOT));
    let output = prober.env_clear().current_dir("/").stdin(Stdio::null()).output();
    let answer = output.map_err(|e| e.to_string()).and_then(|output| {
        serde_json::from_slice(&output.stdout)
            .map_err(|_| format!("the prober ended with {}", output.status))
    });
    answer.unwrap_or_else(|why| Kernel::unknown(&format!("could not be tried: {why}")))
}

/// The prober's whole life; its exit code. To be called while there is one thread.
pub(super) fn run(arguments: impl Iterator<Item = std::ffi::OsString>) -> i32 {
    let as_root = arguments.into_iter().any(|a| a == AS_ROOT);
    let written = serde_json::to_vec(&find_out(as_root))
        .map_err(io::Error::from)
        .and_then(|json| io::stdout().write_all(&json));
    i32::from(written.is_err())
}

fn find_out(as_root: bool) -> Kernel {
    let user = sys::USER_NAMESPACE;
    // Instances of an ordinary user get everything else by way of their user namespace.
    let base = if as_root { 0 } else { user };
    Kernel {
        user_namespaces: words(attempt(user, || Ok(()))),
        namespaces: namespaces(base),
        pidfd: words(pidfd_open(getpid(), PidfdFlags::empty()).map(drop).map_err(Into::into)),
        clone_into_cgroup: words(clone_into_cgroup()),
        seccomp: if sys::has_seccomp() { Ok(()) } else { Err("not in this kernel".into()) },
        attach: attach::attempt(base).map_err(|e| e.to_string()),
        landlock: sys::landlock_version().map_err(|e| e.to_string()),
    }
}

fn words<T>(result: io::Result<T>) -> Result<T, String> {
    result.map_err(|e| e.to_string())
}

/// All at once, as the jail makes them; only when that fails, one by one.
fn namespaces(base: u64) -> Result<(), String> {
    let Err(together) = attempt(base | sys::NAMESPACES, || {
        sys::unshare(UnshareFlags::NEWCGROUP)?;
        // Security modules that let an ordinary user have namespaces, but no rights in them, show here.
        let flags = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
        Ok(mount_change("/", flags)?)
    }) else {
        return Ok(());
    };
    let alone = |(name, flag): &(&str, i32)| {
        let flag = u64::try_from(*flag).unwrap_or(0);
        attempt(base | flag, || Ok(())).err().map(|e| format!("{name}: {e}"))
    };
    let lacking: Vec<String> = KINDS.iter().filter_map(alone).collect();
    if lacking.is_empty() {
        return Err(format!("they can be made, but mounting in them fails: {together}"));
    }
    Err(lacking.join("; "))
}

/// Clones a child into new namespaces, runs `then` in it, and tells how both went.
fn attempt(flags: u64, then: fn() -> io::Result<()>) -> io::Result<()> {
    match sys::clone3(flags, None)? {
        Cloned::Child => {
            let errno = then().map_or_else(|e| e.raw_os_error().unwrap_or(libc::EIO), |()| 0);
            sys::exit(errno)
        }
        Cloned::Parent { pidfd, .. } => {
            let ended = waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED)?;
            match ended.and_then(|status| status.exit_status()) {
                Some(0) => Ok(()),
                Some(errno) => Err(io::Error::from_raw_os_error(errno)),
                None => Err(io::Error::other("the process was killed")),
            }
        }
    }
}

/// A kernel that knows the flag finds that this folder is no control group; one that does not, refuses the flag.
fn clone_into_cgroup() -> io::Result<()> {
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::RDONLY;
    let folder: OwnedFd = rustix::fs::open("/", flags, Mode::empty())?;
    match sys::clone3(0, Some(folder.as_fd())) {
        Ok(Cloned::Child) => sys::exit(0),
        Ok(Cloned::Parent { .. }) => Err(io::Error::other("it takes any folder")),
        Err(e) if e.raw_os_error() == Some(libc::EBADF) => Ok(()),
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_prober_nothing_is_promised() {
        for program in ["/no/such/program", "/bin/true"] {
            let kernel = ask(Path::new(program), true);
            let why = kernel.namespaces.clone().unwrap_err();
            assert!(why.starts_with("could not be tried"), "{why}");
            assert_eq!(kernel, Kernel::unknown(&why));
        }
    }

    #[test]
    fn an_answer_survives_the_pipe() {
        let kernel = Kernel { landlock: Ok(4), ..Kernel::unknown("no") };
        let json = serde_json::to_vec(&kernel).unwrap();
        assert_eq!(serde_json::from_slice::<Kernel>(&json).unwrap(), kernel);
    }
}
