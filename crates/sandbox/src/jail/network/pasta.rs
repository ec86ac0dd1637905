//! pasta: a process of the daemon's user that carries an instance's packets through ordinary sockets (<https://passt.top>).

use std::ffi::CString;
use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, pidfd_send_signal, set_parent_process_death_signal, waitid,
};

use super::{INTERFACE, Network};
use crate::jail::sys::{self, Cloned};

/// A running pasta; ends when dropped.
#[derive(Debug)]
pub(in crate::jail) struct Pasta {
    /// Becomes readable when it ends.
    pub(in crate::jail) pidfd: OwnedFd,
}

impl Drop for Pasta {
    fn drop(&mut self) {
        // The only errors are that it has ended, and that it has been reaped.
        pidfd_send_signal(&self.pidfd, Signal::KILL).unwrap_or_default();
        waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED).unwrap_or_default();
    }
}

/// Starts pasta for the namespaces of process `of`. Called by the spawner: a process of one thread.
pub(in crate::jail) fn start(program: &Path, network: &Network, of: Pid) -> io::Result<Pasta> {
    let strings = arguments(program, network, of);
    let argv: Vec<CString> = strings.into_iter().map(CString::new).collect::<Result<_, _>>()?;
    let null = OpenOptions::new().read(true).write(true).open("/dev/null")?;
    // The spawner sleeps until pasta has executed.
    match sys::clone3(sys::VFORK, None)? {
        Cloned::Parent { pidfd, .. } => Ok(Pasta { pidfd }),
        Cloned::Child => {
            let run = || {
                for number in 0..=2 {
                    sys::install(&null, number, true)?;
                }
                sys::close_range(3, u32::MAX)?;
                sys::reset_signals();
                // Versions before 2024 do not notice that their namespace is gone.
                set_parent_process_death_signal(Some(Signal::KILL))?;
                sys::execute(&argv, &[])
            };
            let Err(_) = run();
            sys::exit(127);
        }
    }
}

/// No port of the instance is opened on the host, none of the host's loopback in the instance, and the gateway's address does not stand for the host
/// (`--no-map-gw`).
fn arguments(program: &Path, network: &Network, of: Pid) -> Vec<String> {
    let fixed = [
        "--foreground",
        "--quiet",
        "--ipv4-only",
        "--no-map-gw",
        "--no-icmp",
        "--no-dhcp",
        "--no-dhcpv6",
        "--no-ndp",
        "--no-ra",
    ];
    let mut out = vec![program.to_string_lossy().into_owned()];
    out.extend(fixed.map(String::from));
    out.extend(["-t", "none", "-u", "none", "-T", "none", "-U", "none"].map(String::from));
    let pairs = [
        ("--ns-ifname", INTERFACE.to_owned()),
        ("--mtu", "1500".to_owned()),
        ("--address", network.address.to_string()),
        ("--netmask", "24".to_owned()),
        ("--gateway", network.gateway.to_string()),
    ];
    out.extend(pairs.into_iter().flat_map(|(option, value)| [option.to_owned(), value]));
    out.push(of.to_string());
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jail::network::{Filter, Way};

    #[test]
    fn nothing_of_the_host_is_mapped_in() {
        let network = Network {
            way: Way::Pasta { program: "/usr/bin/pasta".into() },
            address: [198, 18, 0, 2].into(),
            gateway: [198, 18, 0, 1].into(),
            filter: Filter::default(),
            bytes_per_second: None,
        };
        let argv = arguments(Path::new("/usr/bin/pasta"), &network, Pid::from_raw(7).unwrap());
        assert_eq!(argv.first().unwrap(), "/usr/bin/pasta");
        assert_eq!(argv.last().unwrap(), "7");
        let text = argv.join(" ");
        assert!(text.contains("--no-map-gw"), "{text}");
        assert!(text.contains("-t none -u none -T none -U none"), "{text}");
    }
}
