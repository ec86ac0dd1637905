//! The OpenAPI 3.1 document, put together from the routes themselves: a route cannot be served without being in it.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use bytes::Bytes;
use model::api::{ErrorBody, HEADER_REASON, VariableView};
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::response::Response;
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{
    ComponentsBuilder, ContentBuilder, InfoBuilder, LicenseBuilder, OpenApi, OpenApiBuilder, Ref,
    RefOr, Required, ResponseBuilder,
};
use utoipa::{IntoParams, IntoResponses, PartialSchema as _, ToSchema};

use crate::routes;

/// Name of the security scheme.
const SCHEME: &str = "key";

static DOCUMENT: LazyLock<Bytes> =
    // A document of strings and maps always serialises.
    LazyLock::new(|| serde_json::to_vec(&routes::documented()).unwrap_or_default().into());

/// The document as JSON, as `GET /v1/openapi.json` serves it.
pub fn openapi_json() -> Bytes {
    DOCUMENT.clone()
}

/// The document without its paths: title, licence, the key, the error's schema.
pub(crate) fn head() -> OpenApi {
    let key = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some("a key of the daemon; not asked for in dev mode"))
        .build();
    // Of a generic type, and so not found by itself: `VariableView`.
    let mut schemas = vec![
        (ErrorBody::name().into_owned(), ErrorBody::schema()),
        (VariableView::name().into_owned(), VariableView::schema()),
    ];
    ErrorBody::schemas(&mut schemas);
    let components = ComponentsBuilder::new()
        .security_scheme(SCHEME, SecurityScheme::Http(key))
        .schemas_from_iter(schemas)
        .build();
    let licence = LicenseBuilder::new().name("Apache-2.0").identifier(Some("Apache-2.0")).build();
    let info = InfoBuilder::new()
        .title("Hanshu")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some("functions, their code, calls and logs"))
        .license(Some(licence))
        .build();
    OpenApiBuilder::new()
        .info(info)
        .components(Some(components))
        .security(Some([SecurityRequirement::new(SCHEME, Vec::<String>::new())]))
        .build()
}

/// The refusals that every operation can give; the special ones stand at the operations.
#[derive(Debug)]
pub(crate) struct Refusals;

impl IntoResponses for Refusals {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        [
            ("400", "`invalid-…`: a name, parameter or body breaks its rule"),
            ("401", "`unauthenticated`: no key, or one that is not known"),
            ("403", "`forbidden`: the key, a quota or the namespace's policy does not allow it"),
            ("404", "`not-found`: there is no such thing"),
            ("default", "any other refusal: see `error.code`"),
        ]
        .into_iter()
        .map(|(status, description)| (status.to_owned(), refusal(description).into()))
        .collect()
    }
}

fn refusal(description: &str) -> Response {
    let body = ContentBuilder::new().schema(Some(Ref::from_schema_name("ErrorBody"))).build();
    ResponseBuilder::new().description(description).content("application/json", body).build()
}

fn parameter(name: &str, place: ParameterIn, description: &str) -> Parameter {
    let required =
        if matches!(place, ParameterIn::Path) { Required::True } else { Required::False };
    ParameterBuilder::new()
        .name(name)
        .parameter_in(place)
        .required(required)
        .description(Some(description))
        .schema(Some(ObjectBuilder::new().schema_type(Type::String)))
        .build()
}

/// The path parameters of a function's routes.
#[derive(Debug)]
pub(crate) struct FunctionParams;

impl IntoParams for FunctionParams {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        vec![
            parameter("namespace", ParameterIn::Path, "the namespace's name"),
            parameter("function", ParameterIn::Path, "the function's name"),
        ]
    }
}

/// Further path parameters, each after those of its route's beginning.
macro_rules! path_parameters {
    ($($(#[$doc:meta])* $name:ident: $($parameter:literal = $description:literal),+;)*) => {$(
        $(#[$doc])*
        #[derive(Debug)]
        pub(crate) struct $name;

        impl IntoParams for $name {
            fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
                vec![$(parameter($parameter, ParameterIn::Path, $description)),+]
            }
        }
    )*};
}

path_parameters! {
    /// Of routes of a namespace.
    NamespaceParam: "namespace" = "the namespace's name";
    /// Of routes of a layer.
    LayerParams: "namespace" = "the namespace's name", "layer" = "the layer's name";
    /// Of routes of an alias.
    AliasParam: "alias" = "the alias's name";
    /// Of routes of a version or an alias.
    QualifierPathParam: "qualifier" = "`$LATEST`, a version's number or an alias's name";
    /// Of routes of a version.
    VersionParam: "version" = "the version's number";
    /// Of routes of one change.
    RevisionParam: "revision" = "the revision's number";
    /// Of routes of an asynchronous call.
    CallParam: "call" = "the call's request id";
    /// Of routes of a map.
    MapParam: "map" = "the map's id";
    /// Of routes of a key.
    KeyParam: "key" = "the key's name";
}

/// The headers of a conditional change.
#[derive(Debug)]
pub(crate) struct ChangeHeaders;

impl IntoParams for ChangeHeaders {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        vec![
            parameter("if-match", ParameterIn::Header, "change only what is at this revision"),
            parameter("if-none-match", ParameterIn::Header, "`*`: only if there is none yet"),
            parameter(
                HEADER_REASON,
                ParameterIn::Header,
                "why: kept with the change, at most 500 characters",
            ),
        ]
    }
}

/// The headers of a call.
#[derive(Debug)]
pub(crate) struct InvokeHeaders;

impl IntoParams for InvokeHeaders {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let header = |name, description| parameter(name, ParameterIn::Header, description);
        vec![
            header("x-hanshu-invocation", "`sync` (default), `async` or `dry-run`"),
            header(
                "x-hanshu-delay-seconds",
                "an asynchronous call is due after so many seconds: 0 (default) to 604800",
            ),
            header("x-hanshu-timings", "`1`: answer with the timings in the header of this name"),
            header("x-hanshu-client-context", "JSON in base64, seen as `context.clientContext`"),
            header(
                "idempotency-key",
                "1 to 255 visible characters: calls of the same key are one call",
            ),
            header("x-amzn-trace-id", "passed on to the function"),
        ]
    }
}
