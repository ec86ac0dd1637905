//! Which interpreter of the host a `bootstrap` asks for, if it is a script: its first line says so.

use std::fs::OpenOptions;
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use super::bootstrap;
use crate::process::packages::Unpacked;
use crate::process::runtimes::Language;

/// What the kernel reads of the first line, in bytes (`BINPRM_BUF_SIZE`).
const LINE_BYTES: u64 = 256;

/// Whose root has the interpreter that the script `bootstrap` asks for: that of web servers has Node.js and Python. `None` if it is no script, or one of
/// another interpreter.
pub(in crate::process) fn interpreter(unpacked: &Unpacked) -> Option<Language> {
    let (_, file) = bootstrap(unpacked)?;
    asked_for(&first_bytes(&file)?)
}

/// What the file begins with. A link is not followed: it would lead out of the package here, not in the sandbox.
fn first_bytes(file: &Path) -> Option<Vec<u8>> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(file).ok()?;
    let mut bytes = Vec::new();
    let is_file = file.metadata().ok()?.is_file();
    (is_file && file.take(LINE_BYTES).read_to_end(&mut bytes).is_ok()).then_some(bytes)
}

fn asked_for(bytes: &[u8]) -> Option<Language> {
    let line = bytes.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
    let line = String::from_utf8_lossy(line);
    let mut words = line.split_ascii_whitespace();
    let mut program = name(words.next()?);
    if program == "env" {
        program = name(words.find(|word| !word.starts_with('-') && !word.contains('='))?);
    }
    match program {
        "java" => Some(Language::Java),
        "node" | "python" => Some(Language::Web),
        _ if program.starts_with("python3") => Some(Language::Web),
        _ => None,
    }
}

/// The last part of a path.
fn name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_names_the_interpreter() {
        for (text, language) in [
            ("#!/usr/bin/env python3\nimport sys", Some(Language::Web)),
            ("#! /var/lang/bin/python3.11 -I\n", Some(Language::Web)),
            ("#!/usr/bin/env -S A=b node --no-warnings", Some(Language::Web)),
            ("#!/usr/bin/env -S java -cp /var/task/lib/* Main\n", Some(Language::Java)),
            ("#!/bin/sh\nexec python3\n", None),
            ("#!/usr/bin/env -S\n", None),
            ("#!\n", None),
            ("#!/usr/bin/env pythonic", None),
            ("\x7fELF python3", None),
            ("", None),
        ] {
            assert_eq!(asked_for(text.as_bytes()), language, "{text}");
        }
    }

    #[test]
    fn a_link_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let (script, link) = (folder.path().join("script"), folder.path().join("bootstrap"));
        std::fs::write(&script, "#!/usr/bin/env node\n").unwrap();
        std::os::unix::fs::symlink(&script, &link).unwrap();
        assert_eq!(first_bytes(&link), None);
        assert_eq!(asked_for(&first_bytes(&script).unwrap()), Some(Language::Web));
    }
}
