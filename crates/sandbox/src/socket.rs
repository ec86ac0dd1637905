//! The daemon's end of a Unix socket, of which tokio is asked for one kind of news only: that there is something to read.
//!
//! A stream of tokio's asks for writability as well, always. A Unix socket becomes writable anew with each packet that the other end takes: the daemon's
//! thread would be woken, for nothing and at the function's expense, by every call that a function takes up. Who has to wait for room, which is rare, gets a
//! registration for it here, for as long as it waits.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::jail::register;

/// A Unix socket of any type, in the events of the tokio runtime in which it was made.
#[derive(Debug)]
pub(crate) struct Socket(AsyncFd<OwnedFd>);

impl Socket {
    /// Makes it non-blocking and registers it. Needs a tokio runtime. Fails as `ioctl` and `epoll_ctl` do.
    pub(crate) fn new(fd: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&fd, true)?;
        Ok(Self(register(fd, Interest::READABLE)?))
    }

    /// Returns when a read is worth while, be it for the news that the other end is closed. Cancel-safe.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        self.0.readable().await?.retain_ready();
        Ok(())
    }

    /// Runs `read` if a read is worth while, and forgets that it was when that answers `WouldBlock`; else answers so itself.
    pub(crate) fn try_read<T>(&self, read: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        self.0.try_io(Interest::READABLE, |_| read())
    }

    /// Runs `read` until it answers anything but `WouldBlock`. Cancel-safe if `read` does nothing when it answers so.
    pub(crate) async fn read_with<T>(
        &self,
        mut read: impl FnMut() -> io::Result<T>,
    ) -> io::Result<T> {
        self.0.async_io(Interest::READABLE, |_| read()).await
    }

    /// Returns when a write is worth while. Cancel-safe. Takes a descriptor more while it waits.
    pub(crate) async fn writable(&self) -> io::Result<()> {
        let again = self.0.get_ref().try_clone()?;
        let again = register(again, Interest::WRITABLE)?;
        again.writable().await?.retain_ready();
        Ok(())
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd as _;
    use std::task::Poll;

    use rustix::event::epoll;
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    use super::*;

    fn pair() -> (Socket, OwnedFd) {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
        (Socket::new(ours).unwrap(), theirs)
    }

    /// Whether the future is done the first time that it is asked.
    async fn is_done<T>(future: impl Future<Output = T>) -> bool {
        let mut future = std::pin::pin!(future);
        std::future::poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx).is_ready())).await
    }

    #[tokio::test]
    async fn room_is_waited_for_until_the_other_end_makes_some() {
        let (ours, theirs) = pair();
        let packet = [7; 4_096];
        while rustix::io::write(&ours, &packet).is_ok() {}
        let mut room = std::pin::pin!(ours.writable());
        assert!(!is_done(room.as_mut()).await, "it is full");
        let mut buffer = [0; 8_192];
        while rustix::io::read(&theirs, &mut buffer).is_ok() {}
        room.await.unwrap();
        rustix::io::write(&ours, &packet).unwrap();
        ours.writable().await.unwrap();
    }

    /// What the kernel was asked to tell of a descriptor, by every `epoll` of this process.
    fn asked_for(fd: &impl AsFd) -> Vec<u32> {
        let fd = fd.as_fd().as_raw_fd().to_string();
        let files = std::fs::read_dir("/proc/self/fdinfo").unwrap();
        let infos = files.filter_map(|file| std::fs::read_to_string(file.unwrap().path()).ok());
        let lines = infos.flat_map(|info| info.lines().map(String::from).collect::<Vec<_>>());
        let words = lines.map(|line| line.split_whitespace().map(String::from).collect::<Vec<_>>());
        let own = words.filter(|words| words.len() > 3 && words[0] == "tfd:" && words[1] == fd);
        own.map(|words| u32::from_str_radix(&words[3], 16).unwrap()).collect()
    }

    #[tokio::test]
    async fn nobody_is_woken_when_the_other_end_takes_a_packet() {
        let (ours, theirs) = pair();
        let room = epoll::EventFlags::OUT.bits();
        let asked = asked_for(&ours);
        // The runtime has more than one descriptor of the same `epoll`.
        let for_room = asked.iter().filter(|events| *events & room != 0).count();
        assert!(!asked.is_empty() && for_room == 0, "{asked:x?}");
        // Nor by what was once waited for.
        ours.writable().await.unwrap();
        assert_eq!(asked_for(&ours), asked);
        rustix::io::write(&theirs, b"answer").unwrap();
        let mut buffer = [0; 8];
        assert_eq!(ours.read_with(|| Ok(rustix::io::read(&ours, &mut buffer)?)).await.unwrap(), 6);
    }
}
