//! The host's side where the daemon is root: addresses for instances, translation, a second wall, and forwarding.
//!
//! Everything is in one table of this daemon alone, which the kernel removes with the socket that made it, so with the daemon, however it ends. That the host
//! forwards packets at all is a switch of its own (`net.ipv4.ip_forward`), which stays as it is: if it was off and had to be switched on, a second
//! table, [`GUARD`], keeps the host from forwarding anything but what instances send and get. It is the note, too, that the switch was ours: the last
//! daemon that stops switches it off again, and after a killed one the next that starts ([`clean`]).

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};

use model::network::Cidr;

use super::Way;
use super::link::{self, Route};
use super::netlink::Socket;
use super::nft::{self, Batch, Hook, Rule, States, Verdict};

/// Names of the host's ends start so; the address follows in hexadecimal.
const INTERFACES: &str = "hanshu";
/// Names of tables start so; the first address of the block follows in hexadecimal.
const TABLES: &str = "hanshu-";
/// The table that stands while forwarding is on because of us.
const GUARD: &str = "hanshu-forward";
const FORWARD_SWITCH: &str = "/proc/sys/net/ipv4/ip_forward";
/// Size of the host's table of connections.
const CONNECTIONS_MAX: &str = "/proc/sys/net/netfilter/nf_conntrack_max";
/// Its size on a machine of 1 GiB (Documentation/networking/nf_conntrack-sysctl.rst), where the kernel module that says it is not loaded yet.
const CONNECTIONS_DEFAULT: u32 = 65_536;
/// Leading bits of a daemon's block: 4 096 addresses.
const BLOCK_BITS: u8 = 20;
/// Blocks tried at most: the default range has 32.
const BLOCKS: u32 = 256;
/// Addresses at the start of a block that no instance gets: the network's own, and the gateway.
const RESERVED: u32 = 2;
/// Routes of fewer leading bits stand for "everything else", as the default route does: more specific ones go before them.
const SPECIFIC_BITS: u8 = 8;

/// A daemon's block of addresses and its table. Dropped, the table goes, and forwarding as it was.
#[derive(Debug)]
pub(crate) struct HostNetwork {
    block: Cidr,
    free: Mutex<Free>,
    /// Owns the table.
    socket: Socket,
}

#[derive(Debug)]
struct Free {
    /// Given back, the oldest first: the kernel removes an instance's interfaces some moments after the instance.
    used: VecDeque<u32>,
    /// Never taken so far: this and all above.
    fresh: u32,
}

/// Switches off what a killed daemon left on. To be called when a daemon starts.
pub(crate) fn clean() -> io::Result<()> {
    let socket = Socket::netfilter()?;
    restore_forwarding(&socket, None)
}

impl HostNetwork {
    /// Takes a block of `range` and makes its table; an error says what is in the way.
    pub(crate) fn open(range: Cidr) -> Result<Self, String> {
        let failed = |what: &str| {
            let what = what.to_owned();
            move |e: io::Error| format!("{what}: {e}")
        };
        let socket = Socket::netfilter().map_err(failed("speak with nf_tables"))?;
        let routes = Socket::route()
            .and_then(|route| Ok(foreign(link::routes(&route)?, |index| is_ours(&route, index))));
        let routes = routes.map_err(failed("read the host's routes"))?;
        let mut in_the_way = None;
        for block in blocks(range) {
            if let Some(route) = routes.iter().find(|route| route.to.overlaps(block)) {
                in_the_way = Some(route.to);
                continue;
            }
            match rules(block).commit(&socket) {
                Ok(()) => {
                    allow_forwarding(&socket).map_err(failed("forward packets"))?;
                    let free = Mutex::new(Free { used: VecDeque::new(), fresh: RESERVED });
                    return Ok(Self { block, free, socket });
                }
                // Another daemon's.
                Err(e)
                    if e.kind() == io::ErrorKind::AlreadyExists
                        || e.kind() == io::ErrorKind::PermissionDenied
                            && has_table(&socket, &table_name(block)) => {}
                Err(e) => return Err(failed("make the host's nf_tables rules")(e)),
            }
        }
        Err(match in_the_way {
            Some(route) => format!(
                "network.range {range} overlaps the host's route to {route}: set it to a range that the host does not use"
            ),
            None => format!(
                "every block of network.range {range} is taken by another daemon: set another range"
            ),
        })
    }

    /// All addresses of this daemon's instances.
    pub(crate) fn block(&self) -> Cidr {
        self.block
    }

    /// An address that no live instance has; `None` if all are taken.
    pub(crate) fn lease(self: &Arc<Self>) -> Option<Lease> {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let last = self.block.last().to_bits() - self.block.first().to_bits();
        // The last is the block's broadcast address by custom.
        let number = if free.fresh < last {
            free.fresh += 1;
            free.fresh - 1
        } else {
            free.used.pop_front()?
        };
        drop(free);
        Some(Lease { number, of: Arc::clone(self) })
    }

    /// Where instances send everything.
    pub(crate) fn gateway(&self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.block.first().to_bits() + 1)
    }
}

impl HostNetwork {
    /// Forwarding as it was, if no other daemon needs it. For a daemon that stops: no instance is to be started after it.
    pub(crate) fn close(&self) {
        if let Err(error) = restore_forwarding(&self.socket, Some(&table_name(self.block))) {
            tracing::warn!(%error, "forwarding could not be switched off again");
        }
    }
}

impl Drop for HostNetwork {
    fn drop(&mut self) {
        self.close();
    }
}

/// An address in use; given back when dropped, which has to be after the instance is gone.
#[derive(Debug)]
pub(crate) struct Lease {
    number: u32,
    of: Arc<HostNetwork>,
}

impl Lease {
    /// The address.
    pub(crate) fn address(&self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.of.block.first().to_bits() + self.number)
    }

    /// The way out of the instance that has it.
    pub(crate) fn way(&self) -> Way {
        Way::Veth { host_name: format!("{INTERFACES}{:08x}", self.address().to_bits()) }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.of.free.lock().unwrap_or_else(PoisonError::into_inner).used.push_back(self.number);
    }
}

/// The blocks of a range.
fn blocks(range: Cidr) -> impl Iterator<Item = Cidr> {
    let bits = BLOCK_BITS.max(range.bits());
    let size = 1_u32 << (32 - bits);
    let first = range.first().to_bits();
    let count = 1_u32.checked_shl(u32::from(bits - range.bits())).unwrap_or(BLOCKS).min(BLOCKS);
    (0..count).map(move |n| Cidr::of(Ipv4Addr::from_bits(first + n * size), bits))
}

/// Routes that somebody else made and that mean particular addresses.
fn foreign(routes: Vec<Route>, ours: impl Fn(u32) -> bool) -> Vec<Route> {
    let specific = |route: &Route| route.to.bits() >= SPECIFIC_BITS;
    routes.into_iter().filter(specific).filter(|r| !r.index.is_some_and(&ours)).collect()
}

fn is_ours(socket: &Socket, index: u32) -> bool {
    let name = rustix::net::netdevice::index_to_name(socket, index);
    name.is_ok_and(|name| name.starts_with(INTERFACES))
}

fn table_name(block: Cidr) -> String {
    format!("{TABLES}{:08x}", block.first().to_bits())
}

fn has_table(socket: &Socket, name: &str) -> bool {
    nft::tables(socket).is_ok_and(|tables| tables.iter().any(|table| table == name))
}

/// The daemon's table. Rules about interfaces hold for those of other daemons too, which is what those want as well.
fn rules(block: Cidr) -> Batch {
    let rule = Rule::default;
    let batch = Batch::table(&table_name(block), true)
        .base_chain("input", Hook::Input, Verdict::Accept)
        // Whatever address of the host it is for.
        .rule("input", rule().in_by(INTERFACES).then(Verdict::Drop))
        .base_chain("forward", Hook::Forward, Verdict::Accept)
        .rule("forward", rule().in_by(INTERFACES).not_ipv4().then(Verdict::Drop))
        // It was for an address of the host, which publishes somebody's port there.
        .rule("forward", rule().in_by(INTERFACES).redirected().then(Verdict::Drop))
        .rule("forward", rule().in_by(INTERFACES).out_by(INTERFACES).then(Verdict::Drop))
        .rule("forward", rule().out_by(INTERFACES).not_state(States::KNOWN).then(Verdict::Drop));
    // All instances together leave half of the table of connections to the host.
    let max = fs::read_to_string(CONNECTIONS_MAX).ok().and_then(|text| text.trim().parse().ok());
    let half = max.unwrap_or(CONNECTIONS_DEFAULT) / 2;
    let new = rule().in_by(INTERFACES).ipv4().source_in(block).state(States::NEW);
    batch
        .rule("forward", new.over_connections(half).then(Verdict::Drop))
        .base_chain("translate", Hook::Postrouting, Verdict::Accept)
        .rule("translate", rule().ipv4().source_in(block).not_out_by(INTERFACES).masquerade())
}

/// Switches forwarding on if it is off, behind the guard.
fn allow_forwarding(socket: &Socket) -> io::Result<()> {
    if fs::read_to_string(FORWARD_SWITCH)?.trim() == "1" {
        return Ok(());
    }
    let rule = Rule::default;
    let guard = Batch::table(GUARD, false)
        .base_chain("forward", Hook::Forward, Verdict::Drop)
        .rule("forward", rule().in_by(INTERFACES).then(Verdict::Accept))
        .rule("forward", rule().out_by(INTERFACES).then(Verdict::Accept));
    match guard.commit(socket) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
        _ => {}
    }
    tracing::warn!(
        "switching net.ipv4.ip_forward on for functions with a network; nothing else is forwarded"
    );
    fs::write(FORWARD_SWITCH, "1")
}

/// Undoes [`allow_forwarding`], unless it was on anyway or another daemon needs it. `own` is the caller's table.
fn restore_forwarding(socket: &Socket, own: Option<&str>) -> io::Result<()> {
    let tables = nft::tables(socket)?;
    let other = |table: &str| table.starts_with(TABLES) && table != GUARD && Some(table) != own;
    if !tables.iter().any(|table| table == GUARD) || tables.iter().any(|table| other(table)) {
        return Ok(());
    }
    fs::write(FORWARD_SWITCH, "0")?;
    Batch::without(GUARD).commit(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_cut_into_blocks() {
        let all: Vec<_> = blocks(super::super::RANGE_DEFAULT).collect();
        assert_eq!(all.len(), 32);
        assert_eq!(all[0].to_string(), "198.18.0.0/20");
        assert_eq!(all[31].to_string(), "198.19.240.0/20");
        let small: Vec<_> = blocks("10.9.8.0/24".parse().unwrap()).collect();
        assert_eq!(small, ["10.9.8.0/24".parse().unwrap()]);
        let large: Vec<_> = blocks("10.0.0.0/8".parse().unwrap()).collect();
        assert_eq!(large.len(), 256);
        assert_eq!(large[255].to_string(), "10.15.240.0/20");
    }

    #[test]
    fn default_routes_and_our_own_are_in_nobodys_way() {
        let route = |to: &str, index| Route { to: to.parse().unwrap(), index: Some(index) };
        let all = vec![
            route("0.0.0.0/0", 2),
            route("128.0.0.0/1", 2),
            route("198.18.0.5/32", 3),
            route("198.18.0.0/16", 2),
        ];
        assert_eq!(foreign(all, |index| index == 3), [route("198.18.0.0/16", 2)]);
    }

    #[test]
    fn names_fit_an_interface() {
        assert!(INTERFACES.len() + 8 <= 15);
        assert_eq!(table_name("198.18.16.0/20".parse().unwrap()), "hanshu-c6121000");
    }
}
