//! Addresses of the host: its own, and those of its name servers.

use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::path::Path;

use super::netlink::Socket;
use super::{filter, link};

/// Most name servers of an instance: resolvers look at three (resolv.conf(5), `MAXNS`).
const RESOLVERS: usize = 3;

/// Every IPv4 address that the host has now, loopback left out.
pub(crate) fn host_addresses() -> io::Result<Vec<Ipv4Addr>> {
    let mut addresses = link::addresses(&Socket::route()?)?;
    addresses.retain(|address| !address.is_loopback());
    addresses.sort();
    addresses.dedup();
    Ok(addresses)
}

/// Whether an address is none of the public internet.
pub(crate) fn is_special(address: Ipv4Addr) -> bool {
    filter::SPECIAL.iter().any(|block| block.contains(address))
}

/// The host's name servers, as far as an instance could reach them. `etc` and `run` are the host's folders of these names.
pub(crate) fn resolvers(etc: &Path, run: &Path) -> Vec<Ipv4Addr> {
    // The second is for hosts whose programs ask systemd-resolved on loopback: there stand the servers that it asks.
    let files = [etc.join("resolv.conf"), run.join("systemd/resolve/resolv.conf")];
    let read = |file| servers(&fs::read_to_string(file).unwrap_or_default());
    files.iter().map(read).find(|servers| !servers.is_empty()).unwrap_or_default()
}

fn servers(text: &str) -> Vec<Ipv4Addr> {
    let server = |line: &str| {
        let address = line.trim().strip_prefix("nameserver")?.trim().parse::<Ipv4Addr>().ok()?;
        (!address.is_loopback() && !address.is_unspecified()).then_some(address)
    };
    text.lines().filter_map(server).take(RESOLVERS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolvers_on_loopback_are_no_use() {
        let text = "# a comment\nnameserver 127.0.0.53\nnameserver fe80::1\nnameserver\t10.0.0.2 \noptions edns0\n";
        assert_eq!(servers(text), [Ipv4Addr::new(10, 0, 0, 2)]);
        let many = "nameserver 10.0.0.1\n".repeat(5);
        assert_eq!(servers(&many).len(), RESOLVERS);
    }

    #[test]
    fn the_servers_behind_a_local_one_are_found() {
        let (etc, run) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        assert_eq!(resolvers(etc.path(), run.path()), [] as [Ipv4Addr; 0]);
        fs::write(etc.path().join("resolv.conf"), "nameserver 127.0.0.53\n").unwrap();
        let folder = run.path().join("systemd/resolve");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("resolv.conf"), "nameserver 192.168.1.1\n").unwrap();
        assert_eq!(resolvers(etc.path(), run.path()), [Ipv4Addr::new(192, 168, 1, 1)]);
    }

    #[test]
    fn hosts_know_their_addresses() {
        assert!(!host_addresses().unwrap().contains(&Ipv4Addr::LOCALHOST));
        assert!(is_special(Ipv4Addr::new(10, 1, 1, 1)) && !is_special(Ipv4Addr::new(9, 9, 9, 9)));
    }
}
