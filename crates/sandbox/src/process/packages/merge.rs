//! Several layers as one folder, by hard links: a merged folder takes no room but for its folders, and its files lie in the page cache once.
//!
//! The layers are what [`crate::package`] has written, files and folders only; anything else is refused, so no link is ever followed. A file and a
//! link to it have one mode, and instances see both read-only.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use model::Result;

use super::super::folders::disk;
use super::super::root::{make_folder, remove_tree};

/// Merges layers into `into`, an empty folder that nobody else writes to; the later ones over the earlier. Folders are merged; where one has a file and
/// another a file or a folder of the same name, only that of the later is there. Blocks.
pub(super) fn merge(layers: &[PathBuf], into: &Path) -> Result<()> {
    layers.iter().try_for_each(|layer| lay(layer, into, &|a, b| fs::hard_link(a, b))).map_err(disk)
}

type Link<'a> = &'a dyn Fn(&Path, &Path) -> io::Result<()>;

/// Lays one layer over what is there. Folder by folder, without recursion: a package decides how deep they are.
fn lay(layer: &Path, into: &Path, link: Link<'_>) -> io::Result<()> {
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(layer.join(&folder))? {
            let entry = entry?;
            let (name, kind) = (folder.join(entry.file_name()), entry.file_type()?);
            let to = into.join(&name);
            if kind.is_dir() {
                lay_folder(&to)?;
                folders.push(name);
            } else if kind.is_file() {
                lay_file(&entry.path(), &to, link)?;
            } else {
                let what = "a layer holds what is neither a file nor a folder";
                return Err(io::Error::new(io::ErrorKind::InvalidData, what));
            }
        }
    }
    Ok(())
}

fn lay_folder(to: &Path) -> io::Result<()> {
    if fs::symlink_metadata(to).is_ok_and(|earlier| !earlier.is_dir()) {
        fs::remove_file(to)?;
    }
    make_folder(to)
}

fn lay_file(from: &Path, to: &Path, link: Link<'_>) -> io::Result<()> {
    match fs::symlink_metadata(to) {
        Ok(earlier) if earlier.is_dir() => remove_tree(to)?,
        Ok(_) => fs::remove_file(to)?,
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(e),
    }
    match link(from, to) {
        Err(e) if is_refusal(&e) => fs::copy(from, to).map(drop),
        other => other,
    }
}

/// Whether it is links that the disk does not want: it has none, or not so many, or not between these places.
fn is_refusal(e: &io::Error) -> bool {
    use io::ErrorKind::{CrossesDevices, PermissionDenied, TooManyLinks, Unsupported};
    matches!(e.kind(), CrossesDevices | PermissionDenied | TooManyLinks | Unsupported)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

    use super::*;

    /// Layers of files, and the empty folder to merge them into.
    fn layers(all: &[&[(&str, &str)]]) -> (tempfile::TempDir, Vec<PathBuf>, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let mut layers = Vec::new();
        for (n, files) in all.iter().enumerate() {
            let layer = folder.path().join(n.to_string());
            make_folder(&layer).unwrap();
            for (name, text) in *files {
                make_folder(layer.join(name).parent().unwrap()).unwrap();
                fs::write(layer.join(name), text).unwrap();
            }
            layers.push(layer);
        }
        let into = folder.path().join("merged");
        make_folder(&into).unwrap();
        (folder, layers, into)
    }

    /// Path → text, and `None` for folders.
    fn tree(folder: &Path) -> BTreeMap<String, Option<String>> {
        let mut found = BTreeMap::new();
        for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap()) {
            let name = entry.file_name().into_string().unwrap();
            if entry.file_type().unwrap().is_dir() {
                let inner = tree(&entry.path());
                found.extend(
                    inner.into_iter().map(|(below, text)| (format!("{name}/{below}"), text)),
                );
                found.insert(name, None);
            } else {
                found.insert(name, Some(fs::read_to_string(entry.path()).unwrap()));
            }
        }
        found
    }

    fn expected(of: &[(&str, Option<&str>)]) -> BTreeMap<String, Option<String>> {
        of.iter().map(|(name, text)| ((*name).to_owned(), text.map(str::to_owned))).collect()
    }

    #[test]
    fn the_later_layer_wins() {
        let (_folder, layers, into) = layers(&[
            &[("both", "1"), ("d/first", "1"), ("folder/x", "1"), ("file", "1")],
            &[("both", "2"), ("d/second", "2"), ("folder", "2"), ("file/y", "2")],
            &[("folder/z", "3")],
        ]);
        merge(&layers, &into).unwrap();
        let all = expected(&[
            ("both", Some("2")),
            ("d", None),
            ("d/first", Some("1")),
            ("d/second", Some("2")),
            // The second layer's file hid the first one's folder, whatever came later.
            ("folder", None),
            ("folder/z", Some("3")),
            ("file", None),
            ("file/y", Some("2")),
        ]);
        assert_eq!(tree(&into), all);
        // The layers are as they were.
        assert_eq!(tree(&layers[2]), expected(&[("folder", None), ("folder/z", Some("3"))]));
        assert_eq!(fs::read_to_string(layers[0].join("folder/x")).unwrap(), "1");
    }

    #[test]
    fn modes_stay_whether_linked_or_copied() {
        let refusals = [libc::EXDEV, libc::EMLINK, libc::EPERM, libc::EACCES, libc::EOPNOTSUPP];
        for refusal in [None].into_iter().chain(refusals.map(Some)) {
            let (_folder, layers, into) = layers(&[&[("bin/tool", "#!"), ("text", "")]]);
            let tool = layers[0].join("bin/tool");
            fs::set_permissions(&tool, fs::Permissions::from_mode(0o755)).unwrap();
            let link = |a: &Path, b: &Path| match refusal {
                Some(number) => Err(io::Error::from_raw_os_error(number)),
                None => fs::hard_link(a, b),
            };
            lay(&layers[0], &into, &link).unwrap();
            let mode = |name: &str| fs::metadata(into.join(name)).unwrap().mode() & 0o7777;
            let plain = fs::metadata(layers[0].join("text")).unwrap().mode() & 0o7777;
            assert_eq!((mode("bin"), mode("bin/tool"), mode("text")), (0o755, 0o755, plain));
            let links = fs::metadata(&tool).unwrap().nlink();
            assert_eq!(links, if refusal.is_some() { 1 } else { 2 }, "{refusal:?}");
        }
    }

    #[test]
    fn other_failures_are_no_reason_to_copy() {
        let (_folder, layers, into) = layers(&[&[("a", "")]]);
        let full = |_: &Path, _: &Path| Err(io::Error::from_raw_os_error(libc::ENOSPC));
        let e = lay(&layers[0], &into, &full).unwrap_err();
        assert_eq!(e.kind(), io::ErrorKind::StorageFull);
        assert_eq!(tree(&into), BTreeMap::new());
    }

    #[test]
    fn links_are_refused_and_not_followed() {
        let (folder, layers, into) = layers(&[&[("a", "")], &[]]);
        let outside = folder.path().join("outside");
        make_folder(&outside).unwrap();
        fs::write(outside.join("file"), "outside").unwrap();
        for target in [outside.as_path(), &outside.join("file"), Path::new("nowhere")] {
            symlink(target, layers[1].join("link")).unwrap();
            let e = merge(&layers, &into).unwrap_err();
            assert_eq!(e.code(), model::Code::StorageUnusable);
            assert_eq!(tree(&into), expected(&[("a", Some(""))]));
            fs::remove_file(layers[1].join("link")).unwrap();
        }
    }

    #[test]
    fn deep_folders_are_merged() {
        let name = format!("{}x", "d/".repeat(100));
        let (_folder, layers, into) = layers(&[&[(&name, "1")], &[(&name, "2")]]);
        merge(&layers, &into).unwrap();
        assert_eq!(fs::read_to_string(into.join(name)).unwrap(), "2");
    }
}
