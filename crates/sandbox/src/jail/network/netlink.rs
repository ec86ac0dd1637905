//! Netlink, as much as is needed: messages with attributes, and a socket that sends some and reads what comes back (netlink(7),
//! include/uapi/linux/netlink.h).
//!
//! By hand, because the field has nothing fit for both families: the nf_tables crates run the program `nft`, link C libraries or are under
//! the GPL, and those for routes bring an async stack into a child that has yet to lock itself in. The kernel answers while it takes a
//! request, so nothing here waits.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recv, send,
    socket_with,
};

/// `struct nlmsghdr`: length, type, flags, sequence, port.
const HEADER_BYTES: usize = 16;
/// Room for what comes back at once; the kernel fills at most 32 KiB of a dump into one packet.
const RECEIVE_BYTES: usize = 64 * 1024;
/// Most packets of one answer: a table of a million routes has about as many.
const ANSWER_PACKETS: usize = 20_000;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLA_F_NESTED: u16 = 1 << 15;

/// A request that changes something.
pub(super) const REQUEST: u16 = 1;
/// The kernel says that it is done, also if nothing went wrong.
pub(super) const ACK: u16 = 4;
/// Replace what exists.
pub(super) const REPLACE: u16 = 0x100;
/// Everything there is, not one thing.
pub(super) const DUMP: u16 = 0x300;
/// Fail if it exists.
pub(super) const EXCLUSIVE: u16 = 0x200;
/// Make it if it does not exist.
pub(super) const CREATE: u16 = 0x400;
/// Append to what exists.
pub(super) const APPEND: u16 = 0x800;

/// A message in the making.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    bytes: Vec<u8>,
}

impl Message {
    /// A message of this type with the header of its family.
    pub(super) fn new(kind: u16, flags: u16, family_header: &[u8]) -> Self {
        let mut bytes = Vec::with_capacity(256);
        bytes.extend([0; 4]);
        bytes.extend(kind.to_ne_bytes());
        bytes.extend((flags | REQUEST).to_ne_bytes());
        bytes.extend([0; 8]);
        bytes.extend(family_header);
        let mut message = Self { bytes };
        message.pad();
        message
    }

    /// Adds an attribute.
    pub(super) fn put(mut self, kind: u16, value: &[u8]) -> Self {
        self.attribute(kind, |message| message.bytes.extend(value));
        self
    }

    /// Adds a number in the byte order of the machine: routes and devices.
    pub(super) fn put_u32(self, kind: u16, value: u32) -> Self {
        self.put(kind, &value.to_ne_bytes())
    }

    /// Adds a number in the byte order of the network: nf_tables.
    pub(super) fn put_be32(self, kind: u16, value: u32) -> Self {
        self.put(kind, &value.to_be_bytes())
    }

    /// Adds a text, closed by a NUL.
    pub(super) fn put_text(mut self, kind: u16, value: &str) -> Self {
        self.attribute(kind, |message| {
            message.bytes.extend(value.as_bytes());
            message.bytes.push(0);
        });
        self
    }

    /// Adds an attribute that holds attributes.
    pub(super) fn nest(mut self, kind: u16, fill: impl FnOnce(Self) -> Self) -> Self {
        self.attribute(kind | NLA_F_NESTED, |message| {
            let inner = Self { bytes: std::mem::take(&mut message.bytes) };
            message.bytes = fill(inner).bytes;
        });
        self
    }

    /// Adds bytes as they are: a header inside an attribute.
    pub(super) fn raw(mut self, value: &[u8]) -> Self {
        self.bytes.extend(value);
        self.pad();
        self
    }

    fn attribute(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) {
        let start = self.bytes.len();
        self.bytes.extend([0; 2]);
        self.bytes.extend(kind.to_ne_bytes());
        fill(self);
        // An attribute over 64 KiB would be cut short by the kernel's 16 bits; nothing here comes near.
        let length = u16::try_from(self.bytes.len() - start).unwrap_or(u16::MAX);
        self.write(start, &length.to_ne_bytes());
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn write(&mut self, at: usize, value: &[u8]) {
        if let Some(place) = self.bytes.get_mut(at..at + value.len()) {
            place.copy_from_slice(value);
        }
    }

    fn finish(mut self) -> Vec<u8> {
        let length = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX);
        self.write(0, &length.to_ne_bytes());
        self.bytes
    }
}

/// A message that came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// Its type.
    pub(super) kind: u16,
    /// The header of its family and the attributes.
    pub(super) body: Vec<u8>,
}

impl Answer {
    /// The value of an attribute, if it is there. `header_bytes` is the length of the family's header.
    pub(super) fn attribute(&self, header_bytes: usize, kind: u16) -> Option<&[u8]> {
        let mut rest = self.body.get(header_bytes..)?;
        loop {
            let (length, found) = (u16_at(rest, 0)?, u16_at(rest, 2)?);
            let length = usize::from(length);
            let value = rest.get(4..length)?;
            if found & !NLA_F_NESTED == kind {
                return Some(value);
            }
            rest = rest.get(length.next_multiple_of(4)..)?;
        }
    }
}

/// A netlink socket of the network namespace it was made in.
#[derive(Debug)]
pub(super) struct Socket {
    fd: OwnedFd,
}

impl Socket {
    /// For links, addresses, routes and queues.
    pub(super) fn route() -> io::Result<Self> {
        Self::open(None, 0)
    }

    /// For [`Self::route`], that also hears of changes of the groups (bits `RTMGRP_*`).
    pub(super) fn route_events(groups: u32) -> io::Result<Self> {
        Self::open(None, groups)
    }

    /// For nf_tables.
    pub(super) fn netfilter() -> io::Result<Self> {
        Self::open(Some(netlink::NETFILTER), 0)
    }

    /// Without a protocol it is 0, `NETLINK_ROUTE`.
    fn open(protocol: Option<Protocol>, groups: u32) -> io::Result<Self> {
        let fd =
            socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, protocol)?;
        bind(&fd, &SocketAddrNetlink::new(0, groups))?;
        Ok(Self { fd })
    }

    /// Sends messages at once and reads what comes back; the first error of the kernel is the result.
    pub(super) fn ask(
        &self,
        messages: impl IntoIterator<Item = Message>,
    ) -> io::Result<Vec<Answer>> {
        let bytes: Vec<u8> = messages.into_iter().flat_map(Message::finish).collect();
        send(&self.fd, &bytes, SendFlags::empty())?;
        let mut buffer = vec![0; RECEIVE_BYTES];
        let mut result = Ok(Vec::new());
        // To the end also after an error: what is left would be taken for the answer to the next question.
        for _ in 0..ANSWER_PACKETS {
            let length = match recv(&self.fd, &mut buffer[..], RecvFlags::DONTWAIT) {
                Ok((length, _)) => length,
                Err(rustix::io::Errno::AGAIN) => return result,
                Err(e) => return Err(e.into()),
            };
            for answer in split(buffer.get(..length).unwrap_or_default()) {
                match (answer.kind, &mut result) {
                    (NLMSG_ERROR, Ok(_)) => {
                        if let Err(e) = refuse(&answer.body) {
                            result = Err(e);
                        }
                    }
                    (NLMSG_ERROR | NLMSG_DONE, _) | (_, Err(_)) => {}
                    (_, Ok(answers)) => answers.push(answer),
                }
            }
        }
        Err(io::Error::other("an answer of the kernel has no end"))
    }

    /// Forgets events that have come.
    pub(super) fn discard(&self) {
        let mut buffer = [0_u8; 4096];
        while recv(&self.fd, &mut buffer[..], RecvFlags::DONTWAIT).is_ok() {}
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// `struct nlmsgerr` starts with a negative error number, or 0 for "done".
fn refuse(body: &[u8]) -> io::Result<()> {
    let number = body.first_chunk().map_or(0, |bytes| i32::from_ne_bytes(*bytes));
    if number == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(-number)) }
}

/// The messages of one packet.
fn split(mut packet: &[u8]) -> Vec<Answer> {
    let mut answers = Vec::new();
    while let (Some(length), Some(kind)) = (u32_at(packet, 0), u16_at(packet, 4)) {
        let Some(body) =
            usize::try_from(length).ok().and_then(|length| packet.get(HEADER_BYTES..length))
        else {
            break;
        };
        answers.push(Answer { kind, body: body.to_vec() });
        packet = packet.get((HEADER_BYTES + body.len()).next_multiple_of(4)..).unwrap_or_default();
    }
    answers
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// A number in the byte order of the machine.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_carry_their_lengths_and_padding() {
        let bytes = Message::new(16, ACK, &[9; 4])
            .put(1, &[7])
            .nest(2, |m| m.put_text(3, "ab").put_be32(4, 1))
            .finish();
        assert_eq!(bytes.len(), 16 + 4 + 8 + 4 + 8 + 8);
        assert_eq!(u32_at(&bytes, 0), Some(48));
        assert_eq!((u16_at(&bytes, 4), u16_at(&bytes, 6)), (Some(16), Some(ACK | REQUEST)));
        // An attribute's length counts its header and not its padding.
        assert_eq!((u16_at(&bytes, 20), u16_at(&bytes, 22)), (Some(5), Some(1)));
        assert_eq!((u16_at(&bytes, 28), u16_at(&bytes, 30)), (Some(20), Some(2 | NLA_F_NESTED)));
        assert_eq!(bytes.get(36..39), Some(&b"ab\0"[..]));
        assert_eq!(bytes.get(44..48), Some(&[0, 0, 0, 1][..]));
    }

    #[test]
    fn what_is_written_is_read_back() {
        let mut packet = Message::new(20, 0, &[1; 8]).put(5, b"x").put(6, b"value").finish();
        packet.extend(Message::new(21, 0, &[]).finish());
        let answers = split(&packet);
        assert_eq!(answers.iter().map(|a| a.kind).collect::<Vec<_>>(), [20, 21]);
        assert_eq!(answers[0].attribute(8, 6), Some(&b"value"[..]));
        assert_eq!(answers[0].attribute(8, 7), None);
        assert_eq!(answers[1].attribute(8, 6), None);
    }

    #[test]
    fn cut_off_packets_are_no_danger() {
        let packet = Message::new(20, 0, &[]).put(5, b"value").finish();
        for length in 0..packet.len() {
            assert_eq!(split(&packet[..length]), []);
        }
        let lying = Answer { kind: 1, body: vec![255; 7] };
        assert_eq!(lying.attribute(0, 1), None);
        let empty = Answer { kind: 1, body: vec![0; 8] };
        assert_eq!(empty.attribute(0, 1), None);
    }

    #[test]
    fn errors_have_their_number() {
        assert!(refuse(&0_i32.to_ne_bytes()).is_ok());
        let error = refuse(&(-libc::EEXIST).to_ne_bytes()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
    }

    #[test]
    fn the_kernel_answers() {
        // Everybody may ask for links, and everybody has a loopback.
        let answers = Socket::route().unwrap().ask([Message::new(18, DUMP, &[0; 16])]).unwrap();
        assert!(answers.iter().any(|a| a.attribute(16, 3) == Some(b"lo\0")));
    }
}
