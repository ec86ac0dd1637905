//! The nouns of Hanshu and the ports between its floors. No I/O.
//!
//! Start at [`function::Function`] (what is deployed), [`invocation::Call`] (what is asked) and [`ports`] (what the engine needs
//! of a store and a sandbox). [`limits`] has every number, [`error`] every way to be refused. `suites` (feature `suites`)
//! holds one contract suite per port; an implementation is done when it passes.

pub mod api;
pub mod clock;
pub mod error;
pub mod function;
pub mod ids;
pub mod invocation;
pub mod isolation;
pub mod limits;
pub mod network;
pub mod ports;
pub mod secret;
#[cfg(feature = "suites")]
pub mod suites;
pub mod tasks;

pub use error::{Code, Error, Origin};

/// Result with the platform's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;
