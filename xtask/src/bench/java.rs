//! What Java needs before it can be measured: its hello and the bootstrap, compiled, and the development kit of the daemon's version.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anyhow::{Context as _, Result, bail};

use crate::shell;

/// The trivial handler. Its comment of fixed length is text of the class, which is replaced there.
const HELLO: &str = "import java.util.*;
public class Hello {
    static final String MARK = \"????????????????????????\";
    public Map<String, Object> handle(Map<String, Object> event) {
        Map<String, Object> answer = new HashMap<>();
        answer.put(\"isBase64Encoded\", false);
        answer.put(\"headers\", Map.of());
        answer.put(\"statusCode\", 200);
        answer.put(\"body\", \"Hello world\");
        return answer;
    }
}
";
/// What is replaced, and how long it is.
const MARK: &[u8; 24] = b"????????????????????????";
/// Where kits lie beside the one on the path.
const KITS: &str = "/usr/lib/jvm";

/// The class, with `mark` in it.
pub(super) fn hello(mark: &str) -> Result<Vec<u8>> {
    static CLASS: OnceLock<Vec<u8>> = OnceLock::new();
    let class = match CLASS.get() {
        Some(class) => class,
        None => {
            let made = compile_hello()?;
            CLASS.get_or_init(|| made)
        }
    };
    let at = class.windows(MARK.len()).position(|w| w == MARK).context("the class has no mark")?;
    let text = format!("{mark:<width$}", width = MARK.len());
    let text = text.as_bytes().get(..MARK.len()).context("a mark is too long")?;
    let mut marked = class.clone();
    marked.splice(at..at + MARK.len(), text.iter().copied());
    Ok(marked)
}

fn compile_hello() -> Result<Vec<u8>> {
    let folder = made("hello")?;
    let source = folder.join("Hello.java");
    fs::write(&source, HELLO)?;
    shell::capture(shell::command("javac").arg("-d").arg(&folder).arg(&source))?;
    fs::read(folder.join("Hello.class")).context("javac has made no class")
}

/// The bootstrap, compiled as the daemon does it: a folder for the class path.
pub(super) fn bootstrap() -> Result<PathBuf> {
    let classes = made("bootstrap")?;
    let mut javac = shell::command("javac");
    javac.args(["-g", "-nowarn", "-XDignore.symbol.file", "-XDstringConcat=inline", "-d"]);
    javac.arg(&classes);
    let sources = shell::root().join("runtimes/java/src/hanshu");
    for entry in fs::read_dir(&sources).context("the bootstrap has no sources")? {
        javac.arg(entry?.path());
    }
    shell::capture(&mut javac)?;
    Ok(classes)
}

fn made(name: &str) -> Result<PathBuf> {
    let folder = shell::root().join("target/java/bench").join(name);
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    Ok(folder)
}

/// The `java` of the kit of exactly that version.
pub(super) fn interpreter(version: &str) -> Result<PathBuf> {
    let kits = fs::read_dir(KITS).with_context(|| format!("no kits in {KITS}"))?;
    for home in kits.flatten().map(|entry| entry.path()) {
        if is_version(&home, version) {
            return Ok(home.join("bin/java"));
        }
    }
    bail!("the daemon runs java {version}; no such kit lies in {KITS}")
}

fn is_version(home: &Path, version: &str) -> bool {
    let release = fs::read_to_string(home.join("release")).unwrap_or_default();
    release.lines().any(|line| line == format!("JAVA_VERSION=\"{version}\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_change_the_class_and_nothing_of_its_length() {
        let (a, b) = (hello("1").unwrap(), hello("another").unwrap());
        assert!(a != b && a.len() == b.len());
        assert!(hello("").is_ok() && hello(&"x".repeat(24)).is_ok());
    }
}
