//! Load: keeps one request in flight on each of some connections for a while and notes how long every answer took.
//!
//! One thread whatever the number of connections: a client that wakes up once per batch of answers leaves the machine to the
//! server.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::buffer::spare_capacity;
use rustix::event::epoll;

use super::http::{Connection, Frame};
use super::stats::Round;

/// What is asked, of whom, by how many at once.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    pub(crate) address: SocketAddr,
    pub(crate) request: Vec<u8>,
    pub(crate) connections: usize,
}

impl Load {
    /// Runs for `duration` on fresh connections. Any answer but 200 is an error.
    pub(crate) fn run(&self, duration: Duration) -> Result<Round> {
        match self.connections {
            // Without waiting for events: a blocking read is one system call less per answer.
            1 => self.run_one(duration),
            _ => self.run_many(duration),
        }
    }

    fn run_one(&self, duration: Duration) -> Result<Round> {
        let mut connection = Connection::open(self.address)?;
        let mut round = Round::default();
        let start = Instant::now();
        let mut sent = start;
        while round.elapsed < duration {
            expect_ok(connection.exchange(&self.request)?)?;
            let now = Instant::now();
            round.latencies.push(now - sent);
            round.elapsed = now - start;
            sent = now;
        }
        Ok(round)
    }

    fn run_many(&self, duration: Duration) -> Result<Round> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).context("cannot make an epoll")?;
        let mut open = Vec::with_capacity(self.connections);
        for index in 0_u64.. {
            if open.len() == self.connections {
                break;
            }
            let connection = Connection::open(self.address)?;
            let data = epoll::EventData::new_u64(index);
            epoll::add(&epoll, connection.stream(), data, epoll::EventFlags::IN)?;
            open.push((connection, Instant::now()));
        }
        let start = Instant::now();
        for (connection, sent) in &mut open {
            *sent = Instant::now();
            connection.send(&self.request)?;
        }
        let mut round = Round::default();
        let mut events = Vec::with_capacity(self.connections);
        while round.elapsed < duration {
            epoll::wait(&epoll, spare_capacity(&mut events), None).context("cannot wait")?;
            for event in events.drain(..) {
                let index = usize::try_from(event.data.u64()).unwrap_or(usize::MAX);
                let (connection, sent) = open.get_mut(index).context("an event of nobody")?;
                let Some(frame) = connection.receive_some()? else {
                    continue;
                };
                expect_ok(frame)?;
                let now = Instant::now();
                round.latencies.push(now - *sent);
                *sent = now;
                connection.send(&self.request)?;
            }
            round.elapsed = start.elapsed();
        }
        Ok(round)
    }
}

fn expect_ok(frame: Frame) -> Result<()> {
    if frame.status != 200 {
        bail!("the server answered {} instead of 200", frame.status);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    use super::*;

    /// Answers every read with `answer`, on as many connections as come, until the client goes away.
    fn server(answer: &'static [u8], connections: usize) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming().take(connections) {
                let mut stream = stream.unwrap();
                std::thread::spawn(move || {
                    let mut buffer = [0; 1024];
                    while matches!(stream.read(&mut buffer), Ok(n) if n > 0) {
                        if stream.write_all(answer).is_err() {
                            return;
                        }
                    }
                });
            }
        });
        address
    }

    fn load(address: SocketAddr, connections: usize) -> Load {
        let request = super::super::http::request("GET", "/", "", b"");
        Load { address, request, connections }
    }

    #[test]
    fn every_answer_is_counted_with_one_connection_and_with_many() {
        for connections in [1, 8] {
            let address = server(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", connections);
            let round = load(address, connections).run(Duration::from_millis(100)).unwrap();
            assert!(round.latencies.len() >= connections, "{}", round.latencies.len());
            assert!(round.elapsed >= Duration::from_millis(100));
            assert!(round.latencies.iter().all(|l| *l <= round.elapsed));
            assert!(round.rate() > 0.0);
        }
    }

    #[test]
    fn any_answer_but_200_and_a_closed_connection_are_errors() {
        for connections in [1, 8] {
            let address = server(b"HTTP/1.1 429 No\r\ncontent-length: 0\r\n\r\n", connections);
            let error = load(address, connections).run(Duration::from_secs(5)).unwrap_err();
            assert!(error.to_string().contains("429"), "{error}");
        }
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let closing = std::thread::spawn(move || drop(listener.accept()));
        load(address, 1).run(Duration::from_secs(5)).unwrap_err();
        closing.join().unwrap();
    }
}
