//! Blocks of addresses, and one entry of an allow-list.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A block of IPv4 addresses. Its text is `A.B.C.D/BITS`; an address alone is a block of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cidr {
    first: Ipv4Addr,
    bits: u8,
}

impl Cidr {
    /// The block of `bits` leading bits of `address`; what follows them is cleared. More than 32 bits count as 32.
    pub const fn of(address: Ipv4Addr, bits: u8) -> Self {
        let bits = if bits > 32 { 32 } else { bits };
        Self { first: Ipv4Addr::from_bits(address.to_bits() & mask(bits)), bits }
    }

    /// Its first address.
    pub const fn first(self) -> Ipv4Addr {
        self.first
    }

    /// Its last address.
    pub const fn last(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.first.to_bits() | !mask(self.bits))
    }

    /// How many leading bits its addresses share.
    pub const fn bits(self) -> u8 {
        self.bits
    }

    /// Ones where its addresses agree.
    pub const fn mask(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(mask(self.bits))
    }

    /// Whether an address lies in both.
    pub fn overlaps(self, other: Self) -> bool {
        self.first <= other.last() && other.first <= self.last()
    }

    /// Whether it holds the address.
    pub fn contains(self, address: Ipv4Addr) -> bool {
        (self.first..=self.last()).contains(&address)
    }
}

const fn mask(bits: u8) -> u32 {
    match u32::MAX.checked_shl(32 - bits as u32) {
        Some(mask) => mask,
        None => 0,
    }
}

impl FromStr for Cidr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (address, bits) = text.split_once('/').unwrap_or((text, "32"));
        if address.contains(':') {
            return Err(format!(
                "'{text}' is not valid: expected IPv4, for functions have no IPv6"
            ));
        }
        let parsed = address.parse::<Ipv4Addr>().ok();
        // No sign and no blank, which `parse` would take.
        let digits = bits.bytes().all(|b| b.is_ascii_digit()) && bits.len() <= 2;
        let bits = bits.parse::<u8>().ok().filter(|bits| digits && *bits <= 32);
        let (Some(address), Some(bits)) = (parsed, bits) else {
            return Err(format!(
                "'{text}' is not valid: expected a CIDR, for instance 10.1.2.0/24 or 10.1.2.3"
            ));
        };
        let block = Self::of(address, bits);
        if block.first != address {
            return Err(format!(
                "'{text}' is not valid: expected {block}, or {address}/32 for that address alone"
            ));
        }
        Ok(block)
    }
}

impl TryFrom<String> for Cidr {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Cidr> for String {
    fn from(block: Cidr) -> Self {
        block.to_string()
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.bits)
    }
}

/// A transport protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// Ports from the first to the last, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    /// The first.
    pub first: u16,
    /// The last, not below the first.
    pub last: u16,
}

/// One entry of an allow-list: `CIDR[:PORT[-PORT]][/tcp|/udp]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Reach {
    /// Which addresses.
    pub to: Cidr,
    /// Which ports; `None` for all.
    pub ports: Option<Ports>,
    /// Over what; `None` for TCP and UDP.
    pub protocol: Option<Protocol>,
}

impl Reach {
    /// Whether it holds this address and port.
    pub fn holds(&self, protocol: Protocol, to: SocketAddrV4) -> bool {
        self.to.contains(*to.ip())
            && self.ports.is_none_or(|ports| (ports.first..=ports.last).contains(&to.port()))
            && self.protocol.is_none_or(|only| only == protocol)
    }
}

impl FromStr for Reach {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = |what: String| format!("network.allow: {what}");
        let (rest, protocol) = match text.rsplit_once('/') {
            Some((rest, "tcp")) => (rest, Some(Protocol::Tcp)),
            Some((rest, "udp")) => (rest, Some(Protocol::Udp)),
            _ => (text, None),
        };
        // Two colons are an IPv6 address, which the block's own message explains.
        let (to, ports) = match rest.split_once(':').filter(|(_, ports)| !ports.contains(':')) {
            Some((to, ports)) => (to, Some(ports)),
            None => (rest, None),
        };
        let to = to.parse().map_err(bad)?;
        let ports = ports.map(|ports| {
            parse_ports(ports).ok_or_else(|| {
                bad(format!(
                    "'{text}' is not valid: expected CIDR[:PORT[-PORT]][/tcp|/udp], for instance 10.1.2.0/24:5432"
                ))
            })
        });
        Ok(Self { to, ports: ports.transpose()?, protocol })
    }
}

fn parse_ports(text: &str) -> Option<Ports> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let port = |text: &str| {
        let digits = text.bytes().all(|b| b.is_ascii_digit());
        text.parse::<u16>().ok().filter(|port| digits && *port > 0)
    };
    let ports = Ports { first: port(first)?, last: port(last)? };
    (ports.first <= ports.last).then_some(ports)
}

impl TryFrom<String> for Reach {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Reach> for String {
    fn from(reach: Reach) -> Self {
        reach.to_string()
    }
}

impl fmt::Display for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.to)?;
        match self.ports {
            Some(Ports { first, last }) if first == last => write!(f, ":{first}")?,
            Some(Ports { first, last }) => write!(f, ":{first}-{last}")?,
            None => {}
        }
        match self.protocol {
            Some(Protocol::Tcp) => f.write_str("/tcp"),
            Some(Protocol::Udp) => f.write_str("/udp"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_know_their_ends() {
        let block: Cidr = "198.18.0.0/15".parse().unwrap();
        assert_eq!(block.last(), Ipv4Addr::new(198, 19, 255, 255));
        assert_eq!(block.mask(), Ipv4Addr::new(255, 254, 0, 0));
        let all: Cidr = "0.0.0.0/0".parse().unwrap();
        assert_eq!(all.last(), Ipv4Addr::BROADCAST);
        assert!(all.overlaps(block) && block.overlaps(all));
        assert!(!block.overlaps("198.20.0.0/16".parse().unwrap()));
        assert!(block.contains(Ipv4Addr::new(198, 19, 0, 1)));
        assert!(!block.contains(Ipv4Addr::new(198, 17, 255, 255)));
    }

    #[test]
    fn entries_survive_their_text() {
        for text in
            ["10.0.0.0/8", "10.1.2.0/24:5432", "10.1.2.3/32:53/udp", "0.0.0.0/0:1-65535/tcp"]
        {
            assert_eq!(text.parse::<Reach>().unwrap().to_string(), text);
        }
        assert_eq!("10.1.2.3:80".parse::<Reach>().unwrap().to_string(), "10.1.2.3/32:80");
        assert_eq!("10.1.2.3/tcp".parse::<Reach>().unwrap().to_string(), "10.1.2.3/32/tcp");
    }

    #[test]
    fn bad_entries_are_quoted_and_corrected() {
        for (text, word) in [
            ("db.internal:5432", "a CIDR"),
            ("10.1.2.3/24", "10.1.2.0/24"),
            ("10.0.0.0/33", "a CIDR"),
            ("10.0.0.0/+8", "a CIDR"),
            ("10.0.0.0/8/sctp", "a CIDR"),
            ("10.0.0.0/8:0", "CIDR[:PORT"),
            ("10.0.0.0/8:9-1", "CIDR[:PORT"),
            ("10.0.0.0/8:70000", "CIDR[:PORT"),
            ("10.0.0.0/8:+5", "CIDR[:PORT"),
            ("10.0.0.0/8:", "CIDR[:PORT"),
            ("fd00::/8", "IPv4"),
            ("", "a CIDR"),
        ] {
            let message = text.parse::<Reach>().unwrap_err();
            assert!(message.starts_with("network.allow: ") && message.contains(word), "{message}");
        }
    }
}
