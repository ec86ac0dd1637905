//! Compiled code on disk, and programs loaded from it.
//!
//! ```text
//! CACHE/KEY/PACKAGE/PROGRAM.code   native code of a program in a package; by what it depends on (`Machine::key`), the package's digest and the program's name
//! CACHE/drafts/…                   on the way in
//! ```
//!
//! The package stays the truth: whatever is here can be compiled again. A file is synced before it gets its name, so that what has a name is whole. What an older
//! release compiled is removed at the start.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use model::function::Version;
use model::ids::{Digest, RequestId};
use model::invocation::Failure;
use model::ports::StartFailed;
use model::{Error, Result};
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use tokio::sync::Semaphore;
use wasmtime::component::Component;
use wasmtime::{Engine, Module, Precompiled};

use super::compile::{Compiler, NotCompiled, compile};
use super::failure;
use super::machine::Machine;
use super::program::Program;
use crate::process::folders::{blocking, disk};
use crate::process::packages::Unpacked;

/// Compilers that run at once: each keeps a processor busy and may take gigabytes.
const COMPILERS: usize = 1;

/// All compiled code.
#[derive(Debug)]
pub(super) struct Compiled {
    /// Of this release and host.
    place: PathBuf,
    drafts: PathBuf,
    compiler: Compiler,
    turns: Semaphore,
    programs: Mutex<HashMap<Name, Arc<Slot>>>,
}

/// What a program goes by: its package, and its path in it.
type Name = (Digest, String);

/// One program's turn: whoever holds it may compile and load.
#[derive(Debug, Default)]
struct Slot(tokio::sync::Mutex<Weak<Program>>);

/// Native code, mapped into memory.
pub(super) enum Code {
    /// Of a core module.
    Module(Module),
    /// Of a component.
    Component(Component),
}

impl Compiled {
    /// Opens the folder `cache`; made if missing. Blocks.
    pub(super) fn open(cache: &Path, machine: &Machine, compiler: Compiler) -> Result<Self> {
        let (key, drafts) = (machine.key(), cache.join("drafts"));
        let place = cache.join(&key);
        // Nobody else may so much as look: what lies here is run as it is.
        private(cache).map_err(disk)?;
        for other in fs::read_dir(cache).map_err(disk)?.flatten() {
            if other.file_name().to_str() != Some(&key) {
                fs::remove_dir_all(other.path()).map_err(disk)?;
            }
        }
        for folder in [&place, &drafts] {
            private(folder).map_err(disk)?;
        }
        let (turns, programs) = (Semaphore::new(COMPILERS), Mutex::default());
        Ok(Self { place, drafts, compiler, turns, programs })
    }

    /// A version's program: the one that is loaded already, or loaded now; compiled before if that has not been done.
    pub(super) async fn program(
        &self,
        machine: &Machine,
        version: &Version,
        unpacked: &Unpacked,
    ) -> Result<Arc<Program>, StartFailed> {
        let (package, name) = (version.code.digest, &version.config.handler);
        let slot = self.slot((package, name.clone()));
        let mut loaded = slot.0.lock().await;
        if let Some(program) = loaded.upgrade() {
            return Ok(program);
        }
        let file = self.file(&package, name);
        let code = match self.load(machine, &file).await {
            Ok(Some(code)) => code,
            found => {
                if let Err(why) = found {
                    tracing::warn!(why, file = %file.display(), "compiled code is not usable, and compiled again");
                }
                self.compile(unpacked.package(), name, &file).await?;
                let loaded = self.load(machine, &file).await;
                // More modules, memories or tables than the pool has for one instance.
                let none = || "its compiled code is gone".to_owned();
                let code = loaded.and_then(|code| code.ok_or_else(none));
                code.map_err(|why| StartFailed::Function(failure::not_linked(&why)))?
            }
        };
        let program = Program::link(machine, &code).map_err(StartFailed::Function)?;
        let program = Arc::new(program);
        *loaded = Arc::downgrade(&program);
        Ok(program)
    }

    /// Removes the code of a package's programs. What is loaded stays so.
    pub(super) async fn forget(&self, package: &Digest) {
        let folder = self.folder(package);
        let removed = blocking(move || match fs::remove_dir_all(&folder) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(disk(e)),
            _ => Ok(()),
        });
        if let Err(error) = removed.await {
            tracing::warn!(%error, %package, "compiled code stays on the disk");
        }
    }

    fn slot(&self, name: Name) -> Arc<Slot> {
        let mut programs = self.programs.lock().unwrap_or_else(PoisonError::into_inner);
        // Those that nobody loads or has loaded are of no more use.
        programs.retain(|_, slot| {
            Arc::strong_count(slot) > 1
                || slot.0.try_lock().is_ok_and(|loaded| loaded.strong_count() > 0)
        });
        Arc::clone(programs.entry(name).or_default())
    }

    fn folder(&self, package: &Digest) -> PathBuf {
        self.place.join(package.to_string())
    }

    fn file(&self, package: &Digest, name: &str) -> PathBuf {
        self.folder(package).join(format!("{}.code", Digest::of(name.as_bytes())))
    }

    /// `None` if it is not there; an error in words if it cannot be used.
    async fn load(&self, machine: &Machine, file: &Path) -> Result<Option<Code>, String> {
        let (engine, file) = (machine.engine().clone(), file.to_owned());
        let loaded = blocking(move || {
            if !file.exists() {
                return Ok(None);
            }
            Ok(Some(map(&engine, &file).map_err(|e| format!("{e:#}"))))
        });
        loaded.await.map_err(|e| e.to_string())?.transpose()
    }

    /// Compiles a package's program into a file.
    async fn compile(&self, package: &Path, name: &str, file: &Path) -> Result<(), StartFailed> {
        let platform = StartFailed::Platform;
        let _turn = self.turns.acquire().await.map_err(Error::internal).map_err(platform)?;
        let (package, name, file) = (package.to_owned(), name.to_owned(), file.to_owned());
        let draft = self.drafts.join(RequestId::generate().to_string());
        let compiler = self.compiler.clone();
        let compiled = blocking(move || {
            let made = make(&compiler, &package, &name, &draft, &file);
            if !matches!(made, Ok(Ok(()))) {
                // It may not have come so far.
                drop(fs::remove_file(&draft));
            }
            made
        });
        match compiled.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(failure)) => Err(StartFailed::Function(failure)),
            Err(error) => Err(StartFailed::Platform(error)),
        }
    }
}

/// Compiles, and gives what came of it its name. The inner error is the function's fault.
fn make(
    compiler: &Compiler,
    package: &Path,
    name: &str,
    draft: &Path,
    file: &Path,
) -> Result<Result<(), Failure>> {
    let program = match open(package, name) {
        Ok(program) => program,
        Err(why) => return Ok(Err(failure::no_program(name, &why))),
    };
    let mut options = fs::OpenOptions::new();
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let code = options.write(true).create_new(true).open(draft).map_err(disk)?;
    let written = code.try_clone().map_err(disk)?;
    match compile(compiler, program, code) {
        Ok(()) => {}
        Err(NotCompiled::Program(why)) => return Ok(Err(failure::not_compiled(name, &why))),
        Err(NotCompiled::Platform(error)) => return Err(error),
    }
    written.sync_all().map_err(disk)?;
    if let Some(folder) = file.parent() {
        private(folder).map_err(disk)?;
    }
    fs::rename(draft, file).map_err(disk)?;
    Ok(Ok(()))
}

/// The program in a package. A link in the package leads nowhere else.
fn open(package: &Path, name: &str) -> io::Result<File> {
    let folder = File::open(package)?;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let within = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let file = File::from(openat2(&folder, name, flags, Mode::empty(), within)?);
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::other("it is no file")),
    }
}

/// A folder for the daemon alone.
fn private(folder: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(folder)
}

/// Maps compiled code into memory.
#[expect(unsafe_code, reason = "the one call that loads compiled code")]
fn map(engine: &Engine, file: &Path) -> wasmtime::Result<Code> {
    match Engine::detect_precompiled_file(file)? {
        Some(Precompiled::Module) => {
            // SAFETY: needed because compiling takes a thousand times as long as mapping. Sound because the file is what our own compiler made of a program: it lies
            // in a folder that only the daemon's user can enter, is written by nobody but the process that `compile` starts, gets its name when it is whole and
            // is never written to again, only unlinked. The engine refuses code of another release, setting or processor.
            unsafe { Module::deserialize_file(engine, file) }.map(Code::Module)
        }
        Some(Precompiled::Component) => {
            // SAFETY: as above.
            unsafe { Component::deserialize_file(engine, file) }.map(Code::Component)
        }
        None => Err(wasmtime::Error::msg("it is no compiled code")),
    }
}
