//! The daemon's side: keeps one spawner running and a record of every instance it was asked for.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use model::tasks::Tasks;
use rustix::net::sockopt::set_socket_send_buffer_size;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{Signal, pidfd_send_signal};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{OnceCell, watch};

use super::pause;
use super::report::StepError;
use super::spawner::SPAWNER_ARGUMENT;
use super::spec::{Mount, Spec};
use super::steps::{Step, Steps};
use super::sys;
use super::wire::{self, InstanceId, Reply, Request};

/// What the runtime is given beside its [`Spec`].
#[derive(Debug)]
pub(crate) struct StartFds {
    /// Its end of the frame socket; becomes descriptor 3.
    pub(crate) frames: OwnedFd,
    /// Its end of the pipe for standard output.
    pub(crate) stdout: OwnedFd,
    /// Its end of the pipe for standard error.
    pub(crate) stderr: OwnedFd,
}

impl StartFds {
    /// As the spawner takes them.
    fn all(&self) -> [BorrowedFd<'_>; 3] {
        [self.frames.as_fd(), self.stdout.as_fd(), self.stderr.as_fd()]
    }
}

/// Why there is no process.
#[derive(Debug)]
pub(crate) enum StartError {
    /// A step of the set-up failed.
    Step(StepError),
    /// The spawner could not be started or reached, or ended meanwhile.
    Spawner(io::Error),
}

impl std::fmt::Display for StartError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Step(e) => e.fmt(f),
            Self::Spawner(e) => write!(f, "the spawner cannot be used: {e}"),
        }
    }
}

impl std::error::Error for StartError {}

/// How an instance ended. Every process of it is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// The runtime exited with this code.
    Code(i32),
    /// The runtime was killed by this signal.
    Signal(i32),
    /// The whole instance was killed from outside.
    Killed,
}

impl Exit {
    fn of(wait_status: Option<i32>) -> Self {
        let Some(status) = wait_status.map(ExitStatus::from_raw) else { return Self::Killed };
        match (status.code(), status.signal()) {
            (Some(code), _) => Self::Code(code),
            (None, Some(signal)) => Self::Signal(signal),
            (None, None) => Self::Killed,
        }
    }
}

/// What is known of an instance so far.
#[derive(Clone, Debug, Default)]
struct Life {
    pidfd: Option<Arc<OwnedFd>>,
    started: bool,
    /// By which it can be asked to pause.
    pauses: Option<Arc<OwnedFd>>,
    /// How long what took, once it has started.
    steps: Steps,
    failed: Option<StepError>,
    /// How mounting later went, once it has been asked for.
    attached: Option<Result<(), StepError>>,
    exit: Option<Exit>,
    max_rss_bytes: Option<u64>,
    /// The spawner ended: nothing more will be heard, and the kernel has killed the instance.
    lost: bool,
}

/// One instance's processes. Does not kill by itself when dropped: whoever holds it decides who waits for the end.
#[derive(Debug)]
pub(crate) struct Process {
    id: InstanceId,
    life: watch::Receiver<Life>,
    /// To the spawner that started it.
    connection: Weak<Connection>,
}

impl Process {
    /// Waits until the runtime has been executed.
    pub(crate) async fn started(&mut self) -> Result<Steps, StartError> {
        let over = |life: &Life| life.started || life.failed.is_some() || life.lost;
        let life = self.life.wait_for(over).await.map_err(|_| lost())?;
        match &life.failed {
            // Also where it has started after all: it is killed then.
            Some(error) => Err(StartError::Step(error.clone())),
            None if life.started => Ok(life.steps.clone()),
            None => Err(lost()),
        }
    }

    /// Mounts something while it runs: once, in one whose spec says that it takes mounts. After an error it may be mounted in part.
    pub(crate) async fn attach(&mut self, mounts: Vec<Mount>) -> Result<(), StartError> {
        let connection = self.connection.upgrade().ok_or_else(lost)?;
        let request = wire::encode(&Request::Attach { id: self.id, mounts });
        let sent = connection.send(&request.map_err(StartError::Spawner)?, &[]).await;
        sent.map_err(StartError::Spawner)?;
        drop(connection);
        let over = |life: &Life| life.attached.is_some() || life.exit.is_some() || life.lost;
        let life = self.life.wait_for(over).await.map_err(|_| lost())?;
        let attached = life.attached.clone().ok_or_else(lost)?;
        attached.map_err(StartError::Step)
    }

    /// Something that stops and continues its processes by signals, where it can be asked to.
    pub(crate) fn pauses(&self) -> Option<Pauses> {
        self.life.borrow().pauses.clone().map(Pauses)
    }

    /// What the spawner knows it by.
    pub(crate) fn id(&self) -> InstanceId {
        self.id
    }

    /// Something that can kill it while the instance itself is at work.
    pub(crate) fn killer(&self) -> Killer {
        Killer { life: self.life.clone() }
    }

    /// Kills everything in the instance, if it runs. `SIGKILL` to pid 1 of its namespace is enough: the kernel then kills the rest, before pid 1
    /// counts as ended, so a group-wide kill would add nothing.
    pub(crate) fn kill(&self) {
        kill(&self.life.borrow());
    }

    /// How it ended, if it has.
    pub(crate) fn exit(&self) -> Option<Exit> {
        let life = self.life.borrow();
        life.exit.or(life.lost.then_some(Exit::Killed))
    }

    /// Most resident memory of any one process of it, in bytes, once it has ended and if it ended by itself.
    pub(crate) fn max_rss_bytes(&self) -> Option<u64> {
        self.life.borrow().max_rss_bytes
    }

    /// Waits until every process of it is gone.
    pub(crate) async fn gone(&mut self) -> Exit {
        let over = |life: &Life| life.exit.is_some() || life.lost;
        let life = self.life.wait_for(over).await.map(|life| life.clone());
        let Ok(Life { exit: None, pidfd: Some(pidfd), .. }) = life else {
            return life.ok().and_then(|life| life.exit).unwrap_or(Exit::Killed);
        };
        // Without the spawner nobody says when it has ended; the descriptor does.
        pidfd_send_signal(&pidfd, Signal::KILL).unwrap_or_default();
        let watched = pidfd.try_clone().and_then(|fd| sys::register(fd, Interest::READABLE));
        if let Ok(pidfd) = watched {
            // An error would only say that the descriptor cannot be waited for, and it can.
            drop(pidfd.readable().await);
        }
        Exit::Killed
    }

    /// Kills it and waits until every process of it is gone, also if its first process does not exist yet.
    pub(crate) async fn destroy(&mut self) -> Exit {
        let known = |life: &Life| life.pidfd.is_some() || life.failed.is_some() || life.lost;
        // An error says that there never was a process. One whose descriptor did not arrive is killed by the spawner.
        if self.life.wait_for(known).await.is_err() {
            return Exit::Killed;
        }
        self.kill();
        self.gone().await
    }
}

/// See [`Process::pauses`].
#[derive(Clone, Debug)]
pub(crate) struct Pauses(Arc<OwnedFd>);

impl Pauses {
    /// Stops all of its processes but the first, or lets them go on. Returns before they have.
    pub(crate) fn ask(&self, stop: bool) -> io::Result<()> {
        pause::ask(&self.0, stop)
    }
}

/// See [`Process::killer`].
#[derive(Clone, Debug)]
pub(crate) struct Killer {
    life: watch::Receiver<Life>,
}

impl Killer {
    /// As [`Process::kill`].
    pub(crate) fn kill(&self) {
        kill(&self.life.borrow());
    }
}

fn kill(life: &Life) {
    if let Some(pidfd) = &life.pidfd {
        // The only error is that it has ended by itself.
        pidfd_send_signal(pidfd, Signal::KILL).unwrap_or_default();
    }
}

/// Whether the spawner is no more.
fn is_gone(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}

/// An instance that was announced and not asked for yet: forgotten again if that fails or is given up half-way.
struct Unsent<'a> {
    connection: &'a Connection,
    id: InstanceId,
    sent: bool,
}

impl Drop for Unsent<'_> {
    fn drop(&mut self) {
        if !self.sent {
            self.connection.forget(self.id);
        }
    }
}

fn lost() -> StartError {
    StartError::Spawner(io::Error::new(io::ErrorKind::BrokenPipe, "it ended"))
}

/// Starts instances. Starts the spawner itself with the first, and again if it ends.
#[derive(Debug)]
pub(crate) struct Spawner {
    executable: PathBuf,
    tasks: Tasks,
    connection: Mutex<Arc<OnceCell<Arc<Connection>>>>,
    next_id: AtomicU64,
}

impl Spawner {
    /// `executable` calls [`super::main_if_spawner`] first in its `main`.
    pub(crate) fn new(executable: PathBuf, tasks: Tasks) -> Self {
        Self { executable, tasks, connection: Mutex::default(), next_id: AtomicU64::new(1) }
    }

    /// Starts the spawner if it does not run, so that the first instance need not wait for it.
    pub(crate) async fn warm(&self) -> Result<(), StartError> {
        self.connection().await.map(drop)
    }

    /// Kills all that it has started and that lives; whether there was anything.
    pub(crate) fn kill_all(&self) -> bool {
        let cell = Arc::clone(&self.connection.lock().unwrap_or_else(PoisonError::into_inner));
        let Some(connection) = cell.get() else { return false };
        let lives = connection.lives.lock().unwrap_or_else(PoisonError::into_inner);
        lives.iter().flat_map(HashMap::values).for_each(|told| kill(&told.borrow()));
        lives.as_ref().is_some_and(|lives| !lives.is_empty())
    }

    /// Asks for an instance. The process may not exist yet when this returns.
    pub(crate) async fn start(
        &self,
        spec: Spec,
        fds: &StartFds,
        mut steps: Steps,
    ) -> Result<Process, StartError> {
        steps.mark(Step::Ask);
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let request = Request::Start { id, spec: Box::new(spec), steps };
        let request = wire::encode(&request).map_err(StartError::Spawner)?;
        if request.len() > wire::MESSAGE_BYTES {
            // The spawner would take it for the end of all sense, and end.
            return Err(StartError::Spawner(io::ErrorKind::ArgumentListTooLong.into()));
        }
        // A spawner that has just died is found out by sending to it; then a fresh one is asked.
        match self.request(id, &request, fds).await {
            Err(StartError::Spawner(e)) if is_gone(&e) => self.request(id, &request, fds).await,
            asked => asked,
        }
    }

    async fn request(
        &self,
        id: InstanceId,
        request: &[u8],
        fds: &StartFds,
    ) -> Result<Process, StartError> {
        let connection = self.connection().await?;
        let (told, life) = watch::channel(Life::default());
        if !connection.expect(id, told) {
            return Err(lost());
        }
        let mut unsent = Unsent { connection: &connection, id, sent: false };
        let sent = connection.send(request, &fds.all()).await;
        unsent.sent = sent.is_ok();
        drop(unsent);
        if sent.as_ref().is_err_and(is_gone) {
            connection.close();
        }
        let connection = Arc::downgrade(&connection);
        sent.map(|()| Process { id, life, connection }).map_err(StartError::Spawner)
    }

    async fn connection(&self) -> Result<Arc<Connection>, StartError> {
        let cell = {
            let mut current = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
            if current.get().is_some_and(|c| c.is_closed()) {
                *current = Arc::default();
            }
            Arc::clone(&current)
        };
        if let Some(connection) = cell.get() {
            return Ok(Arc::clone(connection));
        }
        let (executable, tasks) = (self.executable.clone(), self.tasks.clone());
        // To the end also for a start that is given up meanwhile: a spawner that nobody holds would be nobody's to reap.
        let opening = async move {
            let opened = cell.get_or_try_init(|| open(executable, tasks)).await;
            opened.cloned().map_err(StartError::Spawner)
        };
        self.tasks.run_to_end("spawner start", opening).await
    }
}

/// Starts a spawner, and a task that listens to it.
async fn open(executable: PathBuf, tasks: Tasks) -> io::Result<Arc<Connection>> {
    let (socket, child) = tokio::task::spawn_blocking(move || launch(&executable)).await??;
    let connection = Arc::new(Connection {
        socket: sys::register(socket, Interest::READABLE | Interest::WRITABLE)?,
        lives: Mutex::new(Some(HashMap::new())),
    });
    let (reader, own) = (Arc::clone(&connection), tasks.clone());
    // Not ended with the group at once: instances that are draining need it.
    tasks.spawn("spawner", async move {
        let error = Connection::serve(&reader, &own).await.err();
        reader.close();
        reap(child, error).await;
    });
    Ok(connection)
}

/// Executes the spawner.
fn launch(executable: &Path) -> io::Result<(OwnedFd, Child)> {
    let (ours, child) = helper(executable, "hanshu-spawner", SPAWNER_ARGUMENT)?;
    // Room for the largest request even where the default is small.
    set_socket_send_buffer_size(&ours, wire::MESSAGE_BYTES)?;
    Ok((ours, child))
}

/// Executes this program once more, as `name`, to do what `argument` stands for: its standard input is the other end of the socket. This is no fork of the daemon: std uses
/// `posix_spawn`, which shares the memory until `exec`.
pub(super) fn helper(
    executable: &Path,
    name: &str,
    argument: &str,
) -> io::Result<(OwnedFd, Child)> {
    let flags = SocketFlags::CLOEXEC;
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    rustix::io::ioctl_fionbio(&ours, true)?;
    #[expect(clippy::disallowed_methods, reason = "only sandbox starts processes: this is where")]
    let child = Command::new(executable)
        .arg0(name)
        .arg(argument)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::from(theirs))
        .stdout(Stdio::null())
        .stderr(Stdio::inherit())
        .spawn()?;
    Ok((ours, child))
}

async fn reap(mut child: Child, error: Option<io::Error>) {
    let status = tokio::task::spawn_blocking(move || {
        // Its socket is closed, so it is ending; a spawner that hangs is none.
        child.kill().and_then(|()| child.wait())
    });
    match (status.await, error) {
        (Ok(Ok(status)), None) => tracing::debug!(%status, "the spawner ended"),
        (status, error) => tracing::warn!(?status, ?error, "the spawner is gone"),
    }
}

/// A running spawner.
#[derive(Debug)]
struct Connection {
    socket: AsyncFd<OwnedFd>,
    /// What is told to whom; `None` once the spawner is gone.
    lives: Mutex<Option<HashMap<InstanceId, watch::Sender<Life>>>>,
}

impl Connection {
    fn is_closed(&self) -> bool {
        self.lives.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    fn expect(&self, id: InstanceId, told: watch::Sender<Life>) -> bool {
        let mut lives = self.lives.lock().unwrap_or_else(PoisonError::into_inner);
        lives.as_mut().map(|lives| lives.insert(id, told)).is_some()
    }

    fn forget(&self, id: InstanceId) -> Option<watch::Sender<Life>> {
        self.lives.lock().unwrap_or_else(PoisonError::into_inner).as_mut()?.remove(&id)
    }

    async fn send(&self, request: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let send = |socket: &OwnedFd| wire::send_bytes(socket.as_fd(), request, fds);
        self.socket.async_io(Interest::WRITABLE, send).await
    }

    /// Hands out replies until the spawner ends, or until the group is cancelled and no instance is left.
    async fn serve(this: &Arc<Self>, tasks: &Tasks) -> io::Result<()> {
        let cancel = tasks.cancelled();
        let mut buffer = vec![0; wire::MESSAGE_BYTES];
        let mut stopping = false;
        while !(stopping && this.is_idle()) {
            let receive =
                this.socket.async_io(Interest::READABLE, |s| wire::receive(s.as_fd(), &mut buffer));
            tokio::select! {
                received = receive => match received? {
                    Some((reply, fds)) => {
                        if let Some(out_of_reach) = this.on_reply(reply, fds) {
                            // Not from here: the spawner may be waiting for this loop to read on.
                            let kill = Arc::clone(this).kill(out_of_reach);
                            tasks.spawn("kill an instance", kill);
                        }
                    }
                    None => return Ok(()),
                },
                () = cancel.cancelled(), if !stopping => stopping = true,
            }
        }
        Ok(())
    }

    fn is_idle(&self) -> bool {
        let lives = self.lives.lock().unwrap_or_else(PoisonError::into_inner);
        lives.as_ref().is_none_or(HashMap::is_empty)
    }

    /// Has the spawner kill an instance.
    async fn kill(self: Arc<Self>, id: InstanceId) {
        let request = serde_json::to_vec(&Request::Kill { id }).unwrap_or_default();
        if let Err(error) = self.send(&request, &[]).await {
            // A spawner that cannot be sent to is ending, and takes the instance along.
            tracing::debug!(%error, id, "an instance could not be killed through the spawner");
        }
    }

    /// Passes a reply on. Gives the instance that came without its descriptor, if one did: the daemon has to have it killed.
    fn on_reply(&self, reply: Reply, fds: Vec<OwnedFd>) -> Option<InstanceId> {
        let tell = |id, change: &dyn Fn(&mut Life)| {
            let lives = self.lives.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(told) = lives.as_ref().and_then(|lives| lives.get(&id)) {
                told.send_modify(change);
            }
        };
        match reply {
            Reply::Cloned { id } => match fds.into_iter().next().map(Arc::new) {
                Some(pidfd) => tell(id, &|life| life.pidfd = Some(Arc::clone(&pidfd))),
                // This process is out of descriptors. What cannot be killed at its deadline must not run; all others go on.
                None => {
                    let e = io::Error::from(rustix::io::Errno::MFILE);
                    let error = StepError::new("take hold of the instance", e);
                    tell(id, &|life| life.failed = Some(error.clone()));
                    return Some(id);
                }
            },
            Reply::Started { id, mut steps } => {
                steps.mark(Step::Tell);
                let pauses = fds.into_iter().next().map(Arc::new);
                tell(id, &|life| {
                    life.started = true;
                    life.pauses.clone_from(&pauses);
                    life.steps.clone_from(&steps);
                });
            }
            Reply::Failed { id, error, cloned } => {
                tell(id, &|life| life.failed = Some(error.clone()));
                // Without a process there will be no exit to report.
                if !cloned {
                    self.forget(id);
                }
            }
            Reply::Attached { id, result } => {
                tell(id, &|life| life.attached = Some(result.clone()));
            }
            Reply::Exited { id, wait_status, max_rss_kib } => {
                if let Some(told) = self.forget(id) {
                    told.send_modify(|life| {
                        life.exit = Some(Exit::of(wait_status));
                        life.max_rss_bytes = max_rss_kib.map(|kib| kib.saturating_mul(1024));
                    });
                }
            }
        }
        None
    }

    /// Tells everybody that nothing more will come.
    fn close(&self) {
        let lives = self.lives.lock().unwrap_or_else(PoisonError::into_inner).take();
        for told in lives.into_iter().flat_map(HashMap::into_values) {
            told.send_modify(|life| life.lost = true);
        }
    }
}
