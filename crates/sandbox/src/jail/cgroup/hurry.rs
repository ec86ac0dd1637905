//! Lets what is killed die before anything else runs.
//!
//! To die takes a process some ten microseconds of its own time, and one that computes has to wait for them like for any other. A hundred such
//! processes with the weight of a small function, on a host with other work, were seen to wait for seconds; ahead of everybody else they are
//! gone in milliseconds.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::group::{IDLE, write_if_there};

/// Names and highest values of the two versions' files (kernel/sched/sched.h, `MAX_SHARES` and `CGROUP_WEIGHT_MAX`).
#[derive(Debug)]
struct Files {
    weight: &'static str,
    most: &'static str,
    ordinary: &'static str,
    ceiling: &'static str,
    none: &'static str,
}

const V1: Files = Files {
    weight: "cpu.shares",
    most: "262144",
    ordinary: "1024",
    ceiling: "cpu.cfs_quota_us",
    none: "-1",
};
const V2: Files =
    Files { weight: "cpu.weight", most: "10000", ordinary: "100", ceiling: "cpu.max", none: "max" };

/// The weight of all instances together: ordinary, except while one of them dies slowly.
#[derive(Debug)]
pub(super) struct Lane {
    /// The parent group of all instances, where processor time is shared out.
    parent: PathBuf,
    files: &'static Files,
    /// How many are dying.
    dying: Mutex<u32>,
}

impl Lane {
    pub(super) fn new(parent: PathBuf, unified: bool) -> Self {
        let files = if unified { &V2 } else { &V1 };
        Self { parent, files, dying: Mutex::new(0) }
    }

    /// Puts the group `folder` before all others until the answer is dropped. The ceiling and the weight of `folder` are not restored: it is dying.
    pub(super) fn enter(self: &Arc<Self>, folder: &Path, throttled: bool) -> io::Result<Hurry> {
        let files = self.files;
        // Kills all of a version 2 group at once; its first process then need not run for that (Linux 5.14).
        write_if_there(&folder.join("cgroup.kill"), "1")?;
        if throttled {
            fs::write(folder.join(files.ceiling), files.none)?;
        }
        // What is idle can have no weight.
        write_if_there(&folder.join(IDLE), "0")?;
        fs::write(folder.join(files.weight), files.most)?;
        let mut dying = self.dying.lock().unwrap_or_else(PoisonError::into_inner);
        if *dying == 0 {
            fs::write(self.parent.join(files.weight), files.most)?;
        }
        *dying += 1;
        Ok(Hurry { lane: Arc::clone(self) })
    }
}

/// See [`Lane::enter`].
#[derive(Debug)]
pub(crate) struct Hurry {
    lane: Arc<Lane>,
}

impl Drop for Hurry {
    fn drop(&mut self) {
        let Lane { parent, files, dying } = &*self.lane;
        let mut dying = dying.lock().unwrap_or_else(PoisonError::into_inner);
        *dying -= 1;
        if *dying == 0
            && let Err(error) = fs::write(parent.join(files.weight), files.ordinary)
        {
            tracing::warn!(%error, "functions keep more than their share of processor time");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_weight_of_all_is_raised_while_one_dies_and_restored_after_the_last() {
        for unified in [false, true] {
            let at = tempfile::tempdir().unwrap();
            let child = at.path().join("a");
            fs::create_dir(&child).unwrap();
            let lane = Arc::new(Lane::new(at.path().to_owned(), unified));
            let files = lane.files;
            let read = |folder: &Path, file| fs::read_to_string(folder.join(file)).unwrap();
            let first = lane.enter(&child, true).unwrap();
            assert_eq!(read(&child, files.ceiling), files.none);
            assert_eq!(read(&child, files.weight), files.most);
            let second = lane.enter(&child, false).unwrap();
            drop(first);
            assert_eq!(read(at.path(), files.weight), files.most);
            drop(second);
            assert_eq!(read(at.path(), files.weight), files.ordinary);
        }
    }
}
