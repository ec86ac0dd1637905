//! Serves the connections of one instance, all in one task.

use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use super::desk::Desk;
use super::patience::{Heads, Patient};
use super::routes::route;

/// Connections that are served at once; further ones wait. A runtime has one, and extensions one each.
pub(super) const CONNECTIONS: usize = 32;
/// What is held of a connection, in bytes: the longest head of a request, and a piece of a body.
pub(super) const BUFFER_BYTES: usize = 64 * 1024;

/// Serves until the task is aborted, or, once it shall `leave`, until there is nothing more to be read.
pub(super) async fn serve(listener: TcpListener, desk: Arc<Desk>, leave: CancellationToken) {
    let mut connections = FuturesUnordered::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < CONNECTIONS => {
                match accepted {
                    Ok((stream, _)) => connections.push(connection(stream, &desk)),
                    // The other end is gone already, or the daemon is out of descriptors.
                    Err(error) => {
                        tracing::debug!(%error, "a connection was not accepted");
                        tokio::time::sleep(PAUSE).await;
                    }
                }
            }
            Some(()) = connections.next(), if !connections.is_empty() => {}
            () = leave.cancelled() => break,
        }
    }
    // What it connected and sent before it ended.
    loop {
        tokio::select! {
            biased;
            accepted = listener.accept(), if connections.len() < CONNECTIONS => {
                let Ok((stream, _)) = accepted else { break };
                connections.push(connection(stream, &desk));
            }
            ended = connections.next() => if ended.is_none() { break },
        }
    }
}

/// How long nothing is accepted after something could not be.
const PAUSE: std::time::Duration = std::time::Duration::from_millis(10);

async fn connection(stream: TcpStream, desk: &Desk) {
    // An error would say that it is gone: then the next one does as well.
    stream.set_nodelay(true).unwrap_or_default();
    let heads = Heads::default();
    let io = TokioIo::new(Patient::new(stream, &heads));
    let service = service_fn(|request| {
        heads.came();
        let heads = &heads;
        async move {
            let reply = route(desk, request).await;
            heads.done();
            Ok::<_, std::convert::Infallible>(reply)
        }
    });
    let mut server = http1::Builder::new();
    server.max_buf_size(BUFFER_BYTES).max_header_size(BUFFER_BYTES);
    if let Err(error) = server.serve_connection(io, service).await {
        tracing::debug!(%error, "a connection to the runtime API ended");
    }
    desk.disconnected();
}
