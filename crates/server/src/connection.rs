//! The listener: how many connections, how long they may idle, how they end.
//!
//! A permit is taken before a connection is accepted, so that what is over the limit waits in the kernel and costs nothing here. When
//! the server shall stop, connections end after the request they are at; calls that outlast the grace are ended, and
//! whatever is left then is cut off.

use std::convert::Infallible;
use std::future::{Future as _, poll_fn};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http_body_util::Either;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use model::tasks::Tasks;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::App;
use crate::gateway::{self, Served, Tunnel};
use crate::lambda;
use crate::routes;
use crate::stalled::Stalled;

/// Largest head of a request, in bytes; over it: 431.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Most that is buffered of a connection, in bytes: a head, or the piece of a body that is read at once.
const BUFFER_BYTES: usize = 256 * 1024;
/// Pause after an accept that failed for want of something, such as file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long connections that are cut off may take to notice.
const ABORT_TIME: Duration = Duration::from_secs(1);

/// What every connection shares.
#[derive(Clone)]
struct Shared {
    app: Arc<App>,
    router: Router,
    drain: Drain,
    abort: CancellationToken,
}

/// Where a request comes from, among its extensions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub IpAddr);

/// A connection's place among those that are open. The WebSocket that it may become has it as well.
struct Open {
    _permit: OwnedSemaphorePermit,
    connections: Tasks,
    abort: CancellationToken,
}

impl Open {
    /// Goes on with what the connection has become.
    fn follow(self: Arc<Self>, tunnel: Tunnel) {
        let connections = self.connections.clone();
        connections.spawn("websocket", async move {
            // Whether it comes to its end or is cut off, it is closed.
            self.abort.run_until_cancelled(tunnel.run()).await
        });
    }
}

/// Whether connections shall end after the request they are at.
#[derive(Clone)]
struct Drain {
    tasks: Tasks,
    token: CancellationToken,
}

/// Serves until `shutdown`, then drains.
pub(crate) async fn serve(app: &Arc<App>, listener: TcpListener, shutdown: CancellationToken) {
    let connections = Tasks::new();
    let shared = Shared {
        app: app.clone(),
        router: routes::router(app),
        drain: Drain { tasks: connections.clone(), token: connections.cancelled() },
        abort: CancellationToken::new(),
    };
    let permits = Arc::new(Semaphore::new(app.config.connections_max));
    shutdown.run_until_cancelled(accept_loop(&listener, &permits, &connections, &shared)).await;
    drop(listener);
    app.draining.cancel();
    let left = connections.drain(app.config.drain_grace).await;
    if left > 0 {
        tracing::warn!(connections = left, "cut off after the grace");
        // Whoever waits for a call that can be ended is told; then whatever is left is closed.
        if app.engine.cut_off() {
            connections.drain(ABORT_TIME).await;
        }
        shared.abort.cancel();
        connections.drain(ABORT_TIME).await;
    }
}

async fn accept_loop(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
    connections: &Tasks,
    shared: &Shared,
) {
    // The semaphore is never closed.
    while let Ok(permit) = permits.clone().acquire_owned().await {
        match listener.accept().await {
            Ok((stream, peer)) => {
                // On a socket for both, IPv4 comes as IPv6: rules and records name the address that it is.
                let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
                connections.spawn("connection", serve_one(shared.clone(), stream, peer, permit));
            }
            // The client went away before it was accepted.
            Err(e) if e.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(e) => {
                tracing::warn!("cannot accept connections: {e}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve_one(
    shared: Shared,
    stream: TcpStream,
    peer: SocketAddr,
    permit: OwnedSemaphorePermit,
) {
    // Answers are written whole: waiting for more to send (Nagle) only adds latency.
    if let Err(e) = stream.set_nodelay(true) {
        tracing::debug!(%peer, "cannot set TCP_NODELAY: {e}");
    }
    let Shared { app, router, drain, abort } = shared;
    let (head_timeout, write_timeout) = (app.config.head_timeout, app.config.write_timeout);
    let router = TowerToHyperService::new(router);
    let connections = drain.tasks.clone();
    let open = Arc::new(Open { _permit: permit, connections, abort: abort.clone() });
    let service = service_fn(move |mut request: http::Request<Incoming>| {
        let (app, router, open) = (app.clone(), router.clone(), open.clone());
        async move {
            Ok::<_, Infallible>(if gateway::owns(request.uri().path()) {
                let Served { response, tunnel } = gateway::serve(&app, peer, request).await;
                if let Some(tunnel) = tunnel {
                    open.follow(tunnel);
                }
                response.map(Either::Left)
            } else if lambda::owns(request.uri().path()) {
                lambda::serve(&app, peer, request).await.map(Either::Right)
            } else {
                request.extensions_mut().insert(Peer(peer.ip()));
                match router.call(request).await {
                    Ok(response) => response.map(Either::<gateway::Answer, Body>::Right),
                    Err(never) => match never {},
                }
            })
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(head_timeout)
        .max_header_size(HEAD_BYTES_MAX)
        .max_buf_size(BUFFER_BYTES)
        .serve_connection(TokioIo::new(Stalled::new(stream, write_timeout)), service)
        .with_upgrades();
    let mut connection = pin!(connection);
    let mut drained = pin!(drain.token.cancelled());
    let mut listening = false;
    let ended = poll_fn(|cx| {
        // Asking the token takes a lock that all connections share: once to leave the waker there, and again when it has fired.
        if (!listening || drain.tasks.is_ending()) && drained.as_mut().poll(cx).is_ready() {
            return Poll::Ready(None);
        }
        listening = true;
        connection.as_mut().poll(cx).map(Some)
    });
    let ended = match ended.await {
        Some(ended) => ended,
        None => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                ended = connection => ended,
                () = abort.cancelled() => Ok(()),
            }
        }
    };
    if let Err(e) = ended {
        tracing::debug!(%peer, "connection ended: {e}");
    }
}
