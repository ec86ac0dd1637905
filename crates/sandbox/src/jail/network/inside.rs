//! Sets up the network of one instance, in the instance's first process, before it gives up its rights.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use model::network::Cidr;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::thread::UnshareFlags;

use super::link::{QUEUE_MIN, QUEUE_PASTA};
use super::netlink::Socket;
use super::{INTERFACE, Network, Way, link};
use crate::jail::report::{self, AtStep, Report, StepError};
use crate::jail::sys;

/// The interface that incoming packets queue in, where the other end is no interface of ours.
const FUNNEL: &str = "limit0";
/// Largest packet, in bytes.
const MTU: u32 = 1500;
/// How long pasta may take to make the interface, in seconds. It takes some 10 ms.
const PASTA_SECONDS: i64 = 5;
/// How often, and how long apart, the pair is tried to be made.
const PAIR_ATTEMPTS: u32 = 200;
const PAIR_PAUSE: Duration = Duration::from_millis(10);
/// `RTMGRP_LINK`: interfaces come and go.
const LINK_EVENTS: u32 = 1;
/// Everywhere.
const ALL: Cidr = Cidr::of(Ipv4Addr::UNSPECIFIED, 0);

/// The host's end, held while this process enters a namespace of its own.
#[derive(Debug)]
pub(in crate::jail) struct HostSide(Socket);

impl HostSide {
    /// Leaves the host's network namespace for a new one. A socket stays behind: a netlink socket belongs to the namespace it was made in.
    pub(in crate::jail) fn leave() -> Result<Self, StepError> {
        let socket = Socket::route().at(|| "speak with the host's network".into())?;
        sys::unshare(UnshareFlags::NEWNET).at(|| "new network namespace".into())?;
        Ok(Self(socket))
    }
}

/// Connects the namespace of this process. With [`Way::Veth`], `host` has to be there; with [`Way::Pasta`], `status` leads to the spawner.
pub(in crate::jail) fn connect(
    network: &Network,
    host: Option<&HostSide>,
    status: BorrowedFd<'_>,
) -> Result<(), StepError> {
    // The filter comes first: there is no moment at which a packet could pass it.
    let netfilter = Socket::netfilter().at(|| "speak with nf_tables".into())?;
    network.filter.batch().commit(&netfilter).at(|| "filter addresses".into())?;
    match (&network.way, host) {
        (Way::Veth { host_name }, Some(HostSide(host))) => {
            pair(network, host_name, host)?;
            let own = Socket::route().at(|| "speak with the network".into())?;
            let index = link::index_of(&own, INTERFACE).at(|| "find the interface".into())?;
            settle(network, &own, index)
        }
        (Way::Pasta { .. }, _) => {
            let events = Socket::route_events(LINK_EVENTS).at(|| "watch for interfaces".into())?;
            report::tell(status, &Report::NeedLink).at(|| "ask for pasta".into())?;
            let index = await_interface(&events).at(|| "await the interface of pasta".into())?;
            let own = Socket::route().at(|| "speak with the network".into())?;
            link::shrink(&own, index, MTU).at(|| "set the packet size".into())?;
            if let Some(rate) = network.bytes_per_second {
                slow_down(&own, index, rate).at(|| "limit what comes in".into())?;
            }
            settle(network, &own, index)
        }
        (Way::Veth { .. }, None) => {
            Err(StepError::new("find the host's network", io::ErrorKind::NotFound))
        }
    }
}

/// The pair, and on the host's end the way to the instance and how fast.
fn pair(network: &Network, host_name: &str, host: &Socket) -> Result<(), StepError> {
    let mut attempts = 1..PAIR_ATTEMPTS;
    loop {
        match link::pair(host, host_name, INTERFACE, network.address) {
            // The address was used before, and the kernel has not removed all of that instance yet.
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists && attempts.next().is_some() => {
                std::thread::sleep(PAIR_PAUSE);
            }
            made => break made.at(|| format!("make interface {host_name}"))?,
        }
    }
    let index = link::index_of(host, host_name).at(|| format!("find interface {host_name}"))?;
    link::up(host, index).at(|| format!("interface {host_name} up"))?;
    let back = Cidr::of(network.address, 32);
    link::route(host, back, None, index).at(|| format!("set the route to {back}"))?;
    let limited = network.bytes_per_second.map(|rate| link::limit(host, index, rate, QUEUE_MIN));
    limited.transpose().at(|| "limit what comes in".into()).map(drop)
}

/// What is the same whatever is at the other end.
fn settle(network: &Network, own: &Socket, index: u32) -> Result<(), StepError> {
    link::up(own, index).at(|| "interface up".into())?;
    link::address(own, index, network.address).at(|| "set the address".into())?;
    link::route(own, ALL, Some(network.gateway), index).at(|| "set the route".into())?;
    let queue = match network.way {
        Way::Veth { .. } => QUEUE_MIN,
        Way::Pasta { .. } => QUEUE_PASTA,
    };
    let limited = network.bytes_per_second.map(|rate| link::limit(own, index, rate, queue));
    limited.transpose().at(|| "limit what goes out".into()).map(drop)
}

/// The other end is pasta, which has no queue to limit: packets that come in are queued once more, in an interface for that.
fn slow_down(own: &Socket, index: u32, rate: u64) -> io::Result<()> {
    let funnel = link::funnel(own, FUNNEL)?;
    link::limit(own, funnel, rate, QUEUE_PASTA)?;
    link::divert(own, index, funnel)
}

fn await_interface(events: &Socket) -> io::Result<u32> {
    let patience = Timespec { tv_sec: PASTA_SECONDS, tv_nsec: 0 };
    loop {
        match link::index_of(events, INTERFACE) {
            Err(e) if e.raw_os_error() == Some(libc::ENODEV) => {}
            found => return found,
        }
        if poll(&mut [PollFd::from_borrowed_fd(events.as_fd(), PollFlags::IN)], Some(&patience))?
            == 0
        {
            return Err(io::ErrorKind::TimedOut.into());
        }
        events.discard();
    }
}
