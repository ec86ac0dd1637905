//! Java's bootstrap: compiled by the kit that will run it, once per kit and build of the daemon, when a function first needs it.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use model::ids::Digest;
use model::{Code, Error, Result};

use super::super::folders::disk;
use super::super::root::{make_file, make_folder, remove_tree};
use super::super::runtimes::{Runtime, probe};

/// How long the compiler may take. It takes two seconds.
const TIMEOUT: Duration = Duration::from_secs(120);
/// Name of the folder below `/var/runtime` with the classes. It is there once they all are.
const CLASSES: &str = "java";
/// Where the compiler says what is wrong.
const ERRORS: &str = "errors";

macro_rules! sources {
    ($($name:literal),*) => {
        [$(($name, include_str!(concat!("../../../../../runtimes/java/src/", $name)))),*]
    };
}

/// Path, text.
const SOURCES: [(&str, &str); 24] = sources!(
    "ahead/ahead.java",
    "ahead/aheadjar.java",
    "ahead/aheadtrial.java",
    "hanshu/Ahead.java",
    "hanshu/Call.java",
    "hanshu/CallContext.java",
    "hanshu/Channel.java",
    "hanshu/Decoder.java",
    "hanshu/Encoder.java",
    "hanshu/Failure.java",
    "hanshu/Fault.java",
    "hanshu/Frame.java",
    "hanshu/Handler.java",
    "hanshu/JsonReader.java",
    "hanshu/Loader.java",
    "hanshu/Main.java",
    "hanshu/Pieces.java",
    "hanshu/Scalars.java",
    "hanshu/Shape.java",
    "hanshu/StreamHandler.java",
    "hanshu/Surroundings.java",
    "hanshu/Types.java",
    "hanshu/ValueHandler.java",
    "hanshu/Zygote.java"
);
/// The native parts, compiled with the daemon (`build.rs`), and where they lie among the classes.
const LIBRARIES: [(&str, &[u8]); 2] = [
    ("ahead.so", include_bytes!(concat!(env!("OUT_DIR"), "/ahead.so"))),
    ("zygote.so", super::LIBRARY),
];
/// The class that is put into a jar, and that jar: so that the way by one is warm as well.
const IN_JAR: &str = "aheadjar.class";
const JAR: &str = "ahead.jar";
/// What the kit's programs are run with: they are short.
const SHORT: [&str; 3] = ["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData"];

/// The folder below `cache` that becomes `/var/runtime` for this kit; empty until [`compile`] has run.
pub(in crate::process) fn folder(cache: &Path, kit: &Runtime) -> io::Result<PathBuf> {
    let all =
        serde_json::to_vec(&(SOURCES.as_slice(), LIBRARIES, &kit.info.version, &kit.on_host))?;
    let name: String = Digest::of(&all).to_string().chars().take(16).collect();
    let folder = cache.join("bootstraps").join(format!("{}-{name}", kit.info.name));
    make_folder(&folder)?;
    Ok(folder)
}

/// Whether a folder holds the classes.
pub(in crate::process) fn is_compiled(folder: &Path) -> bool {
    folder.join(CLASSES).exists()
}

/// Compiles the bootstrap into its folder. One at a time: the draft has one place.
pub(in crate::process) fn compile(folder: &Path, kit: &Runtime) -> Result<()> {
    let draft = folder.with_extension("draft");
    remove_tree(&draft).map_err(disk)?;
    let (sources, classes) = (draft.join("src"), draft.join("classes"));
    for part in [&sources, &classes] {
        make_folder(part).map_err(disk)?;
    }
    // The compiler is a program for the virtual machine: a kit without `javac` beside `java` has it too.
    let mut arguments: Vec<String> = SHORT.map(String::from).into();
    arguments.extend(
        ["-m", "jdk.compiler/com.sun.tools.javac.Main", "-g", "-encoding", "UTF-8", "-nowarn"]
            .map(String::from),
    );
    // Strings are joined by plain code: the first join that the virtual machine has to work out for itself costs a start 10 ms.
    arguments.extend(
        ["-XDignore.symbol.file", "-XDstringConcat=inline", "-implicit:none", "-proc:none"]
            .map(String::from),
    );
    for (option, path) in
        [("-Xstdout", &draft.join(ERRORS)), ("-d", &classes), ("-sourcepath", &sources)]
    {
        arguments.extend([option.to_owned(), path.to_string_lossy().into_owned()]);
    }
    for (name, text) in SOURCES {
        let path = sources.join(name);
        make_folder(path.parent().unwrap_or(&sources)).map_err(disk)?;
        make_file(&path, text).map_err(disk)?;
        arguments.push(path.to_string_lossy().into_owned());
    }
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    if probe::run(&kit.on_host, &arguments, TIMEOUT).is_none() {
        let said = fs::read_to_string(draft.join(ERRORS)).unwrap_or_default();
        let message = format!("the bootstrap of {} could not be compiled", kit.info.name);
        return Err(Error::platform(Code::SandboxFailed, message)
            .with_source(io::Error::other(said.chars().take(2000).collect::<String>())));
    }
    for (name, bytes) in LIBRARIES {
        fs::write(classes.join(name), bytes).map_err(disk)?;
    }
    pack(&classes, kit).map_err(disk)?;
    open_to_all(&classes).map_err(disk)?;
    fs::rename(&classes, folder.join(CLASSES)).map_err(disk)?;
    remove_tree(&draft).map_err(disk)
}

/// Moves one class into a jar. A kit that makes none leaves it where it is: it is found there as well, but jars are not warm.
fn pack(classes: &Path, kit: &Runtime) -> io::Result<()> {
    let (jar, folder) = (classes.join(JAR), classes.to_string_lossy());
    let path = jar.to_string_lossy();
    let mut arguments = SHORT.to_vec();
    arguments.extend(["-m", "jdk.jartool/sun.tools.jar.Main", "--create", "--file", &path]);
    arguments.extend(["-C", &folder, IN_JAR]);
    match probe::run(&kit.on_host, &arguments, TIMEOUT) {
        Some(_) => fs::remove_file(classes.join(IN_JAR)),
        None if jar.exists() => fs::remove_file(jar),
        None => Ok(()),
    }
}

/// Lets every instance read the classes, whatever the umask.
fn open_to_all(folder: &Path) -> io::Result<()> {
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        match entry.file_type()?.is_dir() {
            true => open_to_all(&entry.path())?,
            false => fs::set_permissions(entry.path(), fs::Permissions::from_mode(0o644))?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_source_is_forgotten() {
        let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../runtimes/java/src");
        let mut files = Vec::new();
        for folder in ["ahead", "hanshu"] {
            files.extend(fs::read_dir(sources.join(folder)).unwrap().map(|entry| {
                format!("{folder}/{}", entry.unwrap().file_name().into_string().unwrap())
            }));
        }
        files.sort();
        assert_eq!(files, SOURCES.map(|(path, _)| path));
    }

    #[test]
    fn the_libraries_have_what_java_looks_for() {
        let [(_, ahead), (_, zygote)] = LIBRARIES;
        for (library, name) in [
            (ahead, "Java_hanshu_Surroundings_setFolder"),
            (ahead, "setenv"),
            (zygote, "Java_hanshu_Zygote_await"),
        ] {
            assert_eq!(library.get(..4), Some(b"\x7fELF".as_slice()));
            assert!(library.windows(name.len()).any(|at| at == name.as_bytes()), "{name}");
        }
    }
}
