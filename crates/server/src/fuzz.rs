//! What the fuzzers of this crate call (`fuzz/`, `cargo x fuzz`), and its tests replay over `fuzz/corpus`: one function a target, each with
//! what has to hold whatever the bytes are. Present in tests and with the feature `fuzzing`.

pub use crate::gateway::fuzz::{event, reply};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_corpora_pass() {
        model::suites::corpus::replay("event", event);
        model::suites::corpus::replay("reply", reply);
    }
}
