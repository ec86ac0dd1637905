//! One attempt at a webhook: where it goes and what it is signed with is what the function says by now.

use bytes::Bytes;
use model::Result;
use model::calls::Attempt;
use model::error::{Code, Error};
use model::function::{Told, Variable};
use model::ports::Webhook;

use super::destination::OnEnd;
use super::envelope::Queued;
use super::lanes::Found;
use super::run::{Case, Judged, Then, given_up, refusal};
use crate::Shared;
use crate::retry::{self, Verdict};

/// The status by which a receiver says that it wants no more (Standard Webhooks 1.0).
const GONE: u16 = 410;

/// Sends it.
pub(super) async fn deliver(shared: &Shared, queued: Queued, on: OnEnd, case: &Case) -> Judged {
    let started = shared.clock.instant();
    let sent = match webhook(shared, queued, on) {
        Ok(webhook) => shared.webhooks.send(&webhook).await,
        Err(e) => Err(e),
    };
    let took = shared.clock.instant().saturating_duration_since(started);
    let (outcome, message) = match &sent {
        Ok(200..=299) => ("succeeded".to_owned(), None),
        Ok(status) => (format!("http-{status}"), None),
        Err(e) => (e.code().as_str().to_owned(), Some(e.message().to_owned())),
    };
    let duration_ms = u64::try_from(took.as_millis()).ok();
    let attempt = Attempt { duration_ms, message, ..refusal(shared, case, &outcome, "") };
    let verdict = match &sent {
        Ok(200..=299) => {
            let then = Then::Succeeded(Bytes::new(), None);
            return Judged { found: Found::Room, attempt, then, answer: Err(given_up()) };
        }
        Ok(GONE) => Verdict::Dead("the receiver wants no more".into()),
        Err(e) if e.code() == Code::NotFound => Verdict::Dead("it has nowhere to go".into()),
        _ => retry::after_failure(case.policy(), case.tried(shared.clock.now()), &outcome),
    };
    if let Verdict::Dead(dead) = &verdict {
        let reason = &dead.reason;
        tracing::warn!(request = %case.message.id, reason, "a webhook is given up: it is a dead call");
    }
    // Nobody waits for it.
    let answer = Err(given_up());
    Judged { found: Found::Refusal, attempt, then: Then::Not(verdict), answer }
}

/// The message as it is to be sent.
///
/// Errors: `not-found` where the function has no such webhook any more, or no such secret.
fn webhook(shared: &Shared, queued: Queued, on: OnEnd) -> Result<Webhook> {
    let (id, function, body) = (queued.call.id, queued.call.target.key, queued.call.payload);
    let missing = || Error::not_found("webhook", format!("{} of {function}", on.field()));
    let (settings, latest) = shared.routes.latest(&function).ok_or_else(missing)?;
    let destination = on.of(&settings.async_calls).ok_or_else(missing)?;
    let Told::Webhook { url, secret } =
        destination.read(on.field(), function.namespace.as_str())?
    else {
        return Err(missing());
    };
    let Some(Variable::Sealed { sealed }) = latest.config.environment.get(secret) else {
        return Err(Error::not_found("secret", format!("{secret} of {function}")));
    };
    let (url, secret) = (url.to_owned(), (secret.to_owned(), sealed.clone()));
    Ok(Webhook { id, url, function, secret, body })
}
