//! The project's own tools: `cargo x ci | test | tidy | gen | bench | fuzz`.
//!
//! Start at [`Command`]; each subcommand is one module. [`shell`] starts other programs, [`stage`] runs steps one after the
//! other without one failure hiding the next, [`say!`] prints. Nothing here is part of the product.

mod bench;
mod ci;
mod counts;
mod fuzz;
mod r#gen;
mod say;
mod shell;
mod stage;
mod test;
mod tidy;
mod tools;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use say::say;

#[derive(Debug, Parser)]
#[command(
    name = "cargo x",
    about = "Builds, checks and measures Hanshu",
    disable_version_flag = true
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Everything a change has to pass: tidy, format, lints, documents, generated files, a release smoke run, the tests
    Ci(ci::Options),
    /// Installs what the tests need and runs all of them
    Test,
    /// Checks the rules of the house that no compiler knows
    Tidy,
    /// Writes the generated files under docs/reference
    Gen(r#gen::Options),
    /// Measures what SPECIFICATION.md promises
    Bench(bench::Options),
    /// Looks for bytes that break what reads strangers' bytes
    Fuzz(fuzz::Options),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Ci(options) => ci::run(&options),
        Command::Test => test::run(),
        Command::Tidy => tidy::run(),
        Command::Gen(options) => r#gen::run(&options),
        Command::Bench(options) => bench::run(&options),
        Command::Fuzz(options) => fuzz::run(&options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
