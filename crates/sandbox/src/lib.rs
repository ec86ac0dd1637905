//! Where strangers' code runs: the ports [`model::ports::Sandbox`], `Image` and `Instance` made real. The only crate that starts processes.
//!
//! ```text
//! process/       ProcessSandbox: functions as locked-in processes        start here
//! wasm/          WasmSandbox: WebAssembly in the daemon's own process
//! sandboxes      Sandboxes: both, each version in the one that its runtime names
//! jail/          namespaces, root, filters, control groups, limits; the home of `unsafe`
//! frame          the protocol between daemon and bootstrap (runtimes/PROTOCOL.md)
//! runtime_api/   the daemon's side of AWS Lambda's Runtime API, for functions that bring their own runtime
//! http_event/    HTTP in events and replies, for `web` and components
//! web/           the daemon's side of functions that are web servers
//! webhooks       requests that the daemon sends for functions
//! output         standard output and error → log lines, within a rate
//! package        bounded unpacking of code packages
//! ```
//!
//! A program that uses this crate calls [`jail::main_if_spawner`] first in its `main`.

mod frame;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
mod http_event;
pub mod jail;
mod output;
mod package;
mod process;
mod runtime_api;
mod sandboxes;
mod wasm;
mod web;
mod webhooks;

pub use process::{
    NetworkConfig, ProcessSandbox, SandboxConfig, UID_BASE_DEFAULT, ZYGOTE_CHILDREN_DEFAULT,
    ZygoteUse, examine,
};
pub use sandboxes::Sandboxes;
pub use wasm::{RUNTIME as WASM_RUNTIME, WasmConfig, WasmSandbox};
