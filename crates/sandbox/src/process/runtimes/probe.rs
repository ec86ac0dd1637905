//! Asks an interpreter what it is.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use model::function::RuntimeInfo;

use super::{Candidate, Language, Runtime};
use crate::jail::Mount;

/// How long an interpreter may take to answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How often it is looked whether it has.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// Prints version, executable, prefix, standard library, then the shared libraries in use, a line each.
const PYTHON_PROBE: &str = "\
import sys, os
print('%d.%d.%d' % sys.version_info[:3])
print(os.path.realpath(getattr(sys, '_base_executable', sys.executable)))
print(os.path.realpath(sys.base_prefix))
print(os.path.realpath(os.path.dirname(os.__file__)))
seen = set()
for line in open('/proc/self/maps'):
    path = line.rstrip('\\n').split(' ', 5)[-1].strip()
    if '.so' in path and path.startswith('/') and path not in seen:
        seen.add(path)
        print(path)
";

/// The first candidate that answers. Scripts are asked only if no program does.
pub(super) async fn first(language: Language, candidates: Vec<Candidate>) -> Option<Runtime> {
    let (scripts, programs): (Vec<_>, Vec<_>) = candidates.into_iter().partition(|c| c.script);
    for candidate in programs.into_iter().chain(scripts) {
        if let Some(runtime) = probe(language, candidate.path).await {
            return Some(runtime);
        }
    }
    None
}

/// Every version among the candidates once, the newest first. Scripts are asked only if no program answers.
pub(super) async fn all(language: Language, candidates: Vec<Candidate>) -> Vec<Runtime> {
    let (scripts, programs): (Vec<_>, Vec<_>) = candidates.into_iter().partition(|c| c.script);
    // Side by side: futures that are merely created do not run, tasks on the blocking pool do.
    let asked: Vec<_> = programs.into_iter().map(|c| ask(language, c.path)).collect();
    let mut found: Vec<Runtime> = Vec::new();
    for answer in asked {
        let Some(runtime) = answered(answer).await else { continue };
        if found.iter().all(|r| r.info.name != runtime.info.name) {
            found.push(runtime);
        }
    }
    if found.is_empty() {
        found.extend(first(language, scripts).await);
    }
    found.sort_by_key(|r| std::cmp::Reverse(minor(&r.info.version)));
    found
}

fn minor(version: &str) -> u32 {
    version.split('.').nth(1).and_then(|n| n.parse().ok()).unwrap_or(0)
}

type Answer = tokio::task::JoinHandle<Option<Runtime>>;

fn ask(language: Language, path: PathBuf) -> Answer {
    tokio::task::spawn_blocking(move || match language {
        Language::Node => node(&path),
        Language::Python => python(&path),
        // Its kits say in a file what they are.
        Language::Java | Language::Provided | Language::Web => None,
    })
}

async fn answered(answer: Answer) -> Option<Runtime> {
    answer.await.ok()?
}

async fn probe(language: Language, path: PathBuf) -> Option<Runtime> {
    answered(ask(language, path)).await
}

/// What a program of the host's prints; `None` if it fails or takes longer than `timeout`.
#[expect(clippy::disallowed_methods, reason = "only sandbox starts processes: this is where")]
pub(in crate::process) fn run(program: &Path, args: &[&str], timeout: Duration) -> Option<String> {
    let asked = Command::new(program)
        .args(args)
        .env_clear()
        // A shim has to find its tools; an interpreter needs nothing.
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .and_then(|child| answer_of(child, timeout));
    match asked {
        Ok((status, answer)) if status.success() => String::from_utf8(answer).ok(),
        other => {
            tracing::debug!(program = %program.display(), ?other, "not a usable interpreter");
            None
        }
    }
}

/// Waits for the end of an interpreter, kills it if that takes too long, and returns what it said. An answer fits into a pipe.
fn answer_of(mut child: Child, timeout: Duration) -> io::Result<(ExitStatus, Vec<u8>)> {
    let until = Instant::now() + timeout;
    let status = loop {
        match child.try_wait()? {
            Some(status) => break status,
            None if Instant::now() < until => sleep(LOOK_EVERY),
            None => {
                child.kill()?;
                break child.wait()?;
            }
        }
    };
    Ok((status, child.stdout.take().map(what_is_there).transpose()?.unwrap_or_default()))
}

/// Not to the end of the stream: what an interpreter left running may hold it open.
fn what_is_there(mut stdout: ChildStdout) -> io::Result<Vec<u8>> {
    rustix::io::ioctl_fionbio(&stdout, true)?;
    let mut answer = Vec::new();
    match stdout.read_to_end(&mut answer) {
        Err(e) if e.kind() != io::ErrorKind::WouldBlock => Err(e),
        _ => Ok(answer),
    }
}

fn node(path: &Path) -> Option<Runtime> {
    let output = run(path, &["--version"], TIMEOUT)?;
    let version = output.trim().strip_prefix('v')?;
    let major: u32 = version.split('.').next()?.parse().ok()?;
    let mut mounts = vec![Mount::bind(path, "var/lang/bin/node")];
    // Debian keeps some of the built-in modules there.
    let shared = Path::new("/usr/share/nodejs");
    if shared.is_dir() {
        mounts.push(Mount::bind(shared, "usr/share/nodejs"));
    }
    Some(Runtime {
        info: RuntimeInfo { name: format!("nodejs{major}"), version: version.to_owned() },
        language: Language::Node,
        program: "/var/lang/bin/node".into(),
        mounts,
        on_host: path.to_owned(),
    })
}

fn python(path: &Path) -> Option<Runtime> {
    python_from(&run(path, &["-I", "-S", "-c", PYTHON_PROBE], TIMEOUT)?)
}

fn python_from(answer: &str) -> Option<Runtime> {
    let mut lines = answer.lines();
    let version = lines.next()?;
    let (executable, prefix) = (Path::new(lines.next()?), Path::new(lines.next()?));
    let library = Path::new(lines.next()?);
    let (major, rest) = version.split_once('.')?;
    let minor = rest.split('.').next()?;
    let name = format!("python{major}.{minor}");
    let program = format!("var/lang/bin/{name}");
    let inside = format!("var/lang/{}", library.strip_prefix(prefix).ok()?.to_str()?);
    let mut mounts =
        vec![Mount::bind(executable, program.clone()), Mount::bind(library, inside.clone())];
    for packages in ["site-packages", "dist-packages"] {
        if library.join(packages).is_dir() {
            // What the host's owner installed is not the runtime.
            mounts.push(Mount::bind(super::super::root::EMPTY, format!("{inside}/{packages}")));
        }
    }
    // A library of its own (libpython) is found by a path fixed when it was built.
    for file in lines.filter(|l| !Path::new(l).starts_with(library)) {
        if !super::super::root::is_system_library(Path::new(file)) {
            mounts.push(Mount::bind(file, file.trim_start_matches('/')));
        }
    }
    Some(Runtime {
        info: RuntimeInfo { name, version: version.to_owned() },
        language: Language::Python,
        program: format!("/{program}"),
        mounts,
        on_host: executable.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_python_elsewhere_is_moved_and_its_library_kept_in_place() {
        let runtime = python_from(
            "3.12.4\n/opt/py/bin/python3.12\n/opt/py\n/opt/py/lib/python3.12\n\
             /opt/py/lib/libpython3.12.so.1.0\n/opt/py/lib/python3.12/lib-dynload/x.so\n",
        )
        .unwrap();
        assert_eq!(runtime.info.name, "python3.12");
        assert_eq!(runtime.program, "/var/lang/bin/python3.12");
        assert_eq!(
            runtime.mounts,
            [
                Mount::bind("/opt/py/bin/python3.12", "var/lang/bin/python3.12"),
                Mount::bind("/opt/py/lib/python3.12", "var/lang/lib/python3.12"),
                Mount::bind("/opt/py/lib/libpython3.12.so.1.0", "opt/py/lib/libpython3.12.so.1.0"),
            ]
        );
    }

    #[test]
    fn nonsense_is_no_python() {
        for answer in ["", "3.11.2\n", "hello\n/a\n/b\n/c\n"] {
            assert_eq!(python_from(answer), None);
        }
    }
}
