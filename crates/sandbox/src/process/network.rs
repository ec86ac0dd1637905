//! Which network an instance gets: the function's policy, the host's means and the daemon's configuration together.
//!
//! How it is made is [`crate::jail::network`]'s. Without a policy nothing here is asked.

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use model::network::{Cidr, NetworkMode, NetworkPolicy};
use model::{Code, Error, Result};
use tokio::sync::OnceCell;

use super::folders::{blocking, disk};
use super::image::Users;
use super::root::{make_file, make_folder};
use crate::jail::Mount;
use crate::jail::network::{
    Filter, HostNetwork, Lease, Network, Way, clean, host_addresses, is_special, resolvers,
};

/// The program that connects instances of an ordinary user's daemon.
const PASTA: &str = "pasta";
/// Where instances find their name servers.
const RESOLV_CONF: &str = "etc/resolv.conf";

/// What whoever runs the daemon decides about functions' networks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkConfig {
    /// Addresses for instances; nothing else on the host's networks may use them. At most 28 leading bits.
    pub range: Cidr,
    /// Name servers for functions with `egress`; empty means those of the host.
    pub dns: Vec<Ipv4Addr>,
    /// Blocks that no function reaches, whatever its policy.
    pub deny: Vec<Cidr>,
}

impl Default for NetworkConfig {
    fn default() -> Self {
        Self { range: crate::jail::network::RANGE_DEFAULT, dns: Vec::new(), deny: Vec::new() }
    }
}

/// How instances can be connected here.
#[derive(Debug)]
pub(super) enum Means {
    /// By interfaces of the host. Its rules are made with the first instance that needs them, so a host whose functions have no network is left as it is.
    Veth(OnceCell<Arc<HostNetwork>>),
    /// By pasta, which is there.
    Pasta(PathBuf),
    /// Not at all; why, and what to do.
    Nothing { why: &'static str, hint: &'static str },
}

impl Means {
    /// Finds out, and changes nothing. `path` is searched for pasta.
    pub(super) fn find(users: &Users, path: &str) -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        match users {
            Users::Strangers(_) if super::has_capability(&status, super::CAP_NET_ADMIN) => {
                Self::Veth(OnceCell::new())
            }
            Users::Strangers(_) => Self::Nothing {
                why: "the daemon is root without CAP_NET_ADMIN",
                hint: "give the daemon CAP_NET_ADMIN, or run it as an ordinary user with pasta installed",
            },
            Users::Daemon { .. } => pasta(path).map_or(
                Self::Nothing {
                    why: "the daemon is not root and pasta is not installed",
                    hint: "install pasta (package passt) where sandbox.path finds it and restart the daemon, or run it as root",
                },
                Self::Pasta,
            ),
        }
    }
}

/// The helper that gives instances of an ordinary user a way out, by user-mode networking.
fn pasta(path: &str) -> Option<PathBuf> {
    let runs = |file: &Path| {
        let meta = fs::metadata(file);
        meta.is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
    };
    let mut files = std::env::split_paths(path).map(|folder| folder.join(PASTA));
    files.find(|file| file.is_absolute() && runs(file))
}

/// Networks for instances.
#[derive(Debug)]
pub(crate) struct Networks {
    config: NetworkConfig,
    means: Means,
    /// For files that instances see.
    folder: PathBuf,
}

/// The network of one instance that is about to start.
#[derive(Debug)]
pub(super) struct Connection {
    /// For the instance's first process.
    pub(super) network: Network,
    /// Its address, to be kept until it is gone.
    pub(super) lease: Option<Lease>,
    /// Its name servers.
    pub(super) mount: Option<Mount>,
}

impl Networks {
    /// Finds out what there is. `path` is searched for pasta, `cache` keeps files.
    pub(super) fn open(config: NetworkConfig, users: &Users, path: &str, cache: &Path) -> Self {
        let means = Means::find(users, path);
        if let Means::Veth(_) = means
            && let Err(error) = clean()
        {
            tracing::warn!(%error, "what an earlier daemon left of its network stays");
        }
        Self { config, means, folder: cache.join("network") }
    }

    /// `unsupported` if a function with this policy cannot be run here.
    pub(super) fn check(&self, policy: &NetworkPolicy) -> Result<()> {
        match &self.means {
            Means::Nothing { why, hint } if policy.is_connected() => Err(Error::caller(
                Code::Unsupported,
                format!("network {} is not to be had on this host: {why}", policy.mode.as_str()),
            )
            .with_hint(*hint)),
            _ => Ok(()),
        }
    }

    /// Leaves the host's network as it was found.
    pub(super) fn close(&self) {
        if let Means::Veth(host) = &self.means
            && let Some(host) = host.get()
        {
            host.close();
        }
    }

    /// What an instance of a function with this policy is to be given.
    pub(super) async fn connect(&self, policy: &NetworkPolicy) -> Result<Connection> {
        self.check(policy)?;
        let range = self.config.range;
        let (way, address, gateway, lease) = match &self.means {
            Means::Veth(host) => {
                let open = || async {
                    let opened = blocking(move || {
                        HostNetwork::open(range).map_err(|why| {
                            failed(&format!("the host's network cannot be set up: {why}"))
                        })
                    });
                    opened.await.map(Arc::new)
                };
                let host = host.get_or_try_init(open).await?;
                let lease = host.lease().ok_or_else(|| {
                    failed(&format!(
                        "every address of {} is in use: set network.range to a larger range",
                        host.block()
                    ))
                })?;
                (lease.way(), lease.address(), host.gateway(), Some(lease))
            }
            // Each pasta carries one instance alone, so all may have the same address.
            Means::Pasta(program) => {
                let first = range.first().to_bits();
                let (gateway, address) = (first + 1, first + 2);
                (Way::Pasta { program: program.clone() }, address.into(), gateway.into(), None)
            }
            Means::Nothing { why, .. } => return Err(failed(why)),
        };
        let (filter, mount) = self.filter(policy).await?;
        let bytes_per_second = policy.bandwidth.map(|b| b.bytes_per_second());
        let network = Network { way, address, gateway, filter, bytes_per_second };
        Ok(Connection { network, lease, mount })
    }

    /// What the policy allows now, and the name servers that can be reached by that; for who opens connections itself.
    pub(crate) async fn reach(&self, policy: &NetworkPolicy) -> Result<(Filter, Vec<Ipv4Addr>)> {
        let (config, policy) = (self.config.clone(), policy.clone());
        blocking(move || reach(&config, &policy)).await
    }

    /// The same, with the name servers as a file for instances.
    async fn filter(&self, policy: &NetworkPolicy) -> Result<(Filter, Option<Mount>)> {
        let (config, policy, folder) = (self.config.clone(), policy.clone(), self.folder.clone());
        blocking(move || {
            let (filter, servers) = reach(&config, &policy)?;
            let mount = match servers.is_empty() {
                true => None,
                false => Some(Mount::bind(resolv_conf(&folder, &servers)?, RESOLV_CONF)),
            };
            Ok((filter, mount))
        })
        .await
    }
}

/// See [`Networks::reach`]. Blocks.
fn reach(config: &NetworkConfig, policy: &NetworkPolicy) -> Result<(Filter, Vec<Ipv4Addr>)> {
    let own = host_addresses()
        .map_err(|e| failed("the host's addresses cannot be read").with_source(e))?;
    let servers = match config.dns.is_empty() {
        true => resolvers(Path::new("/etc"), Path::new("/run")),
        false => config.dns.clone(),
    };
    Ok(combine(config, policy, &own, servers))
}

/// The filter, and those of the host's name servers that pass it.
fn combine(
    config: &NetworkConfig,
    policy: &NetworkPolicy,
    own: &[Ipv4Addr],
    servers: Vec<Ipv4Addr>,
) -> (Filter, Vec<Ipv4Addr>) {
    let public = policy.mode == NetworkMode::Egress;
    let own = own.iter().map(|address| Cidr::of(*address, 32));
    let never: Vec<Cidr> = own.chain([config.range]).chain(config.deny.iter().copied()).collect();
    let reachable = |server: &Ipv4Addr| {
        let named = || {
            policy.allow.iter().any(|reach| {
                reach.to.contains(*server)
                    && reach.ports.is_none_or(|p| (p.first..=p.last).contains(&53))
            })
        };
        !never.iter().any(|block| block.contains(*server)) && (public || named())
    };
    let servers: Vec<Ipv4Addr> = servers.into_iter().filter(reachable).collect();
    // Public ones need no exception, and with `private` there is none: what is not named is not reached.
    let resolvers = servers.iter().copied().filter(|s| public && is_special(*s)).collect();
    (Filter { never, resolvers, allow: policy.allow.clone(), public }, servers)
}

/// A file with these name servers. One for each list there was: instances hold on to theirs.
fn resolv_conf(folder: &Path, servers: &[Ipv4Addr]) -> Result<PathBuf> {
    let text: String = servers.iter().map(|server| format!("nameserver {server}\n")).collect();
    let name: Vec<String> = servers.iter().map(Ipv4Addr::to_string).collect();
    let path = folder.join(name.join("-"));
    if !path.exists() {
        make_folder(folder).map_err(disk)?;
        // Another start may write it as well: the name appears with the whole text, whoever is first.
        let draft = folder.join(model::ids::RequestId::generate().to_string());
        make_file(&draft, &text).map_err(disk)?;
        fs::rename(&draft, &path).map_err(disk)?;
    }
    Ok(path)
}

fn failed(message: &str) -> Error {
    Error::platform(Code::SandboxFailed, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(json: &str) -> NetworkPolicy {
        serde_json::from_str(json).unwrap()
    }

    fn addresses(list: &[&str]) -> Vec<Ipv4Addr> {
        list.iter().map(|a| a.parse().unwrap()).collect()
    }

    fn networks(means: Means) -> Networks {
        Networks { config: NetworkConfig::default(), means, folder: PathBuf::new() }
    }

    #[test]
    fn egress_reaches_the_hosts_private_name_servers() {
        let servers = addresses(&["10.0.0.2", "9.9.9.9"]);
        let own = addresses(&["192.168.1.5"]);
        let config =
            NetworkConfig { deny: vec!["1.2.3.0/24".parse().unwrap()], ..NetworkConfig::default() };
        let (filter, seen) = combine(&config, &policy(r#""egress""#), &own, servers.clone());
        assert_eq!(seen, servers);
        assert_eq!(filter.resolvers, addresses(&["10.0.0.2"]));
        assert!(filter.public);
        let never: Vec<String> = filter.never.iter().map(Cidr::to_string).collect();
        assert_eq!(never, ["192.168.1.5/32", "198.18.0.0/15", "1.2.3.0/24"]);
    }

    #[test]
    fn name_servers_out_of_reach_are_not_named() {
        let config = NetworkConfig::default();
        let servers = addresses(&["10.0.0.2", "10.0.0.3"]);
        let own = addresses(&["10.0.0.2"]);
        let (filter, seen) = combine(&config, &policy(r#""egress""#), &own, servers.clone());
        assert_eq!((seen, filter.resolvers), (addresses(&["10.0.0.3"]), addresses(&["10.0.0.3"])));
        let private = policy(r#"{"mode":"private","allow":["10.0.0.0/24:53/udp"]}"#);
        let (filter, seen) = combine(&config, &private, &own, servers.clone());
        assert_eq!((seen, filter.resolvers), (addresses(&["10.0.0.3"]), addresses(&[])));
        let database = policy(r#"{"mode":"private","allow":["10.0.0.0/24:5432"]}"#);
        assert_eq!(combine(&config, &database, &own, servers).1, addresses(&[]));
    }

    #[test]
    fn a_host_without_means_refuses_and_says_what_to_do() {
        let none = networks(Means::Nothing { why: "w", hint: "h" });
        none.check(&NetworkPolicy::default()).unwrap();
        let error = none.check(&policy(r#""egress""#)).unwrap_err();
        assert_eq!(error.code(), Code::Unsupported);
        assert!(error.message().contains("network egress"), "{}", error.message());
        networks(Means::Pasta("/p".into())).check(&policy(r#""egress""#)).unwrap();
    }

    #[test]
    fn each_list_of_servers_has_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().join("network");
        let path = resolv_conf(&at, &addresses(&["10.0.0.2", "9.9.9.9"])).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "nameserver 10.0.0.2\nnameserver 9.9.9.9\n");
        assert_eq!(resolv_conf(&at, &addresses(&["10.0.0.2", "9.9.9.9"])).unwrap(), path);
        assert_eq!(fs::read_dir(&at).unwrap().count(), 1);
    }
}
