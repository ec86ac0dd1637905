//! What one would write without a platform: a server on hyper that says hello. The baseline of `cargo x bench wasm`.

use std::convert::Infallible;
use std::io::Write as _;

use bytes::Bytes;
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;

async fn hello(_: Request<hyper::body::Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    Ok(Response::new(Full::new(Bytes::from_static(b"Hello world"))))
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    writeln!(std::io::stdout(), "{}", listener.local_addr()?)?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let served =
            http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(hello));
        #[expect(clippy::disallowed_methods, reason = "the program ends with its tasks")]
        // A client that goes away is no error.
        tokio::spawn(async move { drop(served.await) });
    }
}
