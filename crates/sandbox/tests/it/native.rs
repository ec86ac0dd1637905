//! Packages with machine code of their own, as their registries give them: what they ask of the kernel is not what the runtimes ask.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Cursor, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use model::ports::Sandbox as _;
use serde_json::{Value, json};

use crate::support::{World, in_runtime, invocation, run, version};
use crate::{Place, Test};

/// Linear algebra on as many threads as there are processors.
const NUMPY: &str = "def handler(event, context):
    import numpy
    a = numpy.random.default_rng(1).random((300, 300))
    u, s, v = numpy.linalg.svd(a)
    return bool(numpy.allclose(u @ numpy.diag(s) @ v, a))
";
/// An image made, compressed and read again, on libvips' own threads.
const SHARP: &str = "exports.handler = async () => {
  const sharp = require('sharp');
  const create = { width: 64, height: 64, channels: 3, background: 'red' };
  const jpeg = await sharp({ create }).jpeg().toBuffer();
  const { width, format } = await sharp(await sharp(jpeg).resize(16).png().toBuffer()).metadata();
  return width === 16 && format === 'png';
};
";
/// Time for one call, the loading of some ten megabytes included.
const AMPLE: Duration = Duration::from_secs(60);

pub(crate) fn tests() -> Vec<Test> {
    vec![
        Test {
            name: "native::numpy_computes".into(),
            place: Place::Shared,
            run: Box::new(|world| Box::pin(async move { numpy(&world).await })),
        },
        Test {
            name: "native::sharp_makes_images".into(),
            place: Place::Shared,
            run: Box::new(|world| Box::pin(async move { sharp(&world).await })),
        },
    ]
}

async fn numpy(world: &World) {
    let folder = world.folder.path().join("numpy");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("main.py"), NUMPY).unwrap();
    let runtime = world.sandbox.resolve_runtime("python3").unwrap();
    let minor = runtime.name.trim_start_matches("python");
    install(
        &folder,
        "python3",
        &[
            "-m",
            "pip",
            "install",
            "--quiet",
            "--root-user-action",
            "ignore",
            "--only-binary",
            ":all:",
            "--python-version",
            minor,
            "--target",
            ".",
            "numpy",
        ],
    );
    assert_eq!(answer(world, "python3", &folder).await, json!(true));
}

async fn sharp(world: &World) {
    let folder = world.folder.path().join("sharp");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("main.js"), SHARP).unwrap();
    install(&folder, "npm", &["install", "--silent", "--no-fund", "--no-audit", "sharp"]);
    assert_eq!(answer(world, "nodejs", &folder).await, json!(true));
}

#[expect(clippy::disallowed_methods, reason = "a package manager, as whoever deploys runs it")]
pub(crate) fn install(folder: &Path, program: &str, arguments: &[&str]) {
    let status = Command::new(program).args(arguments).current_dir(folder).status();
    let status = status.unwrap_or_else(|e| panic!("{program} cannot be started: {e}"));
    assert!(status.success(), "{program} {}: {status}", arguments.join(" "));
}

async fn answer(world: &World, runtime: &str, folder: &Path) -> Value {
    let info = world.sandbox.check_package(zip(folder)).await.unwrap();
    let version = version(&world.sandbox, "native", info.digest, BTreeMap::new());
    let version = in_runtime(&world.sandbox, &version, runtime);
    let image = Arc::clone(&world.sandbox).prepare(version).await.unwrap();
    let mut instance = image.start().await.unwrap();
    let outcome = run(&mut *instance, &invocation("null".into(), AMPLE)).await;
    instance.stop().await;
    let body = outcome.result.unwrap_or_else(|failure| {
        panic!("{:?}: {}", failure.kind, String::from_utf8_lossy(&failure.payload))
    });
    serde_json::from_slice(&body).unwrap()
}

/// A zip of a folder's plain files, each with its mode.
pub(crate) fn zip(folder: &Path) -> Bytes {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap().map(Result::unwrap) {
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() {
                let name =
                    entry.path().strip_prefix(folder).unwrap().to_string_lossy().into_owned();
                let mode = entry.metadata().unwrap().permissions().mode();
                let options = zip::write::SimpleFileOptions::default()
                    .unix_permissions(mode)
                    .compression_method(zip::CompressionMethod::Stored);
                zip.start_file(name, options).unwrap();
                zip.write_all(&fs::read(entry.path()).unwrap()).unwrap();
            }
        }
    }
    zip.finish().unwrap().into_inner().into()
}
