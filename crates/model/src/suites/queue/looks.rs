//! Lists.

use super::{LONG, Subject, dead, enqueue, lane, lease_some, message, succeeded};
use crate::clock::{Clock, SystemClock, UnixMillis};
use crate::error::Code;
use crate::ids::RequestId;
use crate::ports::{Ended, ListedStanding, Listing, NewMessage, Queue};

pub(super) async fn run(make: &impl AsyncFn() -> Box<dyn Subject<dyn Queue>>) {
    lists_show_what_was_asked_for(&*make().await.port()).await;
    pages_follow_each_other(&*make().await.port()).await;
}

async fn ids(queue: &dyn Queue, listing: Listing) -> Vec<RequestId> {
    queue.list(listing).await.unwrap().into_iter().map(|m| m.id).collect()
}

fn all() -> Listing {
    Listing { limit: 100, ..Listing::default() }
}

/// In each of three lanes one that waits, one on lease, and one of each end, in this order.
async fn lists_show_what_was_asked_for(queue: &dyn Queue) {
    let names = ["team/a", "team/b", "team-2/a"];
    let mut known = Vec::new();
    for name in names {
        let mut here = Vec::new();
        for kind in 0..5 {
            let mut new = NewMessage { lane: lane(name), ..message("m") };
            if kind == 0 {
                new.run_at = UnixMillis(u64::MAX);
            }
            here.push(new.id);
            enqueue(queue, new.clone()).await;
            if kind == 0 {
                continue;
            }
            let leased = lease_some(queue, &lane(name), 1, LONG).await.remove(0);
            assert_eq!(leased.id, new.id);
            match kind {
                2 => queue.end(new.id, leased.token, succeeded()).await.unwrap(),
                3 => queue.end(new.id, leased.token, dead("no")).await.unwrap(),
                4 => drop(queue.cancel(new.id, "no".into(), LONG).await.unwrap()),
                _ => {}
            }
        }
        known.push(here);
    }
    let newest_first: Vec<_> = known.iter().flatten().rev().copied().collect();
    assert_eq!(ids(queue, all()).await, newest_first);
    let of = |lane: usize| known[lane].iter().rev().copied().collect::<Vec<_>>();
    let only = Listing { lane: Some(lane("team/b")), ..all() };
    assert_eq!(ids(queue, only).await, of(1));
    let prefix = Listing { lane_prefix: "team/".into(), ..all() };
    assert_eq!(ids(queue, prefix).await, [of(1), of(0)].concat());
    let nowhere = Listing { lane_prefix: "tea/".into(), ..all() };
    assert_eq!(ids(queue, nowhere).await, []);
    for (n, standing) in [
        ListedStanding::Waiting,
        ListedStanding::Leased,
        ListedStanding::Ended(Ended::Succeeded),
        ListedStanding::Ended(Ended::Dead),
        ListedStanding::Ended(Ended::Cancelled),
    ]
    .into_iter()
    .enumerate()
    {
        let standing = Some(standing);
        let found = ids(queue, Listing { standing, ..all() }).await;
        assert_eq!(found, [known[2][n], known[1][n], known[0][n]], "{standing:?}");
        let in_lane = Listing { standing, lane: Some(lane("team/a")), ..all() };
        assert_eq!(ids(queue, in_lane).await, [known[0][n]], "{standing:?}");
    }
    let later = Some(SystemClock.now().after(LONG));
    assert_eq!(ids(queue, Listing { since: later, ..all() }).await, []);
    assert_eq!(ids(queue, Listing { until: later, ..all() }).await.len(), 15);
    assert_eq!(ids(queue, Listing { until: Some(UnixMillis(1)), ..all() }).await, []);
}

async fn pages_follow_each_other(queue: &dyn Queue) {
    let mut known = Vec::new();
    for _ in 0..7 {
        let new = message("m");
        known.insert(0, new.id);
        enqueue(queue, new).await;
    }
    for oldest_first in [false, true] {
        let mut paged: Vec<RequestId> = Vec::new();
        loop {
            let after = paged.last().copied();
            let page = ids(queue, Listing { after, oldest_first, limit: 3, ..all() }).await;
            assert!(page.len() <= 3);
            if page.is_empty() {
                break;
            }
            paged.extend(page);
        }
        assert_eq!(paged, known);
        known.reverse();
    }
    let unknown = Listing { after: Some(RequestId::generate()), ..all() };
    assert_eq!(queue.list(unknown).await.unwrap_err().code(), Code::NotFound);
}
