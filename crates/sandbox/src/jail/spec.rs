//! What the daemon asks of the spawner: one instance, described completely.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use zeroize::Zeroize as _;

use super::network::{Network, Way};
use super::wire::InstanceId;

/// User id that functions see themselves as (AWS Lambda's `sbx_user` ids are in this range).
pub(crate) const INNER_UID: u32 = 993;
/// Group id that functions see themselves as.
pub(crate) const INNER_GID: u32 = 990;

/// One instance.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Spec {
    /// What to run in it.
    pub(crate) program: Program,
    /// What it sees as `/`.
    pub(crate) root: Root,
    /// Whom it belongs to on the host.
    pub(crate) owner: Owner,
    /// Resource limits of its processes.
    pub(crate) limits: Limits,
    /// Control groups to join.
    pub(crate) attach: Attach,
    /// Its network, if it has more than loopback.
    pub(crate) network: Option<Network>,
    /// Whether something will be mounted while it runs ([`super::client::Process::attach`]): the spawner then keeps hold of its mount namespace until that
    /// has happened.
    pub(crate) takes_mounts: bool,
    /// Whether its first process stops and continues the others when asked ([`super::pause`]): where no control group freezes them.
    pub(crate) pauses: bool,
    /// How its runtime comes up.
    pub(crate) born: Born,
    /// What its runtime speaks with the daemon by.
    pub(crate) speaks: Speaks,
    /// Programs that run beside the runtime and are started before it ([`super::companions`]); with [`Speaks::Http`] alone.
    pub(crate) companions: Vec<String>,
}

/// What a runtime speaks with the daemon by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Speaks {
    /// The frame socket, which it inherits.
    #[default]
    Frames,
    /// A listener in its own network namespace ([`super::listener`]), which comes to the daemon by the frame socket. It inherits nothing.
    Http,
    /// So many sockets of its own network namespace ([`super::sockets`]), by which the daemon connects to it. They come by the frame socket; it inherits nothing.
    Sockets(u16),
}

/// How a runtime comes up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Born {
    /// Its program is executed in the sandbox.
    #[default]
    ByExec,
    /// It is a copy of this zygote.
    ByZygote(InstanceId),
    /// It is no instance but a zygote: it has the rights of the spawner.
    AsZygote,
}

impl Spec {
    /// Whether the instance's first process makes its network namespace itself, because it needs a hold of the host's.
    pub(crate) fn leaves_the_hosts_network(&self) -> bool {
        matches!(self.network, Some(Network { way: Way::Veth { .. }, .. }))
    }
}

impl Spec {
    /// About the length of its JSON: enough, unless very much of the environment has to be escaped.
    pub(super) fn json_bytes(&self) -> usize {
        const FIXED: usize = 2_048;
        const MOUNT: usize = 256;
        FIXED + MOUNT * self.root.mounts.len() + self.program.environment.json_bytes()
    }
}

/// The program, by `exec` inside the finished root.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Program {
    /// Path and arguments; the path is also `argv[0]`.
    pub(crate) argv: Vec<String>,
    /// `KEY=VALUE`, all of it: nothing is inherited.
    pub(crate) environment: Environment,
    /// Working directory.
    pub(crate) directory: String,
    /// Host name.
    pub(crate) hostname: String,
}

/// Environment variables as `KEY=VALUE`. Some are secrets: wiped on drop, and `Debug` shows the names alone.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Environment(Vec<String>);

impl Environment {
    /// These variables, with room for `more`.
    pub(crate) fn of(variables: &[String], more: usize) -> Self {
        let mut all = Vec::with_capacity(variables.len() + more);
        all.extend_from_slice(variables);
        Self(all)
    }

    /// Adds one.
    pub(crate) fn push(&mut self, key: &str, value: &str) {
        // At its full length from the start: growing would leave copies behind.
        let mut variable = String::with_capacity(key.len() + 1 + value.len());
        variable.push_str(key);
        variable.push('=');
        variable.push_str(value);
        self.0.push(variable);
    }

    /// About the length of their JSON: enough, unless very much has to be escaped.
    pub(crate) fn json_bytes(&self) -> usize {
        self.0.iter().map(|v| v.len() + v.len() / 8 + 4).sum()
    }

    /// All of them.
    pub(crate) fn as_slice(&self) -> &[String] {
        &self.0
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.0.iter().map(|v| v.split('=').next().unwrap_or_default());
        f.debug_list().entries(names).finish()
    }
}

impl Drop for Environment {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// The root file system: a read-only bind of a prepared folder, with mounts upon its empty folders and files.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Root {
    /// The prepared folder, on the host.
    pub(crate) skeleton: PathBuf,
    /// An empty folder on the host where the root is put together, in the instance's own mount namespace.
    pub(crate) at: PathBuf,
    /// In this order.
    pub(crate) mounts: Vec<Mount>,
}

impl Root {
    /// What all instances of a runtime share, which are the binds that come first, and what is an instance's own.
    pub(super) fn parts(&self) -> (&[Mount], &[Mount]) {
        let shared = self.mounts.iter().take_while(|m| matches!(m, Mount::Bind(_))).count();
        self.mounts.split_at(shared)
    }
}

/// One mount. `to` is relative to the root and exists in the skeleton or in an earlier mount.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Mount {
    /// Something of the host.
    Bind(Bind),
    /// An empty file system in memory.
    Memory {
        /// Where.
        to: String,
        /// Its size limit.
        megabytes: u32,
    },
    /// `/proc` of the own pid namespace, read-only and without the processes that the function may not look into.
    Proc {
        /// Where.
        to: String,
    },
    /// Something inside an earlier mount, hidden behind an empty folder or file.
    Mask {
        /// What.
        to: String,
        /// What lies upon it: a folder or file of the root, or of an earlier mount.
        by: String,
    },
}

/// A folder or file of the host, read-only, with everything mounted below it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Bind {
    /// On the host.
    pub(crate) from: PathBuf,
    /// Where.
    pub(crate) to: String,
    /// Whether it is a device node, which has to stay usable.
    pub(crate) device: bool,
}

impl Mount {
    /// A read-only bind.
    pub(crate) fn bind(from: impl Into<PathBuf>, to: impl Into<String>) -> Self {
        Self::Bind(Bind { from: from.into(), to: to.into(), device: false })
    }

    /// A bind of `/dev/NAME`.
    pub(crate) fn device(name: &str) -> Self {
        Self::Bind(Bind {
            from: format!("/dev/{name}").into(),
            to: format!("dev/{name}"),
            device: true,
        })
    }

    /// Where it is mounted.
    pub(crate) fn target(&self) -> &str {
        match self {
            Self::Bind(Bind { to, .. })
            | Self::Memory { to, .. }
            | Self::Proc { to }
            | Self::Mask { to, .. } => to,
        }
    }
}

/// Whom an instance's processes belong to, seen from the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Owner {
    /// The daemon is root: everything is set up with its rights, and then given up for ids that nobody else has. The user namespace
    /// comes last, so that the other namespaces, and what is mounted in them, stay the host's.
    Stranger {
        /// User id on the host.
        uid: u32,
        /// Group id on the host.
        gid: u32,
    },
    /// The daemon is an ordinary user: the user namespace comes first and gives the rights to set up the rest. Seen from the host,
    /// every instance runs as that user; only the namespaces keep instances apart.
    Daemon {
        /// The daemon's user id.
        uid: u32,
        /// The daemon's group id.
        gid: u32,
    },
}

impl Owner {
    /// Lines for `uid_map` and `gid_map`.
    pub(crate) fn maps(self) -> (String, String) {
        let (Self::Stranger { uid, gid } | Self::Daemon { uid, gid }) = self;
        (format!("{INNER_UID} {uid} 1\n"), format!("{INNER_GID} {gid} 1\n"))
    }
}

/// `setrlimit`, for every process of the instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Limits {
    /// Open files of one process.
    pub(crate) open_files: u64,
    /// Processes and threads of the instance together.
    pub(crate) processes: u64,
    /// Private writable memory of one process in bytes, where no control group limits it.
    pub(crate) data_bytes: Option<u64>,
}

/// The control groups that an instance lives in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Attach {
    /// Folder of a version 2 group: the instance is born in it. Beside `join` it only freezes.
    pub(crate) born_in: Option<PathBuf>,
    /// `tasks` of version 1 groups: the instance's first process joins them before it does anything else.
    pub(crate) join: Vec<PathBuf>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_environment_shows_names_only() {
        let mut environment = Environment::of(&["A=hunter1".to_owned()], 1);
        environment.push("B", "hunter=2");
        assert_eq!(environment.as_slice(), ["A=hunter1", "B=hunter=2"]);
        assert_eq!(format!("{environment:?}"), r#"["A", "B"]"#);
        let json = serde_json::to_string(&environment).unwrap();
        assert_eq!(json, r#"["A=hunter1","B=hunter=2"]"#);
    }
}
