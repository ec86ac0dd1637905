//! The engine on ports in memory and a scripted sandbox, in paused time: what is asserted about time is exact.

#![expect(clippy::unwrap_used, reason = "a test's helpers may panic as its tests do")]

mod aliases;
mod backlog;
mod blind;
mod dead;
mod freezing;
mod keeping;
mod lines;
mod maps;
mod namespaces;
mod once;
mod provisioned;
mod queued;
mod reserved;
mod scripted;
mod seats;
mod shadows;
mod shifts;
mod streams;
mod swaps;
mod sync;
