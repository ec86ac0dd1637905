//! Brings a process into the world in its sandbox: what every start has in common, whether a function waits for it or not.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use model::{Code, Error};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::pipe::{PipeFlags, pipe_with};
use tokio::net::UnixStream;

use super::environment::TASK_ROOT;
use super::image::{Shared, Users};
use super::network::Connection;
use super::packages::Unpacked;
use super::remains::Remains;
use super::slots::Slot;
use crate::frame::{FrameError, FrameReader, Incoming};
use crate::jail::cgroup::Group;
use crate::jail::{
    Born, Environment, Limits, Owner, Program, Root, Speaks, Spec, StartError, StartFds, Steps,
};

/// How long the set-up of a sandbox may take. It takes milliseconds; a host that needs more is in trouble.
pub(super) const SETUP_TIMEOUT: Duration = Duration::from_secs(10);

/// What is to be born.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) argv: Vec<String>,
    pub(super) environment: Environment,
    pub(super) root: Root,
    pub(super) limits: Limits,
    /// See [`Spec::takes_mounts`].
    pub(super) takes_mounts: bool,
    /// See [`Spec::born`].
    pub(super) born: Born,
    /// See [`Spec::speaks`].
    pub(super) speaks: Speaks,
    /// See [`Spec::companions`].
    pub(super) companions: Vec<String>,
}

/// What an instance is given of its own.
#[derive(Debug)]
pub(super) struct Dowry {
    pub(super) slot: Option<Slot>,
    pub(super) group: Option<Group>,
    pub(super) connection: Option<Connection>,
    pub(super) unpacked: Option<Arc<Unpacked>>,
}

/// A process that was asked for, and the descriptors between it and the daemon.
#[derive(Debug)]
pub(super) struct Newborn {
    pub(super) remains: Remains,
    pub(super) socket: UnixStream,
    /// The instance's end once more.
    pub(super) theirs: OwnedFd,
    pub(super) stdout: OwnedFd,
    pub(super) stderr: OwnedFd,
}

impl Newborn {
    /// Asks for a process. It may not exist yet when this returns.
    pub(super) async fn ask(
        shared: &Arc<Shared>,
        wanted: Wanted,
        dowry: Dowry,
        steps: Steps,
    ) -> Result<Self, Error> {
        let Dowry { slot, group, connection, unpacked } = dowry;
        let spec = spec(shared, wanted, slot.as_ref(), group.as_ref(), connection.as_ref());
        let lease = connection.and_then(|c| c.lease);
        let Plumbing { socket, theirs, fds, stdout, stderr } = Plumbing::new().map_err(failed)?;
        let mut remains = Remains::new(shared, slot, group, lease, unpacked);
        let asked = tokio::time::timeout(SETUP_TIMEOUT, shared.spawner.start(spec, &fds, steps));
        let process = asked.await.map_err(too_slow)?.map_err(not_started)?;
        remains.watch(process).map_err(failed)?;
        // Only the instance holds the pipes from here on, so their end is seen.
        drop(fds);
        Ok(Self { remains, socket, theirs, stdout, stderr })
    }

    /// The next frame of what nobody's code runs in.
    pub(super) async fn next(&mut self, frames: &mut FrameReader) -> Result<Incoming, FrameError> {
        tokio::select! {
            biased;
            frame = frames.next(&self.socket, false) => frame,
            _ = self.remains.gone() => Err(FrameError::Closed),
        }
    }
}

fn spec(
    shared: &Shared,
    wanted: Wanted,
    slot: Option<&Slot>,
    group: Option<&Group>,
    connection: Option<&Connection>,
) -> Spec {
    let owner = match (&shared.users, slot) {
        (Users::Strangers(_), Some(slot)) => Owner::Stranger { uid: slot.id(), gid: slot.id() },
        (Users::Daemon { uid, gid }, _) => Owner::Daemon { uid: *uid, gid: *gid },
        // It makes what strangers run in.
        (Users::Strangers(_), None) if wanted.born == Born::AsZygote => {
            Owner::Stranger { uid: 0, gid: 0 }
        }
        // Not reached: a slot is taken for every stranger. Nobody's id is the safe answer.
        (Users::Strangers(_), None) => Owner::Stranger { uid: u32::MAX - 1, gid: u32::MAX - 1 },
    };
    let Wanted { argv, environment, mut root, limits, takes_mounts, born, speaks, companions } =
        wanted;
    root.mounts.extend(connection.and_then(|c| c.mount.clone()));
    Spec {
        program: Program {
            argv,
            environment,
            directory: TASK_ROOT.to_owned(),
            hostname: "function".to_owned(),
        },
        root,
        owner,
        limits,
        attach: group.map(Group::attach).unwrap_or_default(),
        network: connection.map(|c| c.network.clone()),
        takes_mounts,
        pauses: group.is_none_or(|group| group.freezer().is_none()),
        born,
        speaks,
        companions,
    }
}

/// The descriptors between an instance and the daemon.
struct Plumbing {
    socket: UnixStream,
    theirs: OwnedFd,
    fds: StartFds,
    stdout: OwnedFd,
    stderr: OwnedFd,
}

impl Plumbing {
    fn new() -> io::Result<Self> {
        let (ours, frames) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        rustix::io::ioctl_fionbio(&ours, true)?;
        let theirs = frames.try_clone()?;
        let (stdout, stdout_writer) = pipe_with(PipeFlags::CLOEXEC)?;
        let (stderr, stderr_writer) = pipe_with(PipeFlags::CLOEXEC)?;
        let fds = StartFds { frames, stdout: stdout_writer, stderr: stderr_writer };
        // Tokio's stream reads and writes any Unix socket; this one keeps packets apart.
        let socket = UnixStream::from_std(ours.into())?;
        Ok(Self { socket, theirs, fds, stdout, stderr })
    }
}

/// An error of the set-up.
pub(super) fn failed(e: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::platform(Code::SandboxFailed, "the sandbox could not be set up").with_source(e)
}

/// The set-up took longer than [`SETUP_TIMEOUT`].
pub(super) fn too_slow(_: tokio::time::error::Elapsed) -> Error {
    let seconds = SETUP_TIMEOUT.as_secs();
    Error::platform(Code::SandboxFailed, format!("the sandbox was not set up within {seconds} s"))
}

/// The spawner's or the child's error.
pub(super) fn not_started(e: StartError) -> Error {
    Error::platform(Code::SandboxFailed, format!("the sandbox could not be set up: {e}"))
        .with_source(e)
}
