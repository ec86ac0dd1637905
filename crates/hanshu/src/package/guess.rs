//! Finds runtime and handler where nobody named them: from file names, and from what the likely file exports.

mod java;

use std::io::{Cursor, Read as _};

use super::collect::Entry;
use super::install::provided::BOOTSTRAP;

/// Runtimes that guesses name.
pub(crate) const NODE: &str = "nodejs20";
/// See [`NODE`].
pub(crate) const PYTHON: &str = "python3.11";
/// See [`NODE`].
pub(crate) const JAVA: &str = "java17";
/// See [`NODE`].
pub(crate) const PROVIDED: &str = "provided.al2023";

const NODE_EXTENSIONS: &[&str] = &["js", "mjs", "cjs"];
/// Stems of the file that holds the handler, likeliest first.
const STEMS: &[&str] = &["index", "lambda_function", "main", "app", "handler", "function"];
/// Names of the handler itself, likeliest first.
const HANDLERS: &[&str] = &["handler", "lambda_handler", "main_handler", "main"];
/// How much of a file is searched for its handler, in bytes.
const SEARCHED_BYTES: u64 = 1 << 20;

/// Whether a file's stem is the language's habit rather than the function's name.
pub(crate) fn says_nothing(stem: &str) -> bool {
    STEMS.contains(&stem)
}

/// What a package holds, as far as guessing needs it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Contents {
    names: Vec<String>,
    /// Texts of the files at the top that may hold the handler.
    texts: Vec<(String, String)>,
    /// Compiled classes that may hold it.
    classes: Vec<java::Class>,
}

impl Contents {
    /// Of files on disk.
    pub(crate) fn of_entries(entries: &[Entry]) -> Self {
        let text = |e: &Entry| {
            let mut text = Vec::new();
            let file = std::fs::File::open(&e.path).ok()?;
            file.take(SEARCHED_BYTES).read_to_end(&mut text).ok()?;
            Some((e.name.clone(), String::from_utf8_lossy(&text).into_owned()))
        };
        let compiled = |e: &Entry| {
            let file = std::fs::File::open(&e.path).ok();
            file.map(|file| java::classes(&e.name, file)).unwrap_or_default()
        };
        let is_compiled = |e: &&Entry| java::is_class(&e.name) || java::is_jar(&e.name);
        Self {
            names: entries.iter().map(|e| e.name.clone()).collect(),
            texts: entries.iter().filter(|e| is_source(&e.name)).filter_map(text).collect(),
            classes: entries.iter().filter(is_compiled).flat_map(compiled).collect(),
        }
    }

    /// Of a zip.
    pub(crate) fn of_zip(zip: &[u8]) -> zip::result::ZipResult<Self> {
        let mut archive = zip::ZipArchive::new(Cursor::new(zip))?;
        let names: Vec<String> = archive.file_names().map(str::to_owned).collect();
        let mut texts = Vec::new();
        for name in names.iter().filter(|n| is_source(n)) {
            let mut text = Vec::new();
            archive.by_name(name)?.take(SEARCHED_BYTES).read_to_end(&mut text)?;
            texts.push((name.clone(), String::from_utf8_lossy(&text).into_owned()));
        }
        let mut classes = java::in_zip(zip)?;
        for name in names.iter().filter(|n| java::is_jar(n)) {
            classes.extend(java::classes(name, archive.by_name(name)?));
        }
        Ok(Self { names, texts, classes })
    }

    /// Every file's name.
    #[cfg(test)]
    pub(crate) fn names(&self) -> &[String] {
        &self.names
    }

    /// The runtime, if the files at the top leave no doubt.
    pub(crate) fn runtime(&self) -> Option<&'static str> {
        let has = |name: &str| self.names.iter().any(|n| n == name);
        let top_has = |extension: &str| self.top().any(|(_, e)| e == extension);
        if has(BOOTSTRAP) {
            Some(PROVIDED)
        } else if ["index.js", "index.mjs", "index.cjs", "package.json"].iter().any(|n| has(n)) {
            Some(NODE)
        } else if top_has("py") {
            Some(PYTHON)
        } else if NODE_EXTENSIONS.iter().any(|e| top_has(e)) {
            Some(NODE)
        } else {
            self.holds_java().then_some(JAVA)
        }
    }

    fn holds_java(&self) -> bool {
        self.names.iter().any(|n| n.ends_with(".class") || n.ends_with(".jar"))
    }

    /// The handler for a runtime, if one file at the top is the likely one.
    pub(crate) fn handler(&self, runtime: &str) -> Option<String> {
        if runtime.starts_with("java") {
            return java::handler(&self.classes);
        }
        if runtime == model::function::WEB {
            let bootstrap = "bootstrap".to_owned();
            return self.names.contains(&bootstrap).then_some(bootstrap);
        }
        if runtime.starts_with("provided") {
            // The executable reads it from its environment, if it cares.
            return Some(BOOTSTRAP.to_owned());
        }
        let extensions = extensions_of(runtime)?;
        let files: Vec<(&str, &str)> = self.top().filter(|(_, e)| extensions.contains(e)).collect();
        let likely = STEMS.iter().find_map(|stem| files.iter().find(|(s, _)| s == stem));
        let (stem, extension) = match (likely, files.as_slice()) {
            (Some(file), _) | (None, [file]) => *file,
            _ => return None,
        };
        let name = format!("{stem}.{extension}");
        let text = self.texts.iter().find(|(n, _)| *n == name).map_or("", |(_, t)| t);
        let export = HANDLERS.iter().find(|h| exports(text, h)).unwrap_or(&"handler");
        Some(format!("{stem}.{export}"))
    }

    /// Whether the file that a handler names is in the package.
    pub(crate) fn holds(&self, runtime: &str, handler: &str) -> bool {
        if runtime.starts_with("java") {
            // It may be in any of the jars.
            let class = handler.split("::").next().unwrap_or_default();
            return self.names.iter().any(|n| n.ends_with(".jar"))
                || self.classes.iter().any(|c| c.name == class);
        }
        let Some(extensions) = extensions_of(runtime) else { return true };
        let Some((file, _)) = handler.rsplit_once('.') else { return false };
        extensions.iter().any(|e| {
            let name = format!("{file}.{e}");
            // Python names packages with dots where files have slashes.
            let dotted = format!("{}.{e}", file.replace('.', "/"));
            self.names.iter().any(|n| *n == name || *n == dotted)
        })
    }

    /// Stem and extension of the source files at the top.
    fn top(&self) -> impl Iterator<Item = (&str, &str)> {
        self.names.iter().filter(|n| is_source(n)).filter_map(|n| n.rsplit_once('.'))
    }
}

fn is_source(name: &str) -> bool {
    !name.contains('/')
        && name.rsplit_once('.').is_some_and(|(_, e)| e == "py" || NODE_EXTENSIONS.contains(&e))
}

fn extensions_of(runtime: &str) -> Option<&'static [&'static str]> {
    if runtime.starts_with("nodejs") {
        Some(NODE_EXTENSIONS)
    } else if runtime.starts_with("python") {
        Some(&["py"])
    } else {
        None
    }
}

/// Whether a source text defines `name` in one of the forms that export it.
fn exports(text: &str, name: &str) -> bool {
    text.lines().map(str::trim_start).any(|line| {
        let after = ["def ", "async def ", "exports.", "module.exports."]
            .iter()
            .chain(&["export const ", "export async function ", "export function "])
            .find_map(|start| line.strip_prefix(start));
        after
            .and_then(|rest| rest.strip_prefix(name))
            .is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contents(files: &[(&str, &str)]) -> Contents {
        let own = |(n, t): &(&str, &str)| ((*n).to_owned(), (*t).to_owned());
        Contents {
            names: files.iter().map(|(n, _)| (*n).to_owned()).collect(),
            texts: files.iter().filter(|(n, _)| is_source(n)).map(own).collect(),
            classes: Vec::new(),
        }
    }

    fn guess(files: &[(&str, &str)]) -> (Option<&'static str>, Option<String>) {
        let c = contents(files);
        (c.runtime(), c.runtime().and_then(|r| c.handler(r)))
    }

    #[test]
    fn common_layouts_are_recognised() {
        let node = |h: &str| (Some(NODE), Some(h.to_owned()));
        let python = |h: &str| (Some(PYTHON), Some(h.to_owned()));
        assert_eq!(guess(&[("index.js", "exports.handler = 1")]), node("index.handler"));
        assert_eq!(
            guess(&[("index.mjs", "export const main_handler = 1")]),
            node("index.main_handler")
        );
        assert_eq!(guess(&[("resize.cjs", "")]), node("resize.handler"));
        assert_eq!(guess(&[("main.py", "def handler(event, context):")]), python("main.handler"));
        assert_eq!(
            guess(&[("util.py", ""), ("lambda_function.py", "def lambda_handler(e, c):")]),
            python("lambda_function.lambda_handler")
        );
        assert_eq!(guess(&[("app.py", "async def main(e, c): pass")]), python("app.main"));
        assert_eq!(guess(&[("a.py", ""), ("b.py", "")]), (Some(PYTHON), None));
        assert_eq!(guess(&[("README.md", ""), ("lib/a.js", "")]), (None, None));
        for file in ["a/Hello.class", "app.jar", "lib/gson.jar"] {
            assert_eq!(guess(&[("README.md", ""), (file, "")]), (Some(JAVA), None));
        }
    }

    #[test]
    fn a_handlers_file_is_looked_up() {
        let c = contents(&[("index.js", ""), ("src/app/main.py", "")]);
        assert!(c.holds("nodejs20", "index.handler"));
        assert!(!c.holds("nodejs20", "main.handler"));
        assert!(c.holds("python3.11", "src.app.main.handler"));
        assert!(c.holds("python3.11", "src/app/main.handler"));
        assert!(!c.holds("java17", "a.Hello::handle"));
        assert!(contents(&[("app.jar", "")]).holds("java17", "a.Hello::handle"));
    }

    #[test]
    fn a_zip_is_no_zip() {
        assert!(Contents::of_zip(b"not at all").is_err());
    }
}
