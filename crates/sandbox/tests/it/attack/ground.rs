//! How hostile instances come up, and the package of the hostile function.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Cursor, Write as _};
use std::path::Path;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use model::ports::{Image, Sandbox};

use crate::Place;
use crate::support::{Ahead, World, attach, cc, go, javac, version, zip};

/// The C sources; one program.
const SOURCES: [(&str, &str); 9] = [
    ("attack.h", include_str!("programs/attack.h")),
    ("attack.c", include_str!("programs/attack.c")),
    ("exhaust.c", include_str!("programs/exhaust.c")),
    ("kernel.c", include_str!("programs/kernel.c")),
    ("namespaces.c", include_str!("programs/namespaces.c")),
    ("proc.c", include_str!("programs/proc.c")),
    ("rights.c", include_str!("programs/rights.c")),
    ("signals.c", include_str!("programs/signals.c")),
    ("sockets.c", include_str!("programs/sockets.c")),
];
/// What is loaded into the runtime before its own code.
const PRELOAD: &str = include_str!("programs/preload.c");
/// Name and text of the file in a layer that all functions have: on the host's disk it is one and the same file.
const SHARED: (&str, &str) = ("shared", "as it was");

/// What the function's own text is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Language {
    Node,
    Python,
    Java,
    /// None: an executable.
    Provided,
}

/// How instances are started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// By the sandbox that all tests share.
    Exec,
    /// By a sandbox that forks them.
    Forked,
    /// By a sandbox that starts them ahead, with this memory for them: for [`Way::KITS`] of the hostile function's language.
    PreStarted { memory_mb: u32 },
}

impl Way {
    /// Pre-started instances that lie ready when nothing goes on.
    const KITS: usize = 2;
}

/// One way for instances to come up.
#[derive(Debug)]
pub(super) struct Ground {
    pub(super) name: &'static str,
    way: Way,
    pub(super) language: Language,
    runtime: &'static str,
    handler: &'static str,
    /// The handler: runs what the event says.
    file: (&'static str, &'static str),
}

/// All there are.
pub(super) fn grounds() -> &'static [Ground] {
    const {
        &[
            Ground::python("python", Way::Exec),
            Ground::node("node", Way::Exec),
            Ground::python("python-pre-started", Way::PreStarted { memory_mb: 10 }),
            Ground::node("node-pre-started", Way::PreStarted { memory_mb: 16 }),
            Ground::python("python-forked", Way::Forked),
            Ground::node("node-forked", Way::Forked),
            Ground::java("java", Way::Exec),
            Ground::java("java-pre-started", Way::PreStarted { memory_mb: 64 }),
            Ground::java("java-forked", Way::Forked),
            Ground::provided("provided", "provided"),
            Ground::provided("web", "web"),
        ]
    }
}

impl Ground {
    const fn python(name: &'static str, way: Way) -> Self {
        let (runtime, handler) = ("python3", "main.handler");
        let file = ("main.py", include_str!("programs/main.py"));
        Self { name, way, language: Language::Python, runtime, handler, file }
    }

    const fn node(name: &'static str, way: Way) -> Self {
        let (runtime, handler) = ("nodejs", "index.handler");
        let file = ("index.js", include_str!("programs/index.js"));
        Self { name, way, language: Language::Node, runtime, handler, file }
    }

    const fn java(name: &'static str, way: Way) -> Self {
        let (runtime, handler) = ("java17", "Hostile::handle");
        let file = ("Hostile.java", include_str!("programs/Hostile.java"));
        Self { name, way, language: Language::Java, runtime, handler, file }
    }

    const fn provided(name: &'static str, runtime: &'static str) -> Self {
        let handler = "bootstrap";
        let file = ("bootstrap", include_str!("programs/provided.go"));
        Self { name, way: Way::Exec, language: Language::Provided, runtime, handler, file }
    }

    /// Where it lies.
    pub(super) fn place(&self) -> Place {
        match self.way {
            Way::Exec => Place::Shared,
            Way::Forked => Place::Forked { tests: self.name },
            Way::PreStarted { memory_mb } => Place::Ahead { memory_mb },
        }
    }

    /// Whether an attack of this name could end in another way here than on the grounds where it runs anyway.
    ///
    /// What fences a child in is the same code for all languages, and all attacks try it on children in Python and Node.js. What a virtual machine brings along are its
    /// threads, its files and its memory; so on its children run those that it is itself, and one of each kind against ids, filter, descriptors and limits.
    pub(super) fn differs_for(&self, attack: &str) -> bool {
        const BY_START: [&str; 12] = [
            "rights",
            "kernel",
            "namespaces",
            "own_code",
            "knobs",
            "sight",
            "first_process",
            "tracing",
            "kill_all",
            "anonymous_memory",
            "forks",
            "hand_over",
        ];
        self.way != Way::Forked || self.language != Language::Java || BY_START.contains(&attack)
    }

    /// Whether all instances are pre-started or forked ones: none has been executed for its function.
    pub(super) fn is_pre_started(&self) -> bool {
        self.way != Way::Exec
    }

    /// How many pre-started instances lie ready when nothing goes on.
    pub(super) fn kits(&self) -> usize {
        if let Way::PreStarted { .. } = self.way { Way::KITS } else { 0 }
    }

    /// How many zygotes there are then.
    pub(super) fn zygotes(&self) -> u64 {
        u64::from(self.way == Way::Forked)
    }

    /// The hostile function, ready to be started.
    pub(super) async fn hostile(&self, world: &World) -> Arc<dyn Image> {
        // A function with such a variable is started the plain way.
        let environment = [("LD_PRELOAD", "/var/task/preload.so")];
        let environment = if self.is_pre_started() { &[][..] } else { &environment };
        let own = ("own", "the hostile function's");
        let handler = (self.runtime, self.handler);
        self.image(world, "hostile", handler, self.file, environment, own).await
    }

    /// The other function, in Python whatever the hostile one is in, with a secret in a layer of its own.
    pub(super) async fn neighbour(
        &self,
        world: &World,
        secret: &str,
        environment: &[(&str, &str)],
    ) -> Arc<dyn Image> {
        let file = ("main.py", include_str!("programs/victim.py"));
        let handler = ("python3", "main.handler");
        let mut environment = environment.to_vec();
        if self.is_pre_started() && self.language != Language::Python {
            // The plain way: all that lies ready is of the hostile one's language.
            environment.push(("TZ", ":UTC"));
        }
        let environment = &environment;
        self.image(world, "neighbour", handler, file, environment, ("secret", secret)).await
    }

    async fn image(
        &self,
        world: &World,
        name: &str,
        (runtime, handler): (&str, &str),
        file: (&str, &str),
        environment: &[(&str, &str)],
        layer: (&str, &str),
    ) -> Arc<dyn Image> {
        let plain = environment.iter().any(|(name, _)| ["LD_PRELOAD", "TZ"].contains(name));
        let sandbox: Arc<dyn Sandbox> = match self.way {
            Way::PreStarted { .. } | Way::Forked if !plain => {
                Arc::new(Ahead(world.sandbox.clone()))
            }
            _ => world.sandbox.clone(),
        };
        let info = sandbox.check_package(package(world, file)).await.unwrap();
        let environment = environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        let version = version(&world.sandbox, name, info.digest, environment.collect());
        let mut version = Arc::unwrap_or_clone(version);
        version.config.runtime = runtime.into();
        version.config.handler = handler.into();
        version.runtime = sandbox.resolve_runtime(runtime).unwrap();
        attach(&*sandbox, &mut version, &[zip(&[SHARED]), zip(&[layer])]).await;
        // As a deployment does; the scene then waits until they lie ready.
        world.sandbox.expect(&version);
        sandbox.prepare(Arc::new(version)).await.unwrap()
    }
}

/// A package with one file, compiled if it has to be, and the attacks in C beside it.
fn package(world: &World, (name, text): (&str, &str)) -> Bytes {
    static CLASSES: OnceLock<BTreeMap<String, Vec<u8>>> = OnceLock::new();
    static PROGRAM: OnceLock<BTreeMap<String, Vec<u8>>> = OnceLock::new();
    let plain = BTreeMap::from([(name.to_owned(), text.as_bytes().to_vec())]);
    let files = match name {
        "bootstrap" => PROGRAM.get_or_init(|| {
            let module = include_str!("../kits/provided/go.mod");
            let api = include_str!("../kits/provided/api.go");
            let files = [("go.mod", module), ("api.go", api), ("main.go", text)];
            BTreeMap::from([(name.to_owned(), go(&files))])
        }),
        name if name.ends_with(".java") => CLASSES.get_or_init(|| javac(&[(name, text)])),
        _ => &plain,
    };
    let stored =
        zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let Compiled { program, preload } = compiled(world.folder.path());
    let files = files.iter().map(|(name, bytes)| (name.as_str(), bytes));
    for (name, bytes) in files.chain([("attack", program), ("preload.so", preload)]) {
        zip.start_file(name, stored.unix_permissions(0o755)).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner().into()
}

/// The attacks in C.
struct Compiled {
    /// All of them; static, so that it runs in every root.
    program: Vec<u8>,
    /// A shared library.
    preload: Vec<u8>,
}

/// Compiles them, once, with the machine's compiler.
fn compiled(folder: &Path) -> &'static Compiled {
    static COMPILED: OnceLock<Compiled> = OnceLock::new();
    COMPILED.get_or_init(|| {
        let folder = folder.join("attacks in C");
        fs::create_dir(&folder).unwrap();
        for (name, text) in SOURCES.into_iter().chain([("preload.c", PRELOAD)]) {
            fs::write(folder.join(name), text).unwrap();
        }
        let sources = SOURCES.iter().map(|(name, _)| *name).filter(|name| name.ends_with(".c"));
        cc(&folder, &["-static", "-o", "attack"], sources);
        cc(&folder, &["-shared", "-fPIC", "-o", "preload.so"], ["preload.c"]);
        let read = |name| fs::read(folder.join(name)).unwrap();
        Compiled { program: read("attack"), preload: read("preload.so") }
    })
}
