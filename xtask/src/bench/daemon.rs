//! `hanshu serve`, and the part of its REST API that a bench needs.

use std::fs::File;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use super::child::Running;
use super::http::{Answer, Connection, request};
use super::language::Language;
use crate::shell;

/// A running daemon; dropping it kills it.
#[derive(Debug)]
pub(crate) struct Daemon {
    running: Running,
    pub(crate) address: SocketAddr,
    /// When its process was started.
    pub(crate) started: Instant,
}

impl Daemon {
    /// Starts `hanshu` on a free port of 127.0.0.1, with its data in `data`, and returns once it listens.
    pub(crate) fn start(hanshu: &Path, data: &Path) -> Result<Self> {
        Self::start_with(hanshu, data, &[])
    }

    /// As [`Daemon::start`], with these variables.
    pub(crate) fn start_with(
        hanshu: &Path,
        data: &Path,
        variables: &[(&str, &str)],
    ) -> Result<Self> {
        let log = File::options().create(true).append(true).open(data.with_extension("log"))?;
        let mut command = shell::command(hanshu);
        command.args(["serve", "--dev", "--listen", "127.0.0.1:0", "--data"]).arg(data).stderr(log);
        command.envs(variables.iter().copied());
        let started = Instant::now();
        let (running, line) = Running::start_server(&mut command)
            .with_context(|| format!("see {}", data.with_extension("log").display()))?;
        Ok(Self { running, address: address_in(&line)?, started })
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.running.id()
    }

    /// Ends it in good order.
    pub(crate) fn stop(self) -> Result<()> {
        self.running.stop()
    }

    /// A connection to its REST API.
    pub(crate) fn api(&self) -> Result<Api> {
        Ok(Api { connection: Connection::open(self.address)? })
    }
}

/// The address in `listening on http://ADDR:PORT`.
fn address_in(line: &str) -> Result<SocketAddr> {
    line.strip_prefix("listening on http://")
        .and_then(|address| address.parse().ok())
        .with_context(|| format!("expected \"listening on http://ADDR:PORT\", got {line:?}"))
}

/// The path of a function's URL in the namespace `default`.
pub(crate) fn url(name: &str) -> String {
    format!("/fn/default/{name}/")
}

/// A client of the REST API.
#[derive(Debug)]
pub(crate) struct Api {
    connection: Connection,
}

impl Api {
    /// The version of the runtime that the daemon found for `language`.
    pub(crate) fn runtime_version(&mut self, language: &Language) -> Result<String> {
        let health = self.health()?;
        let runtimes = health["runtimes"].as_array().context("health names no runtimes")?;
        let text =
            |runtime: &Value, key: &str| runtime[key].as_str().unwrap_or_default().to_owned();
        let found = runtimes.iter().find(|r| text(r, "name").starts_with(language.name));
        let found = found.with_context(|| format!("the daemon has no {}", language.name))?;
        Ok(text(found, "version"))
    }

    /// What the daemon says of itself.
    pub(crate) fn health(&mut self) -> Result<Value> {
        self.json("GET", "/v1/health", "", b"")
    }

    /// How instances came up since the daemon started, as `GET /v1/health` tells it.
    pub(crate) fn starts(&mut self) -> Result<Value> {
        Ok(self.health()?["starts"].take())
    }

    /// Whether the daemon's host has a feature of the table of `hanshu doctor`.
    pub(crate) fn has_feature(&mut self, name: &str) -> Result<bool> {
        let health = self.health()?;
        let features = health["isolation"]["features"].as_array().context("no features")?;
        Ok(features.iter().any(|f| f["name"] == name && f["available"] == true))
    }

    /// Uploads the hello of `language` with `mark` in it and makes it the code of the function `name`.
    pub(crate) fn deploy(&mut self, name: &str, language: &Language, mark: &str) -> Result<()> {
        let config = json!({ "runtime": language.runtime, "handler": language.handler });
        self.deploy_code(name, language, &language.hello(mark)?, &config)
    }

    /// Uploads `source` as the one file of the function `name`, with this configuration.
    pub(crate) fn deploy_code(
        &mut self,
        name: &str,
        language: &Language,
        source: &[u8],
        config: &Value,
    ) -> Result<()> {
        let path = format!("/v1/namespaces/default/packages?filename={}", language.file);
        let headers = "Content-Type: application/octet-stream\r\n";
        let package = self.json("POST", &path, headers, source)?;
        let digest = package["digest"].as_str().context("the upload has no digest")?;
        let body = json!({ "config": config, "code": digest });
        let path = format!("/v1/namespaces/default/functions/{name}");
        let headers = "Content-Type: application/json\r\n";
        self.json("PUT", &path, headers, body.to_string().as_bytes())?;
        Ok(())
    }

    /// Replaces the code of a function that is there by `source`.
    pub(crate) fn put_code(
        &mut self,
        name: &str,
        language: &Language,
        source: &str,
        publish: bool,
    ) -> Result<()> {
        let query = format!("filename={}&publish={publish}", language.file);
        let path = format!("/v1/namespaces/default/functions/{name}/code?{query}");
        let headers = "Content-Type: application/octet-stream\r\n";
        self.json("PUT", &path, headers, source.as_bytes()).map(drop)
    }

    /// Points an alias to one version.
    pub(crate) fn put_alias(&mut self, name: &str, alias: &str, version: usize) -> Result<()> {
        let path = format!("/v1/namespaces/default/functions/{name}/aliases/{alias}");
        let body = json!({ "version": version.to_string() }).to_string();
        self.json("PUT", &path, "Content-Type: application/json\r\n", body.as_bytes()).map(drop)
    }

    /// Calls of a function that waited for a start, as far as they are recorded.
    pub(crate) fn cold_starts(&mut self, name: &str) -> Result<u64> {
        let path = format!("/v1/namespaces/default/functions/{name}/usage");
        let usage = self.json("GET", &path, "", b"")?;
        let rows = usage["items"].as_array().context("usage has no items")?;
        Ok(rows.iter().filter_map(|row| row["cold_starts"].as_u64()).sum())
    }

    /// Calls a function by the REST API, whatever comes of it.
    pub(crate) fn invoke(&mut self, name: &str, headers: &str) -> Result<Answer> {
        let path = format!("/v1/namespaces/default/functions/{name}/invoke");
        self.connection.call(&request("POST", &path, headers, b"{}"))
    }

    /// What became of an asynchronous call, once it has ended.
    pub(crate) fn call_ended(&mut self, id: &str) -> Result<Value> {
        self.json("GET", &format!("/v1/namespaces/default/calls/{id}?wait=30"), "", b"")
    }

    /// Calls a function's URL; its body has to be the hello.
    pub(crate) fn hello(&mut self, name: &str, headers: &str) -> Result<Answer> {
        self.hello_of(name, &request("GET", &url(name), headers, b""))
    }

    /// The same at a path below it.
    pub(crate) fn hello_at(&mut self, name: &str, path: &str) -> Result<Answer> {
        self.hello_of(name, &request("GET", &format!("{}{path}", url(name)), "", b""))
    }

    fn hello_of(&mut self, name: &str, request: &[u8]) -> Result<Answer> {
        let answer = self.connection.call(request)?;
        if answer.status != 200 || answer.body != b"Hello world" {
            bail!("{name} answered {}: {}", answer.status, answer.text());
        }
        Ok(answer)
    }

    fn json(&mut self, method: &str, path: &str, headers: &str, body: &[u8]) -> Result<Value> {
        let answer = self.connection.call(&request(method, path, headers, body))?;
        if !(200..300).contains(&answer.status) {
            bail!("{method} {path} answered {}: {}", answer.status, answer.text());
        }
        serde_json::from_slice(&answer.body).with_context(|| format!("{method} {path}: no JSON"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_names_the_address() {
        let address = address_in("listening on http://127.0.0.1:9000").unwrap();
        assert_eq!(address.port(), 9000);
        for bad in ["", "listening on 127.0.0.1:9000", "listening on http://localhost:9000"] {
            assert!(address_in(bad).unwrap_err().to_string().contains("expected"), "{bad}");
        }
    }
}
