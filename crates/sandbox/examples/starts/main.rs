//! Starts and stops a static binary in the sandbox, and bare, in turn, and prints how long each took: what `cargo x bench sandbox` reads.
//!
//! ```text
//! starts STANDIN CACHE SAMPLES ROW
//! starts calls CACHE CALLS RUNTIME HANDLER FILE
//! starts provided CACHE SAMPLES CALLS PROGRAM
//! ```
//!
//! STANDIN is `standin.c`, compiled; it goes through the very door that functions go through ([`jailed`]): a package that is unpacked, an image,
//! instances that are started until their runtime says READY. [`bare`] starts the same file with the same descriptors and waits for the
//! same bytes. CACHE is an empty folder.
//!
//! Prints a JSON object a line: `{"side", "start_ns", "steps"?}` for each of SAMPLES turns (`jail`, `fork`, `spawn`), then as many of `{"side":
//! "freeze", "freeze_ns", "thaw_ns"}`, then `{"side": "row",
//! "start_ns", "stop_ns"}` for each of ROW starts and stops one after the other, and `{"side": "left", "before": {..}, "after": {..}}`: what there was of
//! processes, mounts and so on ([`left`]) before and after that row.
//!
//! In the second form it runs a function of one file instead, found by the machine's `PATH`, and times calls of one warm instance ([`calls`]): what `cargo x bench
//! warm` reads.
//!
//! In the third form PROGRAM is an executable that brings its own runtime ([`provided`]): what `cargo x bench provided` reads.

#![expect(clippy::print_stdout, reason = "a program that prints its figures")]

mod bare;
mod calls;
mod jailed;
mod left;
mod provided;
mod steps;

use std::error::Error;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;

use bare::How;
use jailed::{Jailed, Subject};
use left::Left;

/// Turns before any is timed: files come into the page cache, pools fill.
const UNTIMED: usize = 20;
/// Pause before each turn: what the last one left to do in the background is done.
const PAUSE: Duration = Duration::from_millis(5);
/// How long what a row leaves to do in the background may take.
const SETTLE: Duration = Duration::from_secs(2);

type Fallible<T = ()> = Result<T, Box<dyn Error>>;

fn main() -> Fallible {
    sandbox::jail::main_if_spawner();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [word, cache, calls, runtime, handler, file] = &*arguments
        && word == "calls"
    {
        return time_calls(cache, calls, [runtime, handler, file]);
    }
    if let [word, cache, samples, calls, program] = &*arguments
        && word == "provided"
    {
        let (cache, program) = (fs::canonicalize(cache)?, fs::canonicalize(program)?);
        let (samples, calls) = (samples.parse()?, calls.parse()?);
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        return runtime.block_on(provided::run(&cache, samples, calls, &program));
    }
    let [standin, cache, samples, row] = &*arguments else {
        return Err(
            "usage: starts STANDIN CACHE SAMPLES ROW, or calls CACHE CALLS RUNTIME HANDLER FILE, or provided CACHE SAMPLES CALLS PROGRAM"
                .into(),
        );
    };
    time_starts(standin, cache, samples, row)
}

/// The first form.
fn time_starts(standin: &str, cache: &str, samples: &str, row: &str) -> Fallible {
    // Absolute, as processes are started elsewhere.
    let (standin, cache) = (fs::canonicalize(standin)?, fs::canonicalize(cache)?);
    let (samples, row): (usize, usize) = (samples.parse()?, row.parse()?);
    let steps = steps::listen();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let jailed = runtime.block_on(Jailed::standin(&standin, &cache))?;
    for n in 0..UNTIMED + samples {
        for turn in 0..3 {
            std::thread::sleep(PAUSE);
            // Who goes first alternates.
            let line = match (turn + n) % 3 {
                0 => {
                    let took = runtime.block_on(jailed.start())?;
                    json!({"side": "jail", "start_ns": nanos(took.start), "steps": steps.take()})
                }
                1 => json!({"side": "fork", "start_ns": nanos(bare::start(&standin, How::Fork)?)}),
                _ => {
                    json!({"side": "spawn", "start_ns": nanos(bare::start(&standin, How::Spawn)?)})
                }
            };
            if n >= UNTIMED {
                println!("{line}");
            }
        }
    }
    for _ in 0..samples {
        let (freeze, thaw) = runtime.block_on(jailed.freeze())?;
        println!(
            "{}",
            json!({"side": "freeze", "freeze_ns": nanos(freeze), "thaw_ns": nanos(thaw)})
        );
    }
    std::thread::sleep(SETTLE);
    let before = Left::now(&cache)?;
    let begun = Instant::now();
    for _ in 0..row {
        let took = runtime.block_on(jailed.start())?;
        println!(
            "{}",
            json!({"side": "row", "start_ns": nanos(took.start), "stop_ns": nanos(took.stop)})
        );
    }
    let elapsed = begun.elapsed();
    std::thread::sleep(SETTLE);
    let after = Left::now(&cache)?;
    println!(
        "{}",
        json!({"side": "left", "before": before, "after": after, "row_ns": nanos(elapsed)})
    );
    runtime.block_on(jailed.close())
}

/// The second form.
fn time_calls(cache: &str, calls: &str, function: [&String; 3]) -> Fallible {
    let [runtime, handler, file] = function;
    let name = Path::new(file).file_name().and_then(|name| name.to_str());
    let subject = Subject {
        #[expect(
            clippy::disallowed_methods,
            reason = "runtimes are looked for where the caller finds programs"
        )]
        path: std::env::var("PATH")?,
        runtime,
        handler,
        file: name.ok_or("FILE has no name")?,
        code: fs::read(file)?,
    };
    let (cache, calls) = (fs::canonicalize(cache)?, calls.parse()?);
    // As many threads as the daemon has.
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads((processors / 2).max(1)).enable_all().build()?;
    println!("{}", runtime.block_on(calls::run(subject, &cache, calls))?);
    Ok(())
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
