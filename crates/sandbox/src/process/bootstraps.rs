//! The bootstraps (`runtimes/`), embedded, and their folders on disk that become `/var/runtime`. Those in scripts share one; [`java`] has others.

pub(super) mod java;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use model::Result;
use model::ids::Digest;

use super::folders::blocking;
use super::root::{make_file, make_folder, remove_tree};
use super::runtimes::{Language, Runtime};

/// Path below `/var/runtime`, text.
const FILES: [(&str, &str); 9] = [
    ("nodejs/bootstrap.js", include_str!("../../../../runtimes/nodejs/bootstrap.js")),
    ("nodejs/ahead.js", include_str!("../../../../runtimes/nodejs/ahead.js")),
    ("nodejs/ahead-module.mjs", include_str!("../../../../runtimes/nodejs/ahead-module.mjs")),
    ("nodejs/proof.js", include_str!("../../../../runtimes/nodejs/proof.js")),
    ("nodejs/stream.js", include_str!("../../../../runtimes/nodejs/stream.js")),
    ("python/ahead.py", include_str!("../../../../runtimes/python/ahead.py")),
    ("python/bootstrap.py", include_str!("../../../../runtimes/python/bootstrap.py")),
    ("python/proof.py", include_str!("../../../../runtimes/python/proof.py")),
    ("python/stream.py", include_str!("../../../../runtimes/python/stream.py")),
];

/// The library that runtimes are forked with, below `/var/runtime`, and where it lies there.
const LIBRARY: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/zygote.so"));
const LIBRARY_PATH: &str = "zygote/zygote.so";

/// Where there is no bootstrap of ours, below the cache: an empty folder.
const NOTHING: &str = "bootstraps/nothing";

/// The folder that becomes `/var/runtime` for a runtime: `plain`, which [`write()`] has made, but where the bootstrap has to be compiled.
pub(super) fn folder(cache: &Path, plain: &Path, runtime: &Runtime) -> io::Result<PathBuf> {
    match runtime.language {
        Language::Node | Language::Python => Ok(plain.to_owned()),
        Language::Java => java::folder(cache, runtime),
        Language::Provided | Language::Web => {
            let folder = cache.join(NOTHING);
            make_folder(&folder)?;
            Ok(folder)
        }
    }
}

/// Makes sure that the bootstrap of a runtime is in its folder. What has to be compiled is so once, by whoever comes first, one at a time.
pub(super) async fn complete(
    turn: &tokio::sync::Mutex<()>,
    folder: &Path,
    runtime: &Arc<Runtime>,
) -> Result<()> {
    if is_complete(folder, runtime) {
        return Ok(());
    }
    let _turn = turn.lock().await;
    let (runtime, folder) = (Arc::clone(runtime), folder.to_owned());
    blocking(move || match is_complete(&folder, &runtime) {
        true => Ok(()),
        false => java::compile(&folder, &runtime),
    })
    .await
}

fn is_complete(folder: &Path, runtime: &Runtime) -> bool {
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
