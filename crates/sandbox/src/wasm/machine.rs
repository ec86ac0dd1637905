//! The engine: what programs may use of WebAssembly, and the pool that their instances come from.
//!
//! Code is compiled by an engine without the pool ([`compiling`]) in another process; what both have in common is in [`settings`], and
//! [`Machine::key`] names it.

use std::fmt;
use std::fs;
use std::hash::{Hash, Hasher};

use sha2::{Digest as _, Sha256};
use wasmtime::component;
use wasmtime::{
    Config, Enabled, Engine, InstanceAllocationStrategy, Linker, PoolingAllocationConfig, Result,
};

use super::bounds::TABLE_ELEMENTS;
use super::host::{CommandHost, Host};

/// Calls that run at once; further ones wait for one of them to end. Each takes 4 GiB of address space for each memory it may have.
pub(super) const CALLS_AT_ONCE: u32 = 512;
/// Instances that stand between calls, beside those: of functions that have one serve many.
pub(super) const KEPT: u32 = 256;
/// Core modules that a component may consist of: Python ones have about thirty.
const MODULES_PER_COMPONENT: u32 = 64;
/// Linear memories of one component. Nearly all have one, and adapters none.
const MEMORIES_PER_COMPONENT: u32 = 2;
/// Tables of one component.
const TABLES_PER_COMPONENT: u32 = 16;
/// Bookkeeping of one instance, in bytes.
const INSTANCE_BYTES: usize = 1 << 20;
/// What a slot keeps resident for its next user, who gets it zeroed: cheaper than giving it back to the kernel and faulting it in again.
const KEPT_MEMORY_BYTES: usize = 4 << 20;
/// The same of a table.
const KEPT_TABLE_BYTES: usize = 64 << 10;
/// Slots that stay warm when nobody uses them.
const WARM_SLOTS: u32 = 64;

/// The engine with what is linked to programs.
pub(super) struct Machine {
    engine: Engine,
    /// For core modules.
    pub(super) commands: Linker<CommandHost>,
    /// For components.
    pub(super) components: component::Linker<Host>,
}

impl fmt::Debug for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Machine").field("key", &self.key()).finish_non_exhaustive()
    }
}

impl Machine {
    /// Reserves the pool's address space. Blocks for some milliseconds.
    pub(super) fn new() -> Result<Self> {
        let mut config = settings();
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool(!swaps())));
        let engine = Engine::new(&config)?;
        let mut commands = Linker::new(&engine);
        wasmtime_wasi::p1::add_to_linker_async(&mut commands, |host: &mut CommandHost| {
            &mut host.wasi
        })?;
        let mut components = component::Linker::new(&engine);
        wasmtime_wasi::p2::add_to_linker_async(&mut components)?;
        wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut components)?;
        Ok(Self { engine, commands, components })
    }

    /// The engine.
    pub(super) fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Names whatever code that is compiled depends on: release of the compiler, its settings, the processor and its features.
    pub(super) fn key(&self) -> String {
        let mut hasher = StableHasher(Sha256::new());
        self.engine.precompile_compatibility_hash().hash(&mut hasher);
        let all = hex::encode(hasher.0.finalize());
        all.get(..32).unwrap_or(&all).to_owned()
    }
}

/// An engine for a process that compiles and runs nothing.
pub(super) fn compiling() -> Result<Engine> {
    Engine::new(&settings())
}

/// What compiled code and its runtime agree on.
fn settings() -> Config {
    let mut config = Config::new();
    config
        .wasm_component_model(true)
        // Instances of 0.2 need none of it, and a call of one costs a third without.
        .concurrency_support(false)
        .epoch_interruption(true)
        .memory_init_cow(true)
        // The pool has room for memories of 32-bit addresses, one a module.
        .wasm_memory64(false)
        .wasm_multi_memory(false);
    config
}

/// The pool. `scan`: whether dirty pages may be looked for rather than all be zeroed.
fn pool(scan: bool) -> PoolingAllocationConfig {
    let calls = CALLS_AT_ONCE + KEPT;
    let mut pool = PoolingAllocationConfig::default();
    pool.total_component_instances(calls)
        .total_core_instances(calls * MODULES_PER_COMPONENT)
        .total_memories(calls * MEMORIES_PER_COMPONENT)
        .total_tables(calls * TABLES_PER_COMPONENT)
        .total_stacks(calls)
        .max_core_instances_per_component(MODULES_PER_COMPONENT)
        .max_memories_per_component(MEMORIES_PER_COMPONENT)
        .max_tables_per_component(TABLES_PER_COMPONENT)
        .max_tables_per_module(TABLES_PER_COMPONENT)
        .max_component_instance_size(INSTANCE_BYTES)
        .max_core_instance_size(INSTANCE_BYTES)
        .table_elements(TABLE_ELEMENTS)
        .linear_memory_keep_resident(KEPT_MEMORY_BYTES)
        .table_keep_resident(KEPT_TABLE_BYTES)
        .max_unused_warm_slots(WARM_SLOTS)
        .pagemap_scan(if scan { Enabled::Auto } else { Enabled::No });
    pool
}

/// Whether this host swaps. Then a dirty page that lies on the disk is not found by the scan, and would show to the slot's next user (wasmtime issue
/// 14357). Where nobody can tell it counts as one that does.
pub(super) fn swaps() -> bool {
    // One line of headings, then one for each device.
    fs::read_to_string("/proc/swaps").map_or(true, |table| table.lines().count() > 1)
}

/// A hash that is the same in every process.
struct StableHasher(Sha256);

impl Hasher for StableHasher {
    fn finish(&self) -> u64 {
        0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }
}
