//! `kill -9` at random instants, while several clients change everything there is: after each start what was acknowledged is there, the one
//! change that was not is there wholly or not at all, and the histories agree with what they tell of.
//!
//! Each client ([`clients`]) changes one document, each time for a reason of its own. So the reasons in the document's history, but for the
//! daemon's own changes, are those of the acknowledged changes, and perhaps the one whose answer was lost.

mod clients;

use std::thread;
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;

use self::clients::Client;
use crate::harness::http::{Http, Reply};
use crate::harness::{Start, eventually};

const KILLS: usize = 60;
/// When the clients got little done, on a very busy machine.
const KILLS_AT_MOST: usize = 600;

/// The daemon was killed.
struct Gone;

/// What was done to one document.
#[derive(Debug)]
struct Log {
    /// Where the document is.
    path: &'static str,
    /// Reasons of the changes that were acknowledged.
    acknowledged: Vec<String>,
    /// The change whose answer is still awaited.
    sent: Option<String>,
    changes: u64,
}

impl Log {
    fn of(path: &'static str) -> Self {
        Self { path, acknowledged: Vec::new(), sent: None, changes: 0 }
    }

    /// The reason of the next change: no other has it.
    fn next(&mut self) -> String {
        self.changes += 1;
        format!("change {}", self.changes)
    }

    /// Sends a change of the document, or of what is below it. A refusal changes nothing.
    fn change(
        &mut self,
        http: &Http,
        reason: &str,
        (method, below): (&str, &str),
        body: impl AsRef<[u8]>,
    ) -> Result<Reply, Gone> {
        self.sent = Some(reason.to_owned());
        let kind =
            if below.starts_with("/versions?") { "application/zip" } else { "application/json" };
        let headers = [("x-hanshu-reason", reason), ("content-type", kind)];
        let path = format!("{}{below}", self.path);
        let reply = http.try_send(method, &path, &headers, body.as_ref()).map_err(|_| Gone)?;
        self.sent = None;
        match reply.status {
            200..300 => self.acknowledged.push(reason.to_owned()),
            404 | 409 => {}
            // A version that is gone, or nothing to go back to.
            400 if below.starts_with("/aliases/live") => {}
            _ => panic!("{method} {path}: {}", reply.text()),
        }
        Ok(reply)
    }

    /// What was sent last may have changed nothing, though it was well received: the history alone tells.
    fn ask(&mut self, http: &Http) -> Result<(), Gone> {
        self.sent = self.acknowledged.pop();
        let path = format!("{}/history?limit=50", self.path);
        let page = http.try_send("GET", &path, &[], ()).map_err(|_| Gone)?.json();
        let mut kept = page["items"].as_array().into_iter().flatten();
        let sent = self.sent.take();
        self.acknowledged.extend(sent.filter(|sent| kept.any(|c| c["reason"] == sent.as_str())));
        Ok(())
    }

    /// Checks the document's history, oldest first, against what was done to it.
    #[track_caller]
    fn check(&mut self, changes: &[Value]) {
        let revisions = changes.iter().map(|change| change["revision"].as_u64().unwrap());
        assert!(revisions.eq(1..=changes.len() as u64), "{}: not dense: {changes:?}", self.path);
        let ours = changes.iter().filter(|change| change["who"] != "hanshu");
        let found: Vec<String> =
            ours.map(|change| change["reason"].as_str().unwrap().to_owned()).collect();
        let with_lost: Vec<String> = self.acknowledged.iter().chain(&self.sent).cloned().collect();
        assert!(
            found == self.acknowledged || found == with_lost,
            "{}: {found:?}\nexpected {:?}, perhaps with {:?}",
            self.path,
            self.acknowledged,
            self.sent
        );
        self.acknowledged = found;
        self.sent = None;
    }
}

/// All items of a listing; none where there is nothing of the name.
#[track_caller]
fn items(http: &Http, path: &str) -> Vec<Value> {
    let mut found = Vec::new();
    let mut after = String::new();
    loop {
        let reply = http.get(&format!("{path}?limit=500{after}"));
        if reply.status == 404 {
            return found;
        }
        assert_eq!(reply.status, 200, "{reply:?}");
        let page = reply.json();
        found.extend(page["items"].as_array().unwrap().iter().cloned());
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => return found,
        }
    }
}

/// The history of what is at `path`, oldest first.
fn history(http: &Http, path: &str) -> Vec<Value> {
    let mut changes = items(http, &format!("{path}/history"));
    changes.reverse();
    changes
}

/// Numbers that need not be good.
#[derive(Debug)]
struct Dice(u64);

impl Dice {
    /// From 0 to below `sides`.
    fn roll(&mut self, sides: u64) -> u64 {
        // Xorshift (Marsaglia 2003).
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % sides
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        from.get(usize::try_from(self.roll(from.len().max(1) as u64)).unwrap())
    }
}

#[test]
fn everything_acknowledged_is_there_after_kills_at_any_instant() {
    let seed = u64::from(SystemTime::UNIX_EPOCH.elapsed().unwrap().subsec_nanos()) | 1;
    println!("seed {seed}");
    let mut dice = Dice(seed);
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut daemon = Start::dev().on(&data).start();
    let mut clients = clients::all(&daemon.http, seed);
    let begun = Instant::now();
    let mut kills = 0;
    let tested_little =
        |clients: &[Client]| clients.iter().any(|c| c.log.acknowledged.len() <= 2 * KILLS);
    // On a busy machine the clients get less done between two kills.
    while kills < KILLS || (tested_little(&clients) && kills < KILLS_AT_MOST) {
        kills += 1;
        let http = daemon.http.clone();
        let pause = Duration::from_millis(20 + dice.roll(230));
        thread::scope(|scope| {
            for client in &mut clients {
                let http = &http;
                scope.spawn(move || while client.step(http).is_ok() {});
            }
            thread::sleep(pause);
            daemon.kill();
        });
        daemon = Start::dev().on(&data).start();
        for client in &mut clients {
            check(client, &daemon.http);
        }
        clients::code_is_there(&daemon.http);
    }
    println!("{kills} kills in {:?}", begun.elapsed());
    for client in &clients {
        println!("{}: {} changes", client.log.path, client.log.acknowledged.len());
    }
    assert!(!tested_little(&clients), "hardly anything was tested: {clients:?}");
    clients::every_version_is_there(&daemon.http);
}

/// Checks the document of a client, which the daemon may be changing: it goes on with shifts and followers.
fn check(client: &mut Client, http: &Http) {
    let path = client.log.path;
    eventually("the document is as its history says", Duration::from_secs(10), || {
        let changes = history(http, path);
        let wrong = client.looks_wrong(http, &changes);
        if history(http, path).len() != changes.len() {
            return None;
        }
        client.log.check(&changes);
        assert_eq!(wrong, None, "{path}: {:?}", changes.last());
        Some(())
    });
}
