//! The bootstraps (`runtimes/`), embedded, and their folder on disk that becomes `/var/runtime`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use model::ids::Digest;

use super::root::{make_file, make_folder, remove_tree};

/// Path below `/var/runtime`, text.
const FILES: [(&str, &str); 4] = [
    ("nodejs/bootstrap.js", include_str!("../../../../runtimes/nodejs/bootstrap.js")),
    ("nodejs/ahead.js", include_str!("../../../../runtimes/nodejs/ahead.js")),
    ("python/ahead.py", include_str!("../../../../runtimes/python/ahead.py")),
    ("python/bootstrap.py", include_str!("../../../../runtimes/python/bootstrap.py")),
];

/// Writes them below `cache`, unless this build's are there; returns the folder.
pub(super) fn write(cache: &Path) -> io::Result<PathBuf> {
    let all = serde_json::to_vec(&FILES)?;
    let name: String = Digest::of(&all).to_string().chars().take(16).collect();
    let parent = cache.join("bootstraps");
    let folder = parent.join(name);
    if folder.exists() {
        return Ok(folder);
    }
    let draft = parent.join("draft");
    remove_tree(&draft)?;
    for (path, text) in FILES {
        let path = draft.join(path);
        make_folder(path.parent().unwrap_or(&draft))?;
        make_file(&path, text)?;
    }
    fs::rename(&draft, &folder)?;
    Ok(folder)
}
