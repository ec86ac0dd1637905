//! Reads the parts of a request into types: names from the path, parameters from the query, JSON from the body.
//!
//! Every failure is an error of the platform that names the part and the rule.

use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use axum::extract::{FromRequest, FromRequestParts, Query, RawPathParams, Request};
use engine::Faulty;
use http::header::{HeaderMap, HeaderName, IF_MATCH, IF_NONE_MATCH};
use http::request::Parts;
use jiff::Timestamp;
use model::api::HEADER_REASON;
use model::change::Author;
use model::clock::UnixMillis;
use model::error::{Code, Error};
use model::ids::{
    AliasName, FunctionKey, FunctionName, FunctionRef, NamespaceName, Qualifier, RequestId,
    VersionRef,
};
use model::layer::LayerKey;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::App;
use crate::auth::Caller;
use crate::body::{self, Limit};
use crate::catalog::{Intent, Precondition};
use crate::connection::Peer;
use crate::error::Refusal;

/// Path parameter `{namespace}`.
#[derive(Debug)]
pub(crate) struct NamespacePath(pub NamespaceName);

/// Path parameters `{namespace}` and `{function}`, a bare name.
#[derive(Debug)]
pub(crate) struct FunctionPath(pub FunctionKey);

/// Path parameters `{namespace}` and `{function}`, which may be `NAME:QUALIFIER`, with the query's `qualifier` taken in.
#[derive(Debug)]
pub(crate) struct TargetPath(pub FunctionRef);

/// Path parameters `{namespace}`, `{function}` and `{alias}`.
#[derive(Debug)]
pub(crate) struct AliasPath(pub FunctionKey, pub AliasName);

/// Path parameters `{namespace}`, `{function}` and `{qualifier}`.
#[derive(Debug)]
pub(crate) struct QualifierPath(pub FunctionRef);

/// Path parameters `{namespace}` and `{layer}`.
#[derive(Debug)]
pub(crate) struct LayerPath(pub LayerKey);

/// The path parameter `{alias}`.
#[derive(Debug)]
pub(crate) struct AliasNamePath(pub AliasName);

/// The path parameter `{version}`, a number.
#[derive(Debug)]
pub(crate) struct VersionPath(pub u64);

/// The path parameter `{revision}`.
#[derive(Debug)]
pub(crate) struct RevisionPath(pub u64);

/// Path parameters `{namespace}` and `{call}`.
#[derive(Debug)]
pub(crate) struct CallPath(pub NamespaceName, pub RequestId);

/// Path parameters `{namespace}` and `{map}`.
#[derive(Debug)]
pub(crate) struct MapPath(pub NamespaceName, pub RequestId);

/// The path parameter `{key}`.
#[derive(Debug)]
pub(crate) struct KeyPath(pub FunctionName);

/// Where the request comes from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Source(pub IpAddr);

/// Whose key the request showed.
#[derive(Clone, Debug)]
pub(crate) struct By(pub Caller);

/// [`By`], of a key that opens everything; else `forbidden`.
#[derive(Clone, Debug)]
pub(crate) struct Operator(pub Caller);

/// The query string; unknown parameters are refused if `T` refuses them.
#[derive(Debug)]
pub(crate) struct Params<T>(pub T);

/// The body as JSON.
#[derive(Debug)]
pub(crate) struct JsonBody<T>(pub T);

/// The id that this request was given.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Id(pub RequestId);

async fn path_params<S: Sync + Send>(
    parts: &mut Parts,
    state: &S,
) -> Result<RawPathParams, Refusal> {
    RawPathParams::from_request_parts(parts, state)
        .await
        .map_err(|e| Error::caller(Code::InvalidName, e.body_text()).into())
}

fn path_param<'a>(params: &'a RawPathParams, name: &str) -> Result<&'a str, Error> {
    let found = params.iter().find(|(n, _)| *n == name).map(|(_, value)| value);
    found.ok_or_else(|| Error::internal(format!("the route has no parameter {name}")))
}

impl<S: Sync + Send> FromRequestParts<S> for NamespacePath {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let params = path_params(parts, state).await?;
        Ok(Self(path_param(&params, "namespace")?.parse()?))
    }
}

impl<S: Sync + Send> FromRequestParts<S> for FunctionPath {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let params = path_params(parts, state).await?;
        let namespace = path_param(&params, "namespace")?.parse()?;
        Ok(Self(FunctionKey { namespace, name: path_param(&params, "function")?.parse()? }))
    }
}

impl<S: Sync + Send> FromRequestParts<S> for AliasPath {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let FunctionPath(key) = FunctionPath::from_request_parts(parts, state).await?;
        let AliasNamePath(name) = AliasNamePath::from_request_parts(parts, state).await?;
        Ok(Self(key, name))
    }
}

impl<S: Sync + Send> FromRequestParts<S> for QualifierPath {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let FunctionPath(key) = FunctionPath::from_request_parts(parts, state).await?;
        let params = path_params(parts, state).await?;
        Ok(Self(FunctionRef { key, qualifier: path_param(&params, "qualifier")?.parse()? }))
    }
}

impl<S: Sync + Send> FromRequestParts<S> for LayerPath {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let params = path_params(parts, state).await?;
        let namespace = path_param(&params, "namespace")?.parse()?;
        Ok(Self(LayerKey { namespace, name: path_param(&params, "layer")?.parse()? }))
    }
}

impl<S: Sync + Send> FromRequestParts<S> for AliasNamePath {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let params = path_params(parts, state).await?;
        Ok(Self(path_param(&params, "alias")?.parse()?))
    }
}

impl<S: Sync + Send> FromRequestParts<S> for VersionPath {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let params = path_params(parts, state).await?;
        match path_param(&params, "version")?.parse::<VersionRef>()? {
            VersionRef::Number(number) => Ok(Self(number)),
            VersionRef::Latest => Err(Error::caller(
                Code::InvalidParameter,
                "version '$LATEST' has no number: expected that of a published version",
            )
            .into()),
        }
    }
}

impl<S: Sync + Send> FromRequestParts<S> for RevisionPath {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let params = path_params(parts, state).await?;
        let revision = path_param(&params, "revision")?.parse().map_err(|_| {
            Error::caller(Code::InvalidParameter, "revision is not valid: expected its number")
        })?;
        Ok(Self(revision))
    }
}

impl<S: Sync + Send> FromRequestParts<S> for CallPath {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let params = path_params(parts, state).await?;
        let namespace = path_param(&params, "namespace")?.parse()?;
        Ok(Self(namespace, path_param(&params, "call")?.parse()?))
    }
}

impl<S: Sync + Send> FromRequestParts<S> for MapPath {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let params = path_params(parts, state).await?;
        let namespace = path_param(&params, "namespace")?.parse()?;
        Ok(Self(namespace, path_param(&params, "map")?.parse()?))
    }
}

impl<S: Sync + Send> FromRequestParts<S> for KeyPath {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let params = path_params(parts, state).await?;
        Ok(Self(key_name(path_param(&params, "key")?)?))
    }
}

/// A key's name follows the rule of functions.
fn key_name(name: &str) -> Result<FunctionName, Error> {
    name.parse().map_err(|_: Error| {
        Error::caller(
            Code::InvalidName,
            "the key's name is not valid: expected 1 to 64 letters, digits, '-' or '_'",
        )
    })
}

/// A key's name that may be given: no author of another kind has it.
pub(crate) fn new_key_name(name: &str) -> Result<FunctionName, Error> {
    if [Author::DAEMON, Author::DEV].contains(&name) {
        return Err(Error::caller(
            Code::InvalidName,
            format!("the key's name is not valid: '{name}' is reserved"),
        ));
    }
    key_name(name)
}

impl<S: Sync + Send> FromRequestParts<S> for Source {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        let peer = parts.extensions.get::<Peer>();
        let Peer(address) = peer.ok_or_else(|| Error::internal("the request has no peer"))?;
        Ok(Self(*address))
    }
}

impl<S: Sync + Send> FromRequestParts<S> for By {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        let caller = parts.extensions.get::<Caller>().cloned();
        Ok(Self(caller.ok_or_else(|| Error::internal("the request has no caller"))?))
    }
}

impl<S: Sync + Send> FromRequestParts<S> for Operator {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let By(caller) = By::from_request_parts(parts, state).await?;
        caller.opens_everything()?;
        Ok(Self(caller))
    }
}

impl<S: Sync + Send> FromRequestParts<S> for TargetPath {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let params = path_params(parts, state).await?;
        let name = path_param(&params, "function")?;
        let mut target = FunctionRef::parse(path_param(&params, "namespace")?, name)?;
        let Params(query) = Params::<QualifierParam>::from_request_parts(parts, state).await?;
        if let Some(asked) = query.qualifier {
            let asked: Qualifier = asked.parse()?;
            if name.contains(':') && asked != target.qualifier {
                return Err(Error::caller(
                    Code::InvalidParameter,
                    format!(
                        "qualifier is given twice: '{}' in the path, '{asked}' in the query",
                        target.qualifier
                    ),
                )
                .into());
            }
            target.qualifier = asked;
        }
        Ok(Self(target))
    }
}

/// See [`TargetPath`].
#[derive(Debug, serde::Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct QualifierParam {
    /// `$LATEST` (also when absent), a version's number or an alias.
    qualifier: Option<String>,
}

impl<S: Sync + Send, T: DeserializeOwned> FromRequestParts<S> for Params<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        let Query(params) = Query::try_from_uri(&parts.uri).map_err(|e| {
            Error::caller(
                Code::InvalidParameter,
                format!("the query string is not valid: {}", cause(&e)),
            )
        })?;
        Ok(Self(params))
    }
}

/// The innermost cause, which is the one that names the field.
fn cause(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

/// A message of serde without the value that it quotes: the value may be a secret in the wrong place.
fn without_value(message: &str) -> String {
    let quoting = ["invalid type: ", "invalid value: "].iter().any(|p| message.starts_with(p));
    let kind = message.split(['"', '`']).next().unwrap_or_default().trim_end();
    match message.rfind(", expected ") {
        Some(end) if quoting && kind.len() < end => {
            format!("{kind}{}", message.get(end..).unwrap_or_default())
        }
        _ => message.to_owned(),
    }
}

/// Reads JSON; the error names the field at fault, and repeats no value.
pub(crate) fn read_json<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Error> {
    let bad = |what: String| {
        let message = format!("the body is not the JSON that was expected: {what}");
        Error::caller(Code::InvalidBody, message)
    };
    let mut reader = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|e| match e.path() {
        path if path.iter().len() == 0 => bad(without_value(&e.inner().to_string())),
        path => bad(format!("{path}: {}", without_value(&e.inner().to_string()))),
    })?;
    // Something may follow the value.
    reader.end().map_err(|e| bad(e.to_string()))?;
    Ok(value)
}

impl<T: DeserializeOwned> FromRequest<Arc<App>> for JsonBody<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, Refusal> {
        let (parts, body) = request.into_parts();
        let timeout = app.config.body_timeout;
        let body = body::collect(&parts.headers, body, Limit::CONTROL, timeout, &app.tasks).await?;
        Ok(Self(read_json(&body)?))
    }
}

impl<S: Sync + Send> FromRequestParts<S> for Id {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        let id = parts.extensions.get::<RequestId>().copied();
        Ok(Self(id.ok_or_else(|| Error::internal("the request has no id"))?))
    }
}

impl<S: Sync + Send> FromRequestParts<S> for Intent {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let By(caller) = By::from_request_parts(parts, state).await?;
        let Source(from) = Source::from_request_parts(parts, state).await?;
        let author = Author {
            who: caller.name.to_string(),
            from: Some(from.to_string()),
            reason: reason(&parts.headers)?,
        };
        let precondition = precondition(&parts.headers)?;
        Ok(Self { author, precondition, faulty: Faulty::Refused })
    }
}

/// `x-hanshu-reason`, as UTF-8; an empty one is none.
fn reason(headers: &HeaderMap) -> Result<Option<String>, Error> {
    let Some(value) = headers.get(HEADER_REASON) else { return Ok(None) };
    let text = std::str::from_utf8(value.as_bytes()).map_err(|e| {
        let message = format!("header {HEADER_REASON} is not valid: expected UTF-8");
        Error::caller(Code::InvalidParameter, message).with_source(e)
    })?;
    let text = text.trim();
    Author::check_reason(text)?;
    Ok((!text.is_empty()).then(|| text.to_owned()))
}

/// `If-Match: REVISION` (quoted or not), or `If-None-Match: *`.
fn precondition(headers: &HeaderMap) -> Result<Precondition, Error> {
    let bad = |name: &HeaderName, expected: &str| {
        Error::caller(
            Code::InvalidParameter,
            format!("header {name} is not valid: expected {expected}"),
        )
    };
    match (headers.get(IF_MATCH), headers.get(IF_NONE_MATCH)) {
        (None, None) => Ok(Precondition::None),
        (Some(_), Some(_)) => Err(bad(&IF_NONE_MATCH, "it or if-match, not both")),
        (Some(value), None) => value
            .to_str()
            .ok()
            .and_then(|v| v.trim_matches('"').parse().ok())
            .map(Precondition::Revision)
            .ok_or_else(|| bad(&IF_MATCH, "the number of a revision")),
        (None, Some(value)) if value == "*" => Ok(Precondition::Absent),
        (None, Some(_)) => Err(bad(&IF_NONE_MATCH, "'*'")),
    }
}

/// A parsed query parameter; the error names it.
pub(crate) fn parse<T: FromStr<Err = Error>>(value: Option<&String>) -> Result<Option<T>, Error> {
    value.map(|v| v.parse()).transpose()
}

/// A time in a query parameter: RFC 3339, or milliseconds since 1970.
pub(crate) fn time(name: &str, value: Option<&String>) -> Result<Option<UnixMillis>, Error> {
    let Some(value) = value else { return Ok(None) };
    if let Ok(millis) = value.parse() {
        return Ok(Some(UnixMillis(millis)));
    }
    value
        .parse::<Timestamp>()
        .ok()
        .and_then(|t| u64::try_from(t.as_millisecond()).ok())
        .map(|millis| Some(UnixMillis(millis)))
        .ok_or_else(|| {
            Error::caller(
                Code::InvalidParameter,
                format!(
                    "{name} is not valid: expected a time such as 2026-01-31T12:00:00Z or milliseconds since 1970"
                ),
            )
        })
}

/// A count in a query parameter: 1 to `max`.
pub(crate) fn limit(value: Option<usize>, default: usize, max: usize) -> Result<usize, Error> {
    match value {
        None => Ok(default),
        Some(n) if (1..=max).contains(&n) => Ok(n),
        Some(n) => Err(Error::caller(
            Code::InvalidParameter,
            format!("limit {n} is out of range: expected 1 to {max}"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, value.parse().unwrap())])
    }

    #[test]
    fn preconditions_come_from_headers() {
        assert_eq!(precondition(&HeaderMap::new()).unwrap(), Precondition::None);
        for value in ["7", "\"7\""] {
            let found = precondition(&headers(IF_MATCH, value)).unwrap();
            assert_eq!(found, Precondition::Revision(7));
        }
        assert_eq!(precondition(&headers(IF_NONE_MATCH, "*")).unwrap(), Precondition::Absent);
        for bad in [headers(IF_MATCH, "*"), headers(IF_MATCH, "x"), headers(IF_NONE_MATCH, "7")] {
            assert_eq!(precondition(&bad).unwrap_err().code(), Code::InvalidParameter);
        }
    }

    #[test]
    fn times_are_rfc_3339_or_milliseconds() {
        let parse = |s: &str| time("since", Some(&s.to_owned()));
        assert_eq!(parse("2026-01-01T00:00:00.042Z").unwrap(), Some(UnixMillis(1_767_225_600_042)));
        assert_eq!(
            parse("2026-01-01T01:00:00+01:00").unwrap(),
            Some(UnixMillis(1_767_225_600_000))
        );
        assert_eq!(parse("42").unwrap(), Some(UnixMillis(42)));
        assert_eq!(time("since", None).unwrap(), None);
        for bad in ["", "yesterday", "-1", "1969-01-01T00:00:00Z"] {
            assert!(parse(bad).unwrap_err().message().starts_with("since "), "{bad}");
        }
    }

    #[test]
    fn refused_bodies_are_not_repeated() {
        for body in [
            r#"{"config":{"runtime":"nodejs20","handler":"a.b","environment":"A=hunter2"}}"#,
            r#"{"config":{"runtime":"nodejs20","handler":"a.b","environment":{"A":{"secret":["hunter2"]}}}}"#,
            r#"{"config":{"runtime":"nodejs20","handler":"a.b","environment":{"A":{"hunter2":1}}}}"#,
            r#"{"config":{"runtime":"nodejs20","handler":"a.b","timeout_ms":"x, expected hunter2"}}"#,
            r#"{"config":"hunter2"}"#,
            r#""hunter2""#,
        ] {
            let e = read_json::<model::api::PutFunction>(body.as_bytes()).unwrap_err();
            assert!(!e.message().contains("hunter2"), "{}", e.message());
            assert!(e.message().contains("expected"), "{}", e.message());
        }
    }

    #[test]
    fn limits_are_bounded() {
        assert_eq!(limit(None, 5, 9).unwrap(), 5);
        assert_eq!(limit(Some(9), 5, 9).unwrap(), 9);
        for n in [0, 10] {
            limit(Some(n), 5, 9).unwrap_err();
        }
    }
}
