//! The network that scenarios run on.
//!
//! ```text
//! this namespace, the host                    the other, everything else
//! lo    127.0.0.1, 10.9.9.9                   eth1  93.184.216.34  the internet, and the host's router
//! eth0  93.184.216.2      ═══════ veth ═══════      10.1.2.3, 10.1.2.4  databases      10.255.0.53  the name server
//! services on port 9000                             169.254.169.254  metadata          192.168.7.7, 172.16.5.5, 100.64.1.1
//!                                                   services on ports 53, 80, 5432, 5433
//! ```

use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::process::{Child, Stdio};
use std::time::Duration;

use super::again;

const PEER: &str = include_str!("peer.py");
/// A server on the internet.
pub(super) const INTERNET: &str = "93.184.216.34";
/// A database on a private network.
pub(super) const DATABASE: &str = "10.1.2.3";
/// Its neighbour.
pub(super) const OTHER_DATABASE: &str = "10.1.2.4";
/// The host's name server.
pub(super) const RESOLVER: &str = "10.255.0.53";
/// Addresses that no function reaches by itself, each with a service on port 80.
pub(super) const PRIVATE: [&str; 6] =
    ["169.254.169.254", DATABASE, OTHER_DATABASE, "192.168.7.7", "172.16.5.5", "100.64.1.1"];
/// Addresses of the host, each with a service on [`HOST_PORT`].
pub(super) const HOST: [&str; 3] = ["127.0.0.1", "10.9.9.9", "93.184.216.2"];
/// Where the host's own services listen.
pub(super) const HOST_PORT: u16 = 9000;

/// The two machines' services; they end with it.
#[derive(Debug)]
pub(super) struct Topology {
    peers: Vec<Child>,
}

impl Drop for Topology {
    fn drop(&mut self) {
        for peer in &mut self.peers {
            peer.kill().unwrap();
            peer.wait().unwrap();
        }
    }
}

impl Topology {
    /// Builds it around the namespace of this process.
    pub(super) fn new() -> Self {
        ip("link set lo up");
        ip("address add 10.9.9.9/32 dev lo");
        let special = PRIVATE.iter().map(|a| format!("{a}/32")).collect::<Vec<_>>().join(",");
        let addresses = format!("{INTERNET}/24,{RESOLVER}/32,{special}");
        let outside = again(
            "unshare",
            &["--net", "python3", "-c", PEER, &addresses, "53", "80", "5432", "5433"],
        )
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
        let host = again("python3", &["-c", PEER, "-", &HOST_PORT.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut topology = Self { peers: vec![outside, host] };
        let pid = topology.peers[0].id();
        wait_until(|| {
            let link = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/net")).unwrap();
            link(&pid.to_string()) != link("self")
        });
        ip(&format!("link add eth0 type veth peer name eth1 netns {pid}"));
        ip("address add 93.184.216.2/24 dev eth0");
        ip("link set eth0 up");
        ip(&format!("route add default via {INTERNET}"));
        for peer in &mut topology.peers {
            let mut line = String::new();
            BufReader::new(peer.stdout.take().unwrap()).read_line(&mut line).unwrap();
            assert_eq!(line, "ready\n");
        }
        // Whatever a function does not reach later, is there.
        for address in PRIVATE.iter().chain([&INTERNET, &RESOLVER]) {
            assert!(connects(address, 80), "{address}");
        }
        for address in HOST {
            assert!(connects(address, HOST_PORT), "{address}");
        }
        topology
    }
}

/// Whether the host reaches a service.
fn connects(address: &str, port: u16) -> bool {
    let to = SocketAddrV4::new(address.parse::<Ipv4Addr>().unwrap(), port);
    TcpStream::connect_timeout(&to.into(), Duration::from_secs(5)).is_ok()
}

fn wait_until(mut holds: impl FnMut() -> bool) {
    for _ in 0..500 {
        if holds() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("not within five seconds");
}

pub(super) fn ip(arguments: &str) {
    let arguments: Vec<&str> = arguments.split(' ').collect();
    let output = again("ip", &arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}
