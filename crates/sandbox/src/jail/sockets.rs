//! How the daemon reaches a function that serves HTTP: sockets of the function's own network namespace.
//!
//! The instance's first process makes them, before anything of the function's runs and whatever network the function has, and hands them to the daemon by the
//! frame socket, which the runtime does not inherit. A socket stays in the namespace that it was made in: connected to the loopback it finds what the function
//! listens on, and nothing else in the world can. One whose connection has ended can be connected again ([`renew`]), so that no more have to be made.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::sockopt::{
    set_socket_recv_buffer_size, set_socket_send_buffer_size, set_tcp_nodelay,
};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, Shutdown, SocketFlags, SocketType, recvmsg, sendmsg,
    socket_with,
};

/// Sockets of one message.
const MESSAGE_SOCKETS: usize = 32;
/// What the kernel holds of a connection in each direction, in bytes, where it would let it grow to megabytes: a function whose answer nobody takes shall wait.
/// The kernel doubles it for its own needs (socket(7)).
const BUFFER_BYTES: usize = 256 * 1024;
/// A message holds nothing but descriptors, and has to hold something.
const MESSAGE: [u8; 1] = *b"s";

/// In the instance's first process: makes them, and hands them over.
pub(super) fn hand_over(frames: BorrowedFd<'_>, count: u16) -> io::Result<()> {
    let sockets = (0..count).map(|_| make()).collect::<io::Result<Vec<_>>>()?;
    for some in sockets.chunks(MESSAGE_SOCKETS) {
        let some: Vec<_> = some.iter().map(AsFd::as_fd).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MESSAGE_SOCKETS))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !control.push(SendAncillaryMessage::ScmRights(&some)) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        sendmsg(frames, &[IoSlice::new(&MESSAGE)], &mut control, SendFlags::NOSIGNAL)?;
    }
    Ok(())
}

fn make() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
    set_socket_recv_buffer_size(&socket, BUFFER_BYTES)?;
    set_socket_send_buffer_size(&socket, BUFFER_BYTES)?;
    set_tcp_nodelay(&socket, true)?;
    Ok(socket)
}

/// In the daemon, once the runtime has been executed: takes them from the other end. An error if they are fewer than `count`: the daemon is out of descriptors.
pub(crate) fn receive(socket: BorrowedFd<'_>, count: u16) -> io::Result<Vec<OwnedFd>> {
    let count = usize::from(count);
    let mut sockets = Vec::with_capacity(count);
    for _ in 0..count.div_ceil(MESSAGE_SOCKETS) {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MESSAGE_SOCKETS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
        recvmsg(socket, &mut [IoSliceMut::new(&mut MESSAGE.clone())], &mut control, flags)?;
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                sockets.extend(rights);
            }
        }
    }
    if sockets.len() < count {
        return Err(io::Error::from_raw_os_error(libc::EMFILE));
    }
    Ok(sockets)
}

/// Ends the connection that a socket has, if it has one: the other end sees its end.
pub(crate) fn hang_up(socket: impl AsFd) {
    // An error says that there is none.
    rustix::net::shutdown(socket, Shutdown::Both).unwrap_or_default();
}

/// Makes a socket as it was before its first connection: connect(2), `AF_UNSPEC`.
pub(crate) fn renew(socket: impl AsFd) -> io::Result<()> {
    rustix::net::connect_unspec(socket)?;
    Ok(())
}
