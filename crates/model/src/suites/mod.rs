//! Contract suites: one module per port. An implementation calls the suite from its own tests with a way to make itself.
//!
//! Each suite is a function (or a few) that panics with what was expected and what was found. The suites of the store's ports
//! take a function that makes a fresh [`Subject`]; they use nothing but the port, so every backend can pass them.
pub mod blobs;
pub mod bus;
pub mod clock;
pub mod corpus;
pub mod functions;
pub mod lease;
pub mod logs;
pub mod memory;
pub mod meta;
pub mod queue;
pub mod sandbox;
pub mod usage;
pub mod vault;

use std::sync::Arc;

use async_trait::async_trait;

/// A port under test, empty when it is made.
#[async_trait]
pub trait Subject<P: ?Sized>: Send {
    /// The port as it is now.
    fn port(&self) -> Arc<P>;

    /// Shuts down in order and starts again on the same data. What was got from [`Subject::port`] before is of no more use.
    async fn reopen(&mut self);
}

/// Numbers that look random and are the same in every run (xorshift64*), so that a failure can be repeated.
#[derive(Debug)]
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(number).unwrap_or(0) % n
    }
}
