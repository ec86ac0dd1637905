//! What an instance may reach, as rules in its own namespace.

use std::net::{Ipv4Addr, SocketAddrV4};

use model::limits;
use model::network::{Cidr, Ports, Protocol, Reach};
use serde::{Deserialize, Serialize};

use super::nft::{Batch, Hook, Rule, States, Verdict};

/// The table's name. The function does not see it.
const TABLE: &str = "function";
/// The chain that refuses, and says so.
const REFUSE: &str = "refuse";
const DNS: Ports = Ports { first: 53, last: 53 };

/// Blocks that are not the public internet (IANA, "IPv4 Special-Purpose Address Registry"), multicast and what is reserved.
pub(super) const SPECIAL: [Cidr; 15] = [
    Cidr::of(Ipv4Addr::new(0, 0, 0, 0), 8),
    Cidr::of(Ipv4Addr::new(10, 0, 0, 0), 8),
    Cidr::of(Ipv4Addr::new(100, 64, 0, 0), 10),
    Cidr::of(Ipv4Addr::new(127, 0, 0, 0), 8),
    Cidr::of(Ipv4Addr::new(169, 254, 0, 0), 16),
    Cidr::of(Ipv4Addr::new(172, 16, 0, 0), 12),
    Cidr::of(Ipv4Addr::new(192, 0, 0, 0), 24),
    Cidr::of(Ipv4Addr::new(192, 0, 2, 0), 24),
    Cidr::of(Ipv4Addr::new(192, 88, 99, 0), 24),
    Cidr::of(Ipv4Addr::new(192, 168, 0, 0), 16),
    Cidr::of(Ipv4Addr::new(198, 18, 0, 0), 15),
    Cidr::of(Ipv4Addr::new(198, 51, 100, 0), 24),
    Cidr::of(Ipv4Addr::new(203, 0, 113, 0), 24),
    Cidr::of(Ipv4Addr::new(224, 0, 0, 0), 4),
    // With the broadcast address.
    Cidr::of(Ipv4Addr::new(240, 0, 0, 0), 4),
];

/// What an instance may reach. The first that applies decides: `never`, `resolvers`, `allow`, `public`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Filter {
    /// Refused whatever else says: addresses of the host, of other instances, and what whoever runs the daemon has denied.
    pub(crate) never: Vec<Cidr>,
    /// Name servers: port 53 by UDP and TCP.
    pub(crate) resolvers: Vec<Ipv4Addr>,
    /// Allowed by the function's policy.
    pub(crate) allow: Vec<Reach>,
    /// Whether everything public is allowed.
    pub(crate) public: bool,
}

impl Filter {
    /// The table. Everything that is not IPv4 is dropped, everything that comes uncalled as well.
    pub(super) fn batch(&self) -> Batch {
        let mut batch = Batch::table(TABLE, false)
            .chain(REFUSE)
            .rule(REFUSE, Rule::default().protocol(Protocol::Tcp).reset())
            .rule(REFUSE, Rule::default().forbid())
            .base_chain("in", Hook::Input, Verdict::Drop)
            .rule("in", Rule::default().in_by_loopback().then(Verdict::Accept))
            .rule("in", Rule::default().ipv4().state(States::KNOWN).then(Verdict::Accept))
            // A namespace inherits from the host whether it forwards.
            .base_chain("forward", Hook::Forward, Verdict::Drop)
            .base_chain("out", Hook::Output, Verdict::Drop);
        for rule in self.out() {
            batch = batch.rule("out", rule);
        }
        batch
    }

    /// The same for who opens connections itself: whether a TCP connection may be opened to this address, and a name server asked by UDP. Loopback, which is an
    /// instance's own where it has a namespace, is the host's here.
    pub(crate) fn permits(&self, protocol: Protocol, to: SocketAddrV4) -> bool {
        let (address, port) = (*to.ip(), to.port());
        let own = address.is_loopback() || address.is_unspecified();
        if own || self.never.iter().any(|block| block.contains(address)) {
            return false;
        }
        let resolver = self.resolvers.contains(&address) && (DNS.first..=DNS.last).contains(&port);
        let allowed = self.allow.iter().any(|reach| reach.holds(protocol, to));
        resolver || allowed || self.public && !SPECIAL.iter().any(|block| block.contains(address))
    }

    fn out(&self) -> Vec<Rule> {
        let rule = Rule::default;
        let mut rules = vec![
            rule().out_by_loopback().then(Verdict::Accept),
            rule().not_ipv4().then(Verdict::Drop),
            rule().with_options().then(Verdict::Drop),
            rule().state(States::ESTABLISHED).then(Verdict::Accept),
            rule().not_state(States::NEW).then(Verdict::Drop),
            rule().over_connections(limits::CONNECTIONS_PER_INSTANCE).then(Verdict::Goto(REFUSE)),
        ];
        let refuse = |block: &Cidr| rule().destination_in(*block).then(Verdict::Goto(REFUSE));
        rules.extend(self.never.iter().map(refuse));
        for resolver in &self.resolvers {
            let to = Cidr::of(*resolver, 32);
            rules.extend(allow(&Reach { to, ports: Some(DNS), protocol: None }));
        }
        rules.extend(self.allow.iter().flat_map(allow));
        if self.public {
            rules.extend(SPECIAL.iter().map(refuse));
            let all = Cidr::of(Ipv4Addr::UNSPECIFIED, 0);
            rules.extend(allow(&Reach { to: all, ports: None, protocol: None }));
        }
        rules.push(rule().then(Verdict::Goto(REFUSE)));
        rules
    }
}

/// One rule for each protocol.
fn allow(reach: &Reach) -> Vec<Rule> {
    let protocols = match reach.protocol {
        Some(protocol) => vec![protocol],
        None => vec![Protocol::Tcp, Protocol::Udp],
    };
    let one = |protocol| {
        let rule = Rule::default().destination_in(reach.to).protocol(protocol);
        let rule = reach.ports.into_iter().fold(rule, Rule::ports_in);
        rule.then(Verdict::Accept)
    };
    protocols.into_iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(reaches: &[&str]) -> Filter {
        let allow = reaches.iter().map(|r| r.parse().unwrap()).collect();
        Filter { allow, ..Filter::default() }
    }

    #[test]
    fn an_entry_is_a_rule_for_each_protocol() {
        let bare = Filter::default().out().len();
        assert_eq!(policy(&["10.0.0.0/8"]).out().len(), bare + 2);
        assert_eq!(policy(&["10.0.0.0/8:1-5/udp"]).out().len(), bare + 1);
        let public = Filter { public: true, ..Filter::default() };
        assert_eq!(public.out().len(), bare + SPECIAL.len() + 2);
    }

    #[test]
    fn what_is_opened_for_others_is_held_by_the_same_rules() {
        let filter = Filter {
            never: vec!["93.184.216.2/32".parse().unwrap()],
            resolvers: vec![Ipv4Addr::new(10, 255, 0, 53)],
            public: true,
            ..policy(&["10.1.2.0/24:5432/tcp", "127.0.0.1/32", "93.184.216.2/32"])
        };
        let tcp = |to: &str| filter.permits(Protocol::Tcp, to.parse().unwrap());
        for to in ["93.184.216.34:80", "10.1.2.3:5432", "10.255.0.53:53"] {
            assert!(tcp(to), "{to}");
        }
        for to in [
            "127.0.0.1:80",
            "127.9.9.9:5432",
            "0.0.0.0:80",
            "93.184.216.2:80",
            "10.1.2.3:5433",
            "10.255.0.53:80",
            "169.254.169.254:80",
            "255.255.255.255:80",
        ] {
            assert!(!tcp(to), "{to}");
        }
        assert!(!filter.permits(Protocol::Udp, "10.1.2.3:5432".parse().unwrap()));
        let closed = Filter::default();
        assert!(!closed.permits(Protocol::Tcp, "93.184.216.34:80".parse().unwrap()));
    }

    #[test]
    fn private_and_local_blocks_are_special() {
        for address in [
            "10.0.0.1",
            "127.0.0.1",
            "169.254.169.254",
            "172.31.255.255",
            "192.168.1.1",
            "100.127.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "0.0.0.0",
        ] {
            let address = address.parse().unwrap();
            assert!(SPECIAL.iter().any(|block| block.contains(address)), "{address}");
        }
        for address in ["1.1.1.1", "93.184.216.34", "172.32.0.1", "100.128.0.1", "223.255.255.255"]
        {
            let address = address.parse().unwrap();
            assert!(!SPECIAL.iter().any(|block| block.contains(address)), "{address}");
        }
    }
}
