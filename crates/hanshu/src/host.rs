//! The part of the host's table that is the daemon's own business: descriptors, the data folder, the port. What instances need of the host is
//! the sandbox's part ([`sandbox::examine`]).
//!
//! [`features`] belongs to every table, [`port`] only to one that is made where no daemon listens yet.

use std::fs;
use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use model::isolation::{Feature, Need};
use rustix::fs::{FsWord, statfs};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::DaemonConfig;

/// Descriptors that the daemon holds of each instance: frames, two pipes, the process.
const DESCRIPTORS_PER_INSTANCE: u64 = 4;
/// Descriptors for everything else: the store's files, listeners, packages that are being read.
const DESCRIPTORS_RESERVED: u64 = 256;

/// Names of file systems by their number (`linux/magic.h` and, for XFS, Btrfs and ZFS, their own headers).
const FILE_SYSTEMS: [(FsWord, &str); 10] = [
    (0xef53, "ext4"),
    (0x5846_5342, "xfs"),
    (0x9123_683e, "btrfs"),
    (0x2fc1_2fc1, "zfs"),
    (0xf2f5_2010, "f2fs"),
    (0x794c_7630, "overlayfs"),
    (0x0102_1994, "tmpfs: nothing in it outlives a restart of the machine"),
    (0x6969, "nfs: its locks and writes are not safe for a database"),
    (0xff53_4d42, "cifs: its locks and writes are not safe for a database"),
    (0x6573_5546, "fuse: whether its writes are safe depends on what serves it"),
];

/// Takes as many descriptors as this process may have: the usual soft limit, 1 024, is for programs that use `select`.
pub(crate) fn raise_descriptor_limit() {
    let maximum = getrlimit(Resource::Nofile).maximum;
    // Where even this is forbidden the table says how many there are.
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap_or_default();
}

/// Descriptors and data folder.
pub(crate) fn features(config: &DaemonConfig) -> Vec<Feature> {
    vec![data_folder(&config.data), descriptors(config)]
}

fn descriptors(config: &DaemonConfig) -> Feature {
    let limit = getrlimit(Resource::Nofile).maximum;
    let connections = u64::try_from(config.server.connections_max).unwrap_or(u64::MAX);
    let instances = u64::from(config.engine.instances_per_namespace);
    let wanted = connections
        .saturating_add(instances.saturating_mul(DESCRIPTORS_PER_INSTANCE))
        .saturating_add(DESCRIPTORS_RESERVED);
    let found = match limit {
        None => Ok("no limit".to_owned()),
        Some(n) if n >= wanted => Ok(format!("{n} may be open at once")),
        Some(n) => Err(format!("{n} may be open at once, the settings can take {wanted}")),
    };
    let lost = "connections and instances within the configured limits can still be refused";
    Feature::of("descriptors", Need::Option, found, lost)
}

fn data_folder(data: &Path) -> Feature {
    let found = writable(data).map_err(|e| format!("{} cannot be written: {e}", data.display()));
    Feature::of("data-folder", Need::Service, found, "a daemon does not start")
}

/// Writes to the folder, or to the nearest one that exists and in which it would be made; says what file system that is.
fn writable(data: &Path) -> io::Result<String> {
    let absolute = std::path::absolute(data)?;
    let folder: PathBuf = absolute
        .ancestors()
        .find(|p| fs::symlink_metadata(p).is_ok())
        .ok_or(io::ErrorKind::NotFound)?
        .to_owned();
    // Without a name, where the file system can: nothing is left behind whatever happens.
    let probe = tempfile::tempfile_in(&folder)?;
    io::Write::write_all(&mut &probe, b"hanshu")?;
    let space = rustix::fs::fstatvfs(&probe)?;
    let free_mib = space.f_bavail.saturating_mul(space.f_frsize) >> 20;
    let kind = statfs(&folder)?.f_type;
    let name = FILE_SYSTEMS.iter().find(|(number, _)| *number == kind).map(|(_, name)| *name);
    let name = name.map_or_else(|| format!("file system {kind:#x}"), str::to_owned);
    Ok(format!("writable, {free_mib} MiB free, {name}"))
}

/// Whether the port is free.
pub(crate) fn port(config: &DaemonConfig) -> Feature {
    let found = TcpListener::bind(config.listen).map(|listener| {
        let address = listener.local_addr().unwrap_or(config.listen);
        if config.listen.port() == 0 { "any free one".into() } else { format!("{address} is free") }
    });
    let found = found.map_err(|e| format!("{}: {e}", config.listen));
    Feature::of("port", Need::Service, found, "a daemon does not start")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_does_not_exist_yet_is_judged_by_where_it_would_be() {
        let folder = tempfile::tempdir().unwrap();
        let feature = data_folder(&folder.path().join("a/b"));
        assert!(feature.available && feature.detail.starts_with("writable, "), "{feature:?}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left behind");
    }

    #[test]
    fn a_file_in_the_way_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        let feature = data_folder(&file.join("data"));
        assert!(!feature.available, "{feature:?}");
        assert!(feature.detail.contains(file.to_str().unwrap()), "{feature:?}");
    }
}
