//! What names stand for: questions to name servers (RFC 1035) by UDP, addresses of IPv4 alone.
//!
//! The C library's way would keep a thread busy that nobody can interrupt, and read files of the host that say nothing to functions.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::time::timeout;
use wasmtime_wasi_http::{Error, Result};

/// The port of name servers.
pub(super) const PORT: u16 = 53;
/// How long one server has for one question.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often each server is asked.
const ROUNDS: usize = 2;
/// Longest answer that is read, in bytes: what is cut off holds the first addresses.
const ANSWER_BYTES: usize = 1232;
/// Addresses that are taken from one answer.
const ADDRESSES: usize = 16;
/// Longest name and longest part of one, in bytes.
const NAME_BYTES: usize = 253;
const LABEL_BYTES: usize = 63;
/// Length of what stands before the question.
const HEAD_BYTES: usize = 12;
/// Type A, class IN.
const ADDRESS: [u8; 4] = [0, 1, 0, 1];

/// Its addresses, at least one. `servers`: who is asked, in this order.
pub(super) async fn resolve(name: &str, servers: &[SocketAddrV4]) -> Result<Vec<Ipv4Addr>> {
    let question = question(name).ok_or(Error::HttpRequestUriInvalid)?;
    let mut last = Error::DnsError { rcode: Some("no name server".to_owned()), info_code: None };
    for server in servers.iter().cycle().take(servers.len() * ROUNDS) {
        match timeout(PATIENCE, ask(*server, &question)).await {
            Ok(Ok(Answer::Addresses(addresses))) if addresses.is_empty() => {
                return Err(Error::DestinationNotFound);
            }
            Ok(Ok(Answer::Addresses(addresses))) => return Ok(addresses),
            Ok(Ok(Answer::NoSuchName)) => return Err(Error::DestinationNotFound),
            Ok(Ok(Answer::Failed(rcode))) => {
                last = Error::DnsError { rcode: Some(rcode.to_string()), info_code: None };
            }
            Ok(Err(error)) => {
                tracing::debug!(%error, %server, "a name server was not reached");
            }
            Err(_) => last = Error::DnsTimeout,
        }
    }
    Err(last)
}

/// What a server says.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Addresses(Vec<Ipv4Addr>),
    NoSuchName,
    /// With this code of RFC 1035, 4.1.1.
    Failed(u8),
}

async fn ask(server: SocketAddrV4, question: &[u8]) -> std::io::Result<Answer> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
    // The kernel then drops what others send.
    socket.connect(server).await?;
    let random = RandomState::new().build_hasher().finish().to_le_bytes();
    let id = [random[0], random[1]];
    let head = [id[0], id[1], 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    socket.send(&[&head[..], question].concat()).await?;
    let mut buffer = [0; ANSWER_BYTES];
    loop {
        let length = socket.recv(&mut buffer).await?;
        let packet = buffer.get(..length).unwrap_or_default();
        // Whatever is no answer to this question is nobody's.
        if let Some(answer) = read(packet, id, question) {
            return Ok(answer);
        }
    }
}

/// The question for a name's addresses; `None` if it is no name.
fn question(name: &str) -> Option<Vec<u8>> {
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.len() > NAME_BYTES {
        return None;
    }
    let mut question = Vec::with_capacity(name.len() + 6);
    for label in name.split('.') {
        if label.is_empty() || label.len() > LABEL_BYTES || !label.is_ascii() {
            return None;
        }
        question.push(u8::try_from(label.len()).ok()?);
        question.extend(label.as_bytes());
    }
    question.push(0);
    question.extend(ADDRESS);
    Some(question)
}

/// The answer to this question in a packet; `None` if it is none.
fn read(packet: &[u8], id: [u8; 2], question: &[u8]) -> Option<Answer> {
    let (head, rest) = packet.split_at_checked(HEAD_BYTES)?;
    let &[id0, id1, flags, code, 0, 1, many, few, ..] = head else { return None };
    let (asked, mut records) = rest.split_at_checked(question.len())?;
    let answers = flags & 0x80 != 0;
    if !answers || [id0, id1] != id || !asked.eq_ignore_ascii_case(question) {
        return None;
    }
    match code & 0x0f {
        0 => {}
        3 => return Some(Answer::NoSuchName),
        code => return Some(Answer::Failed(code)),
    }
    let mut addresses = Vec::new();
    for _ in 0..u16::from_be_bytes([many, few]) {
        // An answer that was cut off ends here.
        let Some((address, left)) = record(records) else { break };
        records = left;
        if addresses.len() < ADDRESSES {
            addresses.extend(address);
        }
    }
    Some(Answer::Addresses(addresses))
}

/// The address in the next record, if it holds one, and what follows.
fn record(bytes: &[u8]) -> Option<(Option<Ipv4Addr>, &[u8])> {
    let mut rest = bytes;
    loop {
        rest = match rest.split_first()? {
            (0, after) => break rest = after,
            // The rest of the name stands elsewhere: two bytes say where.
            (192.., after) => break rest = after.split_first()?.1,
            (length, after) => after.split_at_checked(usize::from(*length))?.1,
        };
    }
    let (head, rest) = rest.split_at_checked(10)?;
    let &[kind0, kind1, class0, class1, _, _, _, _, long, short] = head else { return None };
    let (data, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes([long, short])))?;
    let address = match (data, [kind0, kind1, class0, class1] == ADDRESS) {
        (&[a, b, c, d], true) => Some(Ipv4Addr::new(a, b, c, d)),
        _ => None,
    };
    Some((address, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(flags: u8, code: u8, answers: u8, records: &[u8]) -> Vec<u8> {
        let head = [7, 9, flags, code, 0, 1, 0, answers, 0, 0, 0, 0];
        [&head[..], &question("a.example").unwrap(), records].concat()
    }

    fn said(packet: &[u8]) -> Option<Answer> {
        read(packet, [7, 9], &question("a.example").unwrap())
    }

    /// A name elsewhere, a type, class IN, a time, and data.
    fn a_record(kind: u8, data: &[u8]) -> Vec<u8> {
        let length = u8::try_from(data.len()).unwrap();
        [&[0xc0, 12, 0, kind, 0, 1, 0, 0, 0, 60, 0, length], data].concat()
    }

    #[test]
    fn addresses_are_taken_wherever_they_stand() {
        let alias = a_record(5, &[1, b'b', 0xc0, 14]);
        let named = [&[1, b'b', 0][..], &a_record(1, &[93, 184, 216, 34])[2..]].concat();
        let packet = packet(0x81, 0x80, 2, &[alias, named].concat());
        let expected = Answer::Addresses(vec![Ipv4Addr::new(93, 184, 216, 34)]);
        assert_eq!(said(&packet), Some(expected));
    }

    #[test]
    fn what_is_cut_off_or_forged_is_no_address() {
        let whole = packet(0x81, 0x80, 1, &a_record(1, &[1, 2, 3, 4]));
        for length in 0..whole.len() {
            let said = said(&whole[..length]);
            assert!(matches!(said, None | Some(Answer::Addresses(_))), "{said:?}");
            assert_ne!(said, Some(Answer::Addresses(vec![Ipv4Addr::new(1, 2, 3, 4)])));
        }
        let mut other = whole.clone();
        other[0] ^= 1;
        assert_eq!(said(&other), None, "another id");
        let mut other = whole.clone();
        other[HEAD_BYTES + 1] = b'x';
        assert_eq!(said(&other), None, "another question");
        let mut asks = whole;
        asks[2] = 1;
        assert_eq!(said(&asks), None, "a question");
        // A name that leads to itself is not followed, and one of six bytes is no address.
        let odd = packet(0x81, 0x80, 9, &a_record(1, &[1, 2, 3, 4, 5, 6]));
        assert_eq!(said(&odd), Some(Answer::Addresses(Vec::new())));
    }

    #[test]
    fn refusals_are_told() {
        assert_eq!(said(&packet(0x81, 0x83, 0, &[])), Some(Answer::NoSuchName));
        assert_eq!(said(&packet(0x81, 0x82, 0, &[])), Some(Answer::Failed(2)));
    }

    #[test]
    fn only_names_are_asked_for() {
        assert_eq!(question("a.example."), question("a.example"));
        // 253 bytes are a name, and no byte more.
        assert!(question(&"a.".repeat(127)).is_some());
        let (long, longer) = ("a".repeat(64), format!("{}a", "a.".repeat(127)));
        for name in ["", ".", "a..b", "ä.example", &long, &longer] {
            assert_eq!(question(name), None, "{name}");
        }
    }
}
