//! Processes: the one that watches, the daemon, the deadline; and what they say to each other.

use super::promise::{CPU, DEADLINE, PROTOCOL, RIGHTS, WATCHED};
use super::{Attack, CLOSED, FailureKind, Must, NO, Program};

/// Sent in vain: the kernel drops what the first process of a pid namespace does not handle.
const LOST: &str = "done|EPERM|ENOSYS";
/// No such process is in sight.
const UNKNOWN: &str = "ESRCH|EPERM|ENOSYS";

pub(super) const ATTACKS: &[Attack] = &[
    Attack::new(
        "signals",
        WATCHED,
        Program::C("signals"),
        Must::Say(&[
            ("stop 1", LOST),
            ("kill 1", LOST),
            ("stop 1 by pidfd", LOST),
            ("kill 1 by pidfd", LOST),
            ("kill the thread of 1", LOST),
            ("kill the daemon", UNKNOWN),
            ("kill the daemon by pidfd", UNKNOWN),
            ("kill the daemon's thread", UNKNOWN),
            ("queue to the daemon", UNKNOWN),
            ("kill the daemon's group", UNKNOWN),
            // Signal 0 to all that are in sight: those of the own instance.
            ("kill the parent outside", "done"),
            ("the daemon's limits", UNKNOWN),
            // Ends nobody but the own instance.
            ("the limits of 1", "EPERM|done"),
            ("the daemon's priority", UNKNOWN),
            ("the daemon's processors", UNKNOWN),
        ]),
    ),
    Attack::new(
        "first_process",
        WATCHED,
        Program::C("first_process"),
        Must::Say(&[
            ("environ", CLOSED),
            ("mem", CLOSED),
            ("maps", CLOSED),
            ("root", CLOSED),
            ("cwd", CLOSED),
            ("exe", CLOSED),
            ("descriptor 4", CLOSED),
            ("descriptors", CLOSED),
            ("stack", CLOSED),
            ("system call", CLOSED),
            ("auxv", CLOSED),
            ("namespace", CLOSED),
            ("write mem", CLOSED),
            ("kill me last", CLOSED),
            ("thread", CLOSED),
            ("spawner above", "ENOENT"),
        ]),
    ),
    Attack::new(
        "tracing",
        WATCHED,
        Program::C("tracing"),
        Must::Say(&[
            ("attach 1", NO),
            ("seize 1", NO),
            ("read 1", NO),
            ("write 1", NO),
            ("traceme", NO),
            ("attach the runtime", NO),
            ("read the runtime", NO),
            ("kcmp 1", NO),
            ("take descriptor 4 of 1", "EPERM|ENOSYS|EBADF"),
            ("move the pages of 1", NO),
        ]),
    ),
    Attack::new("kill_all", WATCHED, Program::C("kill_all"), Must::End(&[FailureKind::Exited])),
    Attack::new("stop_all", DEADLINE, Program::C("stop_all"), Must::End(&[FailureKind::Timeout])),
    Attack::new("deaf", DEADLINE, Program::C("deaf"), Must::End(&[FailureKind::Timeout])),
    // It goes on while the neighbour is asked.
    Attack::new(
        "hog",
        CPU,
        Program::C("hog"),
        Must::Say(&[("more than its weight", "EACCES|EPERM"), ("ahead of all", "EPERM")]),
    ),
    Attack::new(
        "preload",
        WATCHED,
        Program::Python("said.extend(open('/tmp/preloaded').read().splitlines())"),
        Must::Say(PRELOADED),
    ),
    Attack::new(
        "preload",
        WATCHED,
        Program::Node(
            "said.push(...require('fs').readFileSync('/tmp/preloaded', 'utf8').trim().split('\\n'));",
        ),
        Must::Say(PRELOADED),
    ),
    Attack::new("preload", WATCHED, Program::Java("preload"), Must::Say(PRELOADED)),
    Attack::new(
        "threads_that_never_end",
        DEADLINE,
        Program::Java("threads"),
        Must::End(&[
            FailureKind::Timeout,
            FailureKind::Handler,
            FailureKind::Exited,
            FailureKind::MemoryExceeded,
        ]),
    ),
    Attack::new("at_load", RIGHTS, Program::Java("at_load"), Must::Say(AT_LOAD)),
    Attack::new(
        "answer_for_another",
        PROTOCOL,
        Program::Java("another"),
        Must::End(&[FailureKind::Protocol]),
    ),
    Attack::new(
        "flood_of_frames",
        PROTOCOL,
        Program::Java("flood"),
        Must::End(&[FailureKind::Protocol]),
    ),
    Attack::new(
        "flood_of_pieces",
        PROTOCOL,
        Program::Python(include_str!("../programs/flood_of_pieces.py")),
        Must::End(&[FailureKind::ResponseTooLarge]),
    ),
    Attack::new(
        "flood_of_pieces",
        PROTOCOL,
        Program::Node(include_str!("../programs/flood_of_pieces.js")),
        Must::End(&[FailureKind::ResponseTooLarge]),
    ),
    Attack::new(
        "pieces_for_another",
        PROTOCOL,
        Program::Python(include_str!("../programs/pieces_for_another.py")),
        Must::End(&[FailureKind::Protocol]),
    ),
    Attack::new(
        "threads_that_never_end",
        DEADLINE,
        Program::Node(include_str!("../programs/threads.js")),
        Must::End(&[FailureKind::Timeout]),
    ),
    Attack::new(
        "at_load",
        RIGHTS,
        Program::Python(include_str!("../programs/at_load.py")),
        Must::Say(AT_LOAD),
    ),
    Attack::new(
        "at_load",
        RIGHTS,
        Program::Node(include_str!("../programs/at_load.js")),
        Must::Say(AT_LOAD),
    ),
    Attack::new(
        "answer_for_another",
        PROTOCOL,
        Program::Python(include_str!("../programs/answer_for_another.py")),
        Must::End(&[FailureKind::Protocol]),
    ),
    Attack::new(
        "flood_of_frames",
        PROTOCOL,
        Program::Python(include_str!("../programs/flood_of_frames.py")),
        Must::End(&[FailureKind::Protocol]),
    ),
    Attack::new(
        "half_closed",
        PROTOCOL,
        Program::Python(
            "import socket, time\nsocket.socket(fileno=3).shutdown(socket.SHUT_WR)\ntime.sleep(9999)",
        ),
        Must::End(&[FailureKind::Protocol]),
    ),
    Attack::new(
        "grandchild",
        PROTOCOL,
        Program::C("grandchild"),
        Must::End(&[FailureKind::Protocol]),
    ),
    // The byte that comes with the descriptors makes no frame, so it ends as it would without them.
    Attack::new(
        "hand_over",
        PROTOCOL,
        Program::C("hand_over"),
        Must::End(&[FailureKind::Protocol]),
    ),
];

/// In the runtime and nowhere else: not in the process that watches over it, and not before everything is in force.
const PRELOADED: &[(&str, &str)] = &[("process 2", "locked in")];
const AT_LOAD: &[(&str, &str)] = &[
    ("NoNewPrivs at load", "1"),
    ("CapEff at load", "0000000000000000"),
    ("CapBnd at load", "0000000000000000"),
    ("CapPrm at load", "0000000000000000"),
    ("Seccomp at load", "2"),
    ("NoNewPrivs now", "1"),
    ("CapEff now", "0000000000000000"),
    ("CapBnd now", "0000000000000000"),
    ("CapPrm now", "0000000000000000"),
    ("Seccomp now", "2"),
];
