//! Turns what a person has (a folder, a file, a zip) into a package the daemon takes. Never writes into the person's folder, but for Cargo's own `target`.
//!
//! [`build`] is the door: [`manifest`] reads `hanshu.toml`, [`install`] runs package managers and compilers, [`collect`] picks the files,
//! [`archive`] packs them so that equal files give equal bytes, [`guess`] finds runtime and handler where nobody named them,
//! [`plan`] puts file, flags and the deployed function together.

pub(crate) mod archive;
pub(crate) mod collect;
pub(crate) mod guess;
pub(crate) mod install;
pub(crate) mod manifest;
pub(crate) mod plan;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use self::collect::{Entry, Rules};
use self::guess::Contents;
use self::install::Step;
use self::manifest::Manifest;
use crate::cli::failure::CliError;
use crate::cli::progress::Progress;

/// The file that WebAssembly is compiled to where the handler names none.
const PROGRAM: &str = "main.wasm";

/// A package, ready to be uploaded.
#[derive(Debug)]
pub(crate) struct Package {
    /// The zip.
    pub zip: Vec<u8>,
    /// What is in it, for guessing.
    pub contents: Contents,
}

/// What a person points at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// A folder of sources.
    Folder(PathBuf),
    /// One source file.
    File(PathBuf),
    /// A package made elsewhere: a zip, or a jar, which is one.
    Zip(PathBuf),
}

impl Source {
    /// Looks at what lies at `path`.
    pub(crate) fn at(path: &Path) -> Result<Self, CliError> {
        let missing = |e: std::io::Error| {
            CliError::new(format!("{} cannot be read: {e}", path.display()))
                .hint("pass a folder, a source file, a .zip or a .jar; `hanshu init` makes a folder to start from")
        };
        let path = fs::canonicalize(path).map_err(missing)?;
        if fs::metadata(&path).map_err(missing)?.is_dir() {
            return Ok(Self::Folder(path));
        }
        let is_zip = path
            .extension()
            .is_some_and(|e| ["zip", "jar"].iter().any(|packed| e.eq_ignore_ascii_case(packed)));
        Ok(if is_zip { Self::Zip(path) } else { Self::File(path) })
    }

    /// A function name made from the path: of a folder its name, of a file its stem, or its folder's where the stem says nothing.
    pub(crate) fn default_name(&self) -> String {
        let stem = |p: &Path| p.file_stem().map(|s| s.to_string_lossy().into_owned());
        let name = match self {
            Self::Folder(path) => path.file_name().map(|s| s.to_string_lossy().into_owned()),
            Self::File(path) | Self::Zip(path) => match stem(path) {
                Some(s) if guess::says_nothing(&s) => path.parent().and_then(stem),
                other => other,
            },
        };
        let valid = |c: char| if c.is_ascii_alphanumeric() || "-_".contains(c) { c } else { '-' };
        name.unwrap_or_default().chars().map(valid).collect()
    }

    /// The `hanshu.toml` of a folder, or an empty one.
    pub(crate) fn manifest(&self) -> anyhow::Result<Manifest> {
        match self {
            Self::Folder(path) => Manifest::of_folder(path),
            Self::File(_) | Self::Zip(_) => Ok(Manifest::default()),
        }
    }
}

/// Makes the package. `runtime` decides what is built, and for which version of the language.
pub(crate) fn build(
    source: &Source,
    manifest: &Manifest,
    runtime: Option<&str>,
    progress: &Progress,
) -> anyhow::Result<Package> {
    match source {
        Source::Zip(path) => {
            let zip = fs::read(path).with_context(|| format!("reading {}", path.display()))?;
            archive::refuse_too_large(zip.len())?;
            let contents = Contents::of_zip(&zip).map_err(|e| {
                CliError::new(format!("{} is no zip archive: {e}", path.display()))
                    .code("invalid-package")
            })?;
            Ok(Package { zip, contents })
        }
        Source::File(path) => {
            let name = path
                .file_name()
                .and_then(|n| n.to_str())
                .with_context(|| format!("the name of {} is not valid UTF-8", path.display()))?;
            let entry = Entry::of_file(name, path)?;
            match name.ends_with(".java") {
                true => compiled(&[entry], runtime, progress),
                false => pack(&[entry]),
            }
        }
        Source::Folder(root) => build_folder(root, manifest, runtime, progress),
    }
}

/// Makes the package of a layer: a zip as it is, or a folder as it stands.
pub(crate) fn layer(path: &Path) -> anyhow::Result<Vec<u8>> {
    let zip = match Source::at(path)? {
        Source::Zip(path) => {
            let zip = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
            archive::refuse_too_large(zip.len())?;
            zip
        }
        Source::Folder(root) => archive::zip(&collect::everything(&root, &[])?)?,
        Source::File(path) => {
            return Err(CliError::new(format!(
                "{} is one file: expected a folder or a .zip",
                path.display()
            ))
            .hint("what lies in the folder is found under /opt, for instance in python/ or nodejs/node_modules/")
            .into());
        }
    };
    let files = archive::count(&zip)
        .map_err(|e| CliError::new(format!("{} is no zip archive: {e}", path.display())))?;
    if files == 0 {
        return Err(CliError::new(format!("{} holds no files", path.display())).into());
    }
    Ok(zip)
}

fn build_folder(
    root: &Path,
    manifest: &Manifest,
    runtime: Option<&str>,
    progress: &Progress,
) -> anyhow::Result<Package> {
    let steps = install::steps(root, runtime)?;
    let rules = Rules {
        exclude: &manifest.exclude,
        // npm fills node_modules anew: what lies there now may be for another machine.
        without_node_modules: steps.iter().any(Step::fills_node_modules),
    };
    let mut sources = sources(root, &rules)?;
    if steps.iter().any(Step::fills_target) {
        sources.retain(|e| !e.name.starts_with("target/"));
    }
    let scratch = tempfile::tempdir().context("making a temporary folder")?;
    if let [Step::Wasm(compiler)] = steps.as_slice() {
        let name = manifest.handler.as_deref().filter(|h| h.ends_with(".wasm"));
        let name = name.unwrap_or(PROGRAM);
        let scratch = scratch.path();
        return pack(&[install::wasm::compile(compiler, root, &sources, scratch, name, progress)?]);
    }
    if let Some(step) = steps.iter().find(|step| step.makes_executable()) {
        let program = install::provided::compile(step, root, scratch.path(), progress)?;
        if runtime != Some(model::function::WEB) {
            return pack(&[program]);
        }
        // Pages and templates lie beside a server's sources.
        sources.retain(|e| !e.name.starts_with("target/"));
        sources.push(program);
        sources.sort_by(|a, b| a.name.cmp(&b.name));
        return pack(&sources);
    }
    let compile = install::java::wants_compiler(root, runtime, &sources);
    if steps.is_empty() && !compile {
        return pack(&sources);
    }
    let copy = scratch;
    collect::copy(&sources, copy.path())?;
    for step in &steps {
        install::run(step, copy.path(), progress)?;
    }
    if steps.iter().any(Step::fills_target) {
        return pack(&install::java::packaged(copy.path())?);
    }
    if compile {
        install::java::compile(copy.path(), &sources, runtime, progress)?;
    }
    pack(&collect::everything(copy.path(), &manifest.exclude)?)
}

fn sources(root: &Path, rules: &Rules<'_>) -> anyhow::Result<Vec<Entry>> {
    let sources = collect::sources(root, rules)?;
    if sources.is_empty() {
        return Err(CliError::new(format!("{} holds no files to deploy", root.display()))
            .hint("see `exclude` in hanshu.toml, .hanshuignore and .gitignore")
            .into());
    }
    Ok(sources)
}

/// Makes the package of a folder as it stands: nothing is installed or compiled. Of anything else it is [`build`].
pub(crate) fn as_it_stands(
    source: &Source,
    manifest: &Manifest,
    progress: &Progress,
) -> anyhow::Result<Package> {
    match source {
        Source::Folder(root) => pack(&sources(
            root,
            &Rules { exclude: &manifest.exclude, without_node_modules: false },
        )?),
        Source::File(_) | Source::Zip(_) => build(source, manifest, None, progress),
    }
}

fn compiled(
    sources: &[Entry],
    runtime: Option<&str>,
    progress: &Progress,
) -> anyhow::Result<Package> {
    let copy = tempfile::tempdir().context("making a temporary folder")?;
    collect::copy(sources, copy.path())?;
    install::java::compile(copy.path(), sources, runtime, progress)?;
    pack(&collect::everything(copy.path(), &[])?)
}

fn pack(entries: &[Entry]) -> anyhow::Result<Package> {
    let zip = archive::zip(entries)?;
    Ok(Package { zip, contents: Contents::of_entries(entries) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::screen::{Format, Screen};
    use crate::config::environment::Environment;

    fn quiet() -> Progress {
        Progress::new(Screen::detect(Format::Text, &Environment::default()))
    }

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        dir
    }

    fn names(dir: &Path) -> Vec<String> {
        let source = Source::at(dir).unwrap();
        let manifest = source.manifest().unwrap();
        build(&source, &manifest, None, &quiet()).unwrap().contents.names().to_vec()
    }

    #[test]
    fn ignore_files_and_excludes_are_honoured_but_modules_stay() {
        let dir = folder(&[
            ("index.js", "exports.handler = 1"),
            ("notes.md", ""),
            ("secret/key", ""),
            ("lib/a.js", ""),
            ("lib/__pycache__/a.pyc", ""),
            (".git/HEAD", ""),
            (".gitignore", "node_modules\nsecret/\n"),
            ("node_modules/left/index.js", ""),
            ("node_modules/.bin/left", ""),
            ("hanshu.toml", "exclude = ['*.md']"),
        ]);
        assert_eq!(names(dir.path()), ["index.js", "lib/a.js", "node_modules/left/index.js"]);
        fs::write(dir.path().join(".hanshuignore"), "lib\n").unwrap();
        let with_own = names(dir.path());
        assert!(with_own.contains(&"secret/key".to_owned()), "replaces .gitignore: {with_own:?}");
        assert!(!with_own.contains(&"lib/a.js".to_owned()), "{with_own:?}");
    }

    #[test]
    fn equal_files_give_equal_bytes() {
        let build = |files: &[(&str, &str)]| {
            let dir = folder(files);
            let source = Source::at(dir.path()).unwrap();
            build(&source, &Manifest::default(), None, &quiet()).unwrap().zip
        };
        let one = build(&[("b.py", "x"), ("a.py", "y")]);
        assert_eq!(one, build(&[("a.py", "y"), ("b.py", "x")]));
        assert_ne!(one, build(&[("a.py", "y"), ("b.py", "z")]));
    }

    #[test]
    fn a_file_is_packed_under_its_own_name() {
        let dir = folder(&[("index.mjs", "export const handler = 1")]);
        let source = Source::at(&dir.path().join("index.mjs")).unwrap();
        let package = build(&source, &Manifest::default(), None, &quiet()).unwrap();
        assert_eq!(package.contents.names(), ["index.mjs"]);
        let parent = dir.path().file_name().unwrap().to_string_lossy().replace('.', "-");
        assert_eq!(source.default_name().trim_start_matches('-'), parent.trim_start_matches('-'));
    }

    #[test]
    fn java_is_compiled_and_its_handler_found() {
        let text = "public class Hello { public Object handle(Object event) { return event; } }";
        let dir = folder(&[("Hello.java", text), ("data/words.txt", ""), ("hanshu.toml", "")]);
        for path in [dir.path().to_owned(), dir.path().join("Hello.java")] {
            let source = Source::at(&path).unwrap();
            let package = build(&source, &Manifest::default(), None, &quiet()).unwrap();
            let names = package.contents.names();
            assert!(names.contains(&"Hello.class".to_owned()), "{names:?}");
            assert!(names.iter().all(|n| !n.ends_with(".java")), "{names:?}");
            assert_eq!(package.contents.runtime(), Some(guess::JAVA));
            assert_eq!(package.contents.handler(guess::JAVA).unwrap(), "Hello::handle");
            let jar = dir.path().join("made.jar");
            fs::write(&jar, &package.zip).unwrap();
            let source = Source::at(&jar).unwrap();
            let again = build(&source, &Manifest::default(), None, &quiet()).unwrap();
            assert_eq!(again.zip, package.zip);
            assert_eq!(again.contents.handler(guess::JAVA).unwrap(), "Hello::handle");
            fs::remove_file(jar).unwrap();
            // Whatever the compiler is, it makes something that a later runtime takes.
            build(&Source::at(&path).unwrap(), &Manifest::default(), Some("java99"), &quiet())
                .unwrap();
        }
    }

    #[test]
    fn links_stay_inside_the_folder() {
        let dir = folder(&[("index.js", "x"), ("lib/a.js", "y")]);
        std::os::unix::fs::symlink("lib/a.js", dir.path().join("b.js")).unwrap();
        assert!(names(dir.path()).contains(&"b.js".to_owned()));
        std::os::unix::fs::symlink("/etc/hostname", dir.path().join("c.js")).unwrap();
        let source = Source::at(dir.path()).unwrap();
        let e = build(&source, &Manifest::default(), None, &quiet()).unwrap_err();
        assert!(e.to_string().contains("c.js"), "{e:#}");
    }

    #[test]
    fn a_layer_is_packed_as_it_stands() {
        let dir = folder(&[
            ("python/numpy/__init__.py", "x"),
            ("python/numpy/__pycache__/a.pyc", ""),
            (".gitignore", "python"),
            ("bin/run", ""),
        ]);
        let zip = layer(dir.path()).unwrap();
        let contents = Contents::of_zip(&zip).unwrap();
        assert_eq!(contents.names(), ["bin/run", "python/numpy/__init__.py"]);
        let path = dir.path().join("made.zip");
        fs::write(&path, &zip).unwrap();
        assert_eq!(layer(&path).unwrap(), zip);
        fs::write(&path, "no zip").unwrap();
        assert!(layer(&path).unwrap_err().to_string().contains("no zip archive"));
        assert!(layer(&dir.path().join("bin/run")).unwrap_err().to_string().contains("one file"));
        assert!(layer(folder(&[]).path()).unwrap_err().to_string().contains("no files"));
    }

    #[test]
    fn nothing_there_says_what_to_pass() {
        let e = Source::at(Path::new("/no/such/folder")).unwrap_err();
        assert!(e.hint_text().unwrap().contains("hanshu init"), "{e}");
        let dir = folder(&[("hanshu.toml", "")]);
        let source = Source::at(dir.path()).unwrap();
        let e = build(&source, &Manifest::default(), None, &quiet()).unwrap_err();
        assert!(e.to_string().contains("no files"), "{e:#}");
    }
}
