//! Messages between daemon and spawner: JSON with file descriptors over a `SOCK_SEQPACKET` pair, one message one packet.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize as _, Zeroizing};

use super::report::StepError;
use super::spec::{Mount, Spec};
use super::steps::Steps;

/// Longest message, in bytes: 32 KiB of environment may grow sixfold as JSON, and a root has some dozens of mounts.
pub(super) const MESSAGE_BYTES: usize = 384 * 1024;
/// Room for a request without secrets, in bytes.
const SMALL_BYTES: usize = 64;
/// Most descriptors of one message.
const MESSAGE_FDS: usize = 3;

/// Names an instance between daemon and spawner; never used twice on one connection.
pub(crate) type InstanceId = u64;

/// Daemon to spawner.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Request {
    /// Start an instance. With three descriptors: frame socket, standard output, standard error.
    Start {
        /// Which.
        id: InstanceId,
        /// What.
        spec: Box<Spec>,
        /// What was done for it so far.
        steps: Steps,
    },
    /// Mount this in an instance that runs, and say how that went. It may have ended, and then nothing is said.
    Attach {
        /// Which.
        id: InstanceId,
        /// What, and upon what.
        mounts: Vec<Mount>,
    },
    /// Kill an instance whose pidfd did not arrive: the daemon was out of descriptors. It may have ended.
    Kill {
        /// Which.
        id: InstanceId,
    },
}

/// Spawner to daemon, in this order: `Cloned`, then `Started` or `Failed`, then `Attached` if that was asked for, then `Exited`; or `Failed` alone.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Reply {
    /// Its first process exists; comes with a pidfd of it.
    Cloned {
        /// Which.
        id: InstanceId,
    },
    /// The runtime has been executed. Where it can be asked to pause ([`super::pause`]) that is done by the descriptor that comes with it.
    Started {
        /// Which.
        id: InstanceId,
        /// What was done for it so far.
        steps: Steps,
    },
    /// It could not be set up.
    Failed {
        /// Which.
        id: InstanceId,
        /// Why.
        error: StepError,
        /// Whether `Exited` will follow.
        cloned: bool,
    },
    /// Answers [`Request::Attach`].
    Attached {
        /// Which.
        id: InstanceId,
        /// Why it is not mounted, or not all of it.
        result: Result<(), StepError>,
    },
    /// Every process of it is gone.
    Exited {
        /// Which.
        id: InstanceId,
        /// How the runtime ended, as `wait` gives it; `None` if the whole instance was killed from outside.
        wait_status: Option<i32>,
        /// Most resident memory of any one process, in KiB, if known.
        max_rss_kib: Option<u64>,
    },
}

/// A request as [`send_bytes`] takes it; wiped on drop, for it may hold secrets.
pub(super) fn encode(message: &Request) -> io::Result<Zeroizing<Vec<u8>>> {
    // One that grows leaves copies behind; one with room to spare takes time to wipe.
    let room = match message {
        Request::Start { spec, .. } => spec.json_bytes(),
        Request::Attach { .. } | Request::Kill { .. } => SMALL_BYTES,
    };
    let mut bytes = Zeroizing::new(Vec::with_capacity(room));
    serde_json::to_writer(&mut *bytes, message)?;
    Ok(bytes)
}

/// Sends one message.
pub(super) fn send<T: Serialize>(
    socket: BorrowedFd<'_>,
    message: &T,
    fds: &[BorrowedFd<'_>],
) -> io::Result<()> {
    send_bytes(socket, &serde_json::to_vec(message)?, fds)
}

/// Sends one message that is JSON already.
pub(super) fn send_bytes(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    fds: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MESSAGE_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Receives one message into `buffer` (of [`MESSAGE_BYTES`]); `None` when the other end is closed. A process that is out of descriptors gets
/// fewer than were sent.
pub(super) fn receive<T: DeserializeOwned>(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    receive_with(socket, buffer, RecvFlags::empty())
}

/// As [`receive`], with these flags.
pub(super) fn receive_with<T: DeserializeOwned>(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
    flags: RecvFlags,
) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MESSAGE_FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = flags | RecvFlags::CMSG_CLOEXEC;
    let got = recvmsg(socket, &mut [IoSliceMut::new(buffer)], &mut control, flags)?;
    let mut fds = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    if got.bytes == 0 {
        return Ok(None);
    }
    // Descriptors that found no room in this process (CTRUNC) are simply missing: whoever wants them sees that.
    if got.flags.contains(ReturnFlags::TRUNC) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a message is too long"));
    }
    let bytes = buffer.get_mut(..got.bytes).unwrap_or_default();
    let message = serde_json::from_slice(bytes);
    // The spawner's memory is copied into the first process of each instance to come.
    bytes.zeroize();
    Ok(Some((message?, fds)))
}
