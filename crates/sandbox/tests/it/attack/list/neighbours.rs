//! The daemon and the other function, live at the same time: their secrets, sockets, networks.

use super::promise::{ENVIRONMENT, FILES, KERNEL, NETWORK, RIGHTS, SIGHT};
use super::{Attack, CLOSED, Must, NO, Program, SEARCH};

/// There is no way to it, or nobody is there.
const NOBODY: &str = "ECONNREFUSED|ENETUNREACH|EHOSTUNREACH|EADDRNOTAVAIL|EACCES|EPERM";
/// A family that is not to be had.
const NO_FAMILY: &str = "EPERM|EAFNOSUPPORT|EPROTONOSUPPORT|ESOCKTNOSUPPORT|EACCES";

pub(super) const ATTACKS: &[Attack] = &[
    Attack::new("search_for_secrets", FILES, Program::Python(SEARCH), Must::Say(&[])),
    Attack::new(
        "search_for_the_environment",
        ENVIRONMENT,
        Program::Python(include_str!("../programs/environment.py")),
        Must::Say(&[("variables of the daemon", "none"), ("files that tell them", "none")]),
    ),
    Attack::new(
        "sight",
        SIGHT,
        Program::C("sight"),
        Must::Say(&[
            ("session of the daemon", "ESRCH"),
            ("group of the daemon", "ESRCH"),
            ("processors of the daemon", "ESRCH"),
            ("scheduler of the daemon", "ESRCH"),
            ("handle of the daemon", "ESRCH|EPERM|ENOSYS"),
        ]),
    ),
    Attack::new(
        "names_of_others",
        SIGHT,
        Program::Python(include_str!("../programs/names.py")),
        Must::Say(&[
            ("processes of others", "none"),
            ("host name", "function"),
            ("shared memory", "none"),
            ("shared memory by number", "none"),
            ("abstract sockets", "none"),
            ("interfaces", "lo"),
            ("mounts of the host", "none"),
        ]),
    ),
    Attack::new(
        "addresses",
        NETWORK,
        Program::C("addresses"),
        Must::Say(&[
            ("the host's loopback", NOBODY),
            ("the host's loopback, other name", NOBODY),
            ("any address", NOBODY),
            ("the host's loopback 6", NOBODY),
            ("mapped loopback", NOBODY),
            ("metadata", NOBODY),
            ("metadata, datagram", NOBODY),
            ("private 10", NOBODY),
            ("private 172", NOBODY),
            ("private 192", NOBODY),
            ("outside", NOBODY),
            ("outside 6", NOBODY),
            ("multicast", NOBODY),
            ("abstract socket of the host", NOBODY),
            ("abstract socket of the other function", NOBODY),
        ]),
    ),
    Attack::new(
        "families",
        KERNEL,
        Program::C("families"),
        Must::Say(&[
            ("raw", NO_FAMILY),
            ("raw 6", NO_FAMILY),
            ("packet", NO_FAMILY),
            ("packet datagrams", NO_FAMILY),
            ("vsock to the hypervisor", NO_FAMILY),
            ("vsock to the host", NO_FAMILY),
            ("kernel crypto", NO_FAMILY),
            ("bluetooth", NO_FAMILY),
            ("key management", NO_FAMILY),
            ("xdp", NO_FAMILY),
            ("tipc", NO_FAMILY),
            ("rds", NO_FAMILY),
            ("netfilter", NO_FAMILY),
            ("audit", NO_FAMILY),
            ("kernel events", NO_FAMILY),
        ]),
    ),
    Attack::new(
        "bindings",
        RIGHTS,
        Program::Node(include_str!("../programs/bindings.js")),
        Must::Say(&[
            ("become root", "EPERM|EINVAL"),
            ("become root, effectively", "EPERM|EINVAL"),
            ("join a group", NO),
            ("signal the daemon", "ESRCH"),
            ("debug the daemon", "ESRCH"),
            // A signal, and lost.
            ("debug the first process", "ENOENT|ESRCH|EPERM|done"),
            ("priority of the daemon", "ESRCH"),
            ("load a module from memory", "ERR_DLOPEN_FAILED"),
            ("the bootstrap", "EROFS|EACCES"),
            ("the runtime", "EROFS|EACCES"),
            ("own code", "EROFS|EACCES"),
            ("the daemon's folder", "ENOENT"),
            ("the daemon's memory", "ENOENT"),
            ("the first process's memory", CLOSED),
        ]),
    ),
];
