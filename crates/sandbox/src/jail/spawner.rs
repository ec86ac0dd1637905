//! The spawner: a process of one thread between the daemon and the instances. Starts what it is asked to, reaps what ends.
//!
//! It waits on three kinds of descriptors: the daemon's socket, the status socket of each instance that is being set up, and the pidfd
//! of each instance. It trusts the daemon and nothing that comes from an instance; of that it only takes status reports, which pid 1
//! alone can send.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use rustix::event::epoll;
use rustix::fs::{Mode, OFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{
    Pid, Resource, Rlimit, Signal, WaitId, WaitIdOptions, getrlimit, pidfd_send_signal, setrlimit,
    setsid, waitid,
};
use rustix::thread::set_name;

use super::attach::{Home, Namespaces};
use super::child::{self, Ahead, RuntimeFds};
use super::network::{Network, Pasta, Way, start_pasta};
use super::networks::Networks;
use super::probe::{self, PROBER_ARGUMENT};
use super::report::{self, AtStep, Report, StepError};
use super::scratch::{self, SCRATCH_ARGUMENT};
use super::seccomp::Filter;
use super::spec::{Born, Mount, Owner, Spec};
use super::steps::{Step, Steps};
use super::sys::{self, Cloned};
use super::templates::Templates;
use super::wire::{self, InstanceId, Reply, Request};
use super::zygote::{self, Expected};
use crate::wasm::COMPILER_ARGUMENT;

/// The first argument that makes the daemon's executable a spawner.
pub(super) const SPAWNER_ARGUMENT: &str = "__sandbox-spawner";
/// Events taken from the kernel at once.
const EVENTS: usize = 64;

/// Becomes the spawner, the prober, a compiler of WebAssembly or what makes folders in memory, and never returns, if this process was started as one. To be called first in `main`, while there is one thread.
pub fn main_if_spawner() {
    let mut arguments = std::env::args_os().skip(1);
    let first = arguments.next();
    let code = if first.as_deref() == Some(OsStr::new(PROBER_ARGUMENT)) {
        probe::run(arguments)
    } else if first.as_deref() == Some(OsStr::new(COMPILER_ARGUMENT)) {
        crate::wasm::run_compiler(arguments)
    } else if first.as_deref() == Some(OsStr::new(SCRATCH_ARGUMENT)) {
        ended("what makes folders in memory", scratch::run())
    } else if first.as_deref() != Some(OsStr::new(SPAWNER_ARGUMENT)) {
        return;
    } else {
        ended("the sandbox's spawner", Loop::open().and_then(|mut spawner| spawner.run()))
    };
    #[expect(clippy::exit, reason = "this process is one of these and nothing else")]
    std::process::exit(code);
}

/// The exit code of a process that ended so.
fn ended(what: &str, how: io::Result<()>) -> i32 {
    match how {
        Ok(()) => 0,
        Err(error) => {
            tracing::error!(%error, "{what} failed");
            1
        }
    }
}

/// One instance.
#[derive(Debug)]
struct Live {
    pidfd: OwnedFd,
    pid: Pid,
    status: OwnedFd,
    owner: Owner,
    /// The network that it may ask pasta for, until it has.
    wanted: Option<Network>,
    /// What carries its network, if that is a process.
    pasta: Option<Pasta>,
    /// Whether it can be asked to pause.
    pauses: bool,
    /// Where it takes mounts, if it does and has not yet.
    namespaces: Option<Namespaces>,
    /// Whether the daemon has been told that it started, or that it failed to.
    settled: bool,
    /// Until it is born by a zygote: what is kept for that.
    expected: Option<Expected>,
    /// Where it is told what to make, if it is a zygote.
    control: Option<OwnedFd>,
    /// A zygote's mount namespace: its children have their program mapped from there, and name it by that.
    keeps: Option<Rc<OwnedFd>>,
    /// How the runtime ended (as `wait` gives it) and its most resident memory in KiB, once pid 1 has said so.
    end: Option<(i32, u64)>,
}

#[derive(Debug)]
struct Loop {
    daemon: OwnedFd,
    epoll: OwnedFd,
    live: HashMap<InstanceId, Live>,
    /// Of the system calls of every instance.
    filter: Filter,
    networks: Networks,
    templates: Templates,
    home: Home,
    buffer: Vec<u8>,
}

/// What a wake-up is about, packed into the 64 bits that epoll keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Daemon,
    Status(InstanceId),
    Process(InstanceId),
    Pasta(InstanceId),
}

impl Source {
    fn pack(self) -> epoll::EventData {
        epoll::EventData::new_u64(match self {
            Self::Daemon => 0,
            Self::Status(id) => id << 2 | 1,
            Self::Process(id) => id << 2 | 2,
            Self::Pasta(id) => id << 2 | 3,
        })
    }

    fn unpack(data: epoll::EventData) -> Self {
        let data = data.u64();
        match data & 3 {
            1 => Self::Status(data >> 2),
            2 => Self::Process(data >> 2),
            3 => Self::Pasta(data >> 2),
            _ => Self::Daemon,
        }
    }
}

impl Loop {
    fn open() -> io::Result<Self> {
        // A session of its own: a Ctrl-C in the daemon's terminal must not reach instances that are draining.
        setsid()?;
        set_name(c"hanshu-spawner")?;
        let daemon = io::stdin().as_fd().try_clone_to_owned()?;
        rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
        // Two descriptors an instance.
        let limit = getrlimit(Resource::Nofile);
        setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
        // What the daemon's session holds is nothing for functions. Without the feature, or where a quota forbids, nobody could read keys anyway:
        // the filter has no call for it.
        sys::leave_keyring().unwrap_or_default();
        let filter = Filter::of_functions()?;
        // Instances shall start with defaults, and inherit them from here. Their pid 1 has to have them as well: with the Rust runtime's handlers for SIGSEGV
        // and SIGBUS a function could end it by a plain `kill`. The spawner itself asks the kernel for no SIGPIPE, call by call.
        sys::reset_signals();
        let networks = if rustix::process::geteuid().is_root() {
            Networks::ahead()?
        } else {
            Networks::none()
        };
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &daemon, Source::Daemon.pack(), epoll::EventFlags::IN)?;
        let buffer = vec![0; wire::MESSAGE_BYTES];
        let live = HashMap::new();
        let (templates, home) = (Templates::default(), Home::open()?);
        Ok(Self { daemon, epoll, live, filter, networks, templates, home, buffer })
    }

    /// Until the daemon's end of the socket closes. Whatever still runs then is killed by the kernel as this process ends.
    fn run(&mut self) -> io::Result<()> {
        let mut events = Vec::with_capacity(EVENTS);
        loop {
            events.clear();
            let pause = self.networks.refill_after();
            let room = rustix::buffer::spare_capacity(&mut events);
            match epoll::wait(&self.epoll, room, pause.as_ref()) {
                Ok(0) => self.networks.refill(),
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
            for event in &events {
                match Source::unpack(event.data) {
                    Source::Daemon => {
                        if !self.on_request()? {
                            return Ok(());
                        }
                    }
                    Source::Status(id) => self.on_reports(id)?,
                    Source::Process(id) => self.on_exit(id)?,
                    Source::Pasta(id) => self.on_pasta_exit(id)?,
                }
            }
        }
    }

    /// Takes one request; `false` when there will be no more.
    fn on_request(&mut self) -> io::Result<bool> {
        let woken = Steps::now();
        let received = wire::receive::<Request>(self.daemon.as_fd(), &mut self.buffer)?;
        let Some((request, fds)) = received else { return Ok(false) };
        let (id, spec, mut steps) = match request {
            Request::Start { id, spec, steps } => (id, spec, steps),
            Request::Kill { id } => {
                if let Some(live) = self.live.get(&id) {
                    kill(live);
                }
                return Ok(true);
            }
            Request::Attach { id, mounts } => {
                self.attach(id, &mounts)?;
                return Ok(true);
            }
        };
        steps.mark_at(Step::Reach, woken);
        steps.mark(Step::Read);
        match self.start(id, &spec, fds, steps) {
            Ok(()) => {
                let pidfd = self.live.get(&id).map(|live| live.pidfd.as_fd());
                wire::send(self.daemon.as_fd(), &Reply::Cloned { id }, pidfd.as_slice())?;
            }
            Err(error) => self.reply(&Reply::Failed { id, error, cloned: false })?,
        }
        Ok(true)
    }

    /// Mounts something in an instance that runs, once.
    fn attach(&mut self, id: InstanceId, mounts: &[Mount]) -> io::Result<()> {
        // One that has ended was reported as that.
        let Some(live) = self.live.get_mut(&id) else { return Ok(()) };
        let result = match live.namespaces.take() {
            Some(namespaces) => namespaces.attach(&self.home, mounts)?,
            None => Err(StepError::new("mount later", io::ErrorKind::Unsupported)),
        };
        self.reply(&Reply::Attached { id, result })
    }

    fn start(
        &mut self,
        id: InstanceId,
        spec: &Spec,
        fds: Vec<OwnedFd>,
        mut steps: Steps,
    ) -> Result<(), StepError> {
        let Ok([frames, stdout, stderr]) = <[OwnedFd; 3]>::try_from(fds) else {
            return Err(StepError::new("take descriptors", io::ErrorKind::InvalidInput));
        };
        let fds = RuntimeFds { frames, stdout, stderr };
        let (ours, theirs) = status_pair()?;
        let group = group_to_be_born_in(spec)?;
        let (mut ahead, namespaces) = self.ahead(spec)?;
        let mut control = None;
        if spec.born == Born::AsZygote {
            let (ours, theirs) = status_pair()?;
            (control, ahead.control) = (Some(ours), Some(theirs));
        }
        match sys::clone3(namespaces, group.as_ref().map(AsFd::as_fd))
            .at(|| "clone into namespaces".into())?
        {
            Cloned::Child => {
                steps.mark(Step::Clone);
                if spec.born == Born::AsZygote {
                    zygote::become_one(spec, &fds, &ahead, &theirs, steps)
                }
                child::run(spec, &self.filter, &fds, &ahead, &theirs, steps)
            }
            Cloned::Parent { pid, pidfd } => {
                let expected = match spec.born {
                    Born::ByZygote(zygote) => Some(Expected::new(spec, zygote, fds, theirs, group)),
                    Born::ByExec | Born::AsZygote => None,
                };
                let live = Live {
                    pidfd,
                    pid,
                    status: ours,
                    owner: spec.owner,
                    wanted: spec.network.clone(),
                    pasta: None,
                    pauses: spec.pauses,
                    namespaces: None,
                    settled: false,
                    expected,
                    control,
                    keeps: None,
                    end: None,
                };
                let watched = self.watch(id, &live);
                if watched.is_ok() {
                    self.live.insert(id, live);
                } else {
                    // Nobody would hear of its end. It has started nothing yet, so it is gone in no time.
                    kill(&live);
                    waitid(WaitId::PidFd(live.pidfd.as_fd()), WaitIdOptions::EXITED)
                        .at(|| "reap the instance".into())?;
                }
                watched.at(|| "watch the instance".into())
            }
        }
    }

    /// What is made before its first process, and the namespaces that this process is cloned into.
    fn ahead(&mut self, spec: &Spec) -> Result<(Ahead, u64), StepError> {
        Ok(match spec.owner {
            Owner::Stranger { .. } if spec.born == Born::AsZygote => {
                let template = Some(self.templates.get(&spec.root)?);
                (Ahead { network: None, template, control: None }, zygote::NAMESPACES)
            }
            Owner::Stranger { .. } => {
                // One that has a hold of the host's network makes its own when it has taken that.
                let leaves = spec.leaves_the_hosts_network();
                let network = if leaves { None } else { self.networks.take() };
                let made = sys::NAMESPACES & !sys::MOUNT_NAMESPACE;
                let made =
                    if leaves || network.is_some() { made & !sys::NETWORK_NAMESPACE } else { made };
                let template = Some(self.templates.get(&spec.root)?);
                (Ahead { network, template, control: None }, made)
            }
            Owner::Daemon { .. } => {
                let ahead = Ahead { network: None, template: None, control: None };
                (ahead, sys::NAMESPACES | sys::USER_NAMESPACE)
            }
        })
    }

    fn watch(&self, id: InstanceId, live: &Live) -> io::Result<()> {
        let flags = epoll::EventFlags::IN;
        epoll::add(&self.epoll, &live.pidfd, Source::Process(id).pack(), flags)?;
        epoll::add(&self.epoll, &live.status, Source::Status(id).pack(), flags)?;
        Ok(())
    }

    /// Serves what the child has to say.
    fn on_reports(&mut self, id: InstanceId) -> io::Result<()> {
        while let Some(live) = self.live.get_mut(&id) {
            match report::next(&live.status) {
                Ok(Some((Report::MapIds, _))) => {
                    if let Err(e) = write_maps(live).and_then(|()| report::go(&live.status)) {
                        let error = StepError::new("write id maps", e);
                        kill(live);
                        self.settle(id, &Reply::Failed { id, error, cloned: true })?;
                    }
                }
                Ok(Some((Report::NeedLink, _))) => {
                    if let Err(e) = give_pasta(live, id, &self.epoll) {
                        let error = StepError::new("start pasta", e);
                        kill(live);
                        self.settle(id, &Reply::Failed { id, error, cloned: true })?;
                    }
                }
                Ok(Some((Report::Failed(error), _))) => {
                    if live.expected.is_some() {
                        // Its first process waits for a child that does not come.
                        kill(live);
                    }
                    self.settle(id, &Reply::Failed { id, error, cloned: true })?;
                }
                Ok(Some((Report::Started(steps), namespaces))) => {
                    if live.control.is_some() {
                        live.keeps = namespaces.into_iter().next().map(Rc::new);
                    } else {
                        live.namespaces = Namespaces::of(namespaces);
                    }
                    self.tell_started(id, steps)?;
                }
                Ok(Some((Report::Locked(steps), fds))) => self.order(id, steps, fds)?,
                Ok(Some((Report::Born, _))) => {
                    let Some(Expected { mut steps, .. }) = live.expected.take() else { continue };
                    steps.mark(Step::Fork);
                    if let Err(e) = report::go(&live.status) {
                        kill(live);
                        let error = StepError::new("tell of the child", e);
                        return self.settle(id, &Reply::Failed { id, error, cloned: true });
                    }
                    self.tell_started(id, steps)?;
                }
                Ok(Some((Report::Ended { wait_status, max_rss_kib }, _))) => {
                    live.end = Some((wait_status, max_rss_kib));
                }
                Ok(None) => break,
                Err(e) => {
                    let error = StepError::new("read the status", e);
                    kill(live);
                    return self.settle(id, &Reply::Failed { id, error, cloned: true });
                }
            }
        }
        Ok(())
    }

    /// Its first process is ready: a zygote makes the runtime.
    fn order(&mut self, id: InstanceId, steps: Steps, fds: Vec<OwnedFd>) -> io::Result<()> {
        let zygote = self.live.get(&id).and_then(|live| live.expected.as_ref()).map(|e| e.zygote);
        let zygote = zygote.and_then(|zygote| self.live.get(&zygote));
        let control = zygote.and_then(|zygote| zygote.control.as_ref()?.try_clone().ok());
        let keeps = zygote.and_then(|zygote| zygote.keeps.clone());
        let Some(live) = self.live.get_mut(&id) else { return Ok(()) };
        live.keeps = keeps;
        let mut fds = fds.into_iter();
        live.namespaces = Namespaces::of(fds.next().into_iter().collect());
        let ordered = match (&mut live.expected, control) {
            (Some(expected), Some(control)) => {
                expected.steps = steps;
                let (first, ruleset) = (live.pidfd.as_fd(), fds.next());
                expected.order(control.as_fd(), first, ruleset.as_ref(), &self.filter)
            }
            _ => Err(io::ErrorKind::NotConnected.into()),
        };
        let Err(e) = ordered else { return Ok(()) };
        kill(live);
        let error = StepError::new("order a child", e);
        self.settle(id, &Reply::Failed { id, error, cloned: true })
    }

    /// What a zygote has not made when it ends it never will.
    fn disappoint(&mut self, zygote: InstanceId) {
        let waits = |live: &&mut Live| live.expected.as_ref().is_some_and(|e| e.zygote == zygote);
        for live in self.live.values_mut().filter(waits) {
            // Its end tells the daemon.
            kill(live);
        }
    }

    /// Tells the daemon that an instance has started, and by what it can be asked to pause.
    fn tell_started(&mut self, id: InstanceId, steps: Steps) -> io::Result<()> {
        let live = self.live.get(&id).filter(|live| live.pauses);
        // Without a descriptor for it, it just cannot be asked to pause.
        let asked = live.and_then(|live| live.status.try_clone().ok());
        self.settle_with(id, &Reply::Started { id, steps }, asked.as_ref())
    }

    /// Tells the daemon how the start went, the first time; after that only the end matters.
    fn settle(&mut self, id: InstanceId, reply: &Reply) -> io::Result<()> {
        self.settle_with(id, reply, None)
    }

    fn settle_with(
        &mut self,
        id: InstanceId,
        reply: &Reply,
        fd: Option<&OwnedFd>,
    ) -> io::Result<()> {
        let Some(live) = self.live.get_mut(&id) else { return Ok(()) };
        if std::mem::replace(&mut live.settled, true) {
            return Ok(());
        }
        epoll::delete(&self.epoll, &live.status)?;
        wire::send(self.daemon.as_fd(), reply, fd.map(AsFd::as_fd).as_slice())
    }

    /// Pid 1 has ended, so every other process of its namespace has as well: the kernel sees to that first.
    fn on_exit(&mut self, id: InstanceId) -> io::Result<()> {
        self.on_reports(id)?;
        let error = StepError::new("killed during the set-up", io::ErrorKind::Interrupted);
        self.settle(id, &Reply::Failed { id, error, cloned: true })?;
        let Some(mut live) = self.live.remove(&id) else { return Ok(()) };
        if live.control.is_some() {
            self.disappoint(id);
        }
        // Closing it is not enough while a fresh child still has a copy.
        epoll::delete(&self.epoll, &live.pidfd)?;
        if let Some(pasta) = &live.pasta {
            epoll::delete(&self.epoll, &pasta.pidfd)?;
        }
        // Ends it: of an instance that is gone nothing runs.
        drop(live.pasta.take());
        waitid(WaitId::PidFd(live.pidfd.as_fd()), WaitIdOptions::EXITED)?;
        self.reply(&Reply::Exited {
            id,
            wait_status: live.end.map(|end| end.0),
            max_rss_kib: live.end.map(|end| end.1),
        })
    }

    /// Without pasta the instance has no network and never will: it goes as well.
    fn on_pasta_exit(&mut self, id: InstanceId) -> io::Result<()> {
        let Some(live) = self.live.get_mut(&id) else { return Ok(()) };
        if let Some(pasta) = live.pasta.take() {
            epoll::delete(&self.epoll, &pasta.pidfd)?;
        }
        kill(live);
        let error = StepError::new(
            "pasta ended, is /dev/net/tun open to the daemon's user?",
            io::ErrorKind::BrokenPipe,
        );
        self.settle(id, &Reply::Failed { id, error, cloned: true })
    }

    fn reply(&self, reply: &Reply) -> io::Result<()> {
        wire::send(self.daemon.as_fd(), reply, &[])
    }
}

/// The version 2 group that an instance is born in, if there is one.
fn group_to_be_born_in(spec: &Spec) -> Result<Option<OwnedFd>, StepError> {
    match &spec.attach.born_in {
        None => Ok(None),
        Some(path) => {
            let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::RDONLY;
            let opened = rustix::fs::open(path, flags, Mode::empty());
            Ok(Some(opened.at(|| format!("open {}", path.display()))?))
        }
    }
}

/// Two ends of a socket that keeps messages apart.
fn status_pair() -> Result<(OwnedFd, OwnedFd), StepError> {
    socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
        .at(|| "make the status socket".into())
}

fn kill(live: &Live) {
    // The only error is that it has ended by itself.
    pidfd_send_signal(&live.pidfd, Signal::KILL).unwrap_or_default();
}

/// Starts the pasta that an instance waits for; once.
fn give_pasta(live: &mut Live, id: InstanceId, epoll: &OwnedFd) -> io::Result<()> {
    let Some(network) = live.wanted.take() else { return Err(io::ErrorKind::InvalidInput.into()) };
    let Way::Pasta { program } = &network.way else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let pasta = start_pasta(program, &network, live.pid)?;
    epoll::add(epoll, &pasta.pidfd, Source::Pasta(id).pack(), epoll::EventFlags::IN)?;
    live.pasta = Some(pasta);
    Ok(())
}

fn write_maps(live: &Live) -> io::Result<()> {
    let proc = format!("/proc/{}", live.pid);
    let (uids, gids) = live.owner.maps();
    if let Owner::Daemon { .. } = live.owner {
        // Without privilege the group map may only be written once dropping groups is ruled out: user_namespaces(7).
        fs::write(format!("{proc}/setgroups"), "deny")?;
    }
    fs::write(format!("{proc}/uid_map"), uids)?;
    fs::write(format!("{proc}/gid_map"), gids)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_survive_packing() {
        for source in
            [Source::Daemon, Source::Status(1), Source::Process(1 << 40), Source::Pasta(7)]
        {
            assert_eq!(Source::unpack(source.pack()), source);
        }
    }
}
