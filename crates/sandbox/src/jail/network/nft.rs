//! nf_tables: tables, chains and rules as netlink messages (include/uapi/linux/netfilter/nf_tables.h).
//!
//! A [`Rule`] is a list of expressions that the kernel runs in order: each loads something into a register, compares it, or decides. The
//! helpers here are the sentences that our rules are made of; which rules there are is in [`super::filter`] and [`super::host`].

use std::io;
use std::net::Ipv4Addr;

use model::network::{Cidr, Ports, Protocol};

use super::netlink::{ACK, APPEND, CREATE, DUMP, EXCLUSIVE, Message, Socket};

/// Netfilter's number of nf_tables, in the upper byte of a message's type.
const SUBSYSTEM: u16 = 10;
const NEW_TABLE: u16 = 0;
const GET_TABLE: u16 = 1;
const DELETE_TABLE: u16 = 2;
const NEW_CHAIN: u16 = 3;
const NEW_RULE: u16 = 6;
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;

/// `NFPROTO_INET`: IPv4 and IPv6 in one table.
const FAMILY_INET: u8 = 1;
/// `NFPROTO_IPV4`, as `meta nfproto` gives it.
const IPV4: u8 = 2;
const TCP: u8 = 6;
const UDP: u8 = 17;
/// `struct nfgenmsg` before the attributes of an answer, in bytes.
const ANSWER_HEADER: usize = 4;

/// Where a base chain hangs.
#[derive(Clone, Copy, Debug)]
pub(super) enum Hook {
    /// Packets for this namespace itself.
    Input,
    /// Packets that are passed on.
    Forward,
    /// Packets that this namespace itself sends.
    Output,
    /// Packets that leave, for address translation.
    Postrouting,
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug)]
pub(super) enum Verdict {
    /// It passes this chain.
    Accept,
    /// It is gone.
    Drop,
    /// Another chain decides.
    Goto(&'static str),
}

/// What packets know of their connection (`ct state`), as bits.
#[derive(Clone, Copy, Debug)]
pub(super) struct States(u32);

impl States {
    /// Part of a connection that both sides have spoken on.
    pub(super) const ESTABLISHED: Self = Self(2);
    /// That, or about one: an error message.
    pub(super) const KNOWN: Self = Self(2 | 4);
    /// The first of a connection.
    pub(super) const NEW: Self = Self(8);
}

/// Messages that take effect together or not at all.
#[derive(Clone, Debug)]
pub(super) struct Batch {
    table: String,
    messages: Vec<Message>,
}

impl Batch {
    /// Starts with a table of this name. One that is `owned` goes away with the socket that made it, and nobody else can change it; the
    /// batch fails with `AlreadyExists` or `PermissionDenied` if somebody has it already.
    pub(super) fn table(name: &str, owned: bool) -> Self {
        const OWNER: u32 = 2;
        let flags = if owned { OWNER } else { 0 };
        let begin = Message::new(BATCH_BEGIN, 0, &header(0, SUBSYSTEM));
        let table = message(NEW_TABLE, CREATE | EXCLUSIVE).put_text(1, name).put_be32(2, flags);
        Self { table: name.to_owned(), messages: vec![begin, table] }
    }

    /// Removes a table with all that is in it.
    pub(super) fn without(name: &str) -> Self {
        let begin = Message::new(BATCH_BEGIN, 0, &header(0, SUBSYSTEM));
        let delete = message(DELETE_TABLE, 0).put_text(1, name);
        Self { table: name.to_owned(), messages: vec![begin, delete] }
    }

    /// Adds a chain that others go to.
    pub(super) fn chain(mut self, name: &str) -> Self {
        let chain = message(NEW_CHAIN, CREATE).put_text(1, &self.table).put_text(3, name);
        self.messages.push(chain);
        self
    }

    /// Adds a chain that the kernel runs, and what becomes of packets that no rule decides about.
    pub(super) fn base_chain(mut self, name: &str, hook: Hook, policy: Verdict) -> Self {
        let (number, kind, priority) = match hook {
            Hook::Input => (1, "filter", -10),
            Hook::Forward => (2, "filter", -10),
            Hook::Output => (3, "filter", -10),
            // Where source addresses are translated: NF_IP_PRI_NAT_SRC.
            Hook::Postrouting => (4, "nat", 100_i32),
        };
        let policy = if matches!(policy, Verdict::Accept) { 1 } else { 0 };
        let chain = message(NEW_CHAIN, CREATE)
            .put_text(1, &self.table)
            .put_text(3, name)
            .nest(4, |m| m.put_be32(1, number).put_be32(2, priority.cast_unsigned()))
            .put_be32(5, policy)
            .put_text(7, kind);
        self.messages.push(chain);
        self
    }

    /// Adds a rule at the end of a chain.
    pub(super) fn rule(mut self, chain: &str, rule: Rule) -> Self {
        let message = message(NEW_RULE, CREATE | APPEND)
            .put_text(1, &self.table)
            .put_text(2, chain)
            .nest(4, |m| rule.0.into_iter().fold(m, |m, expression| expression.add_to(m)));
        self.messages.push(message);
        self
    }

    /// Puts it into effect.
    pub(super) fn commit(mut self, socket: &Socket) -> io::Result<()> {
        self.messages.push(Message::new(BATCH_END, 0, &header(0, SUBSYSTEM)));
        socket.ask(self.messages).map(drop)
    }
}

/// Names of the tables of the family that is used here.
pub(super) fn tables(socket: &Socket) -> io::Result<Vec<String>> {
    let all = Message::new(SUBSYSTEM << 8 | GET_TABLE, DUMP, &header(FAMILY_INET, 0));
    let answers = socket.ask([all])?;
    let name = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end_matches('\0').to_owned();
    Ok(answers.iter().filter_map(|a| a.attribute(ANSWER_HEADER, 1)).map(name).collect())
}

/// `struct nfgenmsg`.
fn header(family: u8, resource: u16) -> [u8; 4] {
    let [high, low] = resource.to_be_bytes();
    [family, 0, high, low]
}

fn message(kind: u16, flags: u16) -> Message {
    Message::new(SUBSYSTEM << 8 | kind, flags | ACK, &header(FAMILY_INET, 0))
}

/// One expression: its name and attributes.
#[derive(Clone, Debug)]
struct Expression {
    name: &'static str,
    attributes: Vec<Attribute>,
}

#[derive(Clone, Debug)]
enum Attribute {
    Number(u16, u32),
    Byte(u16, u8),
    /// A value inside `NFTA_DATA_VALUE`.
    Value(u16, Vec<u8>),
    Verdict(u16, Verdict),
}

impl Expression {
    fn add_to(self, message: Message) -> Message {
        const LIST_ELEMENT: u16 = 1;
        message.nest(LIST_ELEMENT, |m| {
            m.put_text(1, self.name)
                .nest(2, |m| self.attributes.into_iter().fold(m, |m, a| a.add_to(m)))
        })
    }
}

impl Attribute {
    fn add_to(self, message: Message) -> Message {
        match self {
            Self::Number(kind, value) => message.put_be32(kind, value),
            Self::Byte(kind, value) => message.put(kind, &[value]),
            Self::Value(kind, value) => message.nest(kind, |m| m.put(1, &value)),
            Self::Verdict(kind, verdict) => {
                let (code, chain) = match verdict {
                    Verdict::Drop => (0, None),
                    Verdict::Accept => (1, None),
                    Verdict::Goto(chain) => (-4_i32, Some(chain)),
                };
                message.nest(kind, |m| {
                    m.nest(2, |m| {
                        let m = m.put_be32(1, code.cast_unsigned());
                        chain.into_iter().fold(m, |m, chain| m.put_text(2, chain))
                    })
                })
            }
        }
    }
}

/// Keys of `meta`.
mod meta {
    /// Index of the interface it leaves by.
    pub(super) const OUT_INDEX: u32 = 5;
    /// Name of the interface it came by.
    pub(super) const IN_NAME: u32 = 6;
    /// Name of the interface it leaves by.
    pub(super) const OUT_NAME: u32 = 7;
    /// Index of the interface it came by.
    pub(super) const IN_INDEX: u32 = 4;
    /// IPv4 or IPv6.
    pub(super) const FAMILY: u32 = 15;
    /// TCP, UDP, ...
    pub(super) const TRANSPORT: u32 = 16;
}

/// Comparisons.
mod op {
    pub(super) const EQUAL: u32 = 0;
    pub(super) const NOT_EQUAL: u32 = 1;
}

/// Bases of `payload`.
mod base {
    pub(super) const NETWORK: u32 = 1;
    pub(super) const TRANSPORT: u32 = 2;
}

/// Index of the loopback interface: the first of every namespace (net/core/dev.c, `loopback_net_init`).
const LOOPBACK: u32 = 1;
/// Where the destination address stands in an IPv4 header, in bytes.
const DESTINATION: u32 = 16;
/// Where the source address stands in an IPv4 header, in bytes.
const SOURCE: u32 = 12;

/// Expressions in order.
#[derive(Clone, Debug, Default)]
pub(super) struct Rule(Vec<Expression>);

impl Rule {
    fn push(mut self, name: &'static str, attributes: impl IntoIterator<Item = Attribute>) -> Self {
        self.0.push(Expression { name, attributes: attributes.into_iter().collect() });
        self
    }

    fn load_meta(self, key: u32) -> Self {
        self.push("meta", [Attribute::Number(1, 1), Attribute::Number(2, key)])
    }

    fn load_packet(self, base: u32, offset: u32, bytes: u32) -> Self {
        let numbers = [(1, 1), (2, base), (3, offset), (4, bytes)];
        self.push("payload", numbers.map(|(kind, n)| Attribute::Number(kind, n)))
    }

    fn compare(self, op: u32, value: Vec<u8>) -> Self {
        let attributes =
            [Attribute::Number(1, 1), Attribute::Number(2, op), Attribute::Value(3, value)];
        self.push("cmp", attributes)
    }

    fn mask(self, mask: [u8; 4]) -> Self {
        let attributes = [
            Attribute::Number(1, 1),
            Attribute::Number(2, 1),
            Attribute::Number(3, 4),
            Attribute::Value(4, mask.into()),
            Attribute::Value(5, vec![0; 4]),
        ];
        self.push("bitwise", attributes)
    }

    /// Leaves by loopback.
    pub(super) fn out_by_loopback(self) -> Self {
        self.load_meta(meta::OUT_INDEX).compare(op::EQUAL, LOOPBACK.to_ne_bytes().into())
    }

    /// Came by loopback.
    pub(super) fn in_by_loopback(self) -> Self {
        self.load_meta(meta::IN_INDEX).compare(op::EQUAL, LOOPBACK.to_ne_bytes().into())
    }

    /// Came by an interface whose name starts so.
    pub(super) fn in_by(self, prefix: &str) -> Self {
        self.load_meta(meta::IN_NAME).compare(op::EQUAL, prefix.into())
    }

    /// Leaves by an interface whose name starts so.
    pub(super) fn out_by(self, prefix: &str) -> Self {
        self.load_meta(meta::OUT_NAME).compare(op::EQUAL, prefix.into())
    }

    /// Leaves by another interface than those whose names start so.
    pub(super) fn not_out_by(self, prefix: &str) -> Self {
        self.load_meta(meta::OUT_NAME).compare(op::NOT_EQUAL, prefix.into())
    }

    /// Is no IPv4.
    pub(super) fn not_ipv4(self) -> Self {
        self.load_meta(meta::FAMILY).compare(op::NOT_EQUAL, vec![IPV4])
    }

    /// Is IPv4. Has to stand before whatever looks into an IPv4 header.
    pub(super) fn ipv4(self) -> Self {
        self.load_meta(meta::FAMILY).compare(op::EQUAL, vec![IPV4])
    }

    /// Has options in its IPv4 header: a source route would lead it elsewhere than its address says.
    pub(super) fn with_options(self) -> Self {
        // The lower half of the first byte is the length of the header, in words of 4 bytes.
        self.load_packet(base::NETWORK, 0, 4)
            .mask([0x0F, 0, 0, 0])
            .compare(op::NOT_EQUAL, vec![5, 0, 0, 0])
    }

    /// Is of a transport protocol.
    pub(super) fn protocol(self, protocol: Protocol) -> Self {
        let number = match protocol {
            Protocol::Tcp => TCP,
            Protocol::Udp => UDP,
        };
        self.load_meta(meta::TRANSPORT).compare(op::EQUAL, vec![number])
    }

    /// Goes to an address of the block.
    pub(super) fn destination_in(self, block: Cidr) -> Self {
        self.load_packet(base::NETWORK, DESTINATION, 4).in_block(block)
    }

    /// Comes from an address of the block.
    pub(super) fn source_in(self, block: Cidr) -> Self {
        self.load_packet(base::NETWORK, SOURCE, 4).in_block(block)
    }

    fn in_block(self, block: Cidr) -> Self {
        let masked = if block.mask() == Ipv4Addr::BROADCAST {
            self
        } else {
            self.mask(block.mask().octets())
        };
        masked.compare(op::EQUAL, block.first().octets().into())
    }

    /// Goes to one of the ports. Only after [`Self::protocol`].
    pub(super) fn ports_in(self, ports: Ports) -> Self {
        let range = [
            Attribute::Number(1, 1),
            Attribute::Number(2, op::EQUAL),
            Attribute::Value(3, ports.first.to_be_bytes().into()),
            Attribute::Value(4, ports.last.to_be_bytes().into()),
        ];
        self.load_packet(base::TRANSPORT, 2, 2).push("range", range)
    }

    /// Is in one of the states.
    pub(super) fn state(self, states: States) -> Self {
        self.load_state(states).compare(op::NOT_EQUAL, vec![0; 4])
    }

    /// Is in none of the states.
    pub(super) fn not_state(self, states: States) -> Self {
        self.load_state(states).compare(op::EQUAL, vec![0; 4])
    }

    fn load_state(self, states: States) -> Self {
        const STATE: u32 = 0;
        self.load_connection(STATE, states.0)
    }

    /// Is part of a connection whose destination the host has translated.
    pub(super) fn redirected(self) -> Self {
        const STATUS: u32 = 2;
        // `IPS_DST_NAT` of include/uapi/linux/netfilter/nf_conntrack_common.h.
        const DESTINATION_TRANSLATED: u32 = 1 << 5;
        self.load_connection(STATUS, DESTINATION_TRANSLATED).compare(op::NOT_EQUAL, vec![0; 4])
    }

    fn load_connection(self, key: u32, bits: u32) -> Self {
        self.push("ct", [Attribute::Number(1, 1), Attribute::Number(2, key)])
            .mask(bits.to_ne_bytes())
    }

    /// Would be one connection more than `count` of those that came so far.
    pub(super) fn over_connections(self, count: u32) -> Self {
        const INVERTED: u32 = 1;
        self.push("connlimit", [Attribute::Number(1, count), Attribute::Number(2, INVERTED)])
    }

    /// Decides.
    pub(super) fn then(self, verdict: Verdict) -> Self {
        self.push("immediate", [Attribute::Number(1, 0), Attribute::Verdict(2, verdict)])
    }

    /// Ends the connection, so that the caller hears of it at once.
    pub(super) fn reset(self) -> Self {
        const TCP_RESET: u32 = 1;
        self.push("reject", [Attribute::Number(1, TCP_RESET)])
    }

    /// Says by ICMP that it is forbidden.
    pub(super) fn forbid(self) -> Self {
        const UNREACHABLE: u32 = 2;
        const FORBIDDEN: u8 = 3;
        self.push("reject", [Attribute::Number(1, UNREACHABLE), Attribute::Byte(2, FORBIDDEN)])
    }

    /// Leaves with an address of the host.
    pub(super) fn masquerade(self) -> Self {
        self.push("masq", [])
    }
}
