//! Where strangers' code runs: the ports [`model::ports::Sandbox`], `Image` and `Instance` made real. The only crate that starts processes.
//!
//! ```text
//! process/   ProcessSandbox: Node.js, Python and Java as locked-in processes        start here
//! jail/      namespaces, root, filters, control groups, limits; the only home of `unsafe`
//! frame      the protocol between daemon and bootstrap (runtimes/PROTOCOL.md)
//! output     standard output and error → log lines, within a rate
//! package    bounded unpacking of code packages
//! ```
//!
//! A program that uses this crate calls [`jail::main_if_spawner`] first in its `main`.

mod frame;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
pub mod jail;
mod output;
mod package;
mod process;

pub use process::{
    BUSY_POLL_US_DEFAULT, NetworkConfig, ProcessSandbox, SandboxConfig, UID_BASE_DEFAULT,
    ZygoteUse, examine,
};
