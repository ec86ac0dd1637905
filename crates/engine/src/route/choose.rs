//! Which version a call of an alias reaches: pure functions of the alias and the call.
//!
//! [`decide`] says how: by the first rule whose conditions all hold, else by the sticky key, else by chance. [`sticky`] and [`chance`] then pick a
//! target. Neither rolls dice: the same key, and the same call, always get the same version, on every host and in every release. So the functions
//! are fixed, and a test holds them to literal values:
//!
//! - [`mix`] `(a, b)` is `f(f(a) ^ b)`, where `f(x)` is one step of SplitMix64 (Steele, Lea, Flood 2014) from state `x`.
//! - Chance: `mix` of the first and the second half of the request id, both big-endian, times the sum of the weights, divided by 2^64, is a
//!   point on the weights laid end to end.
//! - A sticky key is weighted rendezvous hashing (Schindelhauer, Schomaker 2005): `k` is the first eight bytes of the key's SHA-256, big-endian;
//!   each target has `u` = (⌊`mix(k, version)` / 2^12⌋ + 1/2) / 2^52, with 0 for `$LATEST`, and the least `-ln(u) / weight` has the call. A target
//!   that gains weight only takes keys, one that loses weight only gives keys away, and the shares are exact.
//! - A call is copied to a shadow if `mix`, with [`SHADOW`] over the first half of the id, times 10 000, divided by 2^64, is less than the share in
//!   hundredths of a per cent.

use std::borrow::Cow;
use std::cell::OnceCell;

use model::alias::{Alias, Condition, Parameter, Parameters, Percent, Target};
use model::ids::{Digest, RequestId, VersionRef};

use super::event::Fields;

/// Makes the choice of copies another than that of versions.
const SHADOW: u64 = 0x5ad0_0000_0000_0000;

/// What a call offers to rules and sticky keys. The event is read once, if at all.
#[derive(Debug)]
pub(crate) struct Facts<'a> {
    parameters: &'a dyn Parameters,
    event: &'a [u8],
    fields: &'a Fields,
    read: OnceCell<Vec<Option<String>>>,
}

impl<'a> Facts<'a> {
    /// `fields`: those of the event that the alias names.
    pub(crate) fn new(parameters: &'a dyn Parameters, event: &'a [u8], fields: &'a Fields) -> Self {
        Self { parameters, event, fields, read: OnceCell::new() }
    }

    /// The value of a parameter, if the call has it.
    pub(crate) fn get(&self, parameter: &Parameter) -> Option<Cow<'_, str>> {
        let Parameter::Event(steps) = parameter else { return self.parameters.get(parameter) };
        let values = self.read.get_or_init(|| self.fields.read(self.event));
        values.get(self.fields.slot(steps)?)?.as_deref().map(Cow::Borrowed)
    }
}

/// How a call finds its version.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Decision<'a> {
    /// By a rule.
    Rule(VersionRef),
    /// By the sticky key's value.
    Sticky(Cow<'a, str>),
    /// By the call's id.
    Chance,
}

/// How a call of `alias` finds its version.
pub(crate) fn decide<'a>(alias: &Alias, facts: &'a Facts<'_>) -> Decision<'a> {
    let matched = alias.rules.iter().find(|rule| failed(&rule.when, facts).is_none());
    if let Some(rule) = matched {
        return Decision::Rule(rule.to);
    }
    let key = alias.sticky.as_ref().and_then(|parameter| facts.get(parameter));
    key.map_or(Decision::Chance, Decision::Sticky)
}

/// The first condition that does not hold.
pub(crate) fn failed<'r>(when: &'r [Condition], facts: &Facts<'_>) -> Option<&'r Condition> {
    when.iter().find(|condition| !condition.holds(facts.get(&condition.on).as_deref()))
}

/// The version that the call `id` reaches; `None` for an alias without weights, which no store holds.
pub(crate) fn choose(alias: &Alias, facts: &Facts<'_>, id: &RequestId) -> Option<VersionRef> {
    match decide(alias, facts) {
        Decision::Rule(version) => Some(version),
        Decision::Sticky(key) => sticky(&alias.targets, &key),
        Decision::Chance => chance(&alias.targets, id),
    }
}

/// The target of a sticky key.
pub(crate) fn sticky(targets: &[Target], key: &str) -> Option<VersionRef> {
    if let [only] = targets {
        return Some(only.version);
    }
    let [first, ..] = halves(Digest::of(key.as_bytes()).as_bytes());
    let distance = |target: &Target| {
        let drawn = mix(first, target.version.number().unwrap_or(0));
        minus_ln(drawn) / f64::from(target.weight)
    };
    let weighted = targets.iter().filter(|target| target.weight > 0);
    let nearest = weighted.map(|t| (distance(t), t.version)).min_by(|a, b| a.0.total_cmp(&b.0));
    nearest.map(|(_, version)| version)
}

/// The target of a call without a key.
pub(crate) fn chance(targets: &[Target], id: &RequestId) -> Option<VersionRef> {
    if let [only] = targets {
        return Some(only.version);
    }
    let sum = targets.iter().map(|target| u64::from(target.weight)).sum();
    let [first, second] = halves(id.as_bytes());
    let mut point = share_of(mix(first, second), sum);
    for target in targets {
        let weight = u64::from(target.weight);
        if point < weight {
            return Some(target.version);
        }
        point -= weight;
    }
    None
}

/// Whether the call `id` is one of the share that is copied.
pub(crate) fn copied(share: Percent, id: &RequestId) -> bool {
    let [first, second] = halves(id.as_bytes());
    let whole = u64::from(Percent::ALL.hundredths());
    share_of(mix(first ^ SHADOW, second), whole) < u64::from(share.hundredths())
}

/// The first 16 bytes as two numbers.
fn halves(bytes: &[u8]) -> [u64; 2] {
    let number = |half: &[u8]| half.iter().fold(0, |n, byte| (n << 8) | u64::from(*byte));
    let mut chunks = bytes.chunks(8).map(number);
    [chunks.next().unwrap_or(0), chunks.next().unwrap_or(0)]
}

fn split_mix(state: u64) -> u64 {
    let z = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn mix(a: u64, b: u64) -> u64 {
    split_mix(split_mix(a) ^ b)
}

/// `drawn` of 2^64, as a part of `whole`: below it, and each with the same chance.
fn share_of(drawn: u64, whole: u64) -> u64 {
    u64::try_from((u128::from(drawn) * u128::from(whole)) >> 64).unwrap_or(u64::MAX)
}

/// The negative logarithm of `drawn` as a number between 0 and 1, by operations that IEEE 754 defines to the last bit: what a library calls `ln` may
/// differ from host to host.
fn minus_ln(drawn: u64) -> f64 {
    /// Places of the number between 0 and 1: with the half below the last one it is exact, and never 0.
    const PLACES: u32 = 52;
    let odd = (drawn >> (64 - PLACES)) * 2 + 1;
    let bits = odd.ilog2();
    // m = odd / 2^bits lies in [1, 2).
    #[expect(clippy::cast_precision_loss, reason = "at most 53 places, and a power of two")]
    let m = odd as f64 / (1_u64 << bits) as f64;
    // ln m = 2 artanh((m - 1) / (m + 1)), whose series ends early since the quotient is below 1/3.
    let s = (m - 1.0) / (m + 1.0);
    let square = s * s;
    let series = (0..16_u32).rev().fold(0.0, |sum, n| sum * square + 1.0 / f64::from(2 * n + 1));
    let ln = f64::from(PLACES + 1 - bits) * std::f64::consts::LN_2 - 2.0 * s * series;
    // Next to 1 the difference may round to nothing.
    ln.max(f64::MIN_POSITIVE)
}

#[cfg(test)]
mod tests;
