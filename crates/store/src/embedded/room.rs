//! Room on the disk: the last of it is for what was accepted already, which needs some to end.
//!
//! New calls and packages are refused while less is left than the reserve. What ends, waits again or is cancelled is not asked. A database grows when its
//! write-ahead log is folded into it, so that much is not free; pages within it that hold nothing are.

use std::fs;
use std::path::PathBuf;

use model::{Code, Error};
use rusqlite::Connection;
use rustix::fs::statvfs;

/// The reserve is never more than one part in so many of the whole disk.
const RESERVE_PART: u64 = 16;
/// What a new message takes in the database beside its payload, in bytes: its places in the indexes.
pub(crate) const MESSAGE_OVERHEAD_BYTES: u64 = 4 * 1024;

/// A disk, and how much of it is kept for what was accepted.
#[derive(Clone, Debug)]
pub(crate) struct Room {
    folder: PathBuf,
    /// In bytes.
    reserve: u64,
}

/// What is left of a disk, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Left {
    free: u64,
    reserve: u64,
}

impl Room {
    /// `folder`: the data folder. `reserve`: in bytes.
    pub(crate) fn new(folder: PathBuf, reserve: u64) -> Self {
        Self { folder, reserve }
    }

    /// What is left now; none if the file system does not say.
    pub(crate) fn look(&self) -> Option<Left> {
        let disk = statvfs(&self.folder).ok()?;
        let reserve = self.reserve.min(disk.f_blocks.saturating_mul(disk.f_frsize) / RESERVE_PART);
        Some(Left { free: disk.f_bavail.saturating_mul(disk.f_frsize), reserve })
    }

    /// The same for what is written into the database of `conn`, `log` being its write-ahead log.
    pub(crate) fn look_in(&self, conn: &Connection, log: &LogFile) -> Option<Left> {
        let mut left = self.look()?;
        left.free = left.free.saturating_sub(log.bytes());
        if left.is_low() {
            // Only then: it takes a statement.
            left.free = left.free.saturating_add(unused_bytes(conn).unwrap_or(0));
        }
        Some(left)
    }
}

fn unused_bytes(conn: &Connection) -> rusqlite::Result<u64> {
    let figure = |sql| conn.prepare_cached(sql)?.query_row([], |row| row.get::<_, u64>(0));
    Ok(figure("PRAGMA freelist_count")?.saturating_mul(figure("PRAGMA page_size")?))
}

impl Left {
    /// Takes so much for something new.
    ///
    /// Errors: `storage-full`.
    pub(crate) fn take(&mut self, bytes: u64) -> Result<(), Error> {
        match self.free.checked_sub(bytes).filter(|rest| *rest >= self.reserve) {
            Some(rest) => {
                self.free = rest;
                Ok(())
            }
            None => {
                let message = format!(
                    "the disk that holds the data folder is full: {} KiB are left, and the last {} KiB are kept for what was accepted already",
                    self.free >> 10,
                    self.reserve >> 10
                );
                Err(Error::platform(Code::StorageFull, message)
                    .with_hint("free some space; the daemon goes on by itself"))
            }
        }
    }

    /// Whether little more than the reserve is left.
    pub(crate) fn is_low(&self) -> bool {
        self.free < 2 * self.reserve
    }
}

/// The file of a write-ahead log.
#[derive(Clone, Debug)]
pub(crate) struct LogFile(PathBuf);

impl LogFile {
    /// Of the database in this file.
    pub(crate) fn of(database: &std::path::Path) -> Self {
        let mut name = database.as_os_str().to_owned();
        name.push("-wal");
        Self(name.into())
    }

    /// Its size.
    pub(crate) fn bytes(&self) -> u64 {
        fs::metadata(&self.0).map_or(0, |file| file.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_of_a_disk_is_not_for_what_is_new() {
        let mut left = Left { free: 1000, reserve: 300 };
        assert!(!left.is_low());
        left.take(500).unwrap();
        assert!(left.is_low());
        assert_eq!(left.take(201).unwrap_err().code(), Code::StorageFull);
        left.take(200).unwrap();
        left.take(1).unwrap_err();
        let mut off = Left { free: 0, reserve: 0 };
        off.take(0).unwrap();
        assert!(!off.is_low());
    }

    #[test]
    fn a_reserve_is_a_small_part_of_its_disk() {
        let dir = tempfile::tempdir().unwrap();
        let left = Room::new(dir.path().to_owned(), u64::MAX).look().unwrap();
        assert!(left.reserve > 0 && left.reserve < u64::MAX / 2, "{left:?}");
        assert!(Room::new(dir.path().join("none"), 1).look().is_none());
    }
}
