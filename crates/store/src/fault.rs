//! Errors of SQLite and of the file system, as errors of the platform.

use std::io;
use std::path::Path;

use model::{Code, Error};
use rusqlite::ErrorCode;

/// Extended result code: the shared-memory file of the write-ahead log could not grow.
const SQLITE_IOERR_SHMSIZE: i32 = 10 | (19 << 8);

const FULL: &str = "the disk that holds the data folder is full";
const FULL_HINT: &str = "free some space; the daemon goes on by itself";

fn full(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::platform(Code::StorageFull, FULL).with_hint(FULL_HINT).with_source(source)
}

/// Why a database operation did not give a value.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Refused by its own rules, before it wrote anything.
    Refused(Error),
    /// The database failed; the transaction is rolled back.
    Database(rusqlite::Error),
}

impl From<rusqlite::Error> for Failure {
    fn from(e: rusqlite::Error) -> Self {
        Self::Database(e)
    }
}

impl From<Error> for Failure {
    fn from(e: Error) -> Self {
        Self::Refused(e)
    }
}

impl From<Failure> for Error {
    fn from(f: Failure) -> Self {
        match f {
            Failure::Refused(e) => e,
            Failure::Database(e) => database(e),
        }
    }
}

/// Whether a statement failed for want of room.
pub(crate) fn is_full(e: &rusqlite::Error) -> bool {
    let rusqlite::Error::SqliteFailure(f, _) = e else { return false };
    f.code == ErrorCode::DiskFull
        || (f.code == ErrorCode::SystemIoFailure && f.extended_code == SQLITE_IOERR_SHMSIZE)
}

/// What a failed statement means for the caller.
pub(crate) fn database(e: rusqlite::Error) -> Error {
    if is_full(&e) {
        return full(e);
    }
    let rusqlite::Error::SqliteFailure(f, _) = &e else { return Error::internal(e) };
    match f.code {
        ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => {
            Error::platform(Code::StorageUnusable, "the catalogue database is damaged")
                .with_source(e)
        }
        _ => Error::internal(e),
    }
}

/// What a failed file operation means for the caller.
pub(crate) fn file(e: io::Error) -> Error {
    match e.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => full(e),
        _ => Error::internal(e),
    }
}

/// The data folder cannot be used, and the message says which and why.
pub(crate) fn unusable(path: &Path, why: impl std::fmt::Display) -> Error {
    Error::platform(Code::StorageUnusable, format!("data folder '{}' {why}", path.display()))
}

/// A file operation that makes the data folder unusable, unless the disk is merely full.
pub(crate) fn unusable_file(path: &Path, what: &str, e: io::Error) -> Error {
    match e.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => full(e),
        _ => unusable(path, format_args!("cannot be used: {what}: {e}")).with_source(e),
    }
}

/// Error for whatever is asked of a store after [`crate::Store::close`].
pub(crate) fn closed() -> Error {
    Error::platform(Code::Unavailable, "the store is closed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_has_one_code_whoever_says_so() {
        for errno in [rustix::io::Errno::NOSPC, rustix::io::Errno::DQUOT] {
            assert_eq!(file(errno.into()).code(), Code::StorageFull);
        }
        for code in [rusqlite::ffi::SQLITE_FULL, SQLITE_IOERR_SHMSIZE] {
            let e = rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), None);
            assert_eq!(database(e).code(), Code::StorageFull);
        }
        assert_eq!(file(rustix::io::Errno::IO.into()).code(), Code::Internal);
    }
}
