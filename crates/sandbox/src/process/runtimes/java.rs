//! Java: which development kits are there, and how their virtual machine is started.
//!
//! A kit says in its file `release` what it is, so none is run to be asked. It needs its compiler: the bootstrap comes as source
//! ([`super::super::bootstraps::java`]).

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use model::function::RuntimeInfo;

use super::{Candidate, Language, Runtime, candidates, executable};
use crate::jail::Mount;
use crate::process::root;

/// Oldest version whose language the bootstrap is written in.
const OLDEST: u32 = 17;
/// Kits that are looked at beside one that the path names: distributions keep them side by side in one folder.
const SIBLINGS_MAX: usize = 64;
/// How deep a kit's folders are searched for links that lead out of it, and how many entries.
const LINKS_DEPTH: usize = 5;
const ENTRIES_MAX: usize = 10_000;
/// The exit status of a virtual machine that ran out of memory, with `-XX:+ExitOnOutOfMemoryError`, and of the bootstrap then.
pub(super) const OUT_OF_MEMORY: i32 = 3;

/// Least heap, in MiB.
const HEAP_MIN_MB: u32 = 16;
/// What a virtual machine needs beside its heap, in MiB: classes, compiled code, stacks (measured: an idle one has 30 MiB of its own).
const OVERHEAD_MB: u32 = 48;
/// Least room for classes, in MiB.
const METASPACE_MIN_MB: u32 = 24;

/// What every virtual machine is started with.
///
/// No file of counters in `/tmp`; no look at control groups, for the heap is told what it may be; the archive of the library's classes; the collector
/// and the compiler with the least threads and the fastest start. A signal ends the process as it does others (`-Xrs`). Out of memory ends it
/// too, whoever would catch it: a virtual machine in that state answers no one. A crash leaves no report behind, and no debugger's socket lies in
/// `/tmp`.
const OPTIONS: [&str; 12] = [
    "-XX:-UsePerfData",
    "-XX:-UseContainerSupport",
    "-Xshare:auto",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-Xrs",
    "-XX:+ExitOnOutOfMemoryError",
    "-XX:ErrorFile=/dev/null",
    "-XX:+DisableAttachMechanism",
    "-Djava.io.tmpdir=/tmp",
    "-Dfile.encoding=UTF-8",
    "-Djava.awt.headless=true",
];

/// What one that is started ahead needs besides, by the version from which on: to load native code of ours and to set variables without a word, and who its function runs
/// as, for one that is forked starts as another user.
const OPTIONS_AHEAD: [(u32, &str); 4] = [
    (24, "--enable-native-access=ALL-UNNAMED"),
    (24, "--sun-misc-unsafe-memory-access=allow"),
    // As `/etc/passwd` of every root has it.
    (OLDEST, "-Duser.name=sbx_user"),
    (OLDEST, "-Duser.home=/tmp"),
];

/// What was found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Kits {
    /// One of each version, the newest first.
    pub(super) usable: Vec<Runtime>,
    /// Why others are not.
    pub(super) unusable: Vec<String>,
}

/// Kits whose `java` lies in one of the folders, and those beside them.
pub(super) fn find(folders: &[PathBuf]) -> Kits {
    let programs = candidates(folders, &["java"]);
    let mut homes: Vec<PathBuf> = Vec::new();
    // A script is somebody's shim: the kit behind it is found if it is on the path, or beside one that is.
    for home in programs.iter().filter(|c| !c.script).filter_map(home_of) {
        let beside = home.parent().map(siblings).unwrap_or_default();
        for home in std::iter::once(home).chain(beside) {
            if !homes.contains(&home) {
                homes.push(home);
            }
        }
    }
    let mut found = Kits::default();
    for home in &homes {
        match kit(home) {
            Ok(runtime) if found.usable.iter().any(|r| r.info.name == runtime.info.name) => {}
            Ok(runtime) => found.usable.push(runtime),
            Err(why) => found.unusable.push(why),
        }
    }
    found.usable.sort_by_key(|r| std::cmp::Reverse(major(&r.info.version)));
    found
}

/// The command line behind the program.
pub(super) fn arguments(memory_mb: u32) -> Vec<String> {
    let mut all: Vec<String> = OPTIONS.map(String::from).into();
    all.push(format!("-Xmx{}m", heap_mb(memory_mb)));
    all.push(format!("-XX:MaxMetaspaceSize={}m", (memory_mb / 4).max(METASPACE_MIN_MB)));
    all.extend(["-cp", "/var/runtime/java", "hanshu.Main"].map(String::from));
    all
}

/// Makes the command line that of one that is started ahead.
pub(super) fn start_ahead(argv: &mut Vec<String>, version: &str) {
    let options = OPTIONS_AHEAD.iter().filter(|(since, _)| major(version) >= *since);
    let options: Vec<String> = options.map(|(_, option)| (*option).to_owned()).collect();
    // Behind the program.
    argv.splice(1..1, options);
}

/// Limit of the heap: below the memory limit, so that garbage is collected before the kernel kills.
pub(super) fn heap_mb(memory_mb: u32) -> u32 {
    memory_mb.saturating_sub(OVERHEAD_MB.max(memory_mb / 5)).max(HEAP_MIN_MB)
}

fn home_of(candidate: &Candidate) -> Option<PathBuf> {
    candidate.path.parent()?.parent().map(Path::to_owned)
}

fn siblings(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().take(SIBLINGS_MAX);
    let homes = entries.filter_map(|e| fs::canonicalize(e.path()).ok());
    let mut homes: Vec<PathBuf> =
        homes.filter(|h| executable(&h.join("bin/java")) == Some(false)).collect();
    homes.sort();
    homes
}

fn major(version: &str) -> u32 {
    version.split('.').next().and_then(|n| n.parse().ok()).unwrap_or(0)
}

/// The kit in a folder, or why it cannot be used.
fn kit(home: &Path) -> Result<Runtime, String> {
    let shown = home.display();
    let release = fs::read_to_string(home.join("release"))
        .map_err(|e| format!("java in {shown}: its file `release` cannot be read: {e}"))?;
    let version = field(&release, "JAVA_VERSION")
        .ok_or(format!("java in {shown} does not say its version"))?;
    let number = major(version);
    if number < OLDEST {
        return Err(format!("java {version} in {shown} is too old: expected {OLDEST} or newer"));
    }
    let modules = field(&release, "MODULES").unwrap_or_default();
    if !modules.split_whitespace().any(|m| m == "jdk.compiler") {
        return Err(format!(
            "java {version} in {shown} has no compiler (jdk.compiler): expected a development kit (JDK)"
        ));
    }
    let program = home.join("bin/java");
    let mut mounts = vec![Mount::bind(&program, "var/lang/bin/java")];
    for name in ["lib", "conf"] {
        // The system's packagers move either to other places.
        if let Ok(folder) = fs::canonicalize(home.join(name)) {
            mounts.push(Mount::bind(folder, format!("var/lang/{name}")));
        }
    }
    mounts.extend(outside(home));
    Ok(Runtime {
        info: RuntimeInfo { name: format!("java{number}"), version: version.to_owned() },
        language: Language::Java,
        program: "/var/lang/bin/java".into(),
        mounts,
        on_host: program,
    })
}

/// A field of the file `release`: `NAME="VALUE"`, a line each.
fn field<'a>(release: &'a str, name: &str) -> Option<&'a str> {
    let value = release.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix('='))?;
    Some(value.trim().trim_matches('"'))
}

/// What links in the kit lead to elsewhere: distributions keep its configuration in `/etc`.
fn outside(home: &Path) -> Vec<Mount> {
    let mut targets = BTreeSet::new();
    let mut left = ENTRIES_MAX;
    for name in ["lib", "conf"] {
        collect_links(&home.join(name), LINKS_DEPTH, &mut left, &mut targets);
    }
    let mut mounts: Vec<Mount> = Vec::new();
    for target in targets.iter().filter(|t| !t.starts_with(home) && !root::is_shared(t)) {
        let place = own_folder(target).unwrap_or(target);
        let to = place.to_string_lossy().trim_start_matches('/').to_owned();
        if let Ok(from) = fs::canonicalize(place)
            && mounts.iter().all(|m| m.target() != to)
        {
            mounts.push(Mount::bind(from, to));
        }
    }
    mounts
}

/// The kit's own folder in `/etc` that a file lies in: one mount instead of dozens.
fn own_folder(target: &Path) -> Option<&Path> {
    target.ancestors().filter(|a| a.parent() == Some(Path::new("/etc"))).find(|a| {
        let name = a.file_name().unwrap_or_default().to_string_lossy().into_owned();
        a.is_dir() && (name.contains("java") || name.contains("jdk"))
    })
}

fn collect_links(folder: &Path, depth: usize, left: &mut usize, targets: &mut BTreeSet<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let Some(rest) = left.checked_sub(1) else { return };
        *left = rest;
        let path = entry.path();
        match entry.file_type() {
            // A relative link would lead to another place where the kit lies inside.
            Ok(kind) if kind.is_symlink() => {
                targets.extend(fs::read_link(&path).ok().filter(|t| t.is_absolute() && t.exists()));
            }
            Ok(kind) if kind.is_dir() && depth > 0 => {
                collect_links(&path, depth - 1, left, targets);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    const JDK: &str = "JAVA_VERSION=\"21.0.4\"\nMODULES=\"java.base jdk.compiler\"\n";

    /// A folder of kits: name, and what its file `release` says.
    fn kits(all: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, release) in all {
            let home = folder.path().join(name);
            for part in ["bin", "lib/security", "conf"] {
                fs::create_dir_all(home.join(part)).unwrap();
            }
            fs::write(home.join("release"), release).unwrap();
            fs::write(home.join("bin/java"), "\x7fELF").unwrap();
            fs::set_permissions(home.join("bin/java"), fs::Permissions::from_mode(0o755)).unwrap();
        }
        folder
    }

    #[test]
    fn kits_are_found_beside_the_one_on_the_path_and_named_by_version() {
        let folder = kits(&[
            ("a", "JAVA_VERSION=\"17.0.1\"\nMODULES=\"java.base jdk.compiler\"\n"),
            ("b", JDK),
            ("jre", "JAVA_VERSION=\"17.0.2\"\nMODULES=\"java.base\"\n"),
            ("old", "JAVA_VERSION=\"1.8.0_392\"\n"),
        ]);
        let found = find(&[folder.path().join("a/bin")]);
        let names: Vec<&str> = found.usable.iter().map(|r| r.info.name.as_str()).collect();
        assert_eq!(names, ["java21", "java17"]);
        let why = found.unusable.join("\n");
        assert!(why.contains("no compiler") && why.contains("too old"), "{why}");
        assert_eq!(find(&[folder.path().to_owned()]), Kits::default());
    }

    #[test]
    fn what_links_lead_to_is_brought_along() {
        let (folder, elsewhere) = (kits(&[("a", JDK)]), tempfile::tempdir().unwrap());
        let target = elsewhere.path().join("jvm.cfg");
        fs::write(&target, "").unwrap();
        symlink(&target, folder.path().join("a/lib/jvm.cfg")).unwrap();
        symlink("../release", folder.path().join("a/lib/inside")).unwrap();
        symlink("/no/such/file", folder.path().join("a/lib/dangling")).unwrap();
        let kit = find(&[folder.path().join("a/bin")]).usable.remove(0);
        let targets: Vec<&str> = kit.mounts.iter().map(Mount::target).collect();
        let inside = target.to_str().unwrap().trim_start_matches('/');
        assert_eq!(targets, ["var/lang/bin/java", "var/lang/lib", "var/lang/conf", inside]);
    }

    #[test]
    fn only_those_started_ahead_may_load_native_code_without_a_word() {
        let word = |option: &&String| option.contains("native") || option.contains("unsafe");
        for (version, options) in [("17.0.15", 0), ("21.0.4", 0), ("24", 2), ("25.0.1", 2)] {
            let mut argv = vec!["java".to_owned(), "-cp".to_owned()];
            start_ahead(&mut argv, version);
            assert_eq!(argv.iter().filter(word).count(), options, "{version}: {argv:?}");
            assert_eq!((argv[0].as_str(), argv[argv.len() - 1].as_str()), ("java", "-cp"));
        }
    }

    #[test]
    fn the_heap_leaves_room_for_the_rest() {
        for (memory, heap) in [(64, 16), (128, 80), (512, 410), (10_240, 8192)] {
            assert_eq!(heap_mb(memory), heap);
        }
    }
}
