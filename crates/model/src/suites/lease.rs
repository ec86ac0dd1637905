//! Contract of [`Lease`], as its only holder sees it.

#![expect(clippy::unwrap_used, reason = "a suite panics at a broken promise")]

use std::time::Duration;

use super::Subject;
use crate::clock::{Clock, SystemClock};
use crate::ports::{Fence, Lease};

/// Longer than the suite takes.
const LONG: Duration = Duration::from_secs(60);
/// Shorter than a test minds waiting.
const SHORT: Duration = Duration::from_millis(100);

/// Runs the suite; `make` gives a store where nobody holds anything each time.
pub async fn run(make: impl AsyncFn() -> Box<dyn Subject<dyn Lease>>) {
    the_holder_renews_and_a_stale_fence_does_not(&*make().await.port()).await;
    a_lease_expires(&*make().await.port()).await;
    names_are_apart(&*make().await.port()).await;
    fences_ascend_for_ever(make().await).await;
}

async fn acquire(lease: &dyn Lease, name: &str, ttl: Duration) -> Fence {
    lease.acquire(name, ttl).await.unwrap().unwrap()
}

async fn the_holder_renews_and_a_stale_fence_does_not(lease: &dyn Lease) {
    let first = acquire(lease, "a", LONG).await;
    assert!(lease.renew("a", first, LONG).await.unwrap());
    let second = acquire(lease, "a", LONG).await;
    assert!(second > first, "{second:?} after {first:?}");
    assert!(!lease.renew("a", first, LONG).await.unwrap(), "renewed under a stale fence");
    lease.release("a", first).await.unwrap();
    assert!(lease.renew("a", second, LONG).await.unwrap(), "released by a stale fence");
    lease.release("a", second).await.unwrap();
    assert!(!lease.renew("a", second, LONG).await.unwrap(), "renewed after its release");
    assert!(!lease.renew("never", second, LONG).await.unwrap(), "renewed what nobody took");
}

async fn a_lease_expires(lease: &dyn Lease) {
    let fence = acquire(lease, "a", SHORT).await;
    SystemClock.sleep_until(SystemClock.instant() + SHORT * 2).await;
    assert!(!lease.renew("a", fence, LONG).await.unwrap(), "renewed after its end");
    assert!(acquire(lease, "a", LONG).await > fence);
}

async fn names_are_apart(lease: &dyn Lease) {
    let a = acquire(lease, "a", LONG).await;
    let b = acquire(lease, "b", LONG).await;
    lease.release("b", b).await.unwrap();
    assert!(lease.renew("a", a, LONG).await.unwrap());
}

async fn fences_ascend_for_ever(mut subject: Box<dyn Subject<dyn Lease>>) {
    let mut last = Fence(0);
    for _ in 0..3 {
        for _ in 0..3 {
            // Whatever became of the lease over the restart: the same holder may have it.
            let fence = acquire(&*subject.port(), "a", LONG).await;
            assert!(fence > last, "{fence:?} after {last:?}");
            last = fence;
        }
        subject.reopen().await;
    }
}
