//! A server on a free port of loopback, and a client of a few lines that sends what it is told, bytes included.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use engine::{Engine, EngineConfig};
use model::clock::{Clock, SystemClock};
use model::ports::{Blobs, Logs, Meta, Sandbox, Usage};
use model::suites::memory::{MemoryMeta, MemoryQueue, MemoryUsage, MemoryVault};
use model::tasks::Tasks;
use serde_json::{Value, json};
use server::auth::ensure_root_key;
use server::{Deps, Server, ServerConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::ports::{EchoSandbox, JitteryMeta, MemoryLogs};
use model::suites::memory::MemoryBlobs;

/// A running server. Dropping it stops it.
pub(crate) struct World {
    pub(crate) address: SocketAddr,
    pub(crate) key: String,
    pub(crate) meta: Arc<MemoryMeta>,
    pub(crate) logs: Arc<MemoryLogs>,
    pub(crate) sandbox: Arc<EchoSandbox>,
    pub(crate) shutdown: CancellationToken,
    pub(crate) serving: JoinHandle<()>,
    _stop: tokio_util::sync::DropGuard,
}

impl World {
    /// Asks for keys.
    pub(crate) async fn start() -> Self {
        Self::with(ServerConfig::default()).await
    }

    /// Asks for no keys.
    pub(crate) async fn dev() -> Self {
        Self::with(ServerConfig { dev: true, ..ServerConfig::default() }).await
    }

    pub(crate) async fn with(config: ServerConfig) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let meta = Arc::new(MemoryMeta::default());
        let logs = Arc::new(MemoryLogs::default());
        let echo = Arc::new(EchoSandbox::default());
        let usage: Arc<dyn Usage> = Arc::new(MemoryUsage::default());
        let sandbox: Arc<dyn Sandbox> = echo.clone();
        let engine_deps = engine::Deps {
            meta: meta.clone(),
            queue: Arc::new(MemoryQueue::new(clock.clone())),
            sandbox: sandbox.clone(),
            usage: usage.clone(),
            clock: clock.clone(),
        };
        let engine = Engine::start(EngineConfig::default(), engine_deps).await.unwrap();
        let key = ensure_root_key(&*meta).await.unwrap().unwrap().as_str().to_owned();
        let deps = Deps {
            engine,
            meta: Arc::new(JitteryMeta::new(meta.clone())) as Arc<dyn Meta>,
            blobs: Arc::new(MemoryBlobs::default()) as Arc<dyn Blobs>,
            sandbox,
            logs: logs.clone() as Arc<dyn Logs>,
            usage,
            vault: Arc::new(MemoryVault::default()),
            clock,
            tasks: Tasks::new(),
        };
        let server = Server::new(config, deps);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let stop = shutdown.clone();
        let serving = Tasks::new().spawn("server", async move {
            server.serve(listener, stop).await.unwrap();
        });
        let guard = shutdown.clone().drop_guard();
        Self { address, key, meta, logs, sandbox: echo, shutdown, serving, _stop: guard }
    }

    /// A request with the root key.
    pub(crate) fn ask(&self, method: &str, path: &str) -> Ask {
        self.ask_without_key(method, path).header("authorization", &format!("Bearer {}", self.key))
    }

    pub(crate) fn ask_without_key(&self, method: &str, path: &str) -> Ask {
        let head = format!("{method} {path} HTTP/1.1\r\nhost: {}\r\n", self.address);
        Ask { address: self.address, head, body: Vec::new() }
    }

    /// A connection to write bytes to.
    pub(crate) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Stores a package and answers with its digest.
    pub(crate) async fn package(&self, content: &str) -> String {
        let path = "/v1/namespaces/default/packages?filename=index.js";
        let reply = self.ask("POST", path).body(content).send().await;
        assert_eq!(reply.status, 201, "{reply:?}");
        reply.json()["digest"].as_str().unwrap().to_owned()
    }

    /// Puts a function; `handler` is one that [`EchoSandbox`] knows, `reply` what it answers.
    pub(crate) async fn function(&self, name: &str, handler: &str, reply: &str) -> Value {
        let code = self.package("code").await;
        let put = json!({
            "config": config(handler, reply),
            "settings": { "url_auth": "none" },
            "code": code,
        });
        let path = format!("/v1/namespaces/default/functions/{name}");
        let reply = self.ask("PUT", &path).json(&put).send().await;
        assert!([200, 201].contains(&reply.status), "{reply:?}");
        reply.json()
    }
}

/// A configuration for [`EchoSandbox`].
pub(crate) fn config(handler: &str, reply: &str) -> Value {
    json!({ "runtime": "nodejs20", "handler": handler, "environment": { "REPLY": reply } })
}

/// A request being put together.
pub(crate) struct Ask {
    address: SocketAddr,
    head: String,
    body: Vec<u8>,
}

impl Ask {
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.head.push_str(&format!("{name}: {value}\r\n"));
        self
    }

    pub(crate) fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        let length = self.body.len().to_string();
        self.header("content-length", &length)
    }

    pub(crate) fn json(self, body: &Value) -> Self {
        self.header("content-type", "application/json").body(body.to_string())
    }

    pub(crate) async fn send(self) -> Reply {
        let Self { address, head, body } = self;
        let mut stream = TcpStream::connect(address).await.unwrap();
        let head = format!("{head}connection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&body).await.unwrap();
        Reply::read(&mut stream).await
    }
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: BTreeMap<String, Vec<String>>,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    /// Reads to the end of the connection.
    pub(crate) async fn read(stream: &mut TcpStream) -> Self {
        let mut bytes = Vec::new();
        let read = stream.read_to_end(&mut bytes);
        tokio::time::timeout(Duration::from_secs(20), read).await.expect("no answer").unwrap();
        Self::parse(&bytes)
    }

    pub(crate) fn parse(bytes: &[u8]) -> Self {
        let end = bytes.windows(4).position(|w| w == b"\r\n\r\n").unwrap_or_else(|| {
            panic!("no head in {:?}", String::from_utf8_lossy(bytes));
        });
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let mut lines = head.lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let mut headers = BTreeMap::<_, Vec<_>>::new();
        for line in lines {
            let (name, value) = line.split_once(": ").unwrap();
            headers.entry(name.to_ascii_lowercase()).or_default().push(value.to_owned());
        }
        Self { status, headers, body: bytes[end + 4..].to_vec() }
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |values| values[0].as_str())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|e| panic!("{e}: {:?}", String::from_utf8_lossy(&self.body)))
    }

    /// Asserts that this is a refusal with a whole body, and answers with its message.
    #[track_caller]
    pub(crate) fn refused(&self, status: u16, code: &str) -> String {
        let body = self.json();
        let error = &body["error"];
        assert_eq!((self.status, error["code"].as_str()), (status, Some(code)), "{body}");
        assert_eq!(error["request_id"], self.header("x-hanshu-request-id"), "{body}");
        assert_eq!(error["retryable"], self.headers.contains_key("retry-after"), "{body}");
        error["message"].as_str().unwrap().to_owned()
    }
}
