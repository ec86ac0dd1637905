//! Requests that the daemon itself sends for functions: webhooks that are told what became of their calls.
//!
//! They go where functions with `egress` may go ([`crate::process::network`]), so not to private addresses, link-local metadata or the host itself, and besides to what
//! whoever runs the daemon has allowed. What a name stands for is looked at after it was resolved. Redirects are not followed: they would lead past that look.
//!
//! The signature is that of Standard Webhooks 1.0: `webhook-signature: v1,BASE64(HMAC-SHA256(key, "ID.TIMESTAMP.BODY"))`.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Uri, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use model::clock::Clock;
use model::network::{NetworkMode, NetworkPolicy, Reach};
use model::ports::{Vault, Webhook, Webhooks};
use model::secret::{SecretPlace, SecretText};
use model::{Code, Error, Result};
use ring::hmac;
use tokio::time::timeout;

use crate::process::network::Networks;
use crate::wasm::outgoing;

/// How long one request may take, from the first question to a name server to the end of the answer. Standard Webhooks: 15 to 30 s.
const LIMIT: Duration = Duration::from_secs(20);
/// As much of an answer as is read, in bytes: a receiver may count on being heard out.
const ANSWER_BYTES: usize = 64 * 1024;
/// Header fields of an answer: their number, and their size in bytes.
const FIELDS: usize = 100;
const FIELDS_BYTES: usize = 32 << 10;
/// What a key in text begins with; base64 follows. Another secret is the key as it stands.
const KEY_PREFIX: &str = "whsec_";

/// See the module.
pub(crate) struct OutgoingWebhooks {
    networks: Arc<Networks>,
    /// Allowed beside what is public.
    allow: Vec<Reach>,
    vault: Arc<dyn Vault>,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for OutgoingWebhooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutgoingWebhooks").field("allow", &self.allow).finish_non_exhaustive()
    }
}

impl OutgoingWebhooks {
    pub(crate) fn new(
        networks: Arc<Networks>,
        allow: Vec<Reach>,
        vault: Arc<dyn Vault>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { networks, allow, vault, clock }
    }

    /// The request: everything but the way to it.
    fn request(&self, webhook: &Webhook, uri: &Uri) -> Result<Request<Full<Bytes>>> {
        let (variable, sealed) = &webhook.secret;
        let place = SecretPlace { function: &webhook.function, variable };
        let secret = self.vault.open(place, sealed)?;
        let seconds = self.clock.now().0 / 1000;
        let id = webhook.id.to_string();
        let signature = signature(&secret, &id, seconds, &webhook.body)?;
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        Request::builder()
            .method(Method::POST)
            .uri(path)
            .header(header::HOST, authority)
            .header(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))
            .header(header::USER_AGENT, concat!("hanshu/", env!("CARGO_PKG_VERSION")))
            .header("webhook-id", id)
            .header("webhook-timestamp", seconds)
            .header("webhook-signature", signature)
            .body(Full::new(webhook.body.clone()))
            .map_err(Error::internal)
    }

    async fn exchange(&self, request: Request<Full<Bytes>>, uri: &Uri) -> Result<u16> {
        let policy = NetworkPolicy::from(NetworkMode::Egress);
        let (filter, servers) = self.networks.reach(&policy).await?;
        let channel = outgoing::connect(&filter, &servers, uri, &self.allow).await;
        let channel = channel.map_err(|e| match e {
            wasmtime_wasi_http::Error::DestinationIpProhibited => Error::caller(
                Code::Forbidden,
                "the address is private, or the host's own: webhooks do not go there unless webhooks.allow says so",
            ),
            e => unreachable(e),
        })?;
        let mut builder = http1::Builder::new();
        builder.max_headers(FIELDS).max_buf_size(FIELDS_BYTES);
        let (mut sender, connection) =
            builder.handshake(TokioIo::new(channel)).await.map_err(unreachable)?;
        let answer = async {
            let response = sender.send_request(request).await.map_err(unreachable)?;
            let status = response.status().as_u16();
            // What it says is nobody's; too much of it is cut.
            drop(Limited::new(response.into_body(), ANSWER_BYTES).collect().await);
            Ok(status)
        };
        tokio::pin!(answer, connection);
        tokio::select! {
            biased;
            answer = &mut answer => answer,
            ended = &mut connection => match ended {
                Ok(()) => answer.await,
                Err(e) => Err(unreachable(e)),
            },
        }
    }
}

#[async_trait]
impl Webhooks for OutgoingWebhooks {
    async fn send(&self, webhook: &Webhook) -> Result<u16> {
        let uri: Uri = webhook.url.parse().map_err(|_| {
            Error::caller(Code::InvalidParameter, "the webhook's address cannot be read")
        })?;
        let request = self.request(webhook, &uri)?;
        let answered = timeout(LIMIT, self.exchange(request, &uri)).await;
        answered.unwrap_or_else(|_| {
            Err(Error::platform(
                Code::Unavailable,
                format!("no answer within {} s", LIMIT.as_secs()),
            ))
        })
    }
}

fn unreachable(error: impl fmt::Display) -> Error {
    Error::platform(Code::Unavailable, format!("no answer: {error}"))
}

/// The header's value.
fn signature(secret: &SecretText, id: &str, seconds: u64, body: &[u8]) -> Result<String> {
    let text = secret.expose();
    let key = match text.strip_prefix(KEY_PREFIX) {
        Some(encoded) => STANDARD.decode(encoded).map_err(|_| {
            let message =
                format!("the secret begins with {KEY_PREFIX}, but what follows is no base64");
            Error::caller(Code::InvalidParameter, message)
        })?,
        None => text.as_bytes().to_vec(),
    };
    let text = [format!("{id}.{seconds}.").as_bytes(), body].concat();
    let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
    Ok(format!("v1,{}", STANDARD.encode(hmac::sign(&key, &text))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_are_those_of_the_specification() {
        // The example of the specification's reference libraries.
        let secret = SecretText::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        let body = br#"{"test": 2432232314}"#;
        let signed = signature(&secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body);
        assert_eq!(signed.unwrap(), "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        let plain = SecretText::new("any text");
        assert_ne!(
            signature(&plain, "a", 1, b"").unwrap(),
            signature(&plain, "a", 2, b"").unwrap()
        );
        assert!(signature(&SecretText::new("whsec_%"), "a", 1, b"").is_err());
    }
}
