//! The nouns of Hanshu and the ports between its floors. No I/O.
//!
//! Start at [`function::Function`] (what is deployed), [`alias::Alias`] (which version a call reaches), [`invocation::Call`] (what
//! is asked) and [`ports`] (what the engine needs of a store and a sandbox). [`change`] is the record of every change, [`keys`] says
//! where documents lie, [`limits`] has every number, [`error`] every way to be refused. `suites` (feature `suites`) holds one contract
//! suite per port; an implementation is done when it passes.

pub mod alias;
pub mod api;
pub mod calls;
pub mod change;
pub mod clock;
pub mod difference;
pub mod error;
pub mod function;
pub mod histogram;
pub mod ids;
pub mod invocation;
pub mod isolation;
pub mod keys;
pub mod layer;
pub mod limits;
pub mod map;
pub mod namespace;
pub mod network;
pub mod ports;
pub mod provisioned;
pub mod secret;
pub mod stream;
#[cfg(feature = "suites")]
pub mod suites;
pub mod tasks;

pub use error::{Code, Error, Origin};

/// Result with the platform's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;
