//! Speaks HTTP: the REST API under `/v1` and the functions' URLs under `/fn`. Decides nothing about execution.
//!
//! Start at `routes`, the whole URL map on one page. A request enters through `connection` and is
//! answered by `gateway` (function URLs, the hot path), by `lambda` or by a handler of `control`, which reads the request, asks `catalog` or the
//! engine, and words the answer. `catalog` knows namespaces, functions, aliases, layers and their history, but no HTTP: other
//! interfaces will stand on it too. `error` is the only place that turns a code into a status, `body` the only one that reads bodies,
//! `auth` the only one that looks at keys. `lambda` speaks the API of AWS Lambda over the same catalogue and engine.

pub mod auth;
mod body;
mod catalog;
mod connection;
mod control;
mod error;
mod extract;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
mod gateway;
mod keyed;
mod lambda;
mod openapi;
mod parameters;
mod pieces;
mod reseal;
mod routes;
mod stalled;

use std::sync::Arc;
use std::time::Duration;

use engine::Engine;
use model::Result;
use model::clock::Clock;
use model::isolation::Isolation;
use model::limits;
use model::ports::{Blobs, Logs, Meta, Sandbox, Usage, Vault};
use model::tasks::Tasks;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use error::status_of;
pub use openapi::openapi_json;
pub use reseal::{Resealed, reseal};

/// What the server is told. The defaults suit a machine that faces its network alone.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Ask for no keys. Only for a daemon that listens on loopback.
    pub dev: bool,
    /// Connections served at once; further ones wait in the kernel's backlog.
    pub connections_max: usize,
    /// How long a request body may take to arrive.
    pub body_timeout: Duration,
    /// How long a request's head may take to arrive; also how long a connection may idle between two requests.
    pub head_timeout: Duration,
    /// How long a client may take nothing of a response that waits to be sent; then the connection is closed.
    pub write_timeout: Duration,
    /// How long nothing may pass on a WebSocket, in either direction; then it is closed.
    pub websocket_idle: Duration,
    /// How long requests in flight may go on once the server shall stop.
    pub drain_grace: Duration,
    /// Under which URL clients reach this server, for instance `http://127.0.0.1:9000`.
    pub public_url: String,
    /// How instances are isolated and limited, feature by feature, as `GET /v1/health` reports it.
    pub isolation: Isolation,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            dev: false,
            connections_max: 4_096,
            body_timeout: Duration::from_secs(limits::BODY_TIMEOUT_SECONDS),
            head_timeout: Duration::from_secs(60),
            write_timeout: Duration::from_secs(limits::WRITE_TIMEOUT_SECONDS),
            websocket_idle: Duration::from_secs(limits::WEBSOCKET_IDLE_SECONDS),
            drain_grace: Duration::from_secs(20),
            public_url: "http://127.0.0.1:9000".into(),
            isolation: Isolation::default(),
        }
    }
}

/// What the server stands on.
#[derive(Clone, Debug)]
pub struct Deps {
    /// Runs calls.
    pub engine: Engine,
    /// The catalogue's documents.
    pub meta: Arc<dyn Meta>,
    /// Packages.
    pub blobs: Arc<dyn Blobs>,
    /// Checks packages and knows the runtimes.
    pub sandbox: Arc<dyn Sandbox>,
    /// What functions wrote.
    pub logs: Arc<dyn Logs>,
    /// What ran.
    pub usage: Arc<dyn Usage>,
    /// Seals the secrets of functions.
    pub vault: Arc<dyn Vault>,
    /// Time for records.
    pub clock: Arc<dyn Clock>,
    /// The daemon's background work.
    pub tasks: Tasks,
}

/// The HTTP server, ready to serve.
#[derive(Debug)]
pub struct Server {
    app: Arc<App>,
}

/// What every handler sees.
#[derive(Debug)]
pub(crate) struct App {
    pub config: ServerConfig,
    pub engine: Engine,
    pub sandbox: Arc<dyn Sandbox>,
    pub logs: Arc<dyn Logs>,
    pub usage: Arc<dyn Usage>,
    pub clock: Arc<dyn Clock>,
    pub tasks: Tasks,
    pub keys: Arc<auth::KeyStore>,
    pub catalog: catalog::Catalog,
    /// Fires when the server shall stop: endless answers end, `GET /v1/health` says so.
    pub draining: CancellationToken,
}

impl Server {
    /// Puts the server together; does no I/O.
    pub fn new(config: ServerConfig, deps: Deps) -> Self {
        let keys = Arc::new(auth::KeyStore::new(deps.meta.clone(), deps.vault.clone()));
        let catalog = catalog::Catalog::new(&deps, keys.clone(), config.body_timeout);
        let app = App {
            config,
            engine: deps.engine,
            sandbox: deps.sandbox,
            logs: deps.logs,
            usage: deps.usage,
            clock: deps.clock,
            tasks: deps.tasks,
            keys,
            catalog,
            draining: CancellationToken::new(),
        };
        Self { app: Arc::new(app) }
    }

    /// Serves until `shutdown` fires, then lets requests in flight finish within [`ServerConfig::drain_grace`] and cuts off the rest.
    ///
    /// Fails if the namespace `default` cannot be found or created.
    pub async fn serve(&self, listener: TcpListener, shutdown: CancellationToken) -> Result<()> {
        self.app.catalog.ensure_default_namespace().await?;
        self.start_background();
        connection::serve(&self.app, listener, shutdown).await;
        Ok(())
    }

    /// What goes on beside requests: shifts of aliases, comparisons of shadows, and what a daemon before this one left half done.
    fn start_background(&self) {
        let tasks = &self.app.tasks;
        let app = Arc::clone(&self.app);
        tasks.spawn_until_cancelled("shifts", async move { app.catalog.watch_shifts().await });
        let app = Arc::clone(&self.app);
        tasks.spawn_until_cancelled("shadows", async move { app.catalog.watch_shadows().await });
        let app = Arc::clone(&self.app);
        tasks.spawn_until_cancelled("resume", async move { app.catalog.resume().await });
    }
}
