//! How much functions may reserve: never all of what the host or a namespace has.

use model::Result;
use model::error::{Code, Error};

use crate::admit::Amount;
use crate::namespace::Namespace;

/// One part in so many stays unreserved: 100 of 1 000, as AWS Lambda leaves them to functions without a reservation.
const UNRESERVED_PART: u64 = 10;

/// What of a limit can be reserved at most.
fn reservable(limit: u64) -> u64 {
    limit - limit.div_ceil(UNRESERVED_PART)
}

/// Whether `wanted` fits, which makes `on_host` and `in_namespace` of all that is reserved then.
pub(crate) fn check(
    wanted: Amount,
    on_host: Amount,
    in_namespace: Amount,
    namespace: &Namespace,
    host_memory_mb: u64,
) -> Result<()> {
    if wanted.instances == 0 {
        return Ok(());
    }
    let name = namespace.name();
    let instances = reservable(namespace.instances.limit());
    if in_namespace.instances > instances {
        return Err(over(format!(
            "{} instances would be reserved in namespace '{name}': expected at most {instances}, as a tenth of its {} stays to all of its functions",
            in_namespace.instances,
            namespace.instances.limit()
        )));
    }
    let memory_mb = reservable(namespace.memory_mb.limit());
    if in_namespace.memory_mb > memory_mb {
        return Err(over(format!(
            "{} MiB would be reserved in namespace '{name}': expected at most {memory_mb}, as a tenth of its memory stays to all of its functions",
            in_namespace.memory_mb
        )));
    }
    let memory_mb = reservable(host_memory_mb);
    if on_host.memory_mb > memory_mb {
        return Err(over(format!(
            "{} MiB would be reserved on the host: expected at most {memory_mb}, as a tenth of its memory for functions stays to all of them",
            on_host.memory_mb
        )));
    }
    Ok(())
}

fn over(why: String) -> Error {
    Error::caller(Code::InvalidParameter, format!("reserved_instances is too high: {why}"))
        .with_hint("reserve fewer, less memory_mb each, or take it from another function")
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use model::namespace::Quotas;

    use super::*;

    #[test]
    fn a_tenth_stays_to_all() {
        let name = "team".parse().unwrap();
        let namespace = Namespace::new(name, 100, Instant::now());
        let quotas = Quotas { memory_mb: Some(1_000), ..Quotas::default() };
        namespace.set_quotas(&quotas);
        let check = |instances, in_namespace_mb, on_host_mb| {
            let amount = |memory_mb| Amount { instances, memory_mb };
            let [wanted, in_namespace, on_host] = [1, in_namespace_mb, on_host_mb].map(amount);
            let checked = super::check(wanted, on_host, in_namespace, &namespace, 5_005);
            checked.err().map(|e| e.message().to_owned())
        };
        assert_eq!(check(90, 900, 4_504), None);
        for (instances, in_namespace_mb, on_host_mb, part) in [
            (91, 1, 1, "91 instances would be reserved in namespace 'team': expected at most 90"),
            (1, 901, 1, "901 MiB would be reserved in namespace 'team': expected at most 900"),
            (1, 1, 4_505, "4505 MiB would be reserved on the host: expected at most 4504"),
        ] {
            let message = check(instances, in_namespace_mb, on_host_mb).unwrap();
            assert!(
                message.starts_with("reserved_instances ") && message.contains(part),
                "{message}"
            );
        }
        // Switching a function off takes nothing.
        let off = Amount::default();
        let full = Amount { instances: 999, memory_mb: 99_999 };
        super::check(off, full, full, &namespace, 1).unwrap();
    }
}
