//! The AWS Lambda API with clients that others wrote: boto3 and the aws command line, unchanged but for the endpoint.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::LazyLock;

use crate::harness::{Cli, Daemon, Start};

/// The clients, from PyPI.
const CLIENTS: [&str; 2] = ["boto3==1.44.8", "awscli==1.46.3"];

/// A Python environment with the clients, kept in the target folder.
fn python() -> PathBuf {
    static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
        let own = std::env::current_exe().unwrap();
        let folder = own.ancestors().nth(3).unwrap().join("aws-clients");
        // Its programs name the folder that they were installed into, so that it cannot be renamed: this says that it is whole.
        let whole = folder.join("whole");
        if fs::read_to_string(&whole).ok() != Some(CLIENTS.join(" ")) {
            run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder));
            let pip = ["install", "--quiet", "--disable-pip-version-check"];
            run(Command::new(folder.join("bin/pip")).args(pip).args(CLIENTS));
            fs::write(whole, CLIENTS.join(" ")).unwrap();
        }
        folder
    });
    FOLDER.join("bin/python")
}

#[track_caller]
fn run(command: &mut Command) -> String {
    Cli::run(command).ok()
}

/// What `hanshu key create … --aws` prints, for an environment.
fn access_key(daemon: &Daemon, root: &str, name: &str, namespace: &str) -> Vec<(String, String)> {
    let create = ["key", "create", name, "--for-namespace", namespace, "--aws"];
    let printed = run(daemon.command(&create).env("HANSHU_KEY", root));
    let pair = |line: &str| {
        let (name, value) = line.split_once('=').unwrap();
        (name.to_owned(), value.to_owned())
    };
    printed.lines().map(pair).collect()
}

#[test]
fn official_clients_run_unchanged() {
    let python = python();
    let mut daemon = Start::with_keys().start();
    let line = daemon.next_line().unwrap();
    let root = line.strip_prefix("root key: ").unwrap().to_owned();
    daemon.http = daemon.http.with_key(&root);
    run(daemon.command(&["namespaces", "create", "web"]).env("HANSHU_KEY", &root));
    let own = access_key(&daemon, &root, "own", "default");
    let other = access_key(&daemon, &root, "other", "web");
    assert_eq!(
        (own[0].0.as_str(), own[1].0.as_str()),
        ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    );

    let folder = tempfile::tempdir().unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/e2e/aws_clients/clients.py");
    let mut client = Command::new(python);
    client.args([script, daemon.url(), &other[0].1, &other[1].1]).current_dir(folder.path());
    client.env_clear().env("PATH", std::env::var("PATH").unwrap()).env("HOME", folder.path());
    client.env("AWS_DEFAULT_REGION", "eu-west-1").envs(own);
    let said = run(&mut client);
    println!("{said}");
    assert!(said.contains("operations: "), "{said}");

    // A key that is deleted signs nothing any more.
    run(daemon.command(&["key", "delete", "own", "--yes"]).env("HANSHU_KEY", &root));
    let again = Cli::run(&mut client);
    assert!(again.code != 0 && again.err.contains("UnrecognizedClientException"), "{again:?}");
}
