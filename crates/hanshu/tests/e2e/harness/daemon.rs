//! A daemon of a test's own.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::http::{Http, Reply};
use super::{Cli, eventually, hanshu, packages};

/// How long a daemon may take to listen, on a machine that builds at the same time.
const START_PATIENCE: Duration = Duration::from_secs(30);
/// How long it may take to stop: its grace period, and a margin.
const STOP_PATIENCE: Duration = Duration::from_secs(45);

/// How to start a daemon.
#[derive(Debug)]
pub(crate) struct Start {
    args: Vec<String>,
    env: Vec<(String, String)>,
    data: Option<PathBuf>,
    dev: bool,
}

impl Start {
    /// With `--dev` and a fresh data folder.
    pub(crate) fn dev() -> Self {
        Self { args: Vec::new(), env: Vec::new(), data: None, dev: true }
    }

    /// Without `--dev`: keys are asked for.
    pub(crate) fn with_keys() -> Self {
        Self { dev: false, ..Self::dev() }
    }

    /// Sets a setting by its environment variable.
    pub(crate) fn set(mut self, variable: &str, value: &str) -> Self {
        self.env.push((variable.to_owned(), value.to_owned()));
        self
    }

    /// On this data folder.
    pub(crate) fn on(mut self, data: &Path) -> Self {
        self.data = Some(data.to_owned());
        self
    }

    /// The command, for tests that expect it to fail.
    pub(crate) fn command(&self, data: &Path) -> Command {
        let mut args = vec!["serve".to_owned(), "--listen".into(), "127.0.0.1:0".into()];
        args.extend(["--data".into(), data.to_str().unwrap().to_owned()]);
        args.extend(self.dev.then(|| "--dev".to_owned()));
        args.extend(self.args.clone());
        let mut command = hanshu(&args);
        command.envs(self.env.iter().cloned()).stdin(Stdio::null());
        command
    }

    /// Starts it and waits until it listens.
    #[track_caller]
    pub(crate) fn start(self) -> Daemon {
        let home = tempfile::Builder::new().prefix("hanshu-e2e-").tempdir().unwrap();
        let data = self.data.clone().unwrap_or_else(|| home.path().join("data"));
        let command = self.command(&data);
        Self::run(command, home, data)
    }

    /// Starts it by a command of the test's own, that serves this data folder.
    #[track_caller]
    pub(crate) fn by(command: Command, data: &Path) -> Daemon {
        let home = tempfile::Builder::new().prefix("hanshu-e2e-").tempdir().unwrap();
        Self::run(command, home, data.to_owned())
    }

    #[track_caller]
    fn run(mut command: Command, home: TempDir, data: PathBuf) -> Daemon {
        let log = home.path().join("daemon.log");
        let mut child =
            command.stdout(Stdio::piped()).stderr(fs::File::create(&log).unwrap()).spawn().unwrap();
        let lines = Mutex::new(lines_of(&mut child));
        let mut daemon = Daemon {
            child: Some(child),
            http: Http::new("http://unknown", None),
            first_line: String::new(),
            lines,
            data,
            log,
            home: Some(home),
        };
        daemon.first_line = match daemon.lines.get_mut().unwrap().recv_timeout(START_PATIENCE) {
            Ok(line) => line,
            Err(e) => panic!("the daemon said nothing ({e})"),
        };
        let url = daemon
            .first_line
            .strip_prefix("listening on ")
            .unwrap_or_else(|| panic!("the first line is not the address: {}", daemon.first_line));
        daemon.http = Http::new(url, None);
        daemon
    }
}

fn lines_of(child: &mut Child) -> Receiver<String> {
    let (sender, lines) = sync_channel(1_000);
    let stdout = BufReader::new(child.stdout.take().unwrap());
    thread::spawn(move || {
        for line in stdout.lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    lines
}

/// A running daemon. Ends with the value; its log is shown when the test fails.
#[derive(Debug)]
pub(crate) struct Daemon {
    child: Option<Child>,
    /// A client of it.
    pub http: Http,
    /// What it printed first.
    pub first_line: String,
    lines: Mutex<Receiver<String>>,
    /// Its data folder.
    pub data: PathBuf,
    log: PathBuf,
    home: Option<TempDir>,
}

impl Daemon {
    /// A dev daemon with the defaults.
    #[track_caller]
    pub(crate) fn start() -> Self {
        Start::dev().start()
    }

    /// Where it listens.
    pub(crate) fn url(&self) -> &str {
        self.http.base()
    }

    /// The next line on its standard output, or `None` if there is none for a second.
    pub(crate) fn next_line(&self) -> Option<String> {
        self.lines.lock().unwrap().recv_timeout(Duration::from_secs(1)).ok()
    }

    /// Runs a command of the command line against it.
    pub(crate) fn cli(&self, args: &[&str]) -> Cli {
        Cli::run(&mut self.command(args))
    }

    /// The same, to be started by the caller.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = hanshu(args);
        command.env("HANSHU_URL", self.url());
        command
    }

    /// Deploys files as a function with this configuration; the answer's status is not looked at.
    pub(crate) fn put(&self, name: &str, files: &[(&str, &str)], config: &Value) -> Reply {
        let body = json!({ "config": config, "code": self.upload(files) });
        self.http.json("PUT", &format!("/v1/namespaces/default/functions/{name}"), &body)
    }

    /// Uploads a package; gives its digest.
    #[track_caller]
    pub(crate) fn upload(&self, files: &[(&str, &str)]) -> String {
        let reply = self.http.upload(&packages::zip(files));
        assert_eq!(reply.status, 201, "{reply:?}");
        reply.json()["digest"].as_str().unwrap().to_owned()
    }

    /// Deploys `index.js`; fields of `extra` go over the usual configuration.
    #[track_caller]
    pub(crate) fn node(&self, name: &str, code: &str, extra: &Value) {
        self.deploy(name, ("index.js", code), ("nodejs20", "index.handler"), extra);
    }

    /// Deploys `main.py`; fields of `extra` go over the usual configuration.
    #[track_caller]
    pub(crate) fn python(&self, name: &str, code: &str, extra: &Value) {
        self.deploy(name, ("main.py", code), ("python3.11", "main.handler"), extra);
    }

    #[track_caller]
    fn deploy(&self, name: &str, file: (&str, &str), runtime: (&str, &str), extra: &Value) {
        // Generous, so that only tests about timeouts meet one.
        let mut config = json!({ "runtime": runtime.0, "handler": runtime.1, "timeout_ms": 20_000, "memory_mb": 256 });
        for (key, value) in extra.as_object().into_iter().flatten() {
            config[key] = value.clone();
        }
        let reply = self.put(name, &[file], &config);
        assert!(reply.status == 200 || reply.status == 201, "{reply:?}");
    }

    /// Publishes what is deployed; gives the version's number.
    #[track_caller]
    pub(crate) fn publish(&self, name: &str) -> u64 {
        let path = format!("/v1/namespaces/default/functions/{name}/versions");
        let reply = self.http.json("POST", &path, &json!({}));
        assert_eq!(reply.status, 201, "{reply:?}");
        reply.json()["version"].as_str().unwrap().parse().unwrap()
    }

    /// Makes or replaces the alias `NAME:ALIAS`; gives how it is shown.
    #[track_caller]
    pub(crate) fn alias(&self, at: &str, route: &Value) -> Value {
        let (function, alias) = at.split_once(':').unwrap();
        let path = format!("/v1/namespaces/default/functions/{function}/aliases/{alias}");
        let reply = self.http.json("PUT", &path, route);
        assert!([200, 201].contains(&reply.status), "{reply:?}");
        reply.json()
    }

    /// Calls a function.
    pub(crate) fn invoke(&self, name: &str, payload: &str) -> Reply {
        self.http.invoke(name, payload.as_bytes(), &[])
    }

    /// Log lines of a function; `query` starts with `&` or is empty.
    #[track_caller]
    pub(crate) fn logs(&self, name: &str, query: &str) -> Vec<Value> {
        let path = format!("/v1/namespaces/default/functions/{name}/logs?limit=10000{query}");
        let reply = self.http.get(&path);
        assert_eq!(reply.status, 200, "{reply:?}");
        reply.json()["items"].as_array().unwrap().clone()
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// Everything it has logged about itself.
    pub(crate) fn log_text(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        let id = self.id();
        kill_process(Pid::from_raw(i32::try_from(id).unwrap()).unwrap(), signal).unwrap();
    }

    /// Waits until it has ended.
    #[track_caller]
    pub(crate) fn ended(&mut self) -> ExitStatus {
        let child = self.child.as_mut().unwrap();
        let status = eventually("the daemon ends", STOP_PATIENCE, || child.try_wait().unwrap());
        self.child = None;
        status
    }

    /// Stops it by SIGTERM; it has to end well.
    #[track_caller]
    pub(crate) fn stop(&mut self) {
        self.signal(Signal::TERM);
        let status = self.ended();
        assert!(status.success(), "{status}");
    }

    /// Kills it, as a power cut would.
    pub(crate) fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.ended();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap_or_default();
            child.wait().map(drop).unwrap_or_default();
        }
        if thread::panicking() {
            let kept = self.home.take().map(TempDir::keep);
            let log = fs::read_to_string(&self.log).unwrap_or_default();
            let tail: Vec<&str> = log.lines().rev().take(40).collect();
            let tail: Vec<&str> = tail.into_iter().rev().collect();
            println!("daemon's log (all of it in {kept:?}):\n{}", tail.join("\n"));
        }
    }
}
