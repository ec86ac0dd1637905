//! The server over real connections, on a real engine with its ports in memory. [`world`] puts it together.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking, also in its helpers"
)]

mod aliases;
mod authorization;
mod bodies;
mod calls;
mod catalog;
mod connections;
mod contract;
mod deaths;
mod history;
mod later;
mod layers;
mod logs;
mod namespaces;
mod once;
mod ports;
mod provisioned;
mod quotas;
mod races;
mod reserved;
mod routing;
mod scopes;
mod shadows;
mod shifts;
mod streams;
mod swaps;
mod urls;
mod versions;
mod world;
