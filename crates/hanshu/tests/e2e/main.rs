//! End to end: the real binary, real runtimes, real sockets.
//!
//! [`harness`] starts a daemon of its own for each test and talks to it; the other modules are one topic each. The tests need root,
//! Node.js 20 and Python 3.11 on the `PATH`; what is missing fails the test that needs it, nothing is skipped.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a test crate: a failure is a panic with the daemon's log, and it starts the programs it tests"
)]

mod harness;

mod alias_moves;
mod aliases;
mod async_calls;
mod auth;
mod aws_clients;
mod bad_handlers;
mod bad_packages;
mod bad_requests;
mod cli;
mod crash;
mod deploy_invoke;
mod destinations;
mod disk_full;
mod doctor;
mod drain;
mod function_url;
mod killed_at_rest;
mod kills;
mod layers;
mod limits;
mod listing;
mod logs;
mod maps;
mod namespaces;
mod old_folder;
mod once;
mod provided;
mod restart;
mod rotation;
mod scoped_keys;
mod secrets;
mod shadows;
mod shifts;
mod starters;
mod streams;
mod up;
mod versions;
mod wasm;
mod web;
mod websockets;
