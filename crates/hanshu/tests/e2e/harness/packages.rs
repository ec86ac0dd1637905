//! Packages, good and bad.

use std::fs;
use std::io::{Cursor, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use zip::ZipWriter;
use zip::write::SimpleFileOptions;

/// A zip of these files; names are taken as they are.
pub(crate) fn zip(files: &[(&str, &str)]) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, text) in files {
        writer.start_file(*name, SimpleFileOptions::default()).unwrap();
        writer.write_all(text.as_bytes()).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

/// A zip with one symbolic link beside a file.
pub(crate) fn with_symlink(name: &str, target: &str) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(zip(&[("index.js", "")])));
    writer = ZipWriter::new_append(writer.finish().unwrap()).unwrap();
    writer.add_symlink(name, target, SimpleFileOptions::default()).unwrap();
    writer.finish().unwrap().into_inner()
}

/// A zip of about 300 KB that unpacks to `mib` MiB of zeros. Made by Python: unoptimised Rust takes minutes.
pub(crate) fn bomb(mib: usize) -> Vec<u8> {
    const SCRIPT: &str = "
import sys, zipfile
with zipfile.ZipFile(sys.argv[1], 'w', zipfile.ZIP_DEFLATED, compresslevel=1) as z:
    with z.open('zeros', 'w', force_zip64=False) as f:
        for _ in range(int(sys.argv[2])):
            f.write(bytes(1 << 20))
";
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bomb.zip");
    let args = ["-c", SCRIPT, path.to_str().unwrap(), &mib.to_string()];
    let status = Command::new("python3").args(args).status().expect("python3 is on the PATH");
    assert!(status.success());
    fs::read(path).unwrap()
}

/// A zip of one file that does not compress.
pub(crate) fn incompressible(bytes: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let mut noise = Vec::with_capacity(bytes);
    while noise.len() < bytes {
        // Xorshift (Marsaglia 2003): noise enough for a compressor.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        noise.extend_from_slice(&state.to_le_bytes());
    }
    noise.truncate(bytes);
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    let stored = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    writer.start_file("index.js", stored).unwrap();
    writer.write_all(b"exports.handler = async () => 1\n").unwrap();
    writer.start_file("noise", stored).unwrap();
    writer.write_all(&noise).unwrap();
    writer.finish().unwrap().into_inner()
}

/// Writes files into a folder.
pub(crate) fn write(dir: &Path, files: &[(&str, &str)]) {
    for (name, text) in files {
        let path = dir.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}

/// Writes a file that only its owner may read, as the daemon wants of those with secrets.
pub(crate) fn private_file(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}
