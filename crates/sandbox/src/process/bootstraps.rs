//! The bootstraps (`runtimes/`), embedded, and their folders on disk that become `/var/runtime`. Those in scripts share one; [`java`] has others.

pub(super) mod java;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use model::ids::Digest;

use super::root::{make_file, make_folder, remove_tree};
use super::runtimes::{Language, Runtime};

/// Path below `/var/runtime`, text.
const FILES: [(&str, &str); 4] = [
    ("nodejs/bootstrap.js", include_str!("../../../../runtimes/nodejs/bootstrap.js")),
    ("nodejs/ahead.js", include_str!("../../../../runtimes/nodejs/ahead.js")),
    ("python/ahead.py", include_str!("../../../../runtimes/python/ahead.py")),
    ("python/bootstrap.py", include_str!("../../../../runtimes/python/bootstrap.py")),
];

/// The library that runtimes are forked with, below `/var/runtime`, and where it lies there.
const LIBRARY: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/zygote.so"));
const LIBRARY_PATH: &str = "zygote/zygote.so";

/// The folder that becomes `/var/runtime` for a runtime: `plain`, which [`write()`] has made, but where the bootstrap has to be compiled.
pub(super) fn folder(cache: &Path, plain: &Path, runtime: &Runtime) -> io::Result<PathBuf> {
    match runtime.language {
        Language::Node | Language::Python => Ok(plain.to_owned()),
        Language::Java => java::folder(cache, runtime),
    }
}

/// Whether all that a runtime needs is in its folder; else [`java::compile`] puts it there.
pub(super) fn is_complete(folder: &Path, runtime: &Runtime) -> bool {
    runtime.language != Language::Java || java::is_compiled(folder)
}

/// Writes them below `cache`, unless this build's are there; returns the folder.
pub(super) fn write(cache: &Path) -> io::Result<PathBuf> {
    let mut all = serde_json::to_vec(&FILES)?;
    all.extend_from_slice(LIBRARY);
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
    let library = draft.join(LIBRARY_PATH);
    make_folder(library.parent().unwrap_or(&draft))?;
    make_file(&library, LIBRARY)?;
    fs::rename(&draft, &folder)?;
    Ok(folder)
}
