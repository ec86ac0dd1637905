//! A server on a free port of loopback, and a client of a few lines that sends what it is told, bytes included.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use engine::{Engine, EngineConfig};
use model::clock::{Clock, SystemClock};
use model::ports::{Blobs, Expect, Logs, Meta, Sandbox, Usage};
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

/// What outlives a daemon.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    pub(crate) meta: Arc<MemoryMeta>,
    blobs: Arc<MemoryBlobs>,
    vault: Arc<MemoryVault>,
    key: String,
}

impl Store {
    async fn new() -> Self {
        let meta = Arc::new(MemoryMeta::default());
        let key = ensure_root_key(&*meta).await.unwrap().unwrap().as_str().to_owned();
        Self { meta, blobs: Arc::default(), vault: Arc::default(), key }
    }

    /// Another store with the same documents.
    async fn copied(&self) -> Self {
        let mut entries = self.meta.list("", None, usize::MAX).await.unwrap();
        entries.sort_by_key(|entry| entry.revision);
        let meta = Arc::new(MemoryMeta::default());
        for entry in entries {
            meta.put_if(&entry.key, Expect::Absent, entry.value).await.unwrap();
        }
        Self { meta, ..self.clone() }
    }
}

/// A running server. Dropping it stops it.
pub(crate) struct World {
    pub(crate) address: SocketAddr,
    pub(crate) key: String,
    pub(crate) meta: Arc<MemoryMeta>,
    /// The catalogue as the server sees it.
    pub(crate) seen: Arc<JitteryMeta>,
    pub(crate) logs: Arc<MemoryLogs>,
    pub(crate) sandbox: Arc<EchoSandbox>,
    pub(crate) shutdown: CancellationToken,
    pub(crate) serving: JoinHandle<()>,
    config: ServerConfig,
    store: Store,
    engine: Engine,
    tasks: Tasks,
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
        Self::over(config, Store::new().await).await
    }

    /// The same store under another daemon. Of the first one nothing goes on.
    pub(crate) async fn restart(self) -> Self {
        self.shutdown.cancel();
        self.tasks.drain(Duration::from_secs(5)).await;
        self.engine.drain(Duration::from_secs(5)).await;
        Self::over(self.config.clone(), self.store.clone()).await
    }

    /// Another daemon over a copy of the store.
    pub(crate) async fn copied(&self) -> Self {
        Self::over(self.config.clone(), self.store.copied().await).await
    }

    async fn over(config: ServerConfig, store: Store) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let meta = store.meta.clone();
        let seen = Arc::new(JitteryMeta::new(meta.clone()));
        let logs = Arc::new(MemoryLogs::default());
        let echo = Arc::new(EchoSandbox::default());
        let usage: Arc<dyn Usage> = Arc::new(MemoryUsage::default());
        let sandbox: Arc<dyn Sandbox> = echo.clone();
        let engine_deps = engine::Deps {
            meta: meta.clone(),
            queue: Arc::new(MemoryQueue::new(clock.clone())),
            blobs: store.blobs.clone(),
            sandbox: sandbox.clone(),
            usage: usage.clone(),
            webhooks: Arc::new(model::ports::NoWebhooks),
            clock: clock.clone(),
        };
        let engine = Engine::start(EngineConfig::default(), engine_deps).await.unwrap();
        let tasks = Tasks::new();
        let deps = Deps {
            engine: engine.clone(),
            meta: seen.clone() as Arc<dyn Meta>,
            blobs: store.blobs.clone() as Arc<dyn Blobs>,
            sandbox,
            logs: logs.clone() as Arc<dyn Logs>,
            usage,
            vault: store.vault.clone(),
            clock,
            tasks: tasks.clone(),
        };
        let server = Server::new(config.clone(), deps);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let stop = shutdown.clone();
        let serving = Tasks::new().spawn("server", async move {
            server.serve(listener, stop).await.unwrap();
        });
        let guard = shutdown.clone().drop_guard();
        Self {
            address,
            key: store.key.clone(),
            meta,
            seen,
            logs,
            sandbox: echo,
            shutdown,
            serving,
            config,
            store,
            engine,
            tasks,
            _stop: guard,
        }
    }

    /// A request with the root key.
    pub(crate) fn ask(&self, method: &str, path: &str) -> Ask {
        self.ask_as(&self.key, method, path)
    }

    /// A request with another key.
    pub(crate) fn ask_as(&self, key: &str, method: &str, path: &str) -> Ask {
        self.ask_without_key(method, path).header("authorization", &format!("Bearer {key}"))
    }

    /// Sends JSON with the root key, under [`FN`] if the path does not begin with a slash.
    pub(crate) async fn send(&self, method: &str, path: &str, body: Value) -> Reply {
        self.ask(method, &full(path)).json(&body).send().await
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        self.ask("GET", &full(path)).send().await
    }

    pub(crate) async fn delete(&self, path: &str) -> Reply {
        self.ask("DELETE", &full(path)).send().await
    }

    /// Creates a namespace with these quotas and this policy.
    pub(crate) async fn namespace(&self, name: &str, quotas: Value, policy: Value) -> Value {
        let new = json!({ "name": name, "quotas": quotas, "policy": policy });
        self.send("POST", "/v1/namespaces", new).await.expect(201)
    }

    /// Makes a key and answers with it.
    pub(crate) async fn new_key(&self, name: &str, namespace: Option<&str>) -> String {
        let new = json!({ "name": name, "namespace": namespace });
        let made = self.send("POST", "/v1/keys", new).await.expect(201);
        made["key"].as_str().unwrap().to_owned()
    }

    /// A function `f` whose version `N` answers `"N"`.
    pub(crate) async fn versions(&self, count: usize) {
        for number in 1..=count {
            self.version(number, "fixed.reply", &format!("\"{number}\"")).await;
        }
    }

    /// Publishes the version of `f` that comes next.
    pub(crate) async fn version(&self, number: usize, handler: &str, reply: &str) {
        self.function("f", handler, reply).await;
        let published = self.send("POST", "f/versions", json!({})).await.expect(201);
        assert_eq!(published["version"], number.to_string());
    }

    /// Calls with an event through the API; answers with the version that ran.
    pub(crate) async fn ran(&self, target: &str, event: Value) -> String {
        let reply = self.send("POST", &format!("{target}/invoke"), event).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        reply.header("x-hanshu-version").to_owned()
    }

    /// Asks until `found` finds something in the answer.
    pub(crate) async fn until<T>(&self, path: &str, found: impl Fn(&Value) -> Option<T>) -> T {
        let mut last = Value::Null;
        for _ in 0..400 {
            last = self.get(path).await.expect(200);
            if let Some(found) = found(&last) {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("{path} never showed it: {last}");
    }

    pub(crate) fn ask_without_key(&self, method: &str, path: &str) -> Ask {
        let head = format!("{method} {path} HTTP/1.1\r\nhost: {}\r\n", self.address);
        Ask { address: self.address, head, body: Vec::new() }
    }

    /// A connection to write bytes to.
    pub(crate) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Stores a package in `default` and answers with its digest.
    pub(crate) async fn package(&self, content: &str) -> String {
        self.package_in("default", content).await
    }

    /// Stores a package and answers with its digest.
    pub(crate) async fn package_in(&self, namespace: &str, content: &str) -> String {
        let path = format!("/v1/namespaces/{namespace}/packages?filename=index.js");
        let reply = self.ask("POST", &path).body(content).send().await;
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

/// Where the functions of `default` are.
const FN: &str = "/v1/namespaces/default/functions/";

fn full(path: &str) -> String {
    if path.starts_with('/') { path.to_owned() } else { format!("{FN}{path}") }
}

/// A zip of these files.
pub(crate) fn zipped(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, content) in files {
        zip.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
        std::io::Write::write_all(&mut zip, content).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// The members `name` of the objects in a page or a list.
pub(crate) fn column(page: &Value, name: &str) -> Vec<Value> {
    let items = page.get("items").unwrap_or(page);
    items.as_array().unwrap().iter().map(|item| item[name].clone()).collect()
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

    /// Asserts the status, and answers with the body.
    #[track_caller]
    pub(crate) fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", String::from_utf8_lossy(&self.body));
        if self.body.is_empty() { Value::Null } else { self.json() }
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
