//! What the host offers: the base of computed defaults.

use std::fs;

/// Facts about the host.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Host {
    /// Memory that the daemon and its instances may use together, in MiB.
    pub memory_mb: u64,
}

/// Where a control group says how much memory everything in it may use (version 2, version 1).
const LIMIT_FILES: [&str; 2] =
    ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];

impl Host {
    /// Asks the kernel. A limit of the control group the daemon runs in counts when it is below the machine's memory.
    pub(crate) fn detect() -> Self {
        let info = rustix::system::sysinfo();
        let machine = info.totalram.saturating_mul(u64::from(info.mem_unit));
        let limits =
            LIMIT_FILES.iter().filter_map(|f| fs::read_to_string(f).ok()?.trim().parse().ok());
        Self { memory_mb: limits.fold(machine, u64::min) >> 20 }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_host_has_memory() {
        assert!(super::Host::detect().memory_mb > 64);
    }
}
