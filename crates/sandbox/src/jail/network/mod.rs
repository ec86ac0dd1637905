//! The network of an instance that has one: an interface of its own, address filter and bandwidth limit.
//!
//! An instance without a network policy gets nothing of this: a namespace with loopback, made ahead where that can be ([`super::networks`]). The others:
//!
//! ```text
//! daemon is root:   instance ─ eth0 ═ veth ═ hanshuB-S ─ host: translated (masquerade), input refused
//! ordinary user:    instance ─ eth0 ─ tap ─ pasta, a process of the user, opens ordinary sockets
//!                              ▲
//!                              └ in both: [`filter`] and queues, in the namespace of the instance
//! ```
//!
//! **Why the filter is inside.** A function has no capability in its network namespace, so it can neither change rules nor open raw sockets; what stands there when
//! its rights are dropped, stands. So one filter serves both ways, and the host's rules ([`host`]) are a second wall.
//!
//! **Why nothing stays behind.** The veth pair goes with the instance's namespace, the host's table with the daemon's socket
//! (`NFT_TABLE_F_OWNER`), routes with the interface, pasta with the spawner. Only what was switched on to forward packets outlives a killed daemon:
//! [`host`] says how that is found again.
//!
//! [`inside`] runs in the child and sets up everything that belongs to one instance; [`host`] belongs to the daemon; [`pasta`] to the
//! spawner. [`netlink`], [`nft`] and [`link`] speak with the kernel.

mod address;
mod filter;
mod host;
mod inside;
mod link;
mod netlink;
mod nft;
mod pasta;

use std::net::Ipv4Addr;
use std::path::PathBuf;

use model::network::Cidr;
use serde::{Deserialize, Serialize};

pub(crate) use address::{host_addresses, is_special, resolvers};
pub(crate) use filter::Filter;
pub(crate) use host::{HostNetwork, Lease, clean};
pub(super) use inside::{HostSide, connect};
pub(super) use pasta::{Pasta, start as start_pasta};

/// Where instances get their addresses from, unless configured: the range for measuring network devices (RFC 2544), which is routed nowhere. The others that
/// are private or shared are in use: by offices and clouds (RFC 1918), by providers, Tailscale and Kubernetes (100.64.0.0/10).
pub(crate) const RANGE_DEFAULT: Cidr = Cidr::of(Ipv4Addr::new(198, 18, 0, 0), 15);

/// The interface's name inside.
const INTERFACE: &str = "eth0";

/// The network of one instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Network {
    /// How packets get out.
    pub(crate) way: Way,
    /// The instance's own address.
    pub(crate) address: Ipv4Addr,
    /// Where it sends everything. Nobody has this address; it stands for the other end.
    pub(crate) gateway: Ipv4Addr,
    /// What it may reach.
    pub(crate) filter: Filter,
    /// Most bytes per second, in each direction.
    pub(crate) bytes_per_second: Option<u64>,
}

/// How packets get out of an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Way {
    /// By a pair of interfaces, whose other end is in the host's namespace and has this name. Needs the host's root.
    Veth {
        /// At most 15 bytes.
        host_name: String,
    },
    /// By the program pasta, which is here.
    Pasta {
        /// The executable.
        program: PathBuf,
    },
}
