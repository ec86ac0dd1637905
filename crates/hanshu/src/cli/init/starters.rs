//! The starters: texts that are part of the binary, most of them those of `examples/`.

/// A file: its path below the function's folder, and its text.
type File = (&'static str, &'static str);

/// A starter function.
#[derive(Debug)]
pub(super) struct Starter {
    /// The runtime that it is for.
    pub runtime: &'static str,
    /// Its name among those of its runtime; the first of a runtime is the usual one.
    pub template: &'static str,
    /// What it is, for people.
    pub what: &'static str,
    /// What stands in its texts for the function's name.
    pub placeholder: &'static str,
    /// What is called, and the memory limit in MiB; `None` for one that brings its own `hanshu.toml`.
    pub settings: Option<(&'static str, u32)>,
    /// Its files.
    pub files: &'static [File],
}

/// What stands for the function's name in texts that are no example's.
const NAME: &str = "{{name}}";
/// Files that every starter has.
pub(super) const COMMON: &[File] = &[
    ("event.json", include_str!("../../starters/event.json")),
    ("README.md", include_str!("../../starters/README.md")),
];

/// A file of an example, under its name there.
macro_rules! example {
    ($folder:literal: $($file:literal),+) => {
        &[$(($file, include_str!(concat!("../../../../../examples/", $folder, "/", $file)))),+]
    };
}

/// All of them, by runtime.
pub(super) const STARTERS: &[Starter] = &[
    Starter {
        runtime: "nodejs20",
        template: "handler",
        what: "an async handler",
        placeholder: NAME,
        settings: None,
        files: &[
            ("index.js", include_str!("../../starters/nodejs/index.js")),
            ("hanshu.toml", include_str!("../../starters/nodejs/hanshu.toml")),
        ],
    },
    Starter {
        runtime: "python3.11",
        template: "handler",
        what: "a handler",
        placeholder: NAME,
        settings: None,
        files: &[
            ("main.py", include_str!("../../starters/python/main.py")),
            ("hanshu.toml", include_str!("../../starters/python/hanshu.toml")),
        ],
    },
    Starter {
        runtime: "java17",
        template: "plain",
        what: "a method on plain types, compiled by javac",
        placeholder: NAME,
        settings: None,
        files: &[
            ("Hello.java", include_str!("../../starters/java/Hello.java")),
            ("hanshu.toml", include_str!("../../starters/java/hanshu.toml")),
        ],
    },
    Starter {
        runtime: "java17",
        template: "maven",
        what: "AWS Lambda's RequestHandler, a Maven project",
        placeholder: "hello-java-aws",
        settings: Some(("hello.Hello", 256)),
        files: example!("hello-java-aws": "pom.xml", "src/main/java/hello/Hello.java"),
    },
    Starter {
        runtime: "provided.al2023",
        template: "go",
        what: "Go, by the official client",
        placeholder: NAME,
        settings: None,
        files: &[
            ("main.go", include_str!("../../starters/go/main.go")),
            ("go.mod", include_str!("../../starters/go/go.mod")),
            ("go.sum", include_str!("../../starters/go/go.sum")),
            ("hanshu.toml", include_str!("../../starters/go/hanshu.toml")),
        ],
    },
    Starter {
        runtime: "provided.al2023",
        template: "rust",
        what: "Rust, by the official client",
        placeholder: "hello-rust",
        settings: Some(("bootstrap", 128)),
        files: example!("hello-rust": "src/main.rs", "Cargo.toml", "Cargo.lock"),
    },
    Starter {
        runtime: "provided.al2023",
        template: "c",
        what: "C without any library",
        placeholder: "hello-c",
        settings: Some(("bootstrap", 128)),
        files: example!("hello-c": "main.c"),
    },
    Starter {
        runtime: "web",
        template: "express",
        what: "an Express app, by npm",
        placeholder: "web-express",
        settings: Some(("node server.js", 256)),
        files: example!("web-express": "server.js", "package.json", "package-lock.json"),
    },
    Starter {
        runtime: "web",
        template: "fastapi",
        what: "a FastAPI app, by pip",
        placeholder: "web-fastapi",
        settings: Some(("python -m uvicorn app:app --host 127.0.0.1 --port $PORT", 256)),
        files: example!("web-fastapi": "app.py", "requirements.txt"),
    },
    Starter {
        runtime: "web",
        template: "go",
        what: "Go's net/http",
        placeholder: "web-go",
        settings: Some(("bootstrap", 128)),
        files: example!("web-go": "main.go", "go.mod"),
    },
    Starter {
        runtime: "wasm",
        template: "rust",
        what: "a component in Rust",
        placeholder: "wasm-rust",
        settings: Some((PROGRAM, 64)),
        files: example!("wasm-rust": "src/lib.rs", "Cargo.toml", "Cargo.lock"),
    },
    Starter {
        runtime: "wasm",
        template: "js",
        what: "a component in JavaScript, by componentize-js",
        placeholder: "wasm-js",
        settings: Some((PROGRAM, 128)),
        files: example!("wasm-js": "index.js"),
    },
    Starter {
        runtime: "wasm",
        template: "python",
        what: "a component in Python, by componentize-py",
        placeholder: "wasm-python",
        settings: Some((PROGRAM, 128)),
        files: example!("wasm-python": "app.py"),
    },
    Starter {
        runtime: "wasm",
        template: "go",
        what: "a WASI program in Go",
        placeholder: "wasm-go",
        settings: Some((PROGRAM, 64)),
        files: example!("wasm-go": "main.go", "go.mod"),
    },
];

/// What the programs are compiled to.
const PROGRAM: &str = "main.wasm";

impl Starter {
    /// Its files for a function of this name.
    pub(super) fn files(&self, name: &str) -> Vec<(&'static str, String)> {
        let own =
            self.files.iter().map(|(file, text)| (*file, text.replace(self.placeholder, name)));
        let common = COMMON.iter().map(|(file, text)| (*file, text.replace(NAME, name)));
        let settings = self.settings.map(|(handler, memory_mb)| {
            let Self { runtime, .. } = self;
            let text = format!(
                "name = \"{name}\"\nruntime = \"{runtime}\"\nhandler = \"{handler}\"\ntimeout_ms = 10000\nmemory_mb = {memory_mb}\n"
            );
            ("hanshu.toml", text)
        });
        own.chain(settings).chain(common).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_starter_names_the_function_and_nothing_else() {
        for starter in STARTERS {
            let files = starter.files("mine");
            let text = |name: &str| {
                let found = files.iter().find(|(file, _)| *file == name);
                found.map(|(_, text)| text.as_str()).unwrap_or_else(|| panic!("{name}: {files:?}"))
            };
            assert!(text("hanshu.toml").starts_with("name = \"mine\"\n"), "{starter:?}");
            assert!(text("hanshu.toml").contains(starter.runtime), "{starter:?}");
            assert!(text("README.md").contains("invoke mine") && !text("event.json").is_empty());
            for (file, text) in &files {
                assert!(!text.contains(NAME), "{file}: {text}");
                let placeholder = starter.placeholder;
                assert!(!text.contains(placeholder), "{file}: {placeholder}");
            }
        }
    }
}
