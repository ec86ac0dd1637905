//! What is kept, for how long, and what is shared.

use std::io::{Cursor, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::time::{Duration, Instant};

use model::clock::UnixMillis;
use model::function::{CodeRef, FunctionConfig, RuntimeInfo};
use model::ids::FunctionRef;
use model::layer::AttachedLayer;
use model::suites::memory::MemoryBlobs;
use tempfile::TempDir;

use super::*;

/// Time for what is removed in the background.
const PATIENCE: Duration = Duration::from_secs(20);

struct Cache {
    folder: TempDir,
    packages: Packages,
}

impl Cache {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let packages = open(folder.path());
        Self { folder, packages }
    }

    /// Uploads a package with these files.
    async fn upload(&self, files: &[(&str, &str)]) -> PackageInfo {
        let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
        for (name, text) in files {
            zip.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
            zip.write_all(text.as_bytes()).unwrap();
        }
        let zip = Bytes::from(zip.finish().unwrap().into_inner());
        self.packages.blobs.put(zip.clone()).await.unwrap();
        self.packages.take(zip).await.unwrap()
    }

    fn names(&self, of: &str) -> Vec<String> {
        let entries = fs::read_dir(self.folder.path().join(of)).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// Waits until so many merged folders and packages are there.
    async fn settles_at(&self, merged: usize, packages: usize) {
        let until = Instant::now() + PATIENCE;
        loop {
            let found = ["merged", "packages", "drafts"].map(|of| self.names(of).len());
            if found == [merged, packages, 0] {
                return;
            }
            assert!(Instant::now() < until, "{merged}, {packages}, 0 never came: {found:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

fn open(cache: &Path) -> Packages {
    Packages::open(cache, "boot", Arc::<MemoryBlobs>::default(), Tasks::new()).unwrap()
}

fn version(package: &PackageInfo, layers: &[&PackageInfo]) -> Version {
    let code = |info: &PackageInfo| CodeRef {
        digest: info.digest,
        size_bytes: 0,
        unpacked_bytes: info.unpacked_bytes,
    };
    let attached = |(n, info): (usize, &&PackageInfo)| AttachedLayer {
        name: format!("layer{n}").parse().unwrap(),
        version: 1,
        code: code(info),
    };
    Version {
        key: FunctionRef::parse("default", "f").unwrap().key,
        number: None,
        config: FunctionConfig::new("python3", "main.handler"),
        code: code(package),
        layers: layers.iter().enumerate().map(attached).collect(),
        runtime: RuntimeInfo { name: "python3.11".into(), version: "3.11.2".into() },
        modified_at: UnixMillis(0),
    }
}

#[tokio::test]
async fn layers_are_one_folder_in_their_order() {
    let cache = Cache::new();
    let own = cache.upload(&[("main.py", "")]).await;
    let a = cache.upload(&[("both", "a"), ("a", "")]).await;
    let b = cache.upload(&[("both", "b"), ("b", "")]).await;
    let both = async |layers: &[&PackageInfo]| {
        let code = cache.packages.code(&version(&own, layers)).await.unwrap();
        let text = code.layers().map(|opt| fs::read_to_string(opt.join("both")).unwrap());
        (text, code)
    };
    let (none, code) = both(&[]).await;
    assert!(none.is_none() && code.package().join("main.py").is_file());
    let (one, code) = both(&[&a]).await;
    assert_eq!(one.as_deref(), Some("a"));
    // As it is unpacked, nothing is merged.
    assert!(code.layers().unwrap().starts_with(cache.folder.path().join("packages")));
    assert_eq!(cache.names("merged").len(), 0);

    let (text, ab) = both(&[&a, &b]).await;
    let (other, ba) = both(&[&b, &a]).await;
    assert_eq!((text.as_deref(), other.as_deref()), (Some("b"), Some("a")));
    assert_ne!(ab.layers(), ba.layers());
    // Once per list, and no file twice.
    let (_, again) = both(&[&a, &b]).await;
    assert_eq!(again.layers(), ab.layers());
    let inode = |code: &Unpacked| fs::metadata(code.layers().unwrap().join("a")).unwrap().ino();
    assert_eq!(inode(&ab), inode(&code));
    cache.settles_at(2, 3).await;
}

#[tokio::test]
async fn what_nobody_uses_goes() {
    let cache = Cache::new();
    let own = cache.upload(&[("main.py", "")]).await;
    let (a, b) = (cache.upload(&[("a", "")]).await, cache.upload(&[("b", "")]).await);
    let code = async || cache.packages.code(&version(&own, &[&a, &b])).await.unwrap();
    let (first, second) = (code().await, code().await);
    // Forgotten while they are used.
    for info in [&own, &a, &b] {
        cache.packages.forget(&info.digest).await;
    }
    drop(first);
    cache.settles_at(1, 3).await;
    assert!(second.layers().unwrap().join("a").is_file());
    drop(second);
    cache.settles_at(0, 0).await;

    // From the store again, and not forgotten: the packages stay, what was merged goes.
    drop(code().await);
    cache.settles_at(0, 3).await;
    let slots = [&cache.packages.merged, &cache.packages.unpacked];
    let until = Instant::now() + PATIENCE;
    while slots.iter().any(|folders| folders.slots() > 0) {
        assert!(Instant::now() < until, "the turn of a folder that nobody waits for stays");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn versions_that_come_and_go_share_what_is_merged() {
    let cache = Arc::new(Cache::new());
    let own = cache.upload(&[("main.py", "")]).await;
    let (a, b) = (cache.upload(&[("a", "")]).await, cache.upload(&[("b", "")]).await);
    let tasks = Tasks::new();
    let lives: Vec<_> = (0..16)
        .map(|_| {
            let (cache, version) = (Arc::clone(&cache), version(&own, &[&a, &b]));
            tasks.spawn("life", async move {
                for _ in 0..20 {
                    let code = cache.packages.code(&version).await.unwrap();
                    assert!(code.layers().unwrap().join("b").is_file());
                    tokio::task::yield_now().await;
                    assert!(code.layers().unwrap().join("a").is_file());
                }
            })
        })
        .collect();
    for life in lives {
        life.await.unwrap();
    }
    cache.settles_at(0, 3).await;
}

#[tokio::test]
async fn a_start_clears_what_was_merged_and_keeps_packages() {
    let cache = Cache::new();
    let own = cache.upload(&[("main.py", "")]).await;
    let at = |name: &str| cache.folder.path().join(name);
    for left in ["merged/half/code", "drafts/half"] {
        make_folder(&at(left)).unwrap();
    }
    open(cache.folder.path());
    cache.settles_at(0, 1).await;
    assert_eq!(cache.names("packages"), [own.digest.to_string()]);
    // Packages may be half of something when the host was booted since.
    fs::write(at("boot"), "another").unwrap();
    open(cache.folder.path());
    cache.settles_at(0, 0).await;
    let until = Instant::now() + PATIENCE;
    while at("old").exists() {
        assert!(Instant::now() < until, "what was set aside stays");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_layer_that_is_not_in_the_store_is_said() {
    let cache = Cache::new();
    let own = cache.upload(&[("main.py", "")]).await;
    let lost = PackageInfo { digest: Digest::of(b"lost"), unpacked_bytes: 1, entries: 1 };
    let e = cache.packages.code(&version(&own, &[&lost])).await.unwrap_err();
    assert_eq!(e.code(), Code::StorageUnusable);
    assert!(e.message().contains(&lost.digest.to_string()), "{e}");
}

#[test]
fn code_and_layers_are_bounded_together() {
    check_size(limits::UNPACKED_BYTES).unwrap();
    let e = check_size(limits::UNPACKED_BYTES + 1).unwrap_err();
    assert_eq!(e.code(), Code::PackageTooLarge);
    assert!(e.message().contains("layers") && e.message().contains("262144000"), "{e}");
}
