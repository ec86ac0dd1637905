//! A second fence around files, behind the mount namespace: Landlock (landlock(7)), where the kernel has it.
//!
//! The root of an instance is read-only and holds nothing of others already. Landlock says so once more and independently of mounts: beneath the
//! root everything may be read and executed, written only to the folders in memory and to device nodes; what lies outside the root cannot be
//! opened, also through a descriptor or a mount that should not be there. It adds what mounts cannot say: no device nodes are made, nothing below `/proc` is
//! written, and (from version 6 of its interface) no signal reaches a process outside, nor a connection an abstract socket outside.

use std::error::Error;
use std::io;
use std::os::fd::OwnedFd;

use landlock::{
    ABI, Access as _, AccessFs, BitFlags, PathBeneath, PathFd, RestrictionStatus, Ruleset,
    RulesetAttr as _, RulesetCreated, RulesetCreatedAttr as _, RulesetError, Scope,
};

use super::spec::{Bind, Mount};

/// What is asked for; of that the kernel enforces what it knows. Version 6 (Linux 6.12) is the last that adds something about files, devices, signals or
/// sockets.
const WANTED: ABI = ABI::V6;

/// What may be done beneath a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Opening {
    folder: String,
    access: BitFlags<AccessFs>,
}

/// The folders of a root with these mounts, and what may be done there.
fn openings(mounts: &[Mount]) -> Vec<Opening> {
    let everything = AccessFs::from_all(WANTED);
    let nodes = AccessFs::MakeChar | AccessFs::MakeBlock | AccessFs::IoctlDev;
    let mut all = vec![Opening { folder: "/".into(), access: AccessFs::from_read(WANTED) }];
    if mounts.iter().any(|m| matches!(m, Mount::Bind(Bind { device: true, .. }))) {
        let access = AccessFs::WriteFile | AccessFs::IoctlDev;
        all.push(Opening { folder: "/dev".into(), access });
    }
    all.extend(mounts.iter().filter_map(|mount| match mount {
        Mount::Memory { to, .. } => {
            Some(Opening { folder: format!("/{to}"), access: everything & !nodes })
        }
        _ => None,
    }));
    all
}

/// Puts this process, and all it will start, behind the fence, for good. Runs in the finished root. Where the kernel has no Landlock nothing
/// happens, and the feature `landlock` is reported as missing.
pub(super) fn enforce(mounts: &[Mount]) -> io::Result<()> {
    restrict(&openings(mounts)).map(drop).map_err(|e| root_cause(&e))
}

/// The fence as a descriptor, for a process of the same root that puts itself behind it; `None` where the kernel has no Landlock.
pub(super) fn ruleset(mounts: &[Mount]) -> io::Result<Option<OwnedFd>> {
    create(&openings(mounts)).map(Into::into).map_err(|e| root_cause(&e))
}

fn restrict(openings: &[Opening]) -> Result<RestrictionStatus, RulesetError> {
    create(openings)?.restrict_self()
}

fn create(openings: &[Opening]) -> Result<RulesetCreated, RulesetError> {
    let mut ruleset = Ruleset::default()
        .handle_access(AccessFs::from_all(WANTED))?
        .scope(Scope::from_all(WANTED))?
        .create()?;
    for Opening { folder, access } in openings {
        // A folder that cannot be opened stays closed: the runtime then says what it lacks.
        let Ok(folder) = PathFd::new(folder) else { continue };
        ruleset = ruleset.add_rule(PathBeneath::new(folder, *access))?;
    }
    Ok(ruleset)
}

/// The system's error behind the crate's.
fn root_cause(error: &(dyn Error + 'static)) -> io::Error {
    let errno = |e: &(dyn Error + 'static)| e.downcast_ref::<io::Error>()?.raw_os_error();
    std::iter::successors(Some(error), |e| (*e).source())
        .find_map(errno)
        .map_or_else(|| io::Error::other(error.to_string()), io::Error::from_raw_os_error)
}

#[cfg(test)]
mod tests {
    use landlock::RulesetStatus;

    use super::*;

    fn memory(to: &str) -> Mount {
        Mount::Memory { to: to.into(), megabytes: 1 }
    }

    fn at<'a>(openings: &'a [Opening], folder: &str) -> &'a Opening {
        openings.iter().find(|o| o.folder == folder).unwrap()
    }

    #[test]
    fn only_folders_in_memory_and_devices_are_written_to() {
        let mounts = [
            Mount::bind("/usr/lib", "usr/lib"),
            Mount::device("null"),
            memory("dev/shm"),
            memory("tmp"),
            Mount::Proc { to: "proc".into() },
        ];
        let openings = openings(&mounts);
        let folders: Vec<_> = openings.iter().map(|o| o.folder.as_str()).collect();
        assert_eq!(folders, ["/", "/dev", "/dev/shm", "/tmp"]);
        let write = AccessFs::from_write(WANTED);
        assert!((at(&openings, "/").access & write).is_empty());
        assert!(at(&openings, "/").access.contains(AccessFs::Execute | AccessFs::ReadDir));
        assert_eq!(at(&openings, "/dev").access & write, AccessFs::WriteFile | AccessFs::IoctlDev);
        for folder in ["/tmp", "/dev/shm"] {
            let access = at(&openings, folder).access;
            assert!(access.contains(AccessFs::MakeReg | AccessFs::Refer | AccessFs::Truncate));
            assert!(!access.intersects(AccessFs::MakeChar | AccessFs::MakeBlock));
        }
    }

    #[test]
    fn without_devices_there_is_no_opening_for_them() {
        assert_eq!(openings(&[memory("tmp")]).len(), 2);
    }

    /// The fence holds a thread that then ends, not the other tests.
    #[test]
    fn what_is_not_opened_is_closed_where_the_kernel_has_landlock() {
        let (inside, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let opened = inside.path().to_str().unwrap().trim_start_matches('/').to_owned();
        let (within, beyond) = (inside.path().join("file"), outside.path().join("file"));
        let fenced = std::thread::spawn(move || {
            let mounts = [memory(&opened), memory("no/such/folder"), Mount::device("null")];
            let status = restrict(&openings(&mounts)).unwrap();
            std::fs::write(&within, "x").unwrap();
            std::fs::write("/dev/null", "x").unwrap();
            let denied = std::fs::write(beyond, "x").map_err(|e| e.kind());
            (status.ruleset, denied)
        });
        match fenced.join().unwrap() {
            (RulesetStatus::NotEnforced, written) => written.unwrap(),
            (_, written) => assert_eq!(written, Err(io::ErrorKind::PermissionDenied)),
        }
    }

    #[test]
    fn the_systems_error_is_found_behind_the_crates() {
        let e = PathFd::new("/no/such/folder").unwrap_err();
        assert_eq!(root_cause(&e).raw_os_error(), Some(libc::ENOENT));
    }
}
