//! Any operations on the queue, in any order, with time that passes, clocks that are set, and restarts: it does what a simple model says. What fails is made shorter before it is
//! shown. More runs: `PROPTEST_CASES`.

use std::sync::Arc;

use model::ports::Queue;
use model::suites::Subject;
use model::suites::memory::MemoryQueue;
use model::suites::queue::{Op, StepClock, agrees};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::support::{Embedded, InMemory};

/// Short and long, of which some are longer than a message is kept.
fn seconds() -> impl Strategy<Value = u16> {
    prop_oneof![Just(0), 1_u16..40, 500_u16..2_000]
}

/// Few messages, so that the same one is meant often.
fn which() -> impl Strategy<Value = u8> {
    0_u8..12
}

fn op() -> impl Strategy<Value = Op> {
    let stale = || prop::bool::weighted(0.15);
    prop_oneof![
        4 => (0_u8..3, seconds(), 0_u8..6).prop_map(|(lane, delay_s, key)| {
            // Most have neither.
            let delay_s = if key % 2 == 0 { 0 } else { delay_s };
            Op::Enqueue { lane, delay_s, key: key.saturating_sub(3) }
        }),
        1 => which().prop_map(|which| Op::EnqueueAgain { which }),
        5 => (0_u8..3, 0_u8..7, seconds())
            .prop_map(|(lane, n, ttl_s)| Op::Lease { lane, n, ttl_s }),
        1 => (which(), seconds(), stale())
            .prop_map(|(which, ttl_s, stale)| Op::Extend { which, ttl_s, stale }),
        3 => (which(), seconds(), any::<bool>(), stale()).prop_map(
            |(which, delay_s, counted, stale)| Op::Again { which, delay_s, counted, stale }
        ),
        3 => (which(), any::<bool>(), seconds(), prop::bool::weighted(0.8), stale()).prop_map(
            |(which, is_dead, keep_s, counted, stale)| {
                Op::End { which, is_dead, keep_s, counted, stale }
            }
        ),
        1 => which().prop_map(|which| Op::Cancel { which }),
        1 => which().prop_map(|which| Op::Redrive { which }),
        1 => which().prop_map(|which| Op::Forget { which }),
        3 => seconds().prop_map(|s| Op::Pass { s }),
        1 => (-2_000_i16..2_000).prop_map(|by_s| Op::SetClock { by_s }),
        1 => prop::bool::weighted(0.7).prop_map(|reclaims| Op::Restart { reclaims }),
    ]
}

/// Runs of up to `ops` operations, so many unless the environment asks for more.
fn check(
    cases: u32,
    ops: usize,
    subject: impl AsyncFn(Arc<StepClock>) -> Box<dyn Subject<dyn Queue>>,
) {
    let asked = Config::default().cases;
    let cases = if asked == ASKED_BY_NOBODY { cases } else { asked };
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let run = |ops: Vec<Op>| {
        runtime.block_on(async {
            let clock = Arc::new(StepClock::new());
            agrees(subject(Arc::clone(&clock)).await, &clock, &ops).await;
        });
        Ok(())
    };
    let result = TestRunner::new(config).run(&vec(op(), 1..ops), run);
    result.unwrap_or_else(|e| panic!("{e}"));
}

/// The default of proptest.
const ASKED_BY_NOBODY: u32 = 256;

#[test]
fn the_queue_in_memory_agrees_with_the_model() {
    check(2_000, 80, async |clock| InMemory::<dyn Queue>::make(Arc::new(MemoryQueue::new(clock))));
}

#[test]
fn the_queue_on_disk_agrees_with_the_model() {
    check(80, 80, async |clock| Embedded::by(clock, |s| Arc::clone(&s.queue)).await);
}
