//! The two languages that are measured: their hello, their bootstrap, and the interpreter that a baseline starts.

use std::path::PathBuf;

use anyhow::{Result, bail};

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
    /// The trivial handler.
    hello: &'static str,
    /// Starts a comment.
    comment: &'static str,
    /// What stands between the interpreter and the bootstrap: the flags that the sandbox uses.
    pub(crate) flags: &'static [&'static str],
    /// From the root of the checkout.
    pub(crate) bootstrap: &'static str,
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
    hello: "exports.handler = function (event, context, callback) {\n  \
            var response = { isBase64Encoded: false, headers: {}, statusCode: 200, body: 'Hello world' };\n  \
            callback(null, response);\n};\n",
    comment: "//",
    // The heap that the sandbox gives a function of 128 MiB.
    flags: &["--max-old-space-size=88"],
    bootstrap: "runtimes/nodejs/bootstrap.js",
    candidates: &["node", "nodejs", "/usr/bin/node"],
    introduce: &["-p", "process.execPath + '\\n' + process.versions.node"],
};

/// Python.
pub(crate) const PYTHON: Language = Language {
    name: "python",
    runtime: "python3",
    file: "index.py",
    handler: "index.handler",
    hello: "def handler(event, context):\n    \
            return {\"isBase64Encoded\": False, \"headers\": {}, \"statusCode\": 200, \"body\": \"Hello world\"}\n",
    comment: "#",
    flags: &["-I", "-S", "-B"],
    bootstrap: "runtimes/python/bootstrap.py",
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

impl Language {
    /// The hello with a comment that makes its content new.
    pub(crate) fn hello(&self, mark: &str) -> String {
        format!("{} {mark}\n{}", self.comment, self.hello)
    }

    /// The real program (no version manager's shim in front of it) whose version is the daemon's.
    ///
    /// # Errors
    ///
    /// If there is none: a baseline with another interpreter would compare two interpreters.
    pub(crate) fn interpreter(&self, version: &str) -> Result<PathBuf> {
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
            let (a, b) = (language.hello("1"), language.hello("2"));
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
