//! Load at a constant rate: calls are due at fixed times, whatever became of those before. A call's time counts from when it was due, so one that
//! waits for a connection is as slow as its caller would find it.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};

use super::http::Connection;
use super::stats::Round;

/// So many of the slowest calls are kept.
const SLOWEST: usize = 20;
/// The header with which the server says where a call's time went, when asked by the same.
const TIMINGS: &str = "x-hanshu-timings";

/// What is asked, of whom, over how many connections, how often.
#[derive(Clone, Debug)]
pub(crate) struct Paced {
    pub(crate) address: SocketAddr,
    pub(crate) request: Vec<u8>,
    pub(crate) connections: usize,
    pub(crate) per_second: u32,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Load {
    pub(crate) round: Round,
    pub(crate) slowest: Slowest,
}

/// The slowest calls, each with what the server said of where its time went, if it was asked for that.
#[derive(Clone, Debug, Default)]
pub(crate) struct Slowest(Vec<(Duration, String)>);

impl Slowest {
    /// Adds a call if it is one of them. `timings` are looked for only then.
    fn add(&mut self, took: Duration, timings: impl FnOnce() -> Option<String>) {
        if self.0.len() == SLOWEST && self.0.last().is_some_and(|(least, _)| *least >= took) {
            return;
        }
        self.0.push((took, timings().unwrap_or_default()));
        self.0.sort_by_key(|(took, _)| std::cmp::Reverse(*took));
        self.0.truncate(SLOWEST);
    }

    /// Adds those of another load.
    pub(crate) fn join(&mut self, other: Self) {
        other.0.into_iter().for_each(|(took, timings)| self.add(took, || Some(timings)));
    }

    /// The slowest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &(Duration, String)> {
        self.0.iter()
    }
}

/// A connection, and when the call that it is at was due.
#[derive(Debug)]
struct Line {
    connection: Connection,
    due: Instant,
}

impl Paced {
    /// Runs until `stop`, then waits for what is under way. Any answer but 200 is an error.
    pub(crate) fn run(&self, stop: &AtomicBool) -> Result<Load> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).context("cannot make an epoll")?;
        let mut lines = self.open(&epoll)?;
        let mut idle: VecDeque<usize> = (0..lines.len()).collect();
        let mut events = Vec::with_capacity(self.connections);
        let Load { mut round, mut slowest } = Load::default();
        let (start, between) = (Instant::now(), Duration::from_secs(1) / self.per_second);
        let mut due = start;
        loop {
            let stopping = stop.load(Ordering::Relaxed);
            while !stopping
                && due <= Instant::now()
                && let Some(index) = idle.pop_front()
            {
                let line = lines.get_mut(index).context("no such connection")?;
                line.due = due;
                line.connection.send(&self.request)?;
                due += between;
            }
            if stopping && idle.len() == lines.len() {
                round.elapsed = start.elapsed();
                return Ok(Load { round, slowest });
            }
            let wait = if idle.is_empty() { None } else { Some(until(due)) };
            events.clear();
            epoll::wait(&epoll, spare_capacity(&mut events), wait.as_ref())
                .context("cannot wait")?;
            for event in &events {
                let index = usize::try_from(event.data.u64()).unwrap_or(usize::MAX);
                let line = lines.get_mut(index).context("an event of nobody")?;
                let Some(frame) = line.connection.receive_some()? else { continue };
                if frame.status != 200 {
                    bail!("the server answered {} instead of 200", frame.status);
                }
                let took = line.due.elapsed();
                round.latencies.push(took);
                slowest.add(took, || line.connection.header(TIMINGS));
                idle.push_back(index);
            }
        }
    }

    fn open(&self, epoll: &impl std::os::fd::AsFd) -> Result<Vec<Line>> {
        let mut lines = Vec::with_capacity(self.connections);
        for index in 0..self.connections {
            let connection = Connection::open(self.address)?;
            let data = epoll::EventData::new_u64(index as u64);
            epoll::add(epoll, connection.stream(), data, epoll::EventFlags::IN)?;
            lines.push(Line { connection, due: Instant::now() });
        }
        Ok(lines)
    }
}

/// At most a tenth of a second, so that the end is noticed.
fn until(due: Instant) -> Timespec {
    let wait = due.saturating_duration_since(Instant::now()).min(Duration::from_millis(100));
    Timespec { tv_sec: 0, tv_nsec: wait.subsec_nanos().into() }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    use super::*;

    /// Answers each request after `delay`.
    fn server(answer: &'static [u8], delay: Duration) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming().take(2) {
                let mut stream = stream.unwrap();
                std::thread::spawn(move || {
                    let mut buffer = [0; 1024];
                    while matches!(stream.read(&mut buffer), Ok(n) if n > 0) {
                        std::thread::sleep(delay);
                        if stream.write_all(answer).is_err() {
                            return;
                        }
                    }
                });
            }
        });
        address
    }

    fn run(address: SocketAddr, per_second: u32) -> Result<Load> {
        let request = super::super::http::request("GET", "/", "", b"");
        let paced = Paced { address, request, connections: 2, per_second };
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let round = scope.spawn(|| paced.run(&stop));
            std::thread::sleep(Duration::from_millis(400));
            stop.store(true, Ordering::Relaxed);
            round.join().unwrap()
        })
    }

    #[test]
    fn calls_come_at_their_times_and_late_ones_count_from_then() {
        const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
        let Load { round, slowest } = run(server(OK, Duration::ZERO), 100).unwrap();
        assert_eq!(slowest.iter().next().map(|(took, _)| took), round.latencies.iter().max());
        assert_eq!(slowest.iter().count(), SLOWEST);
        assert!((20..=45).contains(&round.latencies.len()), "{}", round.latencies.len());
        // Two connections, 50 ms a call: 40 calls a second, of 100 that are due.
        let Load { round, .. } = run(server(OK, Duration::from_millis(50)), 100).unwrap();
        let slowest = round.latencies.iter().max().unwrap();
        assert!(*slowest > Duration::from_millis(150), "{slowest:?}");
    }

    #[test]
    fn any_answer_but_200_is_an_error() {
        const NO: &[u8] = b"HTTP/1.1 502 No\r\ncontent-length: 0\r\n\r\n";
        let error = run(server(NO, Duration::ZERO), 100).unwrap_err();
        assert!(error.to_string().contains("502"), "{error}");
    }
}
