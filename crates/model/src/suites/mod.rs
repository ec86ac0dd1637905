//! Contract suites: one module per port. An implementation calls the suite from its own tests with a way to make itself.
//!
//! Each suite is a function (or a few) that panics with what was expected and what was found.
pub mod memory;
pub mod sandbox;
