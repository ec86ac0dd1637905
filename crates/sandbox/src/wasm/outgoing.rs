//! Requests that components send to others (`wasi:http/outgoing-handler`), by the network policy of their function.
//!
//! The daemon opens the connections, so it also asks the name servers: those that the policy allows ([`names`]). What a name stands for is looked at after it
//! was resolved, and the connection goes to the very address that was looked at, so a name that changes its mind changes nothing. Redirects are for the component to
//! follow, by another request. Each request has a connection of its own, which goes with it; all of them go with the call.

mod names;
mod tls;

use std::fmt;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream;
use http::uri::{PathAndQuery, Scheme};
use http::{Method, Request, Response, Uri};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use model::network::{NetworkPolicy, Protocol, Reach as Allowed};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use wasmtime_wasi_http::{Error, RequestOptions, Result, WasiBody};

use crate::jail::network::Filter;
use crate::process::network::Networks;
use tls::Channel;

/// Connections of one instance at once.
const CONNECTIONS: usize = 64;
/// How long names and connections together may take, whatever a component says.
const CONNECT: Duration = Duration::from_secs(10);
/// Addresses of a name that are tried.
const TRIED: usize = 4;
/// Header fields of a response: their number, and their size in bytes.
const FIELDS: usize = 100;
const FIELDS_BYTES: usize = 32 << 10;

/// What an instance reaches.
#[derive(Clone)]
pub(super) struct Reach {
    networks: Arc<Networks>,
    policy: Arc<NetworkPolicy>,
    connections: Arc<Semaphore>,
}

impl fmt::Debug for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reach").field("policy", &self.policy).finish_non_exhaustive()
    }
}

/// A response, and what has to go on for its body to come.
pub(super) type Sent = (Response<WasiBody>, Box<dyn Future<Output = Result<()>> + Send>);

impl Reach {
    /// What this policy allows; looked up again for each request, for the host's addresses change.
    pub(super) fn new(networks: Arc<Networks>, policy: NetworkPolicy) -> Self {
        let connections = Arc::new(Semaphore::new(CONNECTIONS));
        Self { networks, policy: Arc::new(policy), connections }
    }

    /// Sends a request.
    pub(super) async fn send(
        self,
        mut request: Request<WasiBody>,
        options: RequestOptions,
    ) -> Result<Sent> {
        if request.method() == Method::CONNECT {
            return Err(Error::HttpRequestMethodInvalid);
        }
        let permit = self.connections.clone().try_acquire_owned();
        let permit = permit.map_err(|_| Error::ConnectionLimitReached)?;
        let limit = options.connect_timeout.unwrap_or(CONNECT).min(CONNECT);
        let connected = timeout(limit, self.connect(request.uri()));
        let channel = connected.await.map_err(|_| Error::ConnectionTimeout)??;
        // The target is a path: only proxies are told more.
        let path = request.uri().path_and_query().cloned();
        *request.uri_mut() = Uri::from(path.unwrap_or(PathAndQuery::from_static("/")));
        let (response, connection) = exchange(channel, request, options.first_byte_timeout).await?;
        let response = response.map(|body| paced(body, options.between_bytes_timeout));
        let goes_on = async move {
            let _permit = permit;
            match connection {
                Some(connection) => connection.await.map_err(Error::from),
                None => Ok(()),
            }
        };
        Ok((response, Box::new(goes_on)))
    }

    async fn connect(&self, uri: &Uri) -> Result<Channel> {
        let reach = self.networks.reach(&self.policy).await;
        let (filter, servers) = reach.map_err(|e| Error::InternalError(Some(e.to_string())))?;
        connect(&filter, &servers, uri, &[]).await
    }
}

/// A connection to who is named by an address, if the filter permits it, or `allow` does, which is of whoever runs the daemon.
pub(crate) async fn connect(
    filter: &Filter,
    servers: &[Ipv4Addr],
    uri: &Uri,
    allow: &[Allowed],
) -> Result<Channel> {
    let host = uri.host().ok_or(Error::HttpRequestUriInvalid)?;
    let secure = uri.scheme() == Some(&Scheme::HTTPS);
    let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
    let addresses = match host.parse::<Ipv4Addr>() {
        Ok(address) => vec![address],
        // Functions have no IPv6.
        Err(_) if host.starts_with('[') => return Err(Error::DestinationIpProhibited),
        Err(_) => names::resolve(host, &asked(filter, servers)).await?,
    };
    let permits = |to: SocketAddrV4| {
        filter.permits(Protocol::Tcp, to)
            || allow.iter().any(|allowed| allowed.holds(Protocol::Tcp, to))
    };
    let stream = open(permits, &addresses, port).await?;
    match secure {
        true => tls::secure(host, stream).await,
        false => Ok(Channel::Plain(stream)),
    }
}

/// Name servers that may be asked.
fn asked(filter: &Filter, servers: &[Ipv4Addr]) -> Vec<SocketAddrV4> {
    let servers = servers.iter().map(|server| SocketAddrV4::new(*server, names::PORT));
    servers.filter(|server| filter.permits(Protocol::Udp, *server)).collect()
}

/// A connection to the first address that is permitted and takes it.
async fn open(
    permits: impl Fn(SocketAddrV4) -> bool,
    addresses: &[Ipv4Addr],
    port: u16,
) -> Result<TcpStream> {
    let to = addresses.iter().map(|address| SocketAddrV4::new(*address, port));
    let mut last = Error::DestinationIpProhibited;
    for to in to.filter(|to| permits(*to)).take(TRIED) {
        match TcpStream::connect(to).await {
            Ok(stream) => return Ok(stream),
            Err(error) => {
                tracing::debug!(%error, %to, "a connection was not opened");
                last = Error::ConnectionRefused;
            }
        }
    }
    Err(last)
}

/// What moves bytes for a response.
type Connection = Pin<Box<http1::Connection<TokioIo<Channel>, WasiBody>>>;

/// One request on a connection of its own: its response's head, and the connection unless that is over.
async fn exchange(
    channel: Channel,
    request: Request<WasiBody>,
    first_byte: Option<Duration>,
) -> Result<(Response<Incoming>, Option<Connection>)> {
    let mut builder = http1::Builder::new();
    builder.max_headers(FIELDS).max_buf_size(FIELDS_BYTES);
    let (mut sender, connection) = builder.handshake(TokioIo::new(channel)).await?;
    let mut connection = Some(Box::pin(connection));
    let mut sent = pin!(sender.send_request(request));
    let response = async {
        loop {
            let Some(going) = connection.as_mut() else { return sent.as_mut().await };
            tokio::select! {
                biased;
                response = sent.as_mut() => return response,
                over = going.as_mut() => {
                    connection = None;
                    over?;
                }
            }
        }
    };
    let response = match first_byte {
        Some(limit) => timeout(limit, response).await.map_err(|_| Error::ConnectionReadTimeout)?,
        // The deadline of the call is one.
        None => response.await,
    }?;
    Ok((response, connection))
}

/// A body whose pieces each come within this time.
fn paced(body: Incoming, between: Option<Duration>) -> WasiBody {
    let Some(between) = between else { return body.map_err(Error::from).boxed_unsync() };
    let pieces = stream::unfold(Some(body), move |body| async move {
        let mut body = body?;
        match timeout(between, body.frame()).await {
            Ok(frame) => Some((frame?.map_err(Error::from), Some(body))),
            Err(_) => Some((Err(Error::ConnectionReadTimeout), None)),
        }
    });
    StreamBody::new(pieces).boxed_unsync()
}
