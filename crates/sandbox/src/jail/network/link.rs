//! Interfaces, addresses, routes and queues as netlink messages (rtnetlink(7), include/uapi/linux/{if_link,rtnetlink,pkt_sched}.h).

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;

use model::network::Cidr;
use rustix::net::netdevice::name_to_index;

use super::netlink::{ACK, Answer, CREATE, DUMP, EXCLUSIVE, Message, REPLACE, Socket, u32_at};

const NEW_LINK: u16 = 16;
const NEW_ADDRESS: u16 = 20;
const GET_ADDRESS: u16 = 22;
const NEW_ROUTE: u16 = 24;
const GET_ROUTE: u16 = 26;
const NEW_QDISC: u16 = 36;
const NEW_FILTER: u16 = 44;

const IPV4: u8 = 2;
const UP: u32 = 1;
/// No address resolution: both ends have the same hardware address, so whatever one sends is for the other.
const NOARP: u32 = 0x80;

/// `struct ifinfomsg` and `struct rtmsg`, in bytes; [`ADDRESS_HEADER`] is `struct ifaddrmsg`.
const ROUTE_HEADER: usize = 12;
const ADDRESS_HEADER: usize = 8;

/// Parents of queues (`TC_H_*`).
const ROOT: u32 = u32::MAX;
const INGRESS: u32 = 0xFFFF_FFF1;

/// Shortest burst of a limited interface: two full packets, in bytes.
const BURST_MIN: u64 = 3_100;
/// Shortest queue in front of a limited interface, in bytes.
pub(super) const QUEUE_MIN: u64 = 16_384;
/// The same towards and from pasta, which repeats lost packets late and one by one: as much as connections have on their way, so that few are lost.
pub(super) const QUEUE_PASTA: u64 = 4 << 20;

/// `struct ifinfomsg`.
fn link_header(index: u32, flags: u32) -> [u8; 16] {
    let mut header = [0; 16];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    header[12..16].copy_from_slice(&flags.to_ne_bytes());
    header
}

/// The hardware address of both ends of a pair: locally administered, and different for each instance.
fn hardware(address: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = address.octets();
    [2, 0, a, b, c, d]
}

/// Makes a pair of interfaces: `here` in the socket's namespace and `there` in that of this process. The peer is made there at once: moving it
/// later takes ten times as long.
pub(super) fn pair(socket: &Socket, here: &str, there: &str, address: Ipv4Addr) -> io::Result<()> {
    const ADDRESS: u16 = 1;
    const NAME: u16 = 3;
    const INFO: u16 = 18;
    const NAMESPACE_OF_PROCESS: u16 = 19;
    const INFO_KIND: u16 = 1;
    const INFO_DATA: u16 = 2;
    const PEER: u16 = 1;
    // Not up yet: an end opens only once it has the other (drivers/net/veth.c, `veth_open`).
    let (hardware, flags) = (hardware(address), NOARP);
    let message = Message::new(NEW_LINK, ACK | CREATE | EXCLUSIVE, &link_header(0, flags))
        .put_text(NAME, here)
        .put(ADDRESS, &hardware)
        .nest(INFO, |m| {
            m.put_text(INFO_KIND, "veth").nest(INFO_DATA, |m| {
                m.nest(PEER, |m| {
                    m.raw(&link_header(0, flags))
                        .put_text(NAME, there)
                        .put(ADDRESS, &hardware)
                        .put_u32(NAMESPACE_OF_PROCESS, std::process::id())
                })
            })
        });
    socket.ask([message]).map(drop)
}

/// Makes the interface through which incoming packets can be queued.
pub(super) fn funnel(socket: &Socket, name: &str) -> io::Result<u32> {
    const NAME: u16 = 3;
    const INFO: u16 = 18;
    const INFO_KIND: u16 = 1;
    let message = Message::new(NEW_LINK, ACK | CREATE | EXCLUSIVE, &link_header(0, UP))
        .put_text(NAME, name)
        .nest(INFO, |m| m.put_text(INFO_KIND, "ifb"));
    socket.ask([message])?;
    index_of(socket, name)
}

/// The number of an interface.
pub(super) fn index_of(socket: impl AsFd, name: &str) -> io::Result<u32> {
    name_to_index(socket, name).map_err(Into::into)
}

/// Sets an interface up.
pub(super) fn up(socket: &Socket, index: u32) -> io::Result<()> {
    socket.ask([Message::new(NEW_LINK, ACK, &link_header(index, UP))]).map(drop)
}

/// Limits the packets of an interface to `mtu` bytes.
pub(super) fn shrink(socket: &Socket, index: u32, mtu: u32) -> io::Result<()> {
    const MTU: u16 = 4;
    let message = Message::new(NEW_LINK, ACK, &link_header(index, 0)).put_u32(MTU, mtu);
    socket.ask([message]).map(drop)
}

/// Gives an interface an address, alone in its network.
pub(super) fn address(socket: &Socket, index: u32, address: Ipv4Addr) -> io::Result<()> {
    let mut header = [IPV4, 32, 0, 0, 0, 0, 0, 0];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    let octets = address.octets();
    let message = Message::new(NEW_ADDRESS, ACK | CREATE | EXCLUSIVE, &header)
        .put(1, &octets)
        .put(2, &octets);
    socket.ask([message]).map(drop)
}

/// Sends a block by an interface, over a gateway if there is one.
pub(super) fn route(
    socket: &Socket,
    to: Cidr,
    gateway: Option<Ipv4Addr>,
    index: u32,
) -> io::Result<()> {
    const MAIN: u8 = 254;
    const STATIC: u8 = 4;
    const EVERYWHERE: u8 = 0;
    const ON_LINK: u8 = 253;
    const UNICAST: u8 = 1;
    // The gateway is reached by the interface although no address of it says so.
    const GATEWAY_ON_LINK: u32 = 4;
    let (scope, flags) =
        if gateway.is_some() { (EVERYWHERE, GATEWAY_ON_LINK) } else { (ON_LINK, 0) };
    let mut header = [IPV4, to.bits(), 0, 0, MAIN, STATIC, scope, UNICAST, 0, 0, 0, 0];
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    let mut message = Message::new(NEW_ROUTE, ACK | CREATE | EXCLUSIVE, &header).put_u32(4, index);
    if to.bits() > 0 {
        message = message.put(1, &to.first().octets());
    }
    if let Some(gateway) = gateway {
        message = message.put(5, &gateway.octets());
    }
    socket.ask([message]).map(drop)
}

/// Limits what an interface sends: a token bucket with a queue of about a fifth of a second (tc-tbf(8)), but at least `queue` bytes.
pub(super) fn limit(
    socket: &Socket,
    index: u32,
    bytes_per_second: u64,
    queue: u64,
) -> io::Result<()> {
    const PARAMETERS: u16 = 1;
    const BURST: u16 = 6;
    const ETHERNET: u8 = 1;
    let small = |bytes: u64| u32::try_from(bytes).unwrap_or(u32::MAX);
    let rate = small(bytes_per_second);
    // `struct tc_tbf_qopt`: rate and peak rate, each a `struct tc_ratespec` of 12 bytes; limit, buffer, mtu.
    let mut parameters = [0; 36];
    parameters[1] = ETHERNET;
    parameters[8..12].copy_from_slice(&rate.to_ne_bytes());
    let queue = small((bytes_per_second / 5).max(queue));
    parameters[24..28].copy_from_slice(&queue.to_ne_bytes());
    let burst = small((bytes_per_second / 20).max(BURST_MIN));
    let message = queue_at(index, ROOT, 0)
        .put_text(1, "tbf")
        .nest(2, |m| m.put(PARAMETERS, &parameters).put_u32(BURST, burst));
    socket.ask([message]).map(drop)
}

/// Leads everything that comes in by an interface through a funnel.
pub(super) fn divert(socket: &Socket, index: u32, funnel: u32) -> io::Result<()> {
    const INGRESS_HANDLE: u32 = 0xFFFF_0000;
    const ALL_PROTOCOLS: u16 = 3;
    // `TCA_U32_SEL` and `TCA_U32_ACT`.
    const SELECTOR: u16 = 5;
    const ACTIONS: u16 = 7;
    const STOLEN: u32 = 4;
    const EGRESS_REDIRECT: u32 = 1;
    let qdisc = queue_at(index, INGRESS, INGRESS_HANDLE).put_text(1, "ingress");
    let mut header = [0; 20];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[12..16].copy_from_slice(&INGRESS_HANDLE.to_ne_bytes());
    // Priority 1 and the protocol in network order.
    let info = 1 << 16 | u32::from(ALL_PROTOCOLS.to_be());
    header[16..20].copy_from_slice(&info.to_ne_bytes());
    // `struct tc_u32_sel` with one key that is true of everything: a mask of zeros.
    let mut selector = [0; 32];
    selector[0] = 1;
    selector[2] = 1;
    // `struct tc_mirred`: index, capab, action, refcnt, bindcnt, eaction, ifindex.
    let mut mirred = [0; 28];
    mirred[8..12].copy_from_slice(&STOLEN.to_ne_bytes());
    mirred[20..24].copy_from_slice(&EGRESS_REDIRECT.to_ne_bytes());
    mirred[24..28].copy_from_slice(&funnel.to_ne_bytes());
    let filter = Message::new(NEW_FILTER, ACK | CREATE | EXCLUSIVE, &header)
        .put_text(1, "u32")
        .nest(2, |m| {
            m.put(SELECTOR, &selector).nest(ACTIONS, |m| {
                m.nest(1, |m| m.put_text(1, "mirred").nest(2, |m| m.put(2, &mirred)))
            })
        });
    // One after the other: the filter needs the queue, and a batch of this family does not stop at an error.
    socket.ask([qdisc])?;
    socket.ask([filter]).map(drop)
}

/// `struct tcmsg`: family, index, handle, parent, info.
fn queue_at(index: u32, parent: u32, handle: u32) -> Message {
    let mut header = [0; 20];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..12].copy_from_slice(&handle.to_ne_bytes());
    header[12..16].copy_from_slice(&parent.to_ne_bytes());
    Message::new(NEW_QDISC, ACK | CREATE | REPLACE, &header)
}

/// All IPv4 addresses of the socket's namespace.
pub(super) fn addresses(socket: &Socket) -> io::Result<Vec<Ipv4Addr>> {
    const ADDRESS: u16 = 1;
    const LOCAL: u16 = 2;
    let all = Message::new(GET_ADDRESS, DUMP, &[IPV4, 0, 0, 0, 0, 0, 0, 0]);
    let address = |answer: &Answer| {
        let own = answer.attribute(ADDRESS_HEADER, LOCAL);
        ipv4(own.or_else(|| answer.attribute(ADDRESS_HEADER, ADDRESS))?)
    };
    Ok(socket.ask([all])?.iter().filter_map(address).collect())
}

/// A route of the main table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Route {
    /// Where to.
    pub(super) to: Cidr,
    /// By which interface, if by one.
    pub(super) index: Option<u32>,
}

/// All IPv4 routes of the socket's namespace, whatever their table.
pub(super) fn routes(socket: &Socket) -> io::Result<Vec<Route>> {
    const TO: u16 = 1;
    const BY: u16 = 4;
    let all = Message::new(GET_ROUTE, DUMP, &[IPV4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    let route = |answer: &Answer| {
        let bits = *answer.body.get(1)?;
        let to = answer.attribute(ROUTE_HEADER, TO).map_or(Some(Ipv4Addr::UNSPECIFIED), ipv4)?;
        let index = answer.attribute(ROUTE_HEADER, BY).and_then(|bytes| u32_at(bytes, 0));
        Some(Route { to: Cidr::of(to, bits), index })
    };
    Ok(socket.ask([all])?.iter().filter_map(route).collect())
}

fn ipv4(bytes: &[u8]) -> Option<Ipv4Addr> {
    Some(Ipv4Addr::from(*bytes.first_chunk::<4>()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_addresses_and_routes_are_read() {
        let socket = Socket::route().unwrap();
        assert!(addresses(&socket).unwrap().contains(&Ipv4Addr::LOCALHOST));
        let loopback = Cidr::of(Ipv4Addr::new(127, 0, 0, 0), 8);
        assert!(routes(&socket).unwrap().iter().any(|r| r.to == loopback && r.index == Some(1)));
        assert_eq!(index_of(&socket, "lo").unwrap(), 1);
    }
}
