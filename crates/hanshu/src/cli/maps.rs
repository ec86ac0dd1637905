//! `hanshu map` and `maps`: a function over the chunks of an input.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::{Args, Subcommand, ValueEnum};
use model::api::MapView;
use model::ids::NamespaceName;
use model::map::{InputFormat, MapState, Tolerated};
use serde_json::json;

use super::context::Context;
use super::failure::EXIT_FUNCTION_FAILED;
use super::progress::Progress;
use super::screen::{self, Format};
use crate::client::Client;

/// How often a map is looked at while its progress is shown.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How often a line says how far it is where progress cannot move.
const LINE_EVERY: Duration = Duration::from_secs(5);

const AFTER_HELP: &str = "\
A chunk's event is {\"map\":{\"id\",\"level\",\"chunk\",\"chunks\",\"first_item\",\"failed\"},\"items\":[…]}; the reduce function gets \"results\" in the place of \"items\".
The map goes on if this command ends, also if the daemon is killed: `hanshu maps show ID` shows it.
Exit codes: 0 it succeeded; 1 it failed or was cancelled; 2 it could not be started.

Examples:
  hanshu map resize --input photos.json --chunk 10 --concurrency 40
  hanshu map count-words --input book.txt --reduce sum-up
  generate | hanshu map load --input - --format json-lines --tolerate 1%
  hanshu maps results 01a2213c-4cce-7398-8692-487b867acce7 > results.jsonl";

/// Run a function over the chunks of an input.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct MapArgs {
    /// The function that gets the chunks, or NAME:QUALIFIER for a version or alias of it
    name: String,
    /// The input: a file, or - for standard input
    #[arg(long, short, value_name = "FILE|-")]
    input: String,
    /// What it is made of [default: by the file's name, .json, .jsonl or .ndjson; else lines]
    #[arg(long, value_enum)]
    format: Option<InputKind>,
    /// Most items of a chunk
    #[arg(long, default_value_t = 100, value_name = "ITEMS")]
    chunk: u32,
    /// Most bytes of the items of a chunk, at most 1047552, which is also the default
    #[arg(long, value_name = "BYTES")]
    chunk_bytes: Option<u32>,
    /// Most calls at once, at most 1000
    #[arg(long, default_value_t = 20, value_name = "CALLS")]
    concurrency: u32,
    /// Attempts at a chunk in all
    #[arg(long, default_value_t = 3)]
    attempts: u32,
    /// How many chunks may fail: a number, or a share such as 5%
    #[arg(long, default_value = "0", value_name = "N|SHARE")]
    tolerate: Tolerated,
    /// The function that gets the results of all chunks
    #[arg(long, value_name = "FUNCTION")]
    reduce: Option<String>,
    /// Print the id and do not wait for the end
    #[arg(long)]
    detach: bool,
}

/// What an input is made of.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum InputKind {
    /// A JSON array
    Json,
    /// Text, an item on each line
    Lines,
    /// A JSON value on each line
    JsonLines,
}

impl From<InputKind> for InputFormat {
    fn from(kind: InputKind) -> Self {
        match kind {
            InputKind::Json => Self::Json,
            InputKind::Lines => Self::Lines,
            InputKind::JsonLines => Self::JsonLines,
        }
    }
}

/// By the name of a file.
fn guess(file: &str) -> InputFormat {
    let extension = Path::new(file).extension().and_then(|e| e.to_str()).unwrap_or_default();
    match extension.to_ascii_lowercase().as_str() {
        "json" => InputFormat::Json,
        "jsonl" | "ndjson" => InputFormat::JsonLines,
        _ => InputFormat::Lines,
    }
}

impl MapArgs {
    pub(super) fn run(self, cx: &Context) -> anyhow::Result<ExitCode> {
        let (client, namespace) = (cx.client()?, cx.namespace()?);
        let started = self.start(cx, &client, &namespace)?;
        if self.detach {
            match cx.screen.format() {
                Format::Json => cx.screen.json(&started)?,
                Format::Text => cx.screen.line(&started.id)?,
            }
            return Ok(ExitCode::SUCCESS);
        }
        cx.screen.note(&format!(
            "map {}: {} in {}",
            started.id,
            screen::count(started.items.total, "item"),
            screen::count(started.chunks.total, "chunk")
        ));
        let ended = follow(cx, &client, &namespace, started)?;
        if cx.screen.format() == Format::Json {
            cx.screen.json(&ended)?;
        } else {
            say_end(cx, &ended)?;
        }
        let succeeded = ended.state == MapState::Succeeded;
        Ok(if succeeded { ExitCode::SUCCESS } else { ExitCode::from(EXIT_FUNCTION_FAILED) })
    }

    fn start(
        &self,
        cx: &Context,
        client: &Client,
        namespace: &NamespaceName,
    ) -> anyhow::Result<MapView> {
        let target = |name: &str| cx.target(name, None).map(|target| target.within_namespace());
        let format = self.format.map_or_else(|| guess(&self.input), InputFormat::from);
        let mut options = vec![
            ("function", target(&self.name)?),
            ("format", format.as_str().to_owned()),
            ("chunk", self.chunk.to_string()),
            ("concurrency", self.concurrency.to_string()),
            ("attempts", self.attempts.to_string()),
            ("tolerate", self.tolerate.to_string()),
        ];
        options.extend(self.chunk_bytes.map(|bytes| ("chunk_bytes", bytes.to_string())));
        if let Some(reduce) = &self.reduce {
            options.push(("reduce", target(reduce)?));
        }
        let (mut input, length): (Box<dyn Read>, _) = if self.input == "-" {
            (Box::new(io::stdin().lock()), None)
        } else {
            let file =
                File::open(&self.input).with_context(|| format!("reading {}", self.input))?;
            let about = file.metadata().with_context(|| format!("reading {}", self.input))?;
            // Of a pipe nobody knows how long it is.
            let length = about.is_file().then_some(about.len());
            (Box::new(file), length)
        };
        let progress = Progress::new(cx.screen);
        let step = match length {
            Some(bytes) => progress.bytes("sending the input", bytes),
            None => progress.step("sending the input"),
        };
        let started = client.start_map(namespace, &options, &mut step.read(&mut input), length)?;
        Ok(started)
    }
}

/// Shows how far a map is until it has ended.
fn follow(
    cx: &Context,
    client: &Client,
    namespace: &NamespaceName,
    mut map: MapView,
) -> anyhow::Result<MapView> {
    let step = Progress::new(cx.screen).items("running", map.items.total);
    let (mut line_at, mut said) = (Instant::now() + LINE_EVERY, String::new());
    while !map.state.has_ended() {
        std::thread::sleep(LOOK_EVERY);
        map = client.map(namespace, &map.id)?;
        step.reach(map.items.ended);
        step.say(&doing(&map));
        if !cx.screen.moving() && Instant::now() >= line_at {
            let line = format!(
                "{}: {} of {}",
                doing(&map),
                map.items.ended,
                screen::count(map.items.total, "item")
            );
            if line != said {
                cx.screen.note(&line);
            }
            (line_at, said) = (Instant::now() + LINE_EVERY, line);
        }
    }
    Ok(map)
}

/// What a map does, and what went wrong with it.
fn doing(map: &MapView) -> String {
    let mut text = map.state.as_str().to_owned();
    if let Some(reducing) = &map.reducing {
        text.push_str(&format!(" {} of {}", reducing.ended, reducing.total));
    }
    if map.chunks.failed > 0 {
        text.push_str(&format!(", {} failed", screen::count(map.chunks.failed, "chunk")));
    }
    text
}

fn say_end(cx: &Context, map: &MapView) -> io::Result<()> {
    let chunks = &map.chunks;
    cx.screen.note(&format!(
        "{}: {} done, {} failed",
        map.state.as_str(),
        screen::count(chunks.done, "chunk"),
        chunks.failed
    ));
    if let Some(error) = &map.error {
        cx.screen.note(&format!("{}: {}", cx.screen.red("error"), screen::tame(error)));
    }
    for failure in &map.failures {
        let message = screen::tame(&failure.message);
        cx.screen.note(&format!("  chunk {}: {message}", failure.chunk));
    }
    match &map.result {
        Some(result) => cx.screen.line(&result.to_string()),
        None => {
            cx.screen.note(&format!("  hint: hanshu maps results {}", map.id));
            Ok(())
        }
    }
}

/// List maps, the oldest first; show one, print its results, call it off, forget it.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP, args_conflicts_with_subcommands = true)]
pub(crate) struct MapsArgs {
    #[command(subcommand)]
    command: Option<Operation>,
}

#[derive(Debug, Subcommand)]
enum Operation {
    /// Show where a map stands
    Show {
        /// Its id, as `hanshu map` prints it
        id: String,
    },
    /// Print what came of each chunk, a line of JSON each
    Results {
        /// Its id
        id: String,
    },
    /// Call a map off; its calls that run are ended
    Cancel {
        /// Its id
        id: String,
    },
    /// Forget a map that has ended, with its results
    Delete {
        /// Its id
        id: String,
    },
}

impl MapsArgs {
    pub(super) fn run(self, cx: &Context) -> anyhow::Result<ExitCode> {
        let (client, namespace) = (cx.client()?, cx.namespace()?);
        match self.command {
            None => list(cx, &client.maps(&namespace)?)?,
            Some(Operation::Show { id }) => {
                let map = client.map(&namespace, &id)?;
                cx.screen.show(&map, text)?;
            }
            Some(Operation::Results { id }) => {
                client.map_results(&namespace, &id, &mut io::stdout().lock())?;
            }
            Some(Operation::Cancel { id }) => {
                client.cancel_map(&namespace, &id)?;
                cx.screen.done(&json!({ "cancelled": id }), &format!("cancelled {id}"))?;
            }
            Some(Operation::Delete { id }) => {
                client.delete_map(&namespace, &id)?;
                cx.screen.done(&json!({ "deleted": id }), &format!("deleted {id}"))?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn list(cx: &Context, maps: &[MapView]) -> io::Result<()> {
    let row = |map: &MapView| {
        vec![
            map.id.clone(),
            map.function.clone(),
            map.state.as_str().to_owned(),
            format!("{}/{}", map.chunks.done, map.chunks.total),
            map.chunks.failed.to_string(),
            map.created_at.clone(),
        ]
    };
    let head = ["ID", "FUNCTION", "STATE", "CHUNKS", "FAILED", "CREATED"];
    cx.screen.list(maps, &head, row, "no maps: start one with `hanshu map NAME --input FILE`")
}

fn text(map: &MapView) -> String {
    let (chunks, items) = (&map.chunks, &map.items);
    let mut fields = vec![
        ("map", map.id.clone()),
        ("function", map.function.clone()),
        ("reduce", map.reduce.clone().unwrap_or_default()),
        ("state", doing(map)),
        ("error", map.error.clone().unwrap_or_default()),
        ("created", map.created_at.clone()),
        ("ended", map.ended_at.clone().unwrap_or_default()),
        ("items", format!("{} of {}", items.ended, items.total)),
        (
            "chunks",
            format!(
                "{} of {} done, {} running, {} failed",
                chunks.done, chunks.total, chunks.running, chunks.failed
            ),
        ),
    ];
    fields.extend(map.result.iter().map(|result| ("result", result.to_string())));
    let fields: Vec<_> = fields.into_iter().map(|(name, v)| (name, screen::tame(&v))).collect();
    let mut text = screen::fields(&fields);
    for failure in &map.failures {
        let line = format!("chunk {} ({}): {}", failure.chunk, failure.call, failure.message);
        text.push_str(&format!("\n  {}", screen::tame(&line)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_guessed_by_the_name_of_the_file() {
        for (file, format) in [
            ("a.json", InputFormat::Json),
            ("dir.json/a.JSONL", InputFormat::JsonLines),
            ("a.ndjson", InputFormat::JsonLines),
            ("a.txt", InputFormat::Lines),
            ("json", InputFormat::Lines),
            ("-", InputFormat::Lines),
        ] {
            assert_eq!(guess(file), format, "{file}");
        }
    }
}
