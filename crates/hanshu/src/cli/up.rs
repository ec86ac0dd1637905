//! `hanshu up`: a dev daemon with every function of a folder deployed, called and listed. One command from nothing to running.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Context as _;
use clap::Args;
use model::ids::{FunctionKey, FunctionRef, NamespaceName, Qualifier};
use serde::Serialize;

use super::context::Context;
use super::deploy::{Order, deploy};
use super::failure::{CliError, EXIT_FUNCTION_FAILED};
use super::progress::Progress;
use super::screen::{Format, milliseconds};
use super::serve::{ServeArgs, runtime};
use crate::client::Client;
use crate::client::invoke::{How, Invoked};
use crate::package::Source;
use crate::package::install::tool::MISSING;
use crate::package::manifest::{DEFAULT_EVENT, FILE_NAME};
use crate::package::plan::Wishes;
use crate::{logging, serve};

/// Warm calls of each function; the table shows their median.
const WARM_CALLS: usize = 5;

const AFTER_HELP: &str = "\
Every sub-folder of DIR with a hanshu.toml is deployed and called with its test event (`event` in hanshu.toml, else
event.json, else {}): once cold, then a few times warm. The daemon needs no keys, listens on loopback only, and keeps its data in
hanshu-data, so that everything is still there next time. A function whose compiler or package manager is not installed is left out, and the table says which one it is.

Examples:
  hanshu up                      deploy ./examples and stay up
  hanshu up functions --exit     for a pipeline: leave after the table, with 1 if a function failed";

/// Start a dev daemon, deploy every function of a folder, call each, and stay up.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct UpArgs {
    /// The folder that holds the functions' folders
    #[arg(default_value = "examples")]
    dir: PathBuf,
    /// The folder that holds everything the daemon keeps [variable: HANSHU_DATA] [default: hanshu-data]
    #[arg(long, value_name = "DATA")]
    data: Option<PathBuf>,
    /// Where to listen; port 0 picks a free one [variable: HANSHU_LISTEN] [default: 127.0.0.1:9000]
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Option<String>,
    /// Leave after the table; exit code 1 if a function failed
    #[arg(long)]
    exit: bool,
}

/// One line of the table.
#[derive(Debug, Serialize)]
struct Row {
    function: String,
    runtime: String,
    url: String,
    /// `ok`, the HTTP status the function answered with, or what went wrong.
    status: String,
    ok: bool,
    /// Not deployed, as a tool that it is built with is not installed.
    left_out: bool,
    cold_us: Option<u64>,
    warm_us: Option<u64>,
}

impl UpArgs {
    pub(super) fn run(self, cx: &Context) -> anyhow::Result<ExitCode> {
        let folders = function_folders(&self.dir)?;
        let serve =
            ServeArgs { dev: true, data: self.data, listen: self.listen, ..ServeArgs::default() };
        let config = serve.load(cx)?;
        logging::start(&config.log, &cx.env)?;
        let namespace = cx.namespace()?;
        let runtime = runtime()?;
        let ended = runtime.block_on(async {
            let running = serve::start(&config).await?;
            let url = running.url.clone();
            if cx.screen.format() == Format::Text {
                cx.screen.line(&format!("listening on {url}"))?;
            }
            let screen = cx.screen;
            let work = tokio::task::spawn_blocking(move || {
                let client = Client::new(&url, None)?;
                let progress = Progress::new(screen);
                let row = |folder: &PathBuf| up_one(&client, &namespace, folder, &progress);
                anyhow::Ok(folders.iter().map(row).collect::<Vec<Row>>())
            });
            let rows = tokio::select! {
                rows = work => rows??,
                stopped = tokio::signal::ctrl_c() => {
                    stopped.context("waiting for Ctrl-C")?;
                    running.stop().await?;
                    return anyhow::Ok(true);
                }
            };
            show(cx, &rows)?;
            if self.exit {
                running.stop().await?;
            } else {
                cx.screen.note("running; Ctrl-C stops it");
                running.wait().await?;
            }
            anyhow::Ok(rows.iter().all(|r| r.ok || r.left_out))
        });
        // A package manager that was interrupted half-way is not waited for.
        runtime.shutdown_background();
        Ok(if ended? { ExitCode::SUCCESS } else { ExitCode::from(EXIT_FUNCTION_FAILED) })
    }
}

fn function_folders(dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(dir).map_err(|e| {
        CliError::new(format!("the folder {} cannot be read: {e}", dir.display()))
            .hint("pass a folder whose sub-folders hold a hanshu.toml each: hanshu up DIR")
    })?;
    let mut folders = Vec::new();
    for entry in entries {
        let path = entry.with_context(|| format!("reading {}", dir.display()))?.path();
        if path.join(FILE_NAME).is_file() {
            folders.push(path);
        }
    }
    if folders.is_empty() {
        return Err(CliError::new(format!(
            "no sub-folder of {} holds a {FILE_NAME}",
            dir.display()
        ))
        .hint("make one with `hanshu init`, or deploy a single folder with `hanshu deploy`")
        .into());
    }
    folders.sort();
    Ok(folders)
}

/// Deploys and calls one function. Whatever goes wrong becomes its line in the table: the others are deployed all the same.
fn up_one(client: &Client, namespace: &NamespaceName, folder: &Path, progress: &Progress) -> Row {
    let name = folder.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let mut row = Row {
        function: name.clone(),
        runtime: "-".into(),
        url: "-".into(),
        status: String::new(),
        ok: false,
        left_out: false,
        cold_us: None,
        warm_us: None,
    };
    if let Err(e) = try_one(client, namespace, folder, &progress.of(&name), &mut row) {
        let missing = e.downcast_ref::<CliError>().filter(|e| e.code_text() == Some(MISSING));
        row.left_out = missing.is_some();
        row.status = match missing {
            Some(e) => format!("left out: {e}\nhint: {}", e.hint_text().unwrap_or_default()),
            None => format!("{e:#}"),
        };
        row.ok = false;
    }
    row
}

fn try_one(
    client: &Client,
    namespace: &NamespaceName,
    folder: &Path,
    progress: &Progress,
    row: &mut Row,
) -> anyhow::Result<()> {
    let order = Order { path: folder, name: None, build: true, wishes: Wishes::default() };
    let view = deploy(client, namespace, &order, progress)?;
    row.function.clone_from(&view.name);
    row.runtime.clone_from(&view.resolved_runtime.name);
    row.url.clone_from(&view.url);
    let event = event(folder)?;
    let name = view.name.parse().map_err(CliError::from)?;
    let key = FunctionKey { namespace: namespace.clone(), name };
    let target = FunctionRef { key, qualifier: Qualifier::Latest };
    let _step = progress.step("calling");
    let (cold_us, done) = timed(client, &target, &event)?;
    row.cold_us = Some(cold_us);
    (row.status, row.ok) = status(&done);
    if row.ok {
        let mut warm = Vec::with_capacity(WARM_CALLS);
        for _ in 0..WARM_CALLS {
            warm.push(timed(client, &target, &event)?.0);
        }
        warm.sort_unstable();
        row.warm_us = warm.get(WARM_CALLS / 2).copied();
    }
    Ok(())
}

/// The test event of a folder.
fn event(folder: &Path) -> anyhow::Result<Vec<u8>> {
    let named = Source::Folder(folder.to_owned()).manifest()?.event;
    let path = folder.join(named.as_deref().unwrap_or(DEFAULT_EVENT));
    match fs::read(&path) {
        Ok(bytes) => Ok(bytes),
        Err(e) if named.is_none() && e.kind() == std::io::ErrorKind::NotFound => Ok(b"{}".to_vec()),
        Err(e) => {
            Err(CliError::new(format!("the test event {} cannot be read: {e}", path.display()))
                .into())
        }
    }
}

/// One call, as long as its caller waited for it.
fn timed(client: &Client, target: &FunctionRef, event: &[u8]) -> Result<(u64, Invoked), CliError> {
    let start = Instant::now();
    let done = client.invoke(target, How::default(), event, None)?;
    Ok((u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX), done))
}

/// The HTTP status of an answer made for a function URL, else `ok`; or how the function failed.
fn status(done: &Invoked) -> (String, bool) {
    let body: serde_json::Value = serde_json::from_slice(&done.body).unwrap_or_default();
    if let Some(failure) = &done.failure {
        let message = body.get("errorMessage").and_then(|m| m.as_str()).unwrap_or_default();
        return (format!("failed ({failure}): {message}"), false);
    }
    match body.get("statusCode").and_then(serde_json::Value::as_u64) {
        Some(status) => (status.to_string(), status < 400),
        None => ("ok".to_owned(), true),
    }
}

fn show(cx: &Context, rows: &[Row]) -> anyhow::Result<()> {
    if cx.screen.format() == Format::Json {
        return Ok(cx.screen.json(&rows)?);
    }
    let time = |us: Option<u64>| us.map_or_else(|| "-".to_owned(), milliseconds);
    let cells = |r: &Row| {
        let status = r.status.lines().next().unwrap_or_default().to_owned();
        let mut row = vec![r.function.clone(), r.runtime.clone(), r.url.clone(), status];
        row.extend([time(r.cold_us), time(r.warm_us)]);
        row
    };
    let rows_of_cells: Vec<_> = rows.iter().map(cells).collect();
    cx.screen.table(&["FUNCTION", "RUNTIME", "URL", "STATUS", "COLD", "WARM"], &rows_of_cells)?;
    // A package manager's complaint has many lines: whole, under the table.
    for row in rows.iter().filter(|r| r.status.lines().nth(1).is_some()) {
        cx.screen.note(&format!("{}: {}", row.function, row.status));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn invoked(failure: Option<&str>, body: &str) -> Invoked {
        Invoked {
            request_id: String::new(),
            version: String::new(),
            failure: failure.map(str::to_owned),
            body: body.as_bytes().to_vec(),
            timings: None,
            in_pieces: false,
        }
    }

    #[test]
    fn the_status_column_tells_what_the_function_said() {
        assert_eq!(status(&invoked(None, r#"{"statusCode":201}"#)), ("201".into(), true));
        assert_eq!(status(&invoked(None, r#"{"statusCode":500}"#)), ("500".into(), false));
        assert_eq!(status(&invoked(None, "[1]")), ("ok".into(), true));
        let (text, ok) = status(&invoked(Some("handler"), r#"{"errorMessage":"no"}"#));
        assert!(!ok && text.contains("no"), "{text}");
    }

    #[test]
    fn only_folders_with_a_manifest_count() {
        let dir = tempfile::tempdir().unwrap();
        assert!(function_folders(dir.path()).is_err());
        for name in ["b", "a", "not-one"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        fs::write(dir.path().join("b").join(FILE_NAME), "").unwrap();
        fs::write(dir.path().join("a").join(FILE_NAME), "event = 'missing.json'").unwrap();
        let folders = function_folders(dir.path()).unwrap();
        assert_eq!(folders, [dir.path().join("a"), dir.path().join("b")]);
        assert_eq!(event(&folders[1]).unwrap(), b"{}");
        assert!(event(&folders[0]).unwrap_err().to_string().contains("missing.json"));
    }
}
