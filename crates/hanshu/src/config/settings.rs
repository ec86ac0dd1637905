//! The one table of what can be set, with unit, default and bounds. `docs/reference/config.md` is made from it.

use model::limits;

/// One thing that can be set.
#[derive(Debug)]
pub(crate) struct Setting {
    /// Its place in the file: `section.key`, or `key` at the top.
    pub key: &'static str,
    /// The flag of `serve` that sets it, if there is one.
    pub flag: Option<&'static str>,
    /// What values it takes and what it is when nothing sets it.
    pub kind: Kind,
    /// What it does.
    pub doc: &'static str,
}

/// What values a setting takes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// `ADDR:PORT`.
    Address {
        /// When nothing sets it.
        default: &'static str,
    },
    /// `true` or `false`; `false` when nothing sets it.
    Flag,
    /// Any text.
    Text {
        /// When nothing sets it.
        default: Default,
    },
    /// One of a few words.
    Choice {
        /// The words.
        options: &'static [&'static str],
        /// When nothing sets it.
        default: &'static str,
    },
    /// A URL that starts with `http://` or `https://`; absent when nothing sets it.
    Url {
        /// What stands in for it.
        absent: &'static str,
    },
    /// A whole number.
    Number {
        /// What it counts.
        unit: &'static str,
        /// The least value.
        min: u64,
        /// The greatest value.
        max: u64,
        /// When nothing sets it.
        default: NumberDefault,
    },
}

/// Default of a text.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Default {
    /// This text.
    Fixed(&'static str),
    /// Worked out when the daemon starts, as described.
    Computed(&'static str),
}

/// Default of a number.
#[derive(Clone, Copy, Debug)]
pub(crate) enum NumberDefault {
    /// This number.
    Fixed(u64),
    /// Worked out when the daemon starts, as described.
    Computed(&'static str),
}

impl Setting {
    /// The environment variable that sets it.
    pub(crate) fn variable(&self) -> String {
        format!("HANSHU_{}", self.key.replace('.', "_").to_uppercase())
    }
}

const fn number(
    key: &'static str,
    unit: &'static str,
    (min, max): (u64, u64),
    default: u64,
    doc: &'static str,
) -> Setting {
    let default = NumberDefault::Fixed(default);
    Setting { key, flag: None, kind: Kind::Number { unit, min, max, default }, doc }
}

const DAY_SECONDS: u64 = 86_400;
const GIB: u64 = 1 << 30;

/// `listen`
pub(crate) static LISTEN: Setting = Setting {
    key: "listen",
    flag: Some("--listen"),
    kind: Kind::Address { default: "127.0.0.1:9000" },
    doc: "Where the daemon listens. Port 0 picks a free port; the first line of output says which.",
};
/// `dev`
pub(crate) static DEV: Setting = Setting {
    key: "dev",
    flag: Some("--dev"),
    kind: Kind::Flag,
    doc: "Ask for no keys. The daemon then refuses to listen anywhere but on loopback.",
};
/// `data`
pub(crate) static DATA: Setting = Setting {
    key: "data",
    flag: Some("--data"),
    kind: Kind::Text { default: Default::Fixed("hanshu-data") },
    doc: "The folder that holds everything the daemon keeps. It is made if it is missing.",
};
/// `log_level`
pub(crate) static LOG_LEVEL: Setting = Setting {
    key: "log_level",
    flag: None,
    kind: Kind::Text { default: Default::Fixed("info") },
    doc: "What the daemon logs about itself on standard error: `error`, `warn`, `info`, `debug` or `trace`, also by part, \
          for instance `info,engine=debug`.",
};
/// `log_format`
pub(crate) static LOG_FORMAT: Setting = Setting {
    key: "log_format",
    flag: None,
    kind: Kind::Choice { options: &["text", "json"], default: "text" },
    doc: "How it logs: text for people, or one JSON object a line.",
};
/// `engine.host_memory_mb`
pub(crate) static HOST_MEMORY_MB: Setting = Setting {
    key: "engine.host_memory_mb",
    flag: None,
    kind: Kind::Number {
        unit: "MiB",
        min: 64,
        max: 16 << 20,
        default: NumberDefault::Computed("80 % of the host's memory"),
    },
    doc: "Memory limits of all live instances together. A call that would go over it waits, then is throttled.",
};
/// `engine.instances_per_function`
pub(crate) static INSTANCES_PER_FUNCTION: Setting = number(
    "engine.instances_per_function",
    "instances",
    (1, limits::INSTANCES_MAX as u64),
    limits::INSTANCES_DEFAULT as u64,
    "Most live instances of one function whose own `max_instances` is not set.",
);
/// `engine.instances_per_namespace`
pub(crate) static INSTANCES_PER_NAMESPACE: Setting = number(
    "engine.instances_per_namespace",
    "instances",
    (1, 100_000),
    1_000,
    "Most live instances of all functions of one namespace whose own limit is not set.",
);
/// `engine.waiters_per_version`
pub(crate) static WAITERS_PER_VERSION: Setting = number(
    "engine.waiters_per_version",
    "calls",
    (0, 100_000),
    limits::WAITERS_PER_VERSION as u64,
    "Calls that may wait for an instance of one version. The next one is throttled at once.",
);
/// `engine.keep_alive_seconds`
pub(crate) static KEEP_ALIVE_SECONDS: Setting = number(
    "engine.keep_alive_seconds",
    "seconds",
    (0, DAY_SECONDS),
    300,
    "How long an idle instance is kept before it is stopped, where the function's calls do not tell when the next one comes.",
);
/// `engine.keep_alive_min_seconds`
pub(crate) static KEEP_ALIVE_MIN_SECONDS: Setting = number(
    "engine.keep_alive_min_seconds",
    "seconds",
    (0, DAY_SECONDS),
    60,
    "How long an idle instance is kept at least where that is learned from the function's calls.",
);
/// `engine.keep_alive_max_seconds`
pub(crate) static KEEP_ALIVE_MAX_SECONDS: Setting = number(
    "engine.keep_alive_max_seconds",
    "seconds",
    (0, DAY_SECONDS),
    14_400,
    "How long an idle instance is kept at most where that is learned from the function's calls; 0: nothing is learned.",
);
/// `engine.freeze_after_seconds`
pub(crate) static FREEZE_AFTER_SECONDS: Setting = number(
    "engine.freeze_after_seconds",
    "seconds",
    (0, DAY_SECONDS),
    1,
    "How long an instance is idle before it stands still: its timers and threads then do nothing until the next call. It is looked \
     at once a second. 0: functions go on between their calls.",
);
/// `engine.queue_wait_seconds`
pub(crate) static QUEUE_WAIT_SECONDS: Setting = number(
    "engine.queue_wait_seconds",
    "seconds",
    (0, 900),
    30,
    "How long a call may wait for an instance before it is throttled.",
);
/// `engine.async_concurrency`
pub(crate) static ASYNC_CONCURRENCY: Setting = number(
    "engine.async_concurrency",
    "calls",
    (1, 10_000),
    64,
    "Asynchronous calls that run at once.",
);
/// `engine.queued_calls_per_function`
pub(crate) static QUEUED_CALLS_PER_FUNCTION: Setting = number(
    "engine.queued_calls_per_function",
    "calls",
    (0, limits::QUEUED_CALLS_MAX),
    limits::QUEUED_CALLS_PER_FUNCTION,
    "Asynchronous calls that may wait or run, of one function whose own `max_queued_calls` is not set. The next one is refused.",
);
/// `engine.queued_bytes_per_function`
pub(crate) static QUEUED_BYTES_PER_FUNCTION: Setting = number(
    "engine.queued_bytes_per_function",
    "bytes",
    (0, limits::QUEUED_BYTES_MAX),
    limits::QUEUED_BYTES_PER_FUNCTION,
    "What those calls may take in the queue, of one function whose own `max_queued_bytes` is not set.",
);
/// `engine.queued_calls_per_namespace`
pub(crate) static QUEUED_CALLS_PER_NAMESPACE: Setting = number(
    "engine.queued_calls_per_namespace",
    "calls",
    (0, limits::QUEUED_CALLS_MAX),
    limits::QUEUED_CALLS_PER_NAMESPACE,
    "Asynchronous calls that may wait or run, of all functions of one namespace whose own quota `queued_calls` is not set.",
);
/// `engine.queued_bytes_per_namespace`
pub(crate) static QUEUED_BYTES_PER_NAMESPACE: Setting = number(
    "engine.queued_bytes_per_namespace",
    "bytes",
    (0, limits::QUEUED_BYTES_MAX),
    limits::QUEUED_BYTES_PER_NAMESPACE,
    "What those calls may take in the queue, of one namespace whose own quota `queued_bytes` is not set.",
);
/// `server.connections_max`
pub(crate) static CONNECTIONS_MAX: Setting = number(
    "server.connections_max",
    "connections",
    (1, 1_000_000),
    10_000,
    "Connections that are open at once. Further ones wait to be accepted.",
);
/// `server.write_timeout_seconds`
pub(crate) static WRITE_TIMEOUT_SECONDS: Setting = number(
    "server.write_timeout_seconds",
    "seconds",
    (1, 3_600),
    limits::WRITE_TIMEOUT_SECONDS,
    "How long a client may take nothing of a response that waits to be sent; then the connection is closed. Slow is allowed: \
     every byte that is taken begins the time anew.",
);
/// `server.body_timeout_seconds`
pub(crate) static BODY_TIMEOUT_SECONDS: Setting = number(
    "server.body_timeout_seconds",
    "seconds",
    (1, 3_600),
    limits::BODY_TIMEOUT_SECONDS,
    "How long a request body may take to arrive.",
);
/// `server.websocket_idle_seconds`
pub(crate) static WEBSOCKET_IDLE_SECONDS: Setting = number(
    "server.websocket_idle_seconds",
    "seconds",
    (1, 3_600),
    limits::WEBSOCKET_IDLE_SECONDS,
    "How long nothing may pass on a WebSocket, in either direction; then it is closed. Pings count. The function's timeout ends it too.",
);
/// `server.grace_seconds`
pub(crate) static GRACE_SECONDS: Setting = number(
    "server.grace_seconds",
    "seconds",
    (0, 900),
    30,
    "How long calls in flight may go on after the daemon was told to stop. Those that outlast it are ended, and their callers are answered 503 `unavailable`.",
);
/// `server.public_url`
pub(crate) static PUBLIC_URL: Setting = Setting {
    key: "server.public_url",
    flag: None,
    kind: Kind::Url { absent: "the address listened on" },
    doc: "How functions are reached from outside, for instance behind a reverse proxy. It is the start of every function URL \
          that the daemon hands out.",
};
/// `sandbox.uid_base`
pub(crate) static UID_BASE: Setting = number(
    "sandbox.uid_base",
    "user id",
    (1_000, 4_294_900_000),
    sandbox::UID_BASE_DEFAULT as u64,
    "First of 65 536 user and group ids of the host that nobody else uses: instances run as them. Of no account when the \
     daemon is not root.",
);
/// `sandbox.prestart_memory_mb`
pub(crate) static PRESTART_MEMORY_MB: Setting = number(
    "sandbox.prestart_memory_mb",
    "MiB",
    (0, 1 << 20),
    256,
    "Expected memory of instances that are started before anybody calls, all together; at most a quarter of \
     `engine.host_memory_mb`, beside which it counts. They wait with their runtime loaded, so that the first call of a function waits for \
     its code alone. There are none before a function is deployed or starts cold, and they follow how often that happens. 0 switches them off.",
);
/// `sandbox.zygote`
pub(crate) static ZYGOTE: Setting = Setting {
    key: "sandbox.zygote",
    flag: None,
    kind: Kind::Choice { options: &["auto", "off", "alone"], default: "auto" },
    doc: "Whether a warm runtime is forked for instances: `auto` where it passes its trial, `off` never, `alone` for every start, with nothing else \
          pre-started, which takes the least memory. A zygote comes with the first deployment or cold start of its class and goes when none was for ten minutes; \
          its memory counts to `sandbox.prestart_memory_mb`. Of account when the daemon is root.",
};
/// `sandbox.require_isolation`
pub(crate) static REQUIRE_ISOLATION: Setting = Setting {
    key: "sandbox.require_isolation",
    flag: Some("--require-isolation"),
    kind: Kind::Choice { options: &["any", "full"], default: "any" },
    doc: "How much of the isolation the host has to give for the daemon to start: `any` takes what there is and logs what is missing, \
          `full` refuses to start unless every feature is there that a promise of SECURITY.md stands on. `hanshu doctor` shows \
          them.",
};
/// `sandbox.path`
pub(crate) static RUNTIME_PATH: Setting = Setting {
    key: "sandbox.path",
    flag: None,
    kind: Kind::Text { default: Default::Computed("the daemon's `PATH`") },
    doc: "Folders searched for runtimes (`node`, `python3.11`, `java`, …), separated by colons.",
};

/// `network.range`
pub(crate) static NETWORK_RANGE: Setting = Setting {
    key: "network.range",
    flag: None,
    kind: Kind::Text { default: Default::Fixed("198.18.0.0/15") },
    doc: "Addresses for instances that have a network, as a CIDR of at most 28 bits. A daemon takes a block of 4 096 of them that no \
          route of the host touches. Of account when the daemon is root.",
};
/// `network.dns`
pub(crate) static NETWORK_DNS: Setting = Setting {
    key: "network.dns",
    flag: None,
    kind: Kind::Text { default: Default::Computed("those of the host that are not on loopback") },
    doc: "Name servers of functions with `egress`: IPv4 addresses, separated by commas. Port 53 of them is allowed also if they are \
          private addresses, but not if they are addresses of the host.",
};
/// `network.deny`
pub(crate) static NETWORK_DENY: Setting = Setting {
    key: "network.deny",
    flag: None,
    kind: Kind::Text { default: Default::Computed("none") },
    doc: "Addresses that no function reaches, whatever its policy allows: CIDRs, separated by commas. Addresses of the host are \
          always denied.",
};

/// `webhooks.allow`
pub(crate) static WEBHOOKS_ALLOW: Setting = Setting {
    key: "webhooks.allow",
    flag: None,
    kind: Kind::Text { default: Default::Computed("none") },
    doc: "Addresses that webhooks of functions reach beside the public internet, separated by commas: `CIDR[:PORT[-PORT]]`, for instance `10.1.2.0/24:8080`. Private \
          addresses, link-local ones with a cloud's metadata, and those of the host, the daemon's own included, are reached only if they stand here.",
};

/// `store.logs_bytes_max`
pub(crate) static LOGS_BYTES_MAX: Setting = number(
    "store.logs_bytes_max",
    "bytes",
    (1 << 20, 1024 * GIB),
    4 * GIB,
    "Log lines that are kept, in bytes on disk. The oldest are removed first.",
);

/// `store.reserve_bytes`
pub(crate) static RESERVE_BYTES: Setting = number(
    "store.reserve_bytes",
    "bytes",
    (0, 1024 * GIB),
    store::RESERVE_BYTES,
    "Free space of the data folder's disk below which new asynchronous calls and packages are refused, so that calls that were accepted can end; \
     at most a sixteenth of the disk. 0: refused only when nothing is left.",
);
/// `secrets.key_file`
pub(crate) static KEY_FILE: Setting = Setting {
    key: "secrets.key_file",
    flag: None,
    kind: Kind::Text { default: Default::Computed("`secrets.key` in the data folder") },
    doc: "The file that holds the master key of functions' secrets. It is made, with mode 0600, at the first start; later a missing one \
          is an error. Kept outside the data folder, it makes a copy of that folder useless to a thief.",
};
/// `secrets.passphrase_file`
pub(crate) static PASSPHRASE_FILE: Setting = Setting {
    key: "secrets.passphrase_file",
    flag: None,
    kind: Kind::Text { default: Default::Computed("none: the key file is used") },
    doc: "A file with a passphrase of 12 to 1024 bytes that takes the place of the key file; `/dev/fd/N` reads it from an inherited \
          descriptor.",
};

/// Every setting, in the order of the reference.
pub(crate) static ALL: &[&Setting] = &[
    &LISTEN,
    &DEV,
    &DATA,
    &LOG_LEVEL,
    &LOG_FORMAT,
    &HOST_MEMORY_MB,
    &INSTANCES_PER_FUNCTION,
    &INSTANCES_PER_NAMESPACE,
    &WAITERS_PER_VERSION,
    &KEEP_ALIVE_SECONDS,
    &KEEP_ALIVE_MIN_SECONDS,
    &KEEP_ALIVE_MAX_SECONDS,
    &FREEZE_AFTER_SECONDS,
    &QUEUE_WAIT_SECONDS,
    &ASYNC_CONCURRENCY,
    &QUEUED_CALLS_PER_FUNCTION,
    &QUEUED_BYTES_PER_FUNCTION,
    &QUEUED_CALLS_PER_NAMESPACE,
    &QUEUED_BYTES_PER_NAMESPACE,
    &CONNECTIONS_MAX,
    &WRITE_TIMEOUT_SECONDS,
    &WEBSOCKET_IDLE_SECONDS,
    &BODY_TIMEOUT_SECONDS,
    &GRACE_SECONDS,
    &PUBLIC_URL,
    &UID_BASE,
    &PRESTART_MEMORY_MB,
    &ZYGOTE,
    &REQUIRE_ISOLATION,
    &RUNTIME_PATH,
    &NETWORK_RANGE,
    &NETWORK_DNS,
    &NETWORK_DENY,
    &WEBHOOKS_ALLOW,
    &LOGS_BYTES_MAX,
    &RESERVE_BYTES,
    &KEY_FILE,
    &PASSPHRASE_FILE,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_distinct_and_defaults_within_bounds() {
        let mut seen = std::collections::HashSet::new();
        for setting in ALL {
            assert!(seen.insert(setting.variable()), "{} twice", setting.key);
            assert!(setting.doc.ends_with('.'), "{}", setting.key);
            match setting.kind {
                Kind::Number { min, max, default: NumberDefault::Fixed(n), .. } => {
                    assert!((min..=max).contains(&n), "{}", setting.key);
                }
                Kind::Choice { options, default } => assert!(options.contains(&default)),
                Kind::Address { default } => drop(default.parse::<std::net::SocketAddr>().unwrap()),
                _ => {}
            }
        }
    }
}
