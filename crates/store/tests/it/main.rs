//! The embedded store: the contract of every port, and what the contract cannot say: full disks, killed daemons, strange folders.
//!
//! Two tests start this binary again as a child that is killed or lives on a tiny disk; the children are the ignored tests, which do
//! nothing when they are started by hand.

#![expect(clippy::unwrap_used, reason = "a test's helpers may panic as its tests do")]

mod contract;
mod fixture;
mod folder;
mod full;
mod killed;
mod large;
mod migration;
mod queue_model;
mod retention;
mod support;
mod vault;
