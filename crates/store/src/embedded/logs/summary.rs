//! What a block holds, so that a query can pass it by: span of time, functions, and two bloom filters.
//!
//! A filter answers "certainly not" or "perhaps". The one for requests has the 16 bytes of each id; the one for text has every three
//! consecutive bytes of the lower-case text, so it helps with any part of a word, not only with whole ones.

use std::collections::BTreeSet;

use model::clock::UnixMillis;
use model::ids::{FunctionKey, RequestId};

use super::line::{self, Raw};

/// Bytes of the filter for requests: 2 % wrong answers at 4 000 requests in a block.
const REQUESTS_BYTES: usize = 4 * 1024;
/// Bits set per request.
const REQUESTS_HASHES: u32 = 4;
/// Bytes of the filter for text: a block of ordinary text has 5 000 to 20 000 different triples and fills 7 to 26 % of it.
const TRIPLES_BYTES: usize = 8 * 1024;
/// Bits set per triple. One: a search word has many triples, each a test of its own.
const TRIPLES_HASHES: u32 = 1;

/// A set with false positives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Filter(pub(super) Vec<u8>);

impl Filter {
    fn new(bytes: usize) -> Self {
        Self(vec![0; bytes])
    }

    fn places(&self, hash: u64, hashes: u32) -> impl Iterator<Item = (usize, u8)> + use<> {
        let bits = self.0.len().max(1) * 8;
        (0..hashes).map(move |i| {
            let bit = usize::try_from(mix(hash.wrapping_add(u64::from(i)))).unwrap_or(0) % bits;
            (bit / 8, 1 << (bit % 8))
        })
    }

    fn add(&mut self, hash: u64, hashes: u32) {
        for (byte, mask) in self.places(hash, hashes) {
            if let Some(b) = self.0.get_mut(byte) {
                *b |= mask;
            }
        }
    }

    fn may_have(&self, hash: u64, hashes: u32) -> bool {
        self.places(hash, hashes).all(|(byte, mask)| self.0.get(byte).is_none_or(|b| b & mask != 0))
    }
}

/// The finaliser of SplitMix64: every bit of the input reaches every bit of the output. Part of the stored format.
fn mix(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// FNV-1a, then mixed. Part of the stored format.
fn hash(bytes: impl IntoIterator<Item = u8>) -> u64 {
    mix(bytes
        .into_iter()
        .fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3)))
}

fn function_hash(namespace: &[u8], name: &[u8]) -> i64 {
    // Neither part can hold a slash.
    hash(namespace.iter().chain(b"/").chain(name).copied()).cast_signed()
}

/// The number under which the index finds a function's blocks. Two functions may share one.
pub(super) fn function(key: &FunctionKey) -> i64 {
    function_hash(key.namespace.as_str().as_bytes(), key.name.as_str().as_bytes())
}

fn triples(text: &str) -> impl Iterator<Item = u64> {
    text.as_bytes().windows(3).map(|w| w.iter().fold(0, |n, b| (n << 8) | u64::from(*b)))
}

/// Summary of a block.
#[derive(Clone, Debug)]
pub(super) struct Summary {
    pub(super) min_time: UnixMillis,
    pub(super) max_time: UnixMillis,
    pub(super) functions: BTreeSet<i64>,
    pub(super) requests: Filter,
    pub(super) triples: Filter,
}

impl Summary {
    /// Of a block's lines.
    pub(super) fn of(bytes: &[u8]) -> Self {
        let mut out = Self {
            min_time: UnixMillis(u64::MAX),
            max_time: UnixMillis(0),
            functions: BTreeSet::new(),
            requests: Filter::new(REQUESTS_BYTES),
            triples: Filter::new(TRIPLES_BYTES),
        };
        let mut last: Option<Raw<'_>> = None;
        for line in line::decode(bytes) {
            out.min_time = out.min_time.min(line.time);
            out.max_time = out.max_time.max(line.time);
            // Lines come in runs of one call.
            let same = |l: &Raw<'_>| l.name == line.name && l.namespace == line.namespace;
            if !last.as_ref().is_some_and(same) {
                out.functions.insert(function_hash(line.namespace, line.name));
            }
            if let Some(request) = line.request
                && last.is_none_or(|l| l.request != Some(request))
            {
                out.requests.add(hash(request), REQUESTS_HASHES);
            }
            for triple in triples(&line.text().to_lowercase()) {
                out.triples.add(triple, TRIPLES_HASHES);
            }
            last = Some(line);
        }
        out
    }
}

/// Whether a block with this filter may hold lines of the request.
pub(super) fn may_have_request(filter: &Filter, request: RequestId) -> bool {
    filter.may_have(hash(*request.as_bytes()), REQUESTS_HASHES)
}

/// Whether a block with this filter may hold the text, which is in lower case.
pub(super) fn may_have_text(filter: &Filter, lower: &str) -> bool {
    triples(lower).all(|triple| filter.may_have(triple, TRIPLES_HASHES))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embedded::logs::line::tests::line;

    #[test]
    fn filters_never_deny_what_is_there_and_mostly_deny_what_is_not() {
        let ids: Vec<_> = (0..4000).map(|_| RequestId::generate()).collect();
        let mut bytes = Vec::new();
        for (i, id) in ids.iter().enumerate() {
            let mut l = line("f", 1000 + i as u64, &format!("User {i} größe ΑΣ took {}ms", i * 7));
            l.request = Some(*id);
            line::encode(&l, &mut bytes);
        }
        let s = Summary::of(&bytes);
        assert_eq!((s.min_time.0, s.max_time.0), (1000, 4999));
        assert!(ids.iter().all(|id| may_have_request(&s.requests, *id)));
        for text in ["user 17", "größe", "ας took", "k", "", "7ms"] {
            assert!(may_have_text(&s.triples, text), "{text}");
        }
        assert!(!may_have_text(&s.triples, "zebracorn"));
        let wrong =
            (0..4000).filter(|_| may_have_request(&s.requests, RequestId::generate())).count();
        assert!(wrong < 200, "{wrong} of 4000 unknown requests were not excluded");
        assert!(s.functions.contains(&function(&line("f", 0, "").function)));
        assert!(!s.functions.contains(&function(&line("g", 0, "").function)));
    }
}
