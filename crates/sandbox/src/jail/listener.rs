//! Where a function that speaks HTTP finds the daemon: a listener on the loopback of its own network namespace.
//!
//! The instance's first process makes it, before anything of the function's runs and whatever network the function has, and hands it to the daemon by the frame
//! socket, which the runtime does not inherit. A socket stays in the namespace that it was made in: nothing outside can connect to it, and by it the daemon
//! reaches that namespace and nothing else.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::sockopt::{
    set_socket_recv_buffer_size, set_socket_reuseaddr, set_socket_send_buffer_size,
};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, bind, listen, socket_with};

use super::wire;

/// Its address, as functions see it: AWS Lambda's.
pub(crate) const ADDRESS: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 9001);
/// Connections that the kernel holds for the daemon until it takes them.
const BACKLOG: i32 = 64;
/// What the kernel holds of a connection in each direction, in bytes, where it would let it grow to megabytes: a function that answers in pieces shall
/// wait when nobody takes them. The kernel doubles it for its own needs (socket(7)).
const BUFFER_BYTES: usize = 256 * 1024;
/// Longest message with which it comes, in bytes: the descriptor is the message.
const MESSAGE_BYTES: usize = 64;

/// In the instance's first process: makes it, and hands it over.
pub(super) fn hand_over(frames: BorrowedFd<'_>) -> io::Result<()> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
    set_socket_reuseaddr(&socket, true)?;
    // Connections have the sizes of their listener.
    set_socket_recv_buffer_size(&socket, BUFFER_BYTES)?;
    set_socket_send_buffer_size(&socket, BUFFER_BYTES)?;
    bind(&socket, &ADDRESS)?;
    listen(&socket, BACKLOG)?;
    wire::send(frames, &(), &[socket.as_fd()])
}

/// In the daemon, once the runtime has been executed: takes it from the other end.
pub(crate) fn receive(socket: BorrowedFd<'_>) -> io::Result<TcpListener> {
    let mut buffer = [0; MESSAGE_BYTES];
    let received = wire::receive_with::<()>(socket, &mut buffer, RecvFlags::DONTWAIT)?;
    let listener: Option<OwnedFd> = received.and_then(|((), fds)| fds.into_iter().next());
    listener.map(TcpListener::from).ok_or_else(|| io::ErrorKind::NotFound.into())
}
