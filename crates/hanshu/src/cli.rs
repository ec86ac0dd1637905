//! The command line: one file a command, each with its arguments and its `run`.
//!
//! Exit codes, for every command: 0 done; 1 a function failed, or a shift that was watched was stopped; 2 wrong usage, or the command could
//! not do its work; 3 `doctor` found something missing.
//! [`screen`] writes, [`failure`] explains, [`progress`] shows long work, [`context`] holds what every command needs.

pub(crate) mod failure;
pub(crate) mod progress;
pub(crate) mod screen;

mod alias;
mod calls;
mod completion;
mod config;
mod context;
mod dead_letters;
mod delete;
mod deploy;
mod differences;
mod doctor;
mod download;
mod r#gen;
mod history;
mod init;
mod invoke;
mod key;
mod layer;
mod list;
mod logs;
mod maps;
mod namespaces;
mod provision;
mod rollback;
mod route;
mod secrets;
mod serve;
mod show;
mod up;
mod values;
mod versions;

use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum as _};

use self::context::Context;
use self::failure::CliError;
use self::screen::{Format, Screen};
use crate::config::environment::Environment;

const AFTER_HELP: &str = "\
Start here:
  hanshu serve --dev                        run a daemon on this machine, without keys
  hanshu init hello --runtime nodejs20      make a function's folder
  hanshu deploy hello                       deploy it
  hanshu invoke hello --payload '{\"a\":1}'   call it
  hanshu logs hello -f                      watch what it writes

Exit codes: 0 done; 1 a function failed, or a shift that was watched was stopped; 2 wrong usage, or the command could not do its work;
3 `doctor` found something missing.";

/// Run functions on your own machine: the daemon and its command line.
#[derive(Debug, Parser)]
#[command(name = "hanshu", version, propagate_version = true, max_term_width = 120)]
#[command(disable_help_subcommand = true, after_help = AFTER_HELP)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// What every command understands.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Global options")]
struct Global {
    /// Where the daemon is [variable: HANSHU_URL] [default: http://127.0.0.1:9000]
    #[arg(long, global = true, value_name = "URL")]
    url: Option<String>,
    /// The key to show it; a daemon started with --dev asks for none [variable: HANSHU_KEY]
    #[arg(long, global = true, value_name = "KEY")]
    key: Option<String>,
    /// The namespace to work in [variable: HANSHU_NAMESPACE] [default: default]
    #[arg(long, short, global = true, value_name = "NAMESPACE")]
    namespace: Option<String>,
    /// Why you make the change: kept with it and shown by `hanshu history` [variable: HANSHU_REASON]
    #[arg(long, global = true, value_name = "TEXT")]
    reason: Option<String>,
    /// How results are written [variable: HANSHU_OUTPUT] [default: text]
    #[arg(long, global = true, value_name = "FORMAT")]
    output: Option<Format>,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::ServeArgs),
    Up(up::UpArgs),
    Init(init::InitArgs),
    Deploy(deploy::DeployArgs),
    Invoke(invoke::InvokeArgs),
    List(list::ListArgs),
    Show(show::ShowArgs),
    Delete(delete::DeleteArgs),
    Logs(logs::LogsArgs),
    Calls(calls::CallsArgs),
    Cancel(calls::CancelArgs),
    DeadLetters(dead_letters::DeadLettersArgs),
    Redrive(dead_letters::RedriveArgs),
    Map(maps::MapArgs),
    Maps(maps::MapsArgs),
    Config(config::ConfigArgs),
    Versions(versions::VersionsArgs),
    Alias(alias::AliasArgs),
    Provision(provision::ProvisionArgs),
    Rollback(rollback::RollbackArgs),
    History(history::HistoryArgs),
    Layer(layer::LayerArgs),
    Namespaces(namespaces::NamespacesArgs),
    Key(key::KeyArgs),
    Secrets(secrets::SecretsArgs),
    Doctor(doctor::DoctorArgs),
    Completion(completion::CompletionArgs),
    #[command(hide = true)]
    Gen(r#gen::GenArgs),
}

/// Reads the arguments of the process and does what they say.
pub(crate) fn main(env: Environment) -> ExitCode {
    // Wrong usage ends here, with clap's explanation and exit code 2; help and version with 0.
    let Cli { global, command } = Cli::parse();
    let format = format(&global, &env);
    let screen = Screen::detect(*format.as_ref().unwrap_or(&Format::Text), &env);
    let cx = Context::new(env, screen, global);
    let done = format.map_err(Into::into).and_then(|_| run(command, &cx));
    done.unwrap_or_else(|e| failure::report(&e, &screen))
}

fn format(global: &Global, env: &Environment) -> Result<Format, CliError> {
    match (global.output, env.get("HANSHU_OUTPUT")) {
        (Some(format), _) => Ok(format),
        (None, Some(text)) => Format::from_str(text, false).map_err(|_| {
            CliError::new(format!("HANSHU_OUTPUT '{text}' is not valid: expected text or json"))
        }),
        (None, None) => Ok(Format::Text),
    }
}

fn run(command: Command, cx: &Context) -> anyhow::Result<ExitCode> {
    match command {
        Command::Serve(args) => args.run(cx),
        Command::Up(args) => args.run(cx),
        Command::Init(args) => args.run(cx),
        Command::Deploy(args) => args.run(cx),
        Command::Invoke(args) => args.run(cx),
        Command::List(args) => args.run(cx),
        Command::Show(args) => args.run(cx),
        Command::Delete(args) => args.run(cx),
        Command::Logs(args) => args.run(cx),
        Command::Calls(args) => args.run(cx),
        Command::Cancel(args) => args.run(cx),
        Command::DeadLetters(args) => args.run(cx),
        Command::Redrive(args) => args.run(cx),
        Command::Map(args) => args.run(cx),
        Command::Maps(args) => args.run(cx),
        Command::Config(args) => args.run(cx),
        Command::Versions(args) => args.run(cx),
        Command::Alias(args) => args.run(cx),
        Command::Provision(args) => args.run(cx),
        Command::Rollback(args) => args.run(cx),
        Command::History(args) => args.run(cx),
        Command::Layer(args) => args.run(cx),
        Command::Namespaces(args) => args.run(cx),
        Command::Key(args) => args.run(cx),
        Command::Secrets(args) => args.run(cx),
        Command::Doctor(args) => args.run(cx),
        Command::Completion(args) => args.run(cx),
        Command::Gen(args) => args.run(cx),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_and_option_is_explained() {
        fn check(command: &clap::Command) {
            for argument in command.get_arguments() {
                assert!(
                    argument.get_help().is_some(),
                    "{} {}",
                    command.get_name(),
                    argument.get_id()
                );
            }
            for sub in command.get_subcommands() {
                assert!(sub.get_about().is_some(), "{}", sub.get_name());
                check(sub);
            }
        }
        check(&Cli::command());
    }

    #[test]
    fn names_that_others_rely_on_parse() {
        for line in [
            "hanshu serve --dev --data d --listen 127.0.0.1:0",
            "hanshu serve --require-isolation full",
            "hanshu doctor --local --output json",
            "hanshu deploy p --name n --namespace s --runtime r --handler h --publish",
            "hanshu invoke n --payload {} --async --qualifier live",
            "hanshu logs n -f --limit 3 --request id",
            "hanshu up examples --exit",
            "hanshu map f --input in.json --chunk 10 --concurrency 5 --attempts 2 --tolerate 5% --reduce g",
            "hanshu map f:live --input - --format json-lines --detach",
            "hanshu maps",
            "hanshu maps show id",
            "hanshu maps results id",
            "hanshu maps cancel id",
            "hanshu maps delete id",
            "hanshu -n team list --output json",
            "hanshu versions f",
            "hanshu versions list publish",
            "hanshu versions publish f --reason why",
            "hanshu versions show f:3 --values",
            "hanshu versions diff f 3",
            "hanshu versions diff f 3 $LATEST --output json",
            "hanshu versions download f:3 --to -",
            "hanshu versions delete f:3 -y",
            "hanshu alias list f",
            "hanshu alias show live",
            "hanshu alias set f:live --to 7=95 --to 8=5 --rule path=/a->8 --clear-rules --sticky cookie.s --env A=b --unset-env C",
            "hanshu alias set f:live --no-sticky --secret T=@t --description d --file alias.json",
            "hanshu alias delete f:live -y",
            "hanshu alias rollback f:live --revision 3",
            "hanshu alias history f:live --limit 5",
            "hanshu alias resolve f:live --header a=b --query c=d --cookie e=f --path /g --method GET --source 10.0.0.1 --event {}",
            "hanshu alias shift f:live --to 7 --canary 5%,30%,100% --every 2m --stop-if errors>1% --stop-if p99>2x --min-calls 5 --watch",
            "hanshu alias shift f:live --stop",
            "hanshu alias shift f:live",
            "hanshu alias shadow f:live --to 8 --share 10%",
            "hanshu alias shadow f:live --off",
            "hanshu alias diff f:live",
            "hanshu rollback f 3",
            "hanshu rollback f:live --revision 3",
            "hanshu history f:live",
            "hanshu history f --revision 3",
            "hanshu history --layer numpy --limit 5",
            "hanshu history --of-namespace -n team",
            "hanshu layer publish numpy dir --description d --runtime python3.11 --runtime python3.12",
            "hanshu layer list",
            "hanshu layer show numpy",
            "hanshu layer versions numpy",
            "hanshu layer download numpy:3",
            "hanshu layer delete numpy:3 -y",
            "hanshu layer alias numpy:stable --to 3",
            "hanshu layer alias numpy:stable --delete",
            "hanshu namespaces create team --description d --max-instances 5 --functions 3 --require-key",
            "hanshu namespaces show team",
            "hanshu namespaces set team --instances none --memory-mb 5 --code-bytes 1GiB --calls-per-second 7 --policy-none",
            "hanshu namespaces delete team --everything --yes",
            "hanshu key create ci --for-namespace team",
            "hanshu key list",
            "hanshu key delete ci -y",
            "hanshu deploy p --layer a:1 --layer b:stable --reason why",
        ] {
            Cli::try_parse_from(line.split(' ')).unwrap_or_else(|e| panic!("{line}: {e}"));
        }
    }

    #[test]
    fn what_makes_no_sense_does_not_parse() {
        for line in [
            "hanshu versions",
            "hanshu rollback f 3 --revision 4",
            "hanshu history",
            "hanshu history f --layer l",
            "hanshu history f --of-namespace",
            "hanshu alias set f:live --sticky path.x",
            "hanshu alias set f:live --sticky source --no-sticky",
            "hanshu alias shadow f:live",
            "hanshu alias shadow f:live --to 8 --off",
            "hanshu layer alias l:a",
            "hanshu layer alias l:a --to 3 --delete",
            "hanshu deploy p --layer numpy",
        ] {
            Cli::try_parse_from(line.split(' ')).unwrap_err();
        }
    }
}
