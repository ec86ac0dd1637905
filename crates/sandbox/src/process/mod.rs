//! The process sandbox: a function's runtime as a process of its own, locked in by [`crate::jail`].
//!
//! [`ProcessSandbox`] → [`image::ProcessImage`] → [`instance::ProcessInstance`]. Around them: [`runtimes`] (what is installed), [`root`] and [`environment`]
//! (what a function sees), [`network`] (what it reaches), [`packages`] (unpacked code and layers) in [`folders`] on disk, [`failure`] (how an end is worded), [`life`] (what instances have in common), [`remains`] (what is cleared up),
//! [`freeze`] (idle ones stand still), [`slots`] (host user ids), [`birth`] (what every start has in common), [`stock`] (instances that are started before anybody calls),
//! [`features`] (what the host gives).
//!
//! Not here: pooling, queues and retries (the engine's), and what a frame looks like ([`crate::frame`]).

mod birth;
mod bootstraps;
pub(crate) mod environment;
pub(crate) mod failure;
mod features;
mod flow;
pub(crate) mod folders;
mod freeze;
mod image;
mod instance;
pub(crate) mod life;
pub(crate) mod network;
pub(crate) mod packages;
mod provided;
mod remains;
mod root;
mod runtimes;
mod slots;
mod stock;
mod web;

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use model::clock::Clock;
use model::function::{RuntimeInfo, Version};
use model::ids::Digest;
use model::invocation::StartCounts;
use model::isolation::Isolation;
use model::network::NetworkPolicy;
use model::ports::{Blobs, Image, Logs, PackageInfo, Sandbox, Vault};
use model::tasks::Tasks;
use model::{Error, Result};
use tokio::sync::Semaphore;

use crate::jail::Spawner;
use crate::jail::cgroup::Groups;
use crate::jail::probe;
pub use features::examine;
use folders::{blocking, disk};
use image::{ProcessImage, Shared, Users};
pub use network::NetworkConfig;
use network::Networks;
use packages::Packages;
use root::{Layout, make_folder};
use runtimes::{Language, Runtime, Runtimes};
use slots::{SLOTS, Slots};
pub use stock::ZygoteUse;
use stock::{Recipe, Stock};

/// First host user id of the range that instances run under, unless configured: above the ranges that distributions give to people
/// and their subordinate users (shadow's `SUB_UID_MIN` is 100 000, systemd's `DynamicUser` ends at 65 519).
pub const UID_BASE_DEFAULT: u32 = 2_000_000_000;

/// Children of one zygote, unless configured: they share its address layout and hash secrets.
pub const ZYGOTE_CHILDREN_DEFAULT: u32 = 1_000;

/// What counts as a pause between starts.
const PAUSE: Duration = Duration::from_millis(5);

/// What the sandbox has to be told.
#[derive(Clone, Debug)]
pub struct SandboxConfig {
    /// A folder for unpacked packages and prepared roots; made if missing. Everything in it can be made again.
    pub cache_dir: PathBuf,
    /// Where to look for runtimes: folders separated by colons, as in `PATH`.
    pub path: String,
    /// An executable that calls [`crate::jail::main_if_spawner`] first in its `main`: the daemon itself.
    pub spawner: PathBuf,
    /// First of 65 536 host user and group ids that nobody else uses; of no account when the daemon is not root.
    pub uid_base: u32,
    /// For functions that have a network.
    pub network: NetworkConfig,
    /// Expected memory of pre-started instances together, in MiB; 0: no instance is started before it is asked for.
    pub prestart_memory_mb: u32,
    /// Whether warm runtimes are forked.
    pub zygote: ZygoteUse,
    /// Children of one zygote: before it has had all, another takes its place.
    pub zygote_children: u32,
}

/// Runs functions as processes.
#[derive(Debug)]
pub struct ProcessSandbox {
    shared: Arc<Shared>,
    stock: Arc<Stock>,
    runtimes: Runtimes,
    layouts: HashMap<String, Layout>,
    packages: Arc<Packages>,
    isolation: Isolation,
}

impl ProcessSandbox {
    /// Finds out what is installed and what the host allows, and prepares the cache.
    ///
    /// `storage-unusable` if the cache folder cannot be written. That no runtime is installed is no error.
    pub async fn new(
        config: SandboxConfig,
        blobs: Arc<dyn Blobs>,
        logs: Arc<dyn Logs>,
        vault: Arc<dyn Vault>,
        clock: Arc<dyn Clock>,
        tasks: Tasks,
    ) -> Result<Arc<Self>> {
        let executable = config.spawner.clone();
        let spawner = Spawner::new(config.spawner, tasks.clone());
        // The spawner and what it starts have working directories of their own.
        let folder = std::path::absolute(&config.cache_dir).map_err(disk)?;
        let cache = folder.clone();
        let (keep, until, path) = (blobs, tasks.clone(), config.path.clone());
        let prepared = blocking(move || {
            make_folder(&cache).map_err(disk)?;
            let packages = Packages::open(&cache, &boot_id(), keep, until).map_err(disk)?;
            let root_at = cache.join("root");
            make_folder(&root_at).map_err(disk)?;
            let bootstraps = bootstraps::write(&cache).map_err(disk)?;
            let users = users(config.uid_base);
            let networks = Networks::open(config.network, &users, &path, &cache);
            let kernel = probe::ask(&executable, users.are_strangers());
            let groups = Groups::open(kernel.clone_into_cgroup.is_ok());
            Ok((packages, root_at, bootstraps, networks, (groups, users, kernel)))
        });
        // Before any other process of the daemon exists: version 2 of control groups hands nothing down while one lies in the daemon's own group.
        let prepared = prepared.await;
        let (runtimes, warmed) = tokio::join!(runtimes::discover(&config.path), spawner.warm());
        if let Err(error) = warmed {
            // The first start tries again, and reports it to whoever waits for it.
            tracing::warn!(%error, "the sandbox's spawner did not start");
        }
        let (packages, root_at, bootstraps, networks, (groups, users, kernel)) = prepared?;
        let isolation = features::all(&kernel, &groups, &users, &runtimes, &config.path);
        let (cache, all, at) = (folder, runtimes.clone(), root_at.clone());
        let as_root = matches!(users, Users::Daemon { uid: 0, .. });
        let layouts = blocking(move || {
            let lay_out = |runtime: &Arc<Runtime>| {
                let own = bootstraps::folder(&cache, &bootstraps, runtime).map_err(disk)?;
                let layout = root::lay_out(&cache, &at, &own, runtime, as_root).map_err(disk)?;
                Ok((runtime.info.name.clone(), layout))
            };
            all.iter().map(lay_out).collect::<Result<_>>()
        })
        .await?;
        let until = tasks.clone();
        let compiling = tokio::sync::Mutex::default();
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let turns = Arc::new(Semaphore::new(TURNS_PER_PROCESSOR * processors));
        let shared = Arc::new(Shared {
            spawner,
            groups,
            users,
            networks: Arc::new(networks),
            logs,
            vault,
            clock,
            tasks,
            root_at,
            turns,
            compiling,
        });
        until.spawn_until_cancelled("control groups", keep_ready(&shared));
        let budget_mb = if isolation.has("pre-start") { config.prestart_memory_mb } else { 0 };
        let zygotes = (config.zygote, config.zygote_children);
        let stock = Stock::new(Arc::clone(&shared), budget_mb, zygotes);
        drop(until.spawn("pre-started instances", stock::keep(&stock)));
        let packages = Arc::new(packages);
        Ok(Arc::new(Self { shared, stock, runtimes, layouts, packages, isolation }))
    }

    /// What keeps instances apart and in bounds on this host, and what is lost.
    pub fn isolation(&self) -> &Isolation {
        &self.isolation
    }

    /// Host user ids that instances hold, those that are still ending included; `None` where all run as the daemon's user.
    pub fn users_held(&self) -> Option<usize> {
        match &self.shared.users {
            Users::Strangers(slots) => Some(slots.held()),
            Users::Daemon { .. } => None,
        }
    }

    /// How many pre-started instances lie ready for a version.
    pub fn ready_for(&self, version: &Version) -> u64 {
        self.recipe(version).map_or(0, |recipe| self.stock.ready(&recipe))
    }

    /// What functions reach, whatever runs them.
    pub(crate) fn networks(&self) -> Arc<Networks> {
        Arc::clone(&self.shared.networks)
    }

    /// Where packages lie unpacked, whatever runs them.
    pub(crate) fn packages(&self) -> Arc<Packages> {
        Arc::clone(&self.packages)
    }

    fn recipe(&self, version: &Version) -> Option<Recipe> {
        let (runtime, layout) = self.runtime(&version.runtime.name).ok()?;
        image::recipe(&self.shared, version, runtime, layout).ok()
    }

    /// Leaves the host as it was found. For a daemon that stops, when no instance is left.
    pub fn close(&self) {
        self.shared.networks.close();
        self.shared.groups.close();
    }

    /// The root of a function whose interpreter is not in that of its runtime: Java's has its libraries where others have theirs, and an executable has
    /// an interpreter only if it is a script that asks for one.
    async fn layout_for(
        &self,
        version: &Version,
        unpacked: &Arc<packages::Unpacked>,
    ) -> Option<&Layout> {
        let runtime = self.runtimes.resolve(&version.runtime.name).ok()?;
        let language = match runtime.language {
            Language::Web if web::runs(&version.config, "java") => Language::Java,
            Language::Provided => {
                let unpacked = Arc::clone(unpacked);
                blocking(move || Ok(provided::interpreter(&unpacked))).await.ok()??
            }
            _ => return None,
        };
        self.layouts.get(&self.runtimes.of(language)?.info.name)
    }

    fn runtime(&self, name: &str) -> Result<(&Arc<Runtime>, &Layout)> {
        let runtime = self.runtimes.resolve(name)?;
        let layout = self.layouts.get(&runtime.info.name);
        let layout = layout.ok_or_else(|| Error::internal("a runtime has no root"))?;
        Ok((runtime, layout))
    }
}

#[async_trait]
impl Sandbox for ProcessSandbox {
    fn runtimes(&self) -> Vec<RuntimeInfo> {
        self.runtimes.infos()
    }

    fn resolve_runtime(&self, name: &str) -> Result<RuntimeInfo> {
        self.runtimes.resolve(name).map(|runtime| runtime.info.clone())
    }

    fn check_network(&self, policy: &NetworkPolicy) -> Result<()> {
        self.shared.networks.check(policy)
    }

    fn expect(&self, version: &Version) {
        if let Some(recipe) = self.recipe(version) {
            self.stock.expect(&recipe);
        }
    }

    fn end_calls(&self) -> bool {
        self.shared.spawner.kill_all()
    }

    fn starts(&self) -> StartCounts {
        self.stock.counts()
    }

    async fn check_package(&self, package: Bytes) -> Result<PackageInfo> {
        self.packages.take(package).await
    }

    async fn prepare(&self, version: Arc<Version>) -> Result<Arc<dyn Image>> {
        let (runtime, layout) = self.runtime(&version.runtime.name)?;
        // The host may have lost what it had when the version was deployed.
        self.check_network(&version.config.network)?;
        let unpacked = Arc::new(self.packages.code(&version).await?);
        let layout = self.layout_for(&version, &unpacked).await.unwrap_or(layout);
        bootstraps::complete(&self.shared.compiling, &layout.bootstraps, runtime).await?;
        let shared = Arc::clone(&self.shared);
        let shared = (shared, Arc::clone(&self.stock));
        Ok(Arc::new(ProcessImage::new(shared, version, Arc::clone(runtime), layout, unpacked)))
    }

    async fn forget_package(&self, digest: &Digest) {
        self.packages.forget(digest).await;
    }
}

/// Makes control groups ahead for as long as the sandbox is there.
fn keep_ready(shared: &Arc<Shared>) -> impl Future<Output = ()> + use<> {
    let (shared, taken) = (Arc::downgrade(shared), shared.groups.taken());
    async move {
        loop {
            taken.notified().await;
            // A start shall have the processors to itself, and so shall the next if it comes at once.
            while shared.upgrade().is_some_and(|shared| !shared.groups.runs_short())
                && tokio::time::timeout(PAUSE, taken.notified()).await.is_ok()
            {}
            let Some(shared) = shared.upgrade() else { return };
            let refilled = tokio::task::spawn_blocking(move || shared.groups.refill());
            if let Ok(Err(error)) = refilled.await {
                // The start that needs one makes it itself, and says why it cannot.
                tracing::debug!(%error, "control groups are not made ahead");
            }
        }
    }
}

/// Runtimes that come up at once for each processor: while one waits for a disk or for the spawner another has it.
const TURNS_PER_PROCESSOR: usize = 2;

/// Names the host's current boot.
fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default()
}

/// Strangers, if this process has the right to make them; else its own user.
fn users(base: u32) -> Users {
    let root = rustix::process::geteuid().is_root();
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mapped = |file: &str| {
        let map = fs::read_to_string(Path::new("/proc/self").join(file)).unwrap_or_default();
        maps_range(&map, base)
    };
    if root && has_capability(&status, CAP_SYS_ADMIN) && mapped("uid_map") && mapped("gid_map") {
        return Users::Strangers(Slots::new(base));
    }
    Users::Daemon {
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
    }
}

/// The number of the capability to make namespaces and mounts.
const CAP_SYS_ADMIN: u32 = 21;
/// The number of the capability to change interfaces and routes.
const CAP_NET_ADMIN: u32 = 12;

/// Whether `/proc/self/status` shows a capability.
fn has_capability(status: &str, number: u32) -> bool {
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
    effective.is_some_and(|caps| caps & (1 << number) != 0)
}

/// Whether an id map (user_namespaces(7)) holds all ids that instances may get.
fn maps_range(map: &str, base: u32) -> bool {
    let last = u64::from(base) + u64::from(SLOTS);
    map.lines().any(|line| {
        let mut numbers = line.split_whitespace().map(|n| n.parse::<u64>().unwrap_or(0));
        let (Some(first), Some(_), Some(count)) = (numbers.next(), numbers.next(), numbers.next())
        else {
            return false;
        };
        first <= u64::from(base) && last <= first + count
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_found_in_id_maps() {
        let host = "         0          0 4294967295\n";
        assert!(maps_range(host, UID_BASE_DEFAULT));
        assert!(!maps_range("0 1000 1\n1 100000 65536\n", 200_000));
        assert!(!maps_range("", 0));
    }

    #[test]
    fn the_right_capability_is_looked_at() {
        let most = "Name:\tx\nCapEff:\t000001fffeffffff\n";
        assert!(has_capability(most, CAP_SYS_ADMIN) && !has_capability(most, 24));
        assert!(!has_capability("CapEff:\t0000000000000000\n", CAP_SYS_ADMIN));
        assert!(!has_capability("", CAP_SYS_ADMIN));
    }
}
