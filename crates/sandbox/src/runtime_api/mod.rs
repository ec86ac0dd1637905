//! The daemon's side of AWS Lambda's Runtime API: what an executable of the function's own asks and says over HTTP.
//!
//! [`Api`] is one instance's: a task ([`server`]) that serves the connections to a listener in the function's network namespace. Requests come in by
//! [`routes`], one file an endpoint: [`next`], [`response`], [`error`], [`init_error`], [`telemetry`], and those of [`extensions`]. What they have in common lies on the [`desk`]: the state
//! of the runtime, the call that it has, and who waits for the answer. [`answers`] words what is refused, [`body`] reads what is sent, within its limit.
//!
//! Not here: processes, deadlines and what a call's end does to an instance ([`crate::process`]).
//!
//! Nothing that comes in is trusted. An instance's connections, their heads and their bodies have limits, and what it does wrong harms itself alone.

mod answers;
mod body;
mod desk;
mod error;
mod extensions;
mod init_error;
mod next;
mod patience;
mod response;
mod routes;
mod server;
mod telemetry;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use model::tasks::Tasks;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub(crate) use desk::{About, Answer, Desk, Event, Init, Piece, Pieces};
pub(crate) use extensions::EXTENSIONS;

/// Of the interface.
pub(crate) const VERSION: &str = "2018-06-01";
/// How long the connections of an instance that is gone may take to be read to their ends.
const LEAVE_MOST: Duration = Duration::from_secs(1);

/// The Runtime API of one instance. Dropping it closes its connections.
#[derive(Debug)]
pub(crate) struct Api {
    desk: Arc<Desk>,
    server: JoinHandle<()>,
    leave: CancellationToken,
}

impl Api {
    /// Serves a listener, which does not block; what comes of the runtime's start is told once. `external`: names of the extensions that come from layers.
    pub(crate) fn serve(
        listener: std::net::TcpListener,
        tasks: &Tasks,
        about: About,
        external: Vec<String>,
    ) -> io::Result<(Self, oneshot::Receiver<Init>)> {
        let listener = TcpListener::from_std(listener)?;
        let (desk, init) = Desk::new(about, external);
        let desk = Arc::new(desk);
        let leave = CancellationToken::new();
        let serving = server::serve(listener, Arc::clone(&desk), leave.clone());
        let server = tasks.spawn("runtime api", serving);
        Ok((Self { desk, server, leave }, init))
    }

    /// Where calls are handed over.
    pub(crate) fn desk(&self) -> &Arc<Desk> {
        &self.desk
    }

    /// For an instance of which every process is gone: reads what it has sent before, and returns when there is nothing more. Cancel-safe.
    pub(crate) async fn leave(&mut self) {
        self.leave.cancel();
        if !self.server.is_finished() {
            // An error would say that the task failed: then there is nothing more either.
            drop(tokio::time::timeout(LEAVE_MOST, &mut self.server).await);
        }
    }

    /// Closes all connections, whatever they are at.
    pub(crate) fn close(&self) {
        self.server.abort();
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        self.close();
    }
}
