//! Refusals as clients of the AWS Lambda API know them: a name in `x-amzn-ErrorType`, a JSON body.
//!
//! [`Kind`] is what a client goes by; the codes of the platform become kinds here and nowhere else.

use std::time::Duration;

use axum::body::Body;
use http::{HeaderValue, Response, StatusCode, header};
use model::error::{Code, Error, Origin};
use model::ids::RequestId;
use serde_json::{Map, Value};

use super::reply;
use crate::error::log;

/// The name of an error, its status, and how its body calls the message (the service model is not of one mind).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kind {
    name: &'static str,
    status: StatusCode,
    says: &'static str,
}

impl Kind {
    const fn new(name: &'static str, status: StatusCode) -> Self {
        Self { name, status, says: "message" }
    }

    /// With a body that begins its members with capitals.
    const fn capital(name: &'static str, status: StatusCode) -> Self {
        Self { says: "Message", ..Self::new(name, status) }
    }

    pub(super) const INVALID_PARAMETER: Self =
        Self::new("InvalidParameterValueException", StatusCode::BAD_REQUEST);
    pub(super) const NOT_FOUND: Self =
        Self::capital("ResourceNotFoundException", StatusCode::NOT_FOUND);
    pub(super) const NOT_PROVISIONED: Self =
        Self::new("ProvisionedConcurrencyConfigNotFoundException", StatusCode::NOT_FOUND);
    pub(super) const CONFLICT: Self = Self::new("ResourceConflictException", StatusCode::CONFLICT);
    pub(super) const PRECONDITION: Self =
        Self::new("PreconditionFailedException", StatusCode::PRECONDITION_FAILED);
    pub(super) const TOO_LARGE: Self =
        Self::new("RequestTooLargeException", StatusCode::PAYLOAD_TOO_LARGE);
    pub(super) const THROTTLED: Self =
        Self::new("TooManyRequestsException", StatusCode::TOO_MANY_REQUESTS);
    pub(super) const SERVICE: Self =
        Self::capital("ServiceException", StatusCode::INTERNAL_SERVER_ERROR);
    pub(super) const UNAVAILABLE: Self =
        Self::capital("ServiceException", StatusCode::SERVICE_UNAVAILABLE);
    pub(super) const DENIED: Self = Self::capital("AccessDeniedException", StatusCode::FORBIDDEN);
    pub(super) const NO_TOKEN: Self =
        Self::new("MissingAuthenticationTokenException", StatusCode::FORBIDDEN);
    pub(super) const UNKNOWN_CLIENT: Self =
        Self::new("UnrecognizedClientException", StatusCode::FORBIDDEN);
    pub(super) const INCOMPLETE_SIGNATURE: Self =
        Self::new("IncompleteSignatureException", StatusCode::FORBIDDEN);
    pub(super) const INVALID_SIGNATURE: Self =
        Self::new("InvalidSignatureException", StatusCode::FORBIDDEN);
    pub(super) const UNKNOWN_OPERATION: Self =
        Self::new("UnknownOperationException", StatusCode::NOT_FOUND);
    pub(super) const UNSUPPORTED: Self =
        Self::new("UnsupportedOperationException", StatusCode::NOT_IMPLEMENTED);
}

/// A refusal.
#[derive(Debug)]
pub(super) struct Fault {
    kind: Kind,
    message: String,
    /// Why a call is throttled.
    reason: Option<&'static str>,
    retry_after: Option<Duration>,
    /// What the log is told.
    cause: Option<Error>,
}

impl Fault {
    pub(super) fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), reason: None, retry_after: None, cause: None }
    }

    /// A member of the request is not valid.
    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::new(Kind::INVALID_PARAMETER, message)
    }

    /// The same in other words, if it is of this kind.
    pub(super) fn reworded(self, kind: Kind, message: impl FnOnce() -> String) -> Self {
        self.renamed(kind, kind, message)
    }

    /// The same as another kind, in other words, if it is of this kind.
    pub(super) fn renamed(self, from: Kind, to: Kind, message: impl FnOnce() -> String) -> Self {
        if self.kind == from { Self { kind: to, message: message(), ..self } } else { self }
    }

    /// The answer to the request `id`.
    pub(super) fn render(&self, id: RequestId) -> Response<Body> {
        if let Some(cause) = &self.cause {
            log(cause, id);
        }
        let origin = if self.kind.status.is_server_error() { "Service" } else { "User" };
        let mut body = Map::new();
        body.insert("Type".into(), origin.into());
        body.insert(self.kind.says.into(), self.message.as_str().into());
        if let Some(reason) = self.reason {
            body.insert("Reason".into(), reason.into());
        }
        let mut response = reply::json(self.kind.status, &Value::Object(body));
        let headers = response.headers_mut();
        headers.insert("x-amzn-errortype", HeaderValue::from_static(self.kind.name));
        if let Some(after) = self.retry_after {
            let seconds = after.as_secs().saturating_add(u64::from(after.subsec_nanos() > 0));
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)));
        }
        response
    }
}

fn kind_of(code: Code) -> Kind {
    match code {
        Code::InvalidName
        | Code::InvalidParameter
        | Code::InvalidBody
        | Code::InvalidPackage
        | Code::UnknownRuntime
        | Code::Unsupported
        | Code::RequestTimeout
        | Code::KeyReused
        | Code::InitFailed => Kind::INVALID_PARAMETER,
        Code::Unauthenticated => Kind::UNKNOWN_CLIENT,
        Code::Forbidden => Kind::DENIED,
        Code::NotFound => Kind::NOT_FOUND,
        Code::NoRoute => Kind::UNKNOWN_OPERATION,
        Code::AlreadyExists | Code::Conflict | Code::NotEmpty => Kind::CONFLICT,
        Code::PreconditionFailed => Kind::PRECONDITION,
        Code::PackageTooLarge | Code::PayloadTooLarge => Kind::TOO_LARGE,
        Code::Throttled | Code::QueueFull => Kind::THROTTLED,
        Code::StorageUnusable | Code::SandboxFailed | Code::Internal | Code::StorageFull => {
            Kind::SERVICE
        }
        Code::Unavailable => Kind::UNAVAILABLE,
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        let kind = kind_of(error.code());
        let message = match error.hint() {
            // The message of a refusal is all that these clients show.
            Some(hint) if error.origin() == Origin::Caller => {
                format!("{} ({hint})", error.message())
            }
            _ => error.message().to_owned(),
        };
        Self {
            reason: (kind == Kind::THROTTLED)
                .then_some("ReservedFunctionConcurrentInvocationLimitExceeded"),
            retry_after: error.retry_hint(),
            kind,
            message,
            cause: Some(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    async fn rendered(fault: Fault) -> (StatusCode, String, Value) {
        let response = fault.render(RequestId::generate());
        let status = response.status();
        let name = response.headers()["x-amzn-errortype"].to_str().unwrap().to_owned();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, name, serde_json::from_slice(&body).unwrap())
    }

    #[tokio::test]
    async fn a_refusal_has_the_form_that_clients_read() {
        let error = Error::not_found("function", "default/f");
        let (status, name, body) = rendered(error.into()).await;
        assert_eq!((status, name.as_str()), (StatusCode::NOT_FOUND, "ResourceNotFoundException"));
        assert_eq!(body["Type"], "User");
        assert_eq!(body["Message"], "function 'default/f' does not exist");

        let error = Error::throttled("busy", Duration::from_millis(200));
        let fault = Fault::from(error);
        assert_eq!(fault.render(RequestId::generate()).headers()[header::RETRY_AFTER], "1");
        let (status, name, body) = rendered(fault).await;
        assert_eq!((status.as_u16(), name.as_str()), (429, "TooManyRequestsException"));
        assert_eq!(body["Reason"], "ReservedFunctionConcurrentInvocationLimitExceeded");

        let (_, _, body) = rendered(Error::internal("/secret broke").into()).await;
        assert_eq!(body["Type"], "Service");
        assert!(!body.to_string().contains("secret"), "{body}");
    }

    #[test]
    fn every_code_has_a_kind_of_its_side() {
        for code in Code::ALL {
            let kind = kind_of(*code);
            assert_eq!(
                kind.status.is_server_error(),
                crate::status_of(*code).is_server_error() && *code != Code::Unsupported,
                "{code}"
            );
        }
    }
}
