//! The languages that are measured: their hello, their bootstrap, and the interpreter that a baseline starts.

use std::path::PathBuf;

use anyhow::{Result, bail};

use super::java;
use crate::shell;

/// A language, as a bench deploys and starts it.
#[derive(Debug)]
pub(crate) struct Language {
    /// For people, and the start of the names under which the daemon reports it.
    pub(crate) name: &'static str,
    /// The runtime that a function asks for.
    pub(crate) runtime: &'static str,
    /// The one file of the function.
    pub(crate) file: &'static str,
    /// What the function's configuration names.
    pub(crate) handler: &'static str,
    /// The trivial handler: what starts a comment, and the text; `None` for Java, where it is compiled.
    hello: Option<(&'static str, &'static str)>,
    /// What stands between the interpreter and the bootstrap: the flags that the sandbox uses.
    pub(crate) flags: &'static [&'static str],
    /// From the root of the checkout; `None` for Java, where it is compiled.
    bootstrap: Option<&'static str>,
    /// Makes an interpreter call the hello once and print its answer; nothing for Java.
    pub(crate) once: &'static [&'static str],
    /// What stands behind the bootstrap.
    pub(crate) main: &'static [&'static str],
    /// Programs that may be the daemon's interpreter.
    candidates: &'static [&'static str],
    /// Makes an interpreter print its own path and version, a line each.
    introduce: &'static [&'static str],
}

/// Node.js, with the hello that the README shows.
pub(crate) const NODE: Language = Language {
    name: "nodejs",
    runtime: "nodejs20",
    file: "index.js",
    handler: "index.handler",
    hello: Some((
        "//",
        "exports.handler = function (event, context, callback) {\n  \
            var response = { isBase64Encoded: false, headers: {}, statusCode: 200, body: 'Hello world' };\n  \
            callback(null, response);\n};\n",
    )),
    // The heap that the sandbox gives a function of 128 MiB.
    flags: &["--max-old-space-size=88"],
    bootstrap: Some("runtimes/nodejs/bootstrap.js"),
    once: &[
        "--max-old-space-size=88",
        "-e",
        "require('./index.js').handler({}, {}, (_, answer) => console.log(JSON.stringify(answer)))",
    ],
    main: &[],
    candidates: &["node", "nodejs", "/usr/bin/node"],
    introduce: &["-p", "process.execPath + '\\n' + process.versions.node"],
};

/// WebAssembly: the component of the sandbox's tests, which no interpreter runs.
pub(crate) const WASM: Language = Language {
    name: "wasm",
    runtime: "wasm",
    file: "hello.wasm",
    handler: "hello.wasm",
    hello: None,
    flags: &[],
    bootstrap: None,
    once: &[],
    main: &[],
    candidates: &[],
    introduce: &[],
};

/// Python.
pub(crate) const PYTHON: Language = Language {
    name: "python",
    runtime: "python3",
    file: "index.py",
    handler: "index.handler",
    hello: Some((
        "#",
        "def handler(event, context):\n    \
            return {\"isBase64Encoded\": False, \"headers\": {}, \"statusCode\": 200, \"body\": \"Hello world\"}\n",
    )),
    flags: &["-I", "-S", "-B"],
    bootstrap: Some("runtimes/python/bootstrap.py"),
    once: &[
        "-S",
        "-B",
        "-c",
        "import json, sys; sys.path.insert(0, '.'); import index; print(json.dumps(index.handler({}, None)))",
    ],
    main: &[],
    candidates: &[
        "python3",
        "python3.14",
        "python3.13",
        "python3.12",
        "python3.11",
        "python3.10",
        "/usr/bin/python3",
    ],
    introduce: &[
        "-c",
        "import platform, sys; print(sys.executable); print(platform.python_version())",
    ],
};

/// Java, of the oldest version that is supported.
pub(crate) const JAVA: Language = Language {
    name: "java17",
    runtime: "java17",
    file: "Hello.class",
    handler: "Hello::handle",
    hello: None,
    // As the sandbox has them for a function of 128 MiB.
    flags: &[
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
        "-Xmx80m",
        "-XX:MaxMetaspaceSize=32m",
        "-cp",
    ],
    bootstrap: None,
    once: &[],
    main: &["hanshu.Main"],
    candidates: &[],
    introduce: &[],
};

impl Language {
    /// The hello with a comment that makes its content new, as it is deployed.
    pub(crate) fn hello(&self, mark: &str) -> Result<Vec<u8>> {
        match self.hello {
            Some((comment, text)) => Ok(format!("{comment} {mark}\n{text}").into_bytes()),
            None => java::hello(mark),
        }
    }

    /// What the interpreter is given to run.
    pub(crate) fn bootstrap(&self) -> Result<PathBuf> {
        match self.bootstrap {
            Some(path) => Ok(shell::root().join(path)),
            None => java::bootstrap(),
        }
    }

    /// The real program (no version manager's shim in front of it) whose version is the daemon's.
    ///
    /// # Errors
    ///
    /// If there is none: a baseline with another interpreter would compare two interpreters.
    pub(crate) fn interpreter(&self, version: &str) -> Result<PathBuf> {
        if self.candidates.is_empty() {
            return java::interpreter(version);
        }
        let mut seen = Vec::new();
        for candidate in self.candidates {
            let mut program = shell::command(candidate);
            let Some(said) = shell::ask(program.args(self.introduce)) else {
                continue;
            };
            match *said.lines().collect::<Vec<_>>() {
                [path, found] if found == version => return Ok(path.into()),
                [_, found] => seen.push(found.to_owned()),
                _ => {}
            }
        }
        let (name, seen) = (self.name, seen.join(", "));
        bail!("the daemon runs {name} {version}; found for the baseline: {seen}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_make_new_content() {
        for language in [NODE, PYTHON] {
            let text = |mark| String::from_utf8(language.hello(mark).unwrap()).unwrap();
            let (a, b) = (text("1"), text("2"));
            assert_ne!(a, b);
            assert_eq!(
                a.lines().skip(1).collect::<Vec<_>>(),
                b.lines().skip(1).collect::<Vec<_>>()
            );
        }
    }

    #[test]
    fn interpreters_are_found_by_their_version_only() {
        let version = shell::capture(shell::command("node").args(["-p", "process.versions.node"]));
        let path = NODE.interpreter(version.unwrap().trim()).unwrap();
        assert!(path.is_absolute() && path.exists());
        let error = NODE.interpreter("0.0.1").unwrap_err().to_string();
        assert!(error.contains("0.0.1"), "{error}");
    }
}
