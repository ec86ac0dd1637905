//! Language runtimes: which are installed, what they need of the host, how they are started.
//!
//! [`discover`] finds them in a search path, once, at the start of the daemon. Inside the sandbox a runtime lies under `/var/lang`, as on AWS Lambda,
//! wherever it lies on the host.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use model::function::RuntimeInfo;
use model::{Code, Error, Result};
use serde::{Deserialize, Serialize};

use crate::jail::{Exit, Mount};

mod java;
pub(super) mod probe;

/// Least heap of a Node.js process, in MiB.
const NODE_HEAP_MIN_MB: u32 = 16;
/// What a Node.js process needs beside its heap, in MiB: code, stacks, buffers (measured: an idle one has 20 MiB of its own).
const NODE_OVERHEAD_MB: u32 = 40;
/// What a process that waits for its function takes of its own, in MiB (measured: 6.7, 4.3, and 20 with Java 17, 29 with Java 25; and what the
/// kernel does not count).
const NODE_AHEAD_MB: u32 = 8;
const PYTHON_AHEAD_MB: u32 = 5;
const JAVA_AHEAD_MB: u32 = 32;
/// What a zygote takes of its own, in MiB (measured: 12, 17, and 21 with Java 17, 30 with Java 25; and what the kernel does not count), and each child that waits for its
/// function (measured: 1.9, in Java 2 to 3, and up to 0.9 in page tables and stacks of threads).
const NODE_ZYGOTE_MB: u32 = 20;
const PYTHON_ZYGOTE_MB: u32 = 20;
const JAVA_ZYGOTE_MB: u32 = 32;
const CHILD_MB: u32 = 3;
const JAVA_CHILD_MB: u32 = 6;

/// The name of the runtime of functions that bring their own.
const PROVIDED: &str = "provided.al2023";

/// A language.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) enum Language {
    /// Node.js.
    Node,
    /// CPython.
    Python,
    /// Java, by a development kit.
    Java,
    /// None: the package brings an executable, which speaks the Runtime API.
    Provided,
    /// Any: the package brings a web server, and has the interpreters that there are.
    Web,
}

impl Language {
    /// The folder of its bootstrap, below that of all.
    pub(super) fn folder(self) -> &'static str {
        match self {
            Self::Node => "nodejs",
            Self::Python => "python",
            Self::Java => "java",
            Self::Provided => "provided",
            Self::Web => "web",
        }
    }
}

/// An installed runtime.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Runtime {
    /// Its name and exact version.
    pub(super) info: RuntimeInfo,
    /// The language it runs.
    pub(super) language: Language,
    /// The executable, as the function sees it.
    program: String,
    /// What it needs of the host beside the system's libraries.
    pub(super) mounts: Vec<Mount>,
    /// The executable, on the host.
    pub(super) on_host: PathBuf,
}

/// How a runtime ends by itself when memory runs out before the kernel's limit is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MemoryEnd {
    /// Its end.
    pub(super) exit: Exit,
    /// Peak memory, in bytes, from which that end is taken for this: others end so for other reasons.
    pub(super) from_bytes: u64,
}

impl Runtime {
    /// The command line that runs the bootstrap.
    pub(super) fn argv(&self, memory_mb: u32) -> Vec<String> {
        let mut argv = vec![self.program.clone()];
        match self.language {
            Language::Node => {
                argv.push(format!("--max-old-space-size={}", node_heap_mb(memory_mb)));
                argv.push("/var/runtime/nodejs/bootstrap.js".into());
            }
            Language::Python => {
                // Isolated (-I: the script's folder and the environment stay off the module path), without site (-S), writing no byte code (-B).
                argv.extend(["-I", "-S", "-B"].map(String::from));
                argv.push("/var/runtime/python/bootstrap.py".into());
            }
            Language::Java => argv.extend(java::arguments(memory_mb)),
            Language::Provided | Language::Web => {}
        }
        argv
    }

    /// The command line of one that waits for its function.
    pub(super) fn argv_ahead(&self, memory_mb: u32) -> Vec<String> {
        let mut argv = self.argv(memory_mb);
        if self.language == Language::Java {
            java::start_ahead(&mut argv, &self.info.version);
        }
        argv.push("ahead".into());
        argv
    }

    /// Memory of one that waits for its function, in MiB: its own and what the kernel holds for it.
    pub(super) fn ahead_mb(&self) -> u32 {
        match self.language {
            Language::Node => NODE_AHEAD_MB,
            Language::Python => PYTHON_AHEAD_MB,
            Language::Java => JAVA_AHEAD_MB,
            Language::Provided | Language::Web => 0,
        }
    }

    /// The handler by which one that waits is tried: `prove` of `runtimes/*/proof.*`, in Java of `ahead`.
    pub(super) fn trial(&self) -> &'static str {
        match self.language {
            Language::Node | Language::Python => "proof.prove",
            Language::Java => "ahead::prove",
            Language::Provided | Language::Web => "",
        }
    }

    /// Memory of a zygote in MiB, and of a child of it that waits for its function; `None` for languages whose bootstrap is not forked.
    pub(super) fn zygote_mb(&self) -> Option<(u32, u32)> {
        match self.language {
            Language::Node => Some((NODE_ZYGOTE_MB, CHILD_MB)),
            Language::Python => Some((PYTHON_ZYGOTE_MB, CHILD_MB)),
            Language::Java => Some((JAVA_ZYGOTE_MB, JAVA_CHILD_MB)),
            Language::Provided | Language::Web => None,
        }
    }

    /// How it ends when it has no memory left; `None` for languages that go on.
    ///
    /// V8 aborts the process (`SIGABRT`) when its heap limit is reached, which can be before the memory limit is. The heap is nearly all of what it
    /// uses then, so an abort with a peak of at least 85 % of the heap limit is taken for that. A Java virtual machine exits with a status of its
    /// own, which a function can use too; of its heap, a single large request may have found most unused.
    pub(super) fn memory_end(&self, memory_mb: u32) -> Option<MemoryEnd> {
        let percent = |heap_mb: u32, percent: u64| (u64::from(heap_mb) << 20) * percent / 100;
        match self.language {
            Language::Node => Some(MemoryEnd {
                exit: Exit::Signal(libc::SIGABRT),
                from_bytes: percent(node_heap_mb(memory_mb), 85),
            }),
            Language::Python | Language::Provided | Language::Web => None,
            Language::Java => Some(MemoryEnd {
                exit: Exit::Code(java::OUT_OF_MEMORY),
                from_bytes: percent(java::heap_mb(memory_mb), 50),
            }),
        }
    }

    /// `AWS_EXECUTION_ENV`; AWS Lambda sets none where the package brings its own runtime.
    pub(super) fn execution_env(&self) -> Option<String> {
        match self.language {
            Language::Node => Some(format!("AWS_Lambda_{}.x", self.info.name)),
            Language::Python | Language::Java => Some(format!("AWS_Lambda_{}", self.info.name)),
            Language::Provided | Language::Web => None,
        }
    }

    /// Whether the package brings what is executed, so that there is nothing to be started ahead of it.
    pub(super) fn brings_its_own(&self) -> bool {
        matches!(self.language, Language::Provided | Language::Web)
    }
}

/// Limit of V8's old space: below the memory limit, so that V8 collects garbage in earnest before the kernel kills.
fn node_heap_mb(memory_mb: u32) -> u32 {
    memory_mb.saturating_sub(NODE_OVERHEAD_MB.max(memory_mb / 10)).max(NODE_HEAP_MIN_MB)
}

/// All runtimes of this host.
#[derive(Clone, Debug, Default)]
pub(super) struct Runtimes {
    all: Vec<std::sync::Arc<Runtime>>,
    unusable: Vec<String>,
}

impl Runtimes {
    /// Name and version of each.
    pub(super) fn infos(&self) -> Vec<RuntimeInfo> {
        self.all.iter().map(|r| r.info.clone()).collect()
    }

    /// Why something that looked like a runtime is none.
    pub(super) fn unusable(&self) -> &[String] {
        &self.unusable
    }

    /// Each.
    pub(super) fn iter(&self) -> impl Iterator<Item = &std::sync::Arc<Runtime>> {
        self.all.iter()
    }

    /// The newest of a language.
    pub(super) fn of(&self, language: Language) -> Option<&std::sync::Arc<Runtime>> {
        self.all.iter().find(|runtime| runtime.language == language)
    }

    /// The one of exactly that name, else the newest of the language, if the name is one that AWS Lambda has (or had) for it.
    pub(super) fn resolve(&self, name: &str) -> Result<&std::sync::Arc<Runtime>> {
        let name = name.strip_suffix(".x").unwrap_or(name);
        let language = language_of(name);
        let exact = self.all.iter().find(|r| r.info.name == name);
        exact.or_else(|| self.all.iter().find(|r| Some(r.language) == language)).ok_or_else(|| {
            let names: Vec<&str> = self.all.iter().map(|r| r.info.name.as_str()).collect();
            let there = if names.is_empty() { "none".into() } else { names.join(", ") };
            let name: String = name.chars().take(80).flat_map(char::escape_debug).collect();
            Error::caller(
                Code::UnknownRuntime,
                format!("runtime '{name}' is not installed here: expected one of: {there}"),
            )
            .with_hint("runtimes are looked for in the daemon's PATH when it starts")
        })
    }
}

/// The language of a name that AWS Lambda has, or had, for a runtime.
fn language_of(name: &str) -> Option<Language> {
    let of = |language: &str| name.strip_prefix(language);
    if name == model::function::WEB {
        return Some(Language::Web);
    }
    match (of("nodejs"), of("python3"), of("java")) {
        _ if matches!(of("provided"), Some("" | ".al2" | ".al2023")) => Some(Language::Provided),
        (Some("" | "18" | "20" | "22" | "24"), ..) => Some(Language::Node),
        (_, Some("" | ".10" | ".11" | ".12" | ".13" | ".14"), _) => Some(Language::Python),
        (.., Some("" | "8" | "8.al2" | "11" | "17" | "21" | "25")) => Some(Language::Java),
        _ => None,
    }
}

/// Looks for runtimes in `path`, a `PATH`: every interpreter once, side by side. An interpreter that does not answer is left out.
pub(super) async fn discover(path: &str) -> Runtimes {
    let folders: Vec<PathBuf> = std::env::split_paths(path).filter(|p| p.is_absolute()).collect();
    let node = probe::first(Language::Node, candidates(&folders, &["node", "nodejs"]));
    let named: Vec<String> = (8..=14).rev().map(|minor| format!("python3.{minor}")).collect();
    let python = async {
        let mut found = Vec::new();
        for name in &named {
            found.extend(candidates(&folders, &[name.as_str()]));
        }
        found.extend(candidates(&folders, &["python3"]));
        probe::all(Language::Python, found).await
    };
    let java = async {
        let folders = folders.clone();
        tokio::task::spawn_blocking(move || java::find(&folders)).await.unwrap_or_default()
    };
    let (node, python, java) = tokio::join!(node, python, java);
    let web = web(node.as_ref(), python.first());
    let all = node.into_iter().chain(python).chain(java.usable).chain([provided(), web]);
    Runtimes { all: all.map(std::sync::Arc::new).collect(), unusable: java.unusable }
}

/// The runtime of functions that bring their own: nothing of it has to be installed.
fn provided() -> Runtime {
    let info = RuntimeInfo { name: PROVIDED.into(), version: crate::runtime_api::VERSION.into() };
    Runtime {
        info,
        language: Language::Provided,
        program: String::new(),
        mounts: Vec::new(),
        on_host: PathBuf::new(),
    }
}

/// The runtime of web servers: these interpreters lie beside each other in its root, by the names that scripts have for them.
fn web(node: Option<&Runtime>, python: Option<&Runtime>) -> Runtime {
    let mut mounts = node.map(|node| node.mounts.clone()).unwrap_or_default();
    if let Some(python) = python {
        for name in ["python", "python3"] {
            let executable = Mount::bind(&python.on_host, format!("var/lang/bin/{name}"));
            mounts.extend((executable.target() != python.program).then_some(executable));
        }
        let others =
            python.mounts.iter().filter(|m| mounts.iter().all(|own| own.target() != m.target()));
        let others: Vec<_> = others.cloned().collect();
        mounts.extend(others);
    }
    let versions: Vec<String> = [node, python]
        .into_iter()
        .flatten()
        .map(|runtime| format!("{} {}", runtime.info.name, runtime.info.version))
        .collect();
    let info = RuntimeInfo {
        name: model::function::WEB.into(),
        version: format!("HTTP/1.1 ({})", versions.join(", ")),
    };
    Runtime {
        info,
        language: Language::Web,
        program: String::new(),
        mounts,
        on_host: PathBuf::new(),
    }
}

/// An executable file that may be an interpreter.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Candidate {
    path: PathBuf,
    /// Whether it is a script: version managers put such shims on the path, and they cost 140–400 ms to pass.
    script: bool,
}

/// Executables of these names, in the order of the path, each file once.
fn candidates(folders: &[PathBuf], names: &[&str]) -> Vec<Candidate> {
    let mut found: Vec<Candidate> = Vec::new();
    for folder in folders {
        for name in names {
            let Ok(path) = fs::canonicalize(folder.join(name)) else { continue };
            if found.iter().all(|c| c.path != path)
                && let Some(script) = executable(&path)
            {
                found.push(Candidate { path, script });
            }
        }
    }
    found
}

/// Whether an executable is a script; `None` if it is none that this user can read and run.
fn executable(path: &Path) -> Option<bool> {
    let meta = fs::metadata(path).ok()?;
    if !meta.is_file() || meta.permissions().mode() & 0o111 == 0 {
        return None;
    }
    let mut head = [0; 2];
    fs::File::open(path).ok()?.read_exact(&mut head).ok()?;
    Some(&head == b"#!")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runtime(name: &str, language: Language) -> std::sync::Arc<Runtime> {
        let info = RuntimeInfo { name: name.into(), version: "1".into() };
        std::sync::Arc::new(Runtime {
            info,
            language,
            program: "/x".into(),
            mounts: Vec::new(),
            on_host: "/x".into(),
        })
    }

    #[test]
    fn aliases_resolve_to_what_is_installed() {
        let all = vec![
            runtime("nodejs20", Language::Node),
            runtime("python3.12", Language::Python),
            runtime("python3.11", Language::Python),
            runtime("java21", Language::Java),
            runtime("java17", Language::Java),
            provided().into(),
        ];
        let all = Runtimes { all, unusable: Vec::new() };
        for (name, found) in [
            ("nodejs20", "nodejs20"),
            ("nodejs18", "nodejs20"),
            ("nodejs22.x", "nodejs20"),
            ("python3.11", "python3.11"),
            ("python3", "python3.12"),
            ("python3.10", "python3.12"),
            ("java17", "java17"),
            ("java8.al2", "java21"),
            ("java", "java21"),
            ("provided", "provided.al2023"),
            ("provided.al2", "provided.al2023"),
            ("provided.al2023", "provided.al2023"),
        ] {
            assert_eq!(all.resolve(name).unwrap().info.name, found);
        }
        let e = all.resolve("ruby3.2").unwrap_err();
        assert_eq!(e.code(), Code::UnknownRuntime);
        assert!(e.message().contains("nodejs20, python3.12"), "{}", e.message());
        assert!(Runtimes::default().resolve("nodejs20").unwrap_err().message().contains("none"));
    }

    #[test]
    fn the_heap_stays_below_the_limit() {
        for (memory, heap) in [(64, 24), (128, 88), (1024, 922), (10_240, 9216)] {
            assert_eq!(node_heap_mb(memory), heap);
        }
    }

    #[test]
    fn scripts_are_told_from_programs() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("python3");
        fs::write(&path, "#!/bin/sh\n").unwrap();
        let list = || candidates(&[folder.path().to_owned()], &["python3"]);
        assert_eq!(list(), []);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(list()[0].script);
    }
}
