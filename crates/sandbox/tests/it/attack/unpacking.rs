//! Packages that would write outside, or bring what makes one somebody else: the only code of a stranger that the daemon itself touches.

use std::fs;
use std::io::{Cursor, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use model::Code;
use model::ports::Sandbox as _;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use crate::support::World;
use crate::{Place, Test};

pub(super) fn tests() -> Vec<Test> {
    vec![
        Test {
            name: "attack::unpacking::links_are_not_followed_out".into(),
            place: Place::Shared,
            run: Box::new(|world| Box::pin(links(world))),
        },
        Test {
            name: "attack::unpacking::modes_make_nobody_else".into(),
            place: Place::Shared,
            run: Box::new(|world| Box::pin(modes(world))),
        },
        Test {
            name: "attack::unpacking::what_is_there_is_never_written_over".into(),
            place: Place::Shared,
            run: Box::new(|world| Box::pin(written_over(world))),
        },
    ]
}

fn package(fill: impl FnOnce(&mut ZipWriter<Cursor<Vec<u8>>>)) -> Bytes {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    fill(&mut zip);
    zip.finish().unwrap().into_inner().into()
}

fn file(zip: &mut ZipWriter<Cursor<Vec<u8>>>, name: &str, mode: u32) {
    zip.start_file(name, SimpleFileOptions::default().unix_permissions(mode)).unwrap();
    zip.write_all(b"x").unwrap();
}

async fn refused(world: &World, what: &str, package: Bytes) {
    let e = world.sandbox.check_package(package).await.expect_err(what);
    assert_eq!(e.code(), Code::InvalidPackage, "{what}: {e}");
}

async fn links(world: Arc<World>) {
    let outside = world.folder.path().join("outside");
    fs::create_dir(&outside).unwrap();
    let target = outside.to_str().unwrap();
    // A link, then a file by way of it; in either order, since the entries of a zip have none.
    let by_link = package(|zip| {
        zip.add_symlink("d", target, SimpleFileOptions::default()).unwrap();
        file(zip, "d/x", 0o644);
    });
    refused(&world, "a file by way of a link", by_link).await;
    let link_later = package(|zip| {
        file(zip, "d/x", 0o644);
        zip.add_symlink("d", target, SimpleFileOptions::default()).unwrap();
    });
    refused(&world, "a link where a folder is", link_later).await;
    for name in ["../outside/x", "a/../../outside/x", &format!("{target}/x"), "a\\..\\..\\x"] {
        refused(&world, name, package(|zip| file(zip, name, 0o644))).await;
    }
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0, "something was written outside");
}

async fn modes(world: Arc<World>) {
    let package = package(|zip| {
        for (name, mode) in [("setuid", 0o4755), ("setgid", 0o2755), ("sticky", 0o1777)] {
            file(zip, name, mode);
        }
        file(zip, "open", 0o666);
    });
    world.sandbox.check_package(package).await.unwrap();
    let mut seen = 0;
    each_file(&world.folder.path().join("cache/packages"), &mut |path| {
        let mode = fs::symlink_metadata(path).unwrap().permissions().mode();
        seen += 1;
        assert_eq!(mode & 0o7022, 0, "{} has mode {mode:o}", path.display());
    });
    assert!(seen >= 4, "the package was not found on disk");
}

async fn written_over(world: Arc<World>) {
    // Twice the same, and the same for a file system that does not tell case or a folder from a file.
    let twice = |second: &'static str| {
        package(move |zip| {
            file(zip, "main.py", 0o644);
            file(zip, second, 0o644);
        })
    };
    refused(&world, "a file below a file", twice("main.py/x")).await;
    refused(&world, "a name with a dot", twice("./main.py")).await;
}

fn each_file(at: &Path, visit: &mut dyn FnMut(&Path)) {
    for entry in fs::read_dir(at).unwrap().flatten() {
        if entry.file_type().unwrap().is_dir() {
            each_file(&entry.path(), visit);
        } else {
            visit(&entry.path());
        }
    }
}
