//! Port: requests to addresses outside that are told what became of a call.

use async_trait::async_trait;
use bytes::Bytes;

use crate::Result;
use crate::error::{Code, Error};
use crate::ids::{FunctionKey, RequestId};
use crate::secret::Sealed;

/// A message to an address outside.
#[derive(Clone, Debug)]
pub struct Webhook {
    /// Its id: the same each time it is sent.
    pub id: RequestId,
    /// Whom it is for: `https://` or `http://`.
    pub url: String,
    /// The function that tells.
    pub function: FunctionKey,
    /// The secret environment variable of that function which the request is signed with, and what is stored of it.
    pub secret: (String, Sealed),
    /// JSON.
    pub body: Bytes,
}

/// Sends messages to addresses outside, signed as the Standard Webhooks specification 1.0 says.
#[async_trait]
pub trait Webhooks: Send + Sync + std::fmt::Debug {
    /// Sends one message once, and waits for the answer's status; redirects are not followed. Takes some seconds at most.
    ///
    /// Errors: `forbidden` for an address that the daemon does not go to; `unavailable` if there was no answer; `storage-unusable` if the secret cannot be opened.
    async fn send(&self, webhook: &Webhook) -> Result<u16>;
}

/// Sends nothing, and says so.
#[derive(Clone, Copy, Debug)]
pub struct NoWebhooks;

#[async_trait]
impl Webhooks for NoWebhooks {
    async fn send(&self, _webhook: &Webhook) -> Result<u16> {
        Err(Error::platform(Code::Unsupported, "webhooks are not sent here"))
    }
}
