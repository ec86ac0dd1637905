//! The table of what this host gives the process sandbox: [`Feature`] by [`Feature`], in the order of [`all`].
//!
//! [`examine`] finds out without a sandbox, for `hanshu doctor`; [`super::ProcessSandbox`] makes the same table from what it holds.

use std::path::PathBuf;

use model::Result;
use model::isolation::{Feature, Isolation, Need, ZYGOTE};

use super::folders::blocking;
use super::image::Users;
use super::network::Means;
use super::runtimes::{self, Runtimes};
use super::users;
use crate::jail::cgroup::Groups;
use crate::jail::probe::{self, Kernel};

/// First version of Landlock's interface that keeps signals and abstract sockets inside (Linux 6.12).
const LANDLOCK_SCOPES: u32 = 6;

/// Finds out what this host gives a daemon of this user: `executable` calls [`crate::jail::main_if_spawner`] first in its `main`; `path` is where
/// runtimes are looked for, `uid_base` the first host user id of instances.
///
/// Makes a control group to see whether it may, and removes it again. Fails only if a thread for this cannot be had.
pub async fn examine(executable: PathBuf, path: &str, uid_base: u32) -> Result<Isolation> {
    let kernel = blocking(move || {
        let users = users(uid_base);
        let kernel = probe::ask(&executable, users.are_strangers());
        let groups = Groups::open(kernel.clone_into_cgroup.is_ok());
        Ok((kernel, groups, users))
    });
    let engine = blocking(|| Ok(crate::wasm::examine()));
    let (found, runtimes, engine) = tokio::join!(kernel, runtimes::discover(path), engine);
    let (kernel, groups, users) = found?;
    let mut features = all(&kernel, &groups, &users, &runtimes, path).features;
    features.push(engine?);
    Ok(Isolation::of(features))
}

/// The table.
pub(super) fn all(
    kernel: &Kernel,
    groups: &Groups,
    users: &Users,
    runtimes: &Runtimes,
    path: &str,
) -> Isolation {
    let mut features = namespaces(kernel, users);
    features.extend(filters(kernel));
    features.extend(groups.features());
    features.extend([into_cgroup(kernel), groups.freezing(), pre_start(kernel), zygote(users)]);
    features.extend([installed(runtimes, path), network(users, path)]);
    Isolation::of(features)
}

fn namespaces(kernel: &Kernel, users: &Users) -> Vec<Feature> {
    let told = |found: &std::result::Result<(), String>, what: &str| {
        found.as_ref().map(|()| what.to_owned()).map_err(Clone::clone)
    };
    let own = if users.are_strangers() {
        Ok("a host user of its own for each instance".to_owned())
    } else {
        Err("all instances run as the daemon's user: the daemon is not root".to_owned())
    };
    vec![
        Feature::of(
            "user-namespaces",
            Need::Isolation,
            told(&kernel.user_namespaces, "a function is nobody on the host"),
            "no function can be started",
        ),
        Feature::of(
            "namespaces",
            Need::Isolation,
            told(&kernel.namespaces, "pid, mount, network, IPC, UTS, cgroup"),
            "no function can be started",
        ),
        Feature::of(
            "pidfd",
            Need::Isolation,
            told(&kernel.pidfd, "instances are killed by descriptor"),
            "no function can be started",
        ),
        Feature::of(
            "users",
            Need::Isolation,
            own,
            "instances share the daemon's user with its supplementary groups: only namespaces keep them apart",
        ),
    ]
}

fn filters(kernel: &Kernel) -> [Feature; 2] {
    let seccomp = kernel
        .seccomp
        .as_ref()
        .map(|()| "every function runs behind a filter of system calls".to_owned());
    let landlock = kernel.landlock.as_ref().map(|version| {
        let less = match *version < LANDLOCK_SCOPES {
            true => ", which has no rules for signals and sockets",
            false => "",
        };
        format!("every function runs behind it, interface version {version}{less}")
    });
    [
        Feature::of(
            "seccomp",
            Need::Isolation,
            seccomp.map_err(Clone::clone),
            "a function reaches every system call of the kernel",
        ),
        Feature::of(
            "landlock",
            Need::Isolation,
            landlock.map_err(Clone::clone),
            "the mount namespace alone keeps files apart, with no second fence behind it",
        ),
    ]
}

fn pre_start(kernel: &Kernel) -> Feature {
    let found = kernel.attach.as_ref().map(|()| "code is mounted in instances that run".into());
    let lost =
        "no instance is started before it is asked for, so first calls wait for their runtime";
    Feature::of("pre-start", Need::Option, found.map_err(Clone::clone), lost)
}

fn zygote(users: &Users) -> Feature {
    let found = if !cfg!(target_arch = "x86_64") {
        Err("threads are not made again on this processor".to_owned())
    } else if users.are_strangers() {
        Ok("runtimes that pass a trial are forked, unless `sandbox.zygote` says otherwise"
            .to_owned())
    } else {
        Err("only a daemon that is root can enter the instances that it has made".to_owned())
    };
    let lost =
        "starts that find nothing pre-started wait for their runtime, which shares no memory";
    Feature::of(ZYGOTE, Need::Option, found, lost)
}

fn into_cgroup(kernel: &Kernel) -> Feature {
    let found = kernel.clone_into_cgroup.as_ref().map(|()| "clone3 with CLONE_INTO_CGROUP".into());
    let lost = "version 2 control groups cannot be used";
    Feature::of("clone-into-cgroup", Need::Option, found.map_err(Clone::clone), lost)
}

fn installed(runtimes: &Runtimes, path: &str) -> Feature {
    // What packages bring is there whatever is installed.
    let installed = runtimes.iter().filter(|runtime| !runtime.brings_its_own());
    let list: Vec<String> =
        installed.map(|r| format!("{} ({})", r.info.name, r.info.version)).collect();
    let but: String = runtimes.unusable().iter().map(|why| format!("; not used: {why}")).collect();
    let found = match list.is_empty() {
        false => Ok(format!("{}{but}", list.join(", "))),
        true => Err(format!("none of Node.js, Python and Java is in {path}{but}")),
    };
    let lost = "there is nothing to run functions with, but for those that bring their own runtime";
    Feature::of("runtimes", Need::Service, found, lost)
}

/// How instances get a network beyond loopback where a function asks for one.
fn network(users: &Users, path: &str) -> Feature {
    let found = match Means::find(users, path) {
        Means::Veth(_) => Ok("by the kernel's own networks and filters".to_owned()),
        Means::Pasta(file) => Ok(format!("through {}", file.display())),
        Means::Nothing { why, .. } => Err(why.to_owned()),
    };
    let lost = "functions have no network beyond loopback, and those that ask for one are refused";
    Feature::of("network", Need::Option, found, lost)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const NOBODY: Users = Users::Daemon { uid: 1, gid: 1 };

    #[test]
    fn what_the_kernel_lacks_is_named_with_its_reason_and_loss() {
        let kernel = Kernel { seccomp: Ok(()), landlock: Ok(6), ..Kernel::unknown("not today") };
        let mut table = namespaces(&kernel, &NOBODY);
        table.extend(filters(&kernel));
        table.push(into_cgroup(&kernel));
        table.push(installed(&Runtimes::default(), "/a:/b"));
        let isolation = Isolation::of(table);
        assert!(!isolation.full && !Isolation::of(namespaces(&Kernel::unknown("?"), &NOBODY)).full);
        let missing: Vec<&str> = isolation.missing().map(|f| f.name.as_str()).collect();
        let expected =
            ["user-namespaces", "namespaces", "pidfd", "users", "clone-into-cgroup", "runtimes"];
        assert_eq!(missing, expected);
        assert_eq!(isolation.detail("namespaces"), "not today");
        assert_eq!(
            isolation.detail("landlock"),
            "every function runs behind it, interface version 6"
        );
        assert!(isolation.detail("runtimes").contains("/a:/b"));
        assert!(isolation.features.iter().all(|f| !f.lost.is_empty() && !f.detail.is_empty()));
    }

    #[test]
    fn a_network_is_told_by_what_gives_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = format!("relative:{}", folder.path().display());
        assert!(!network(&NOBODY, &path).available);
        let file = folder.path().join("pasta");
        fs::write(&file, "").unwrap();
        assert!(!network(&NOBODY, &path).available, "nobody may execute it");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(network(&NOBODY, &path).detail, format!("through {}", file.display()));
    }
}
