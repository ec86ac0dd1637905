//! What a guest has: its environment, three streams, clocks and random numbers; files where its function asks for them, other hosts by its network policy. No sockets.

use std::io;
use std::os::fd::AsRawFd as _;
use std::sync::Arc;

use bytes::Bytes;
use model::ids::FunctionKey;
use wasmtime::component::ResourceTable;
use wasmtime::{Engine, ResourceLimiter, Store};
use wasmtime_wasi::cli::StdoutStream;
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::p2::pipe::MemoryInputPipe;
use wasmtime_wasi::{FsPerms, WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};
use wasmtime_wasi_http::{
    Error as HttpError, RequestOptions, WasiBody, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks,
    WasiHttpView,
};

use super::bounds::Bounds;
use super::outgoing::{Reach, Sent};
use crate::jail::Scratch;
use crate::process::environment::{LAYERS, TASK_ROOT};
use crate::process::packages::Unpacked;

/// Things of the host that one call may hold at once: streams, requests, bodies, timers. What they take of the daemon's memory together, by the limits below, is less than
/// the least that a function is counted with (`limits::MEMORY_MIN_MB`).
const HANDLES: usize = 1_000;
/// The same where they may be files, each of which takes a descriptor of the daemon's.
pub(super) const FILES: usize = 128;
/// What the host copies for a guest in one go at most, in bytes, for arguments of calls: a body comes in pieces.
const COPIED_BYTES: usize = 16 << 20;
/// All header fields of one request or answer, in bytes of memory.
const FIELDS_BYTES: usize = 32 << 10;
/// As much of a body as one write brings, in bytes; two of them wait to be taken.
const BODY_BYTES: usize = 64 << 10;
/// Random bytes that are asked for in one go, at most.
const RANDOM_BYTES: u64 = 1 << 20;

/// Where programs have files to write.
const SCRATCH: &str = "/tmp";

/// What an instance is given, by its version: the same for each of its calls.
#[derive(Debug)]
pub(super) struct Given {
    /// Whose it is.
    pub(super) function: FunctionKey,
    /// Environment variables.
    pub(super) variables: Vec<(String, String)>,
    /// Memory limit, in MiB.
    pub(super) memory_mb: u32,
    /// Calls that one fresh instance serves.
    pub(super) calls: u32,
    /// Files, if it has any.
    pub(super) files: Option<Files>,
    /// Others, if it reaches any.
    pub(super) reach: Option<Reach>,
}

/// The files of an instance.
#[derive(Debug)]
pub(super) struct Files {
    /// To be read.
    pub(super) unpacked: Arc<Unpacked>,
    /// Makes `/tmp`.
    pub(super) scratch: Arc<Scratch>,
    /// Its size, in MiB.
    pub(super) tmp_mb: u32,
}

impl Files {
    async fn give(&self, builder: &mut WasiCtxBuilder) -> io::Result<()> {
        let tmp = self.scratch.folder(self.tmp_mb).await?;
        let path = format!("/proc/self/fd/{}", tmp.as_raw_fd());
        // Memory, and what the kernel has in memory: no reason to go to another thread.
        builder.allow_blocking_current_thread(true);
        let mut give = |path: &std::path::Path, name, permissions| {
            builder.preopened_dir(path, name, permissions).map_err(io::Error::other).map(drop)
        };
        give(path.as_ref(), SCRATCH, FsPerms::ReadWrite)?;
        give(self.unpacked.package(), TASK_ROOT, FsPerms::ReadOnly)?;
        if let Some(layers) = self.unpacked.layers() {
            give(layers, LAYERS, FsPerms::ReadOnly)?;
        }
        Ok(())
    }
}

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

impl CommandHost {
    /// Of an instance that is given this.
    pub(super) fn new(wasi: WasiP1Ctx, given: &Given) -> Self {
        let mut wasi = wasi;
        wasi.ctx().table.set_max_capacity(given.handles());
        Self { wasi, bounds: Bounds::new(given.memory_mb) }
    }
}

impl Host {
    /// Of an instance that is given this.
    pub(super) fn new(wasi: WasiCtx, given: &Given) -> Self {
        let (mut table, mut http) = (ResourceTable::new(), WasiHttpCtx::new());
        table.set_max_capacity(given.handles());
        http.set_field_size_limit(FIELDS_BYTES);
        let (hooks, bounds) = (Outgoing(given.reach.clone()), Bounds::new(given.memory_mb));
        Self { wasi, table, http, hooks, bounds }
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

/// What becomes of requests to others: without a network they are refused.
struct Outgoing(Option<Reach>);

impl WasiHttpHooks for Outgoing {
    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        BODY_BYTES
    }

    fn send_request(
        &mut self,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        _processed: Box<dyn Future<Output = wasmtime_wasi_http::Result<()>> + Send>,
    ) -> Box<dyn Future<Output = wasmtime_wasi_http::Result<Sent>> + Send> {
        match self.0.clone() {
            Some(reach) => Box::new(reach.send(request, options.unwrap_or_default())),
            None => Box::new(async { Err(HttpError::HttpRequestDenied) }),
        }
    }
}

impl Given {
    fn handles(&self) -> usize {
        if self.files.is_some() { FILES } else { HANDLES }
    }
}

/// A guest with what it is given and these streams, and nothing else. An error if its files cannot be made.
pub(super) async fn wasi(
    given: &Given,
    trace: Option<&str>,
    (stdin, stdout, stderr): (Bytes, impl StdoutStream + 'static, impl StdoutStream + 'static),
) -> io::Result<WasiCtxBuilder> {
    let mut builder = WasiCtxBuilder::new();
    builder
        .arg(given.function.name.as_str())
        .envs(&given.variables)
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
    if let Some(files) = &given.files {
        files.give(&mut builder).await?;
    }
    Ok(builder)
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
