//! What a warm runtime is forked with: loaded into a stock interpreter, it waits for orders, and each order brings a copy of that process into the
//! sandbox of one instance. Mechanism alone: what a function may do comes with the order.
//!
//! ```text
//! spawner ──Order, descriptors──▶ zygote (serve) ──clone, shared memory──▶ helper: in the instance's groups and pid namespace
//!                                                                            └──clone──▶ child (birth): the instance's runtime
//! ```
//!
//! Start at [`serve::wait`]. [`birth`] is the child's way into the sandbox, [`threads`] and [`descriptors`] give it threads and descriptors of its own ([`asleep`] and [`files`] below them),
//! [`memory`] makes all of the memory follow it. [`python`], [`node`] and [`java`] are the entries for interpreters. [`rights`] is what every instance's processes
//! give up, however they come up: the daemon's jail uses it too. [`order`] is the message.
//!
//! Nothing here allocates: a fork may happen while another thread holds the allocator's lock. Nothing here uses `std`, and the C library only to load
//! symbols: after a raw `clone` its idea of threads is not true.

#![no_std]
#![expect(unsafe_code, reason = "clones processes by raw system calls and speaks C interfaces")]

#[cfg(test)]
extern crate std;

pub mod asleep;
pub mod birth;
pub mod descriptors;
pub mod files;
pub mod java;
pub mod memory;
pub mod node;
pub mod order;
pub mod python;
pub mod rights;
pub mod serve;
pub mod sys;
pub mod text;
pub mod threads;
