//! Downloads a package into a file, which is there whole or not at all.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use serde_json::json;

use super::context::Context;
use super::failure::CliError;
use super::progress::Progress;
use super::screen;

/// Where it goes.
#[derive(Debug, Args)]
pub(super) struct Target {
    /// The file, which is replaced if it is there; or - for standard output [default: NAME-VERSION.zip in this folder, if that is free]
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
}

/// Has `fetch` write into the file.
pub(super) fn download(
    cx: &Context,
    target: &Target,
    default: &str,
    fetch: impl FnOnce(&mut dyn Write) -> Result<u64, CliError>,
) -> anyhow::Result<()> {
    if target.to.as_deref() == Some(Path::new("-")) {
        fetch(&mut io::stdout().lock())?;
        return Ok(());
    }
    let (path, bytes) = into_file(target.to.as_deref(), Path::new(default), |file| {
        let _step = Progress::new(cx.screen).step("downloading");
        fetch(file)
    })?;
    let shown = path.display();
    let text = format!("wrote {shown} ({})", screen::bytes(bytes));
    Ok(cx.screen.done(&json!({ "file": shown.to_string(), "size_bytes": bytes }), &text)?)
}

/// Writes beside the place first. What somebody named is replaced; our own choice of a name is not.
fn into_file(
    named: Option<&Path>,
    default: &Path,
    fetch: impl FnOnce(&mut dyn Write) -> Result<u64, CliError>,
) -> anyhow::Result<(PathBuf, u64)> {
    let path = named.unwrap_or(default);
    let taken = |path: &Path| {
        CliError::new(format!("{} is there already, and nothing is overwritten", path.display()))
            .hint("name the file: --to FILE")
    };
    if named.is_none() && path.exists() {
        return Err(taken(path).into());
    }
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new()
        .permissions(permissions())
        .tempfile_in(folder)
        .map_err(|e| CliError::new(format!("{} cannot be written: {e}", path.display())))?;
    let bytes = fetch(file.as_file_mut())?;
    let kept = if named.is_some() { file.persist(path) } else { file.persist_noclobber(path) };
    match kept {
        Ok(_) => Ok((path.to_owned(), bytes)),
        Err(e) if e.error.kind() == io::ErrorKind::AlreadyExists => Err(taken(path).into()),
        Err(e) => Err(e.error).with_context(|| format!("writing {}", path.display())),
    }
}

/// Those of an ordinary file, less the umask: temporary files are their owner's alone otherwise.
fn permissions() -> fs::Permissions {
    std::os::unix::fs::PermissionsExt::from_mode(0o666)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_whole_or_not_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f-3.zip");
        let half = |file: &mut dyn Write| {
            file.write_all(b"ha").unwrap();
            Err(CliError::new("broke off"))
        };
        into_file(None, &path, half).unwrap_err();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        let whole = |file: &mut dyn Write| {
            file.write_all(b"whole").unwrap();
            Ok(5)
        };
        assert_eq!(into_file(None, &path, whole).unwrap(), (path.clone(), 5));
        let e = into_file(None, &path, whole).unwrap_err();
        assert!(e.to_string().contains("nothing is overwritten"), "{e}");
        fs::write(&path, "old").unwrap();
        into_file(Some(&path), Path::new("x"), whole).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"whole");
    }
}
