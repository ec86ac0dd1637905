//! `cargo x fuzz`: runs one fuzzer of `fuzz/` for a while.
//!
//! libFuzzer with the compiler's own coverage counters, on the pinned stable toolchain. No address sanitizer, which only a nightly compiler has: what
//! is fuzzed is safe Rust, so it breaks by a panic, by memory or by time, and those libFuzzer sees by itself.
//!
//! What is found goes to `fuzz/target`, what breaks something to `fuzz/artifacts`. With `--keep` the best of it is added to the committed corpus
//! ([`keep`]).

mod keep;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::{shell, tools};

/// Coverage for libFuzzer (LLVM, "SanitizerCoverage"): a counter an edge, a table of addresses, the operands of comparisons.
const RUSTFLAGS: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1";
/// Longest input, in bytes: what the readers do with larger ones they do with these, and a corpus of small files is quick to replay.
const INPUT_BYTES: u32 = 16 * 1024;
/// Memory at which a run counts as broken, in MiB. An input of 16 KiB has no excuse for it.
const MEMORY_MB: u32 = 1024;
/// Where packages are unpacked: a disk would be most of the time.
const IN_MEMORY: &str = "/dev/shm";
/// Time of one input at which it counts as broken, in seconds; generous, for machines that do other things.
const INPUT_SECONDS: u32 = 20;

/// What to fuzz, and for how long.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Options {
    /// Which reader
    name: Name,
    /// How long
    #[arg(long, default_value_t = 60)]
    seconds: u32,
    /// Add what was found to the committed corpus
    #[arg(long)]
    keep: bool,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Name {
    /// What an instance sends to the daemon
    Frames,
    /// An uploaded package
    Package,
    /// A request to a function's URL
    Event,
    /// A function's answer to such a request
    Reply,
    /// An event that an alias reads fields of
    Fields,
    /// The input of a map
    Items,
}

impl Name {
    fn as_str(self) -> &'static str {
        match self {
            Self::Frames => "frames",
            Self::Package => "package",
            Self::Event => "event",
            Self::Reply => "reply",
            Self::Fields => "fields",
            Self::Items => "items",
        }
    }
}

/// The folders of one fuzzer.
struct Folders {
    /// The committed corpus.
    corpus: PathBuf,
    /// What this machine has found.
    found: PathBuf,
    /// What broke something.
    artifacts: PathBuf,
}

/// Builds the fuzzers and runs one; fails if an input breaks it.
pub(crate) fn run(options: &Options) -> Result<()> {
    tools::ensure_fuzzing()?;
    let name = options.name.as_str();
    let fuzz = shell::root().join("fuzz");
    let host = host()?;
    let mut build = shell::cargo("build --release");
    build.args(["--bin", name, "--target", &host]).current_dir(&fuzz).env("RUSTFLAGS", RUSTFLAGS);
    shell::run(&mut build)?;
    let program = fuzz.join("target").join(&host).join("release").join(name);
    let folders = Folders {
        corpus: fuzz.join("corpus").join(name),
        found: fuzz.join("target/found").join(name),
        artifacts: fuzz.join("artifacts").join(name),
    };
    for folder in [&folders.corpus, &folders.found, &folders.artifacts] {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    let mut fuzzer = fuzzer_of(&program, &folders);
    fuzzer.arg(format!("-max_total_time={}", options.seconds));
    fuzzer.args([&folders.found, &folders.corpus]);
    shell::run(&mut fuzzer)
        .with_context(|| format!("the input lies in {}", folders.artifacts.display()))?;
    if options.keep {
        keep::best(fuzzer_of(&program, &folders), &folders.corpus, &folders.found)?;
    }
    Ok(())
}

/// The program with the limits that hold for every use of it.
fn fuzzer_of(program: &Path, folders: &Folders) -> Command {
    let mut fuzzer = shell::command(program);
    fuzzer.args([
        format!("-max_len={INPUT_BYTES}"),
        format!("-rss_limit_mb={MEMORY_MB}"),
        format!("-timeout={INPUT_SECONDS}"),
        format!("-artifact_prefix={}/", folders.artifacts.display()),
        "-print_final_stats=1".to_owned(),
    ]);
    if Path::new(IN_MEMORY).is_dir() {
        fuzzer.env("TMPDIR", IN_MEMORY);
    }
    fuzzer
}

/// The machine's own target. Named, because flags then reach neither build scripts nor procedural macros, which could not be linked with them.
fn host() -> Result<String> {
    let version = shell::capture(shell::command("rustc").arg("-vV"))?;
    match version.lines().find_map(|line| line.strip_prefix("host: ")) {
        Some(host) => Ok(host.to_owned()),
        None => bail!("`rustc -vV` names no host: {version}"),
    }
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;

    use super::*;

    #[test]
    fn every_fuzzer_has_a_target_and_a_corpus() {
        let fuzz = shell::root().join("fuzz");
        let manifest = fs::read_to_string(fuzz.join("Cargo.toml")).unwrap();
        for name in Name::value_variants() {
            let name = name.as_str();
            assert!(manifest.contains(&format!("path = \"targets/{name}.rs\"")), "{name}");
            assert!(fuzz.join("targets").join(name).with_extension("rs").is_file(), "{name}");
            assert!(fuzz.join("corpus").join(name).is_dir(), "{name}");
        }
        assert_eq!(manifest.matches("[[bin]]").count(), Name::value_variants().len());
    }

    #[test]
    fn the_host_is_known() {
        assert!(host().unwrap().contains("linux"));
    }
}
