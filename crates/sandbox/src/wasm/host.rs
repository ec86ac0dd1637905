//! What a guest has: its environment, three streams, clocks and random numbers. No files, no sockets; other hosts only by a hook that refuses.

use std::sync::Arc;

use bytes::Bytes;
use model::ids::FunctionKey;
use wasmtime::component::ResourceTable;
use wasmtime::{Engine, ResourceLimiter, Store};
use wasmtime_wasi::cli::StdoutStream;
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::p2::pipe::MemoryInputPipe;
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};
use wasmtime_wasi_http::{
    Error as HttpError, RequestOptions, WasiBody, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks,
    WasiHttpView,
};

use super::bounds::Bounds;

/// Things of the host that one call may hold at once: streams, requests, bodies, timers. What they take of the daemon's memory together, by the limits below, is less than
/// the least that a function is counted with (`limits::MEMORY_MIN_MB`).
const HANDLES: usize = 1_000;
/// What the host copies for a guest in one go at most, in bytes, for arguments of calls: a body comes in pieces.
const COPIED_BYTES: usize = 16 << 20;
/// All header fields of one request or answer, in bytes of memory.
const FIELDS_BYTES: usize = 32 << 10;
/// As much of a body as one write brings, in bytes; two of them wait to be taken.
const BODY_BYTES: usize = 64 << 10;
/// Random bytes that are asked for in one go, at most.
const RANDOM_BYTES: u64 = 1 << 20;

/// Environment variables of an instance.
pub(super) type Environment = Arc<Vec<(String, String)>>;

/// What the store of a core module holds.
pub(super) struct CommandHost {
    pub(super) wasi: WasiP1Ctx,
    pub(super) bounds: Bounds,
}

/// What the store of a component holds.
pub(super) struct Host {
    wasi: WasiCtx,
    table: ResourceTable,
    http: WasiHttpCtx,
    hooks: Outgoing,
    pub(super) bounds: Bounds,
}

/// Whatever a store holds, it has bounds.
pub(super) trait Bounded: Send + 'static {
    /// They.
    fn bounds(&mut self) -> &mut Bounds;
}

impl Bounded for CommandHost {
    fn bounds(&mut self) -> &mut Bounds {
        &mut self.bounds
    }
}

impl Bounded for Host {
    fn bounds(&mut self) -> &mut Bounds {
        &mut self.bounds
    }
}

impl Host {
    /// Of a call that has so much memory.
    pub(super) fn new(wasi: WasiCtx, memory_mb: u32) -> Self {
        let (mut table, mut http) = (ResourceTable::new(), WasiHttpCtx::new());
        table.set_max_capacity(HANDLES);
        http.set_field_size_limit(FIELDS_BYTES);
        Self { wasi, table, http, hooks: Outgoing, bounds: Bounds::new(memory_mb) }
    }

    /// Lets all things of the host go that the guest holds.
    pub(super) fn close(&mut self) {
        self.table = ResourceTable::new();
    }
}

impl WasiView for Host {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for Host {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { ctx: &mut self.http, table: &mut self.table, hooks: &mut self.hooks }
    }
}

/// What becomes of requests to others: they are refused.
struct Outgoing;

/// What a request comes to.
type Sent = wasmtime_wasi_http::Result<(
    http::Response<WasiBody>,
    Box<dyn Future<Output = wasmtime_wasi_http::Result<()>> + Send>,
)>;

impl WasiHttpHooks for Outgoing {
    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        BODY_BYTES
    }

    fn send_request(
        &mut self,
        _request: http::Request<WasiBody>,
        _options: Option<RequestOptions>,
        _processed: Box<dyn Future<Output = wasmtime_wasi_http::Result<()>> + Send>,
    ) -> Box<dyn Future<Output = Sent> + Send> {
        Box::new(async { Err(HttpError::HttpRequestDenied) })
    }
}

/// A guest with these variables and streams, and nothing else.
pub(super) fn wasi(
    function: &FunctionKey,
    environment: &Environment,
    trace: Option<&str>,
    (stdin, stdout, stderr): (Bytes, impl StdoutStream + 'static, impl StdoutStream + 'static),
) -> WasiCtxBuilder {
    let mut builder = WasiCtxBuilder::new();
    builder
        .arg(function.name.as_str())
        .envs(environment)
        .stdin(MemoryInputPipe::new(stdin))
        .stdout(stdout)
        .stderr(stderr)
        .max_random_size(RANDOM_BYTES)
        .allow_tcp(false)
        .allow_udp(false)
        .allow_ip_name_lookup(false);
    if let Some(trace) = trace {
        builder.env("_X_AMZN_TRACE_ID", trace);
    }
    builder
}

/// A store for one call: within its bounds, and interrupted at each tick so that others have their turn.
pub(super) fn store<T: Bounded>(engine: &Engine, host: T) -> Store<T> {
    let mut store = Store::new(engine, host);
    store.limiter(|host| host.bounds() as &mut dyn ResourceLimiter);
    store.set_hostcall_fuel(COPIED_BYTES);
    store.set_epoch_deadline(1);
    store.epoch_deadline_async_yield_and_update(1);
    store
}
