//! Namespaces, root, control groups and limits: how a process is locked in. The only home of `unsafe` in this crate ([`sys`]).
//!
//! ```text
//! daemon                        spawner                          instance
//! client::Spawner ──Request──▶  spawner::run ──clone3──▶  child::run: pid 1, sets everything up, then reaps
//!       ▲                          │  ▲                        │
//!       └──────── Reply ───────────┘  └──────── Report ────────┴─ clone3 ─▶ pid 2: the runtime, by exec
//! ```
//!
//! The daemon has many threads and much memory, so it never forks: `fork` of a process of 1 GB costs 50 ms, and a child of a
//! threaded process may hardly do anything before `exec`. It starts itself again, once, as a *spawner*: a small process
//! of one thread ([`main_if_spawner`]), whose children may run ordinary Rust until they `exec`. If the daemon goes, by whatever signal, the
//! spawner sees its socket close and takes every instance along; if the spawner goes, the kernel kills the instances (parent-death signal)
//! and the daemon starts another one.
//!
//! A runtime can also be a copy of one that runs, a zygote: [`zygote`].
//!
//! Start at [`spec::Spec`]: what is asked for. [`client`] is the daemon's side, [`spawner`] the loop in between, [`child`] and [`root`] the
//! set-up, step by step, which end behind [`landlock`] and [`seccomp`]; [`cgroup`] is used by the daemon directly; [`network`] has a part for each
//! of the three; [`listener`] is where a function that speaks HTTP finds the daemon, [`companions`] what runs beside it, [`sockets`] are how the daemon finds one that serves HTTP; [`attach`] mounts code into an instance that runs already; [`pause`] stops one that is idle, where no control group does; [`scratch`] makes folders in memory for programs that run in the daemon itself; [`probe`] finds out what the kernel gives. What an instance needs and need not be made with it is made ahead ([`networks`],
//! [`templates`], [`cgroup`]), for one instance each, or to be copied; [`steps`] tells where the time goes.

mod apart;
mod attach;
pub(crate) mod cgroup;
mod child;
mod client;
pub(crate) mod companions;
mod landlock;
pub(crate) mod listener;
pub(crate) mod network;
mod networks;
mod pause;
pub(crate) mod probe;
mod report;
mod root;
mod scratch;
mod seccomp;
pub(crate) mod sockets;
mod spawner;
mod spec;
mod steps;
mod sys;
mod templates;
mod wire;
mod zygote;

pub(crate) use client::{Exit, Killer, Pauses, Process, Spawner, StartError, StartFds};
pub(crate) use scratch::Scratch;
pub use spawner::main_if_spawner;
pub(crate) use spec::{Born, Environment, Limits, Mount, Owner, Program, Root, Speaks, Spec};
pub(crate) use steps::{Step, Steps};
pub(crate) use wire::InstanceId;
