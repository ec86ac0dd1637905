//! Connections, plain or by TLS with the host's certificates.

use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use wasmtime_wasi_http::{Error, Result};

/// Where hosts keep the certificates that they trust: Debian and Alpine, Fedora, openSUSE.
const CERTIFICATES: [&str; 3] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
];

/// A connection to somebody else.
#[derive(Debug)]
pub(crate) enum Channel {
    /// As it is.
    Plain(TcpStream),
    /// By TLS.
    Secure(Box<TlsStream<TcpStream>>),
}

/// Makes a connection one by TLS.
pub(super) async fn secure(host: &str, stream: TcpStream) -> Result<Channel> {
    static CONFIG: OnceLock<Option<Arc<ClientConfig>>> = OnceLock::new();
    let config = CONFIG.get_or_init(|| {
        let file = CERTIFICATES.iter().map(Path::new).find(|file| file.exists())?;
        trusting(file).map(Arc::new)
    });
    let Some(config) = config.clone() else { return Err(Error::ConfigurationError) };
    let name = ServerName::try_from(host.to_owned()).map_err(|_| Error::HttpRequestUriInvalid)?;
    let secured = TlsConnector::from(config).connect(name, stream).await;
    secured.map(|stream| Channel::Secure(Box::new(stream))).map_err(|error| {
        tracing::debug!(%error, host, "no connection by TLS");
        match error.kind() {
            io::ErrorKind::InvalidData => Error::TlsCertificateError,
            _ => Error::TlsProtocolError,
        }
    })
}

/// What trusts the certificates of a file; `None` if it holds none.
fn trusting(file: &Path) -> Option<ClientConfig> {
    let mut roots = RootCertStore::empty();
    let found = CertificateDer::pem_file_iter(file).ok()?;
    roots.add_parsable_certificates(found.filter_map(std::result::Result::ok));
    if roots.is_empty() {
        return None;
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().ok()?;
    Some(builder.with_root_certificates(roots).with_no_client_auth())
}

macro_rules! either {
    ($channel:expr, $stream:ident => $what:expr) => {
        match $channel.get_mut() {
            Channel::Plain($stream) => {
                let $stream = Pin::new($stream);
                $what
            }
            Channel::Secure($stream) => {
                let $stream = Pin::new(&mut **$stream);
                $what
            }
        }
    };
}

impl AsyncRead for Channel {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        either!(self, stream => stream.poll_read(cx, buffer))
    }
}

impl AsyncWrite for Channel {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        either!(self, stream => stream.poll_write(cx, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => stream.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => stream.poll_shutdown(cx))
    }
}
