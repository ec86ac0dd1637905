//! `hanshu deploy`: from a folder, a file or a zip to a function that can be called.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use model::api::{FunctionView, VariableView};
use model::ids::{FunctionKey, FunctionName, NamespaceName};
use model::layer::LayerRef;

use super::context::Context;
use super::failure::CliError;
use super::progress::Progress;
use super::screen::{self, Format};
use super::{secrets, values};
use crate::client::Client;
use crate::package::plan::{self, Memory, Wishes};
use crate::package::{self, Source};

const AFTER_HELP: &str = "\
PATH is a folder, one source file, or a .zip or .jar made elsewhere. A folder may hold `hanshu.toml`:

  name = \"thumbnail\"          # all keys are optional
  runtime = \"nodejs20\"        # guessed from the files: index.js, package.json → nodejs20; *.py → python3.11; pom.xml, *.java, *.jar → java17;
                              # go.mod, Cargo.toml, bootstrap → provided.al2023; *.wasm → wasm
                              # to be said: web, and wasm for what is compiled to it
  handler = \"index.handler\"   # guessed likewise; in Java PACKAGE.CLASS::METHOD
  timeout_ms = 5000
  memory_mb = 256             # or memory_share = \"25%\"; further limits: cpu_weight, cpu_cores, processes, open_files, tmp_mb,
                              # output_bytes_per_second
  max_instances = 10          # or reserved_instances = 10: always to be had, and never more
  url_auth = \"none\"           # or \"key\"
  layers = [\"numpy:3\"]        # NAME:VERSION, or NAME:ALIAS to follow it
  publish = \"always\"          # every deploy and every change of the configuration makes a version
  exclude = [\"*.md\", \"test/\"]
  event = \"event.json\"        # what `hanshu up` calls it with
  [async]                     # what happens to asynchronous calls
  attempts = 5
  max_age_seconds = 3600
  retry = { first_seconds = 10, factor = 2, ceiling_seconds = 600, jitter_percent = 20 }   # or { pauses_seconds = [10, 60, 600] }
  [idempotency]               # which calls are one call
  key = \"event.order.id\"
  [environment]
  LEVEL = \"debug\"
  TOKEN = { secret = true }    # its value comes by --secret or `hanshu config set`, and stays

`package-lock.json` makes it run `npm ci`, `package.json` alone `npm install`, with a script `build` also `npm run build`; `requirements.txt` `pip install --target`, `pom.xml` `mvn package`,
and Java sources without it `javac`, always in a temporary copy. `go.mod` makes it run `go build`, `Cargo.toml` `cargo build --release`, C sources `cc`, and the executable is all that is
deployed, of a web server with the files beside it. For the runtime wasm they compile to WebAssembly; JavaScript does by componentize-js, Python by componentize-py. A bootstrap or .wasm that
is there is taken as it is, with --no-build everything is. Scripts of packages run as you. `.hanshuignore`, or else `.gitignore`, says what stays out. What neither the file nor an option
mentions stays as it is deployed.

Examples:
  hanshu deploy .
  hanshu deploy index.js --name hello
  hanshu deploy build.zip --name api --runtime nodejs20 --handler server.handler --publish
  hanshu deploy target/orders.jar --name orders --handler shop.Orders::handleRequest
  hanshu deploy thumbnail --memory 512 --timeout 20s --env LEVEL=debug
  hanshu deploy thumbnail --layer pillow:2 --reason 'ticket 7: smaller files'";

/// Deploy a folder, a file or a zip as a function.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct DeployArgs {
    /// A folder, a source file, a .zip or a .jar
    path: PathBuf,
    /// The function's name [default: from hanshu.toml, else from the path]
    #[arg(long)]
    name: Option<String>,
    /// The runtime, for instance nodejs20, python3.11, java17, provided.al2023 or wasm
    #[arg(long)]
    runtime: Option<String>,
    /// What to call: FILE.EXPORT, for instance index.handler
    #[arg(long)]
    handler: Option<String>,
    /// Publish the result as a numbered version
    #[arg(long)]
    publish: bool,
    /// Install and compile nothing: deploy the folder as it stands
    #[arg(long)]
    no_build: bool,
    /// Let the new code take the calls even if it cannot be loaded
    #[arg(long)]
    force: bool,
    /// Memory limit of one instance: in MiB, or as a share of the host, for instance 25%
    #[arg(long, value_name = "MIB|SHARE", value_parser = values::memory)]
    memory: Option<Memory>,
    /// How long one call may run, for instance 500ms, 20s or 5m
    #[arg(long, value_name = "TIME", value_parser = values::milliseconds)]
    timeout: Option<u32>,
    /// Set an environment variable; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = values::pair)]
    env: Vec<(String, String)>,
    /// Set a secret environment variable to what @FILE or standard input (-) holds; may be repeated
    #[arg(long, value_name = "KEY=@FILE")]
    secret: Vec<String>,
    /// Mount a layer under /opt, NAME:VERSION, or NAME:ALIAS to follow it; may be repeated, later ones over earlier ones; replaces those it
    /// has
    #[arg(long, value_name = "NAME:VERSION")]
    layer: Vec<LayerRef>,
}

impl DeployArgs {
    pub(super) fn run(self, cx: &Context) -> anyhow::Result<ExitCode> {
        let namespace = cx.namespace()?;
        let client = cx.client()?;
        let mut environment: BTreeMap<String, VariableView> =
            self.env.into_iter().map(|(key, text)| (key, VariableView::Plain(text))).collect();
        for secret in &self.secret {
            let (key, text) = secrets::pair(secret)?;
            environment.insert(key, VariableView::Secret(text));
        }
        let order = Order {
            path: &self.path,
            name: self.name.as_deref(),
            build: !self.no_build,
            wishes: Wishes {
                runtime: self.runtime,
                handler: self.handler,
                timeout_ms: self.timeout,
                memory: self.memory,
                environment,
                layers: (!self.layer.is_empty()).then_some(self.layer),
                publish: self.publish,
                force: self.force,
            },
        };
        let view = deploy(&client, &namespace, &order, &Progress::new(cx.screen))?;
        if cx.screen.format() == Format::Json {
            cx.screen.json(&view)?;
            return Ok(ExitCode::SUCCESS);
        }
        cx.screen.line(&format!(
            "deployed {}:{} ({}, {}, {})",
            view.name,
            view.version,
            view.resolved_runtime.name,
            view.config.handler,
            screen::bytes(view.code.size_bytes)
        ))?;
        cx.screen.line(&view.url)?;
        let option = match namespace.as_str() {
            model::ids::DEFAULT_NAMESPACE => String::new(),
            other => format!(" -n {other}"),
        };
        cx.screen.note(
            &cx.screen
                .dim(&format!("call it: hanshu invoke {}{option} --payload '{{}}'", view.name)),
        );
        Ok(ExitCode::SUCCESS)
    }
}

/// What to deploy.
#[derive(Clone, Debug)]
pub(crate) struct Order<'a> {
    /// A folder, a file or a zip.
    pub path: &'a Path,
    /// Overrides the name.
    pub name: Option<&'a str>,
    /// Whether anything is installed or compiled.
    pub build: bool,
    /// Overrides everything else.
    pub wishes: Wishes,
}

/// Builds the package, stores it and puts the function.
pub(crate) fn deploy(
    client: &Client,
    namespace: &NamespaceName,
    order: &Order<'_>,
    progress: &Progress,
) -> anyhow::Result<FunctionView> {
    let source = Source::at(order.path)?;
    let manifest = source.manifest()?;
    let default = source.default_name();
    let name = order.name.or(manifest.name.as_deref()).unwrap_or(&default);
    let name: FunctionName = name.parse().map_err(|e: model::Error| {
        CliError::from(e).hint("pass --name NAME, or write `name = \"…\"` into hanshu.toml")
    })?;
    // Asked first: whoever forgot to start the daemon need not wait for npm to learn it.
    let key = FunctionKey { namespace: namespace.clone(), name };
    let deployed = client.find_function(&key)?;

    let runtime = order.wishes.runtime.as_deref().or(manifest.runtime.as_deref());
    let runtime = runtime.or_else(|| deployed.as_ref().map(|d| d.config.runtime.as_str()));
    let package = match order.build {
        true => package::build(&source, &manifest, runtime, progress)?,
        false => package::as_it_stands(&source, &manifest, progress)?,
    };
    // Refused before the upload, if it must be refused.
    plan::put(&order.wishes, &manifest, deployed.as_ref(), &package.contents, "")?;

    let bytes = u64::try_from(package.zip.len()).unwrap_or(u64::MAX);
    let step = progress.bytes(&format!("uploading {}", screen::bytes(bytes)), bytes);
    let stored = client.upload(namespace, &mut step.read(package.zip.as_slice()), bytes)?;
    drop(step);
    let put =
        plan::put(&order.wishes, &manifest, deployed.as_ref(), &package.contents, &stored.digest)?;
    Ok(client.put_function(&key, &put)?)
}
