//! The URL map of the AWS Lambda API: a method and a path → an operation and what the path names.
//!
//! Matched by hand, on the path as it was sent: names hold colons and slashes that are encoded, and clients add a slash behind.

use http::Method;
use percent_encoding::percent_decode_str;

/// An operation of the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    Invoke,
    InvokeWithResponseStream,
    CreateFunction,
    DeleteFunction,
    /// Where the service has a URL of Amazon S3.
    GetCode,
    GetFunction,
    GetFunctionConfiguration,
    ListFunctions,
    UpdateFunctionCode,
    UpdateFunctionConfiguration,
    PublishVersion,
    ListVersionsByFunction,
    CreateAlias,
    GetAlias,
    ListAliases,
    UpdateAlias,
    DeleteAlias,
    GetAccountSettings,
    ListTags,
    TagResource,
    UntagResource,
    PutFunctionConcurrency,
    GetFunctionConcurrency,
    DeleteFunctionConcurrency,
    PutProvisionedConcurrency,
    /// One, or all of a function.
    GetProvisionedConcurrency,
    DeleteProvisionedConcurrency,
    PutEventInvokeConfig,
    UpdateEventInvokeConfig,
    GetEventInvokeConfig,
    ListEventInvokeConfigs,
    DeleteEventInvokeConfig,
    CreateUrl,
    GetUrl,
    UpdateUrl,
    ListUrls,
    DeleteUrl,
    PublishLayerVersion,
    GetLayerVersion,
    /// Where the service has a URL of Amazon S3.
    GetLayerContent,
    /// All, or one by its ARN.
    ListLayers,
    ListLayerVersions,
    DeleteLayerVersion,
    /// One that is known and not there.
    Unsupported(&'static str),
}

/// What the body of an operation may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyKind {
    /// The payload of a call.
    Payload,
    /// JSON that may hold a package.
    Package,
    /// Other JSON, or nothing.
    Control,
}

impl Operation {
    pub(super) fn body(self) -> BodyKind {
        match self {
            Self::Invoke | Self::InvokeWithResponseStream => BodyKind::Payload,
            Self::CreateFunction | Self::UpdateFunctionCode | Self::PublishLayerVersion => {
                BodyKind::Package
            }
            _ => BodyKind::Control,
        }
    }
}

/// Method, path and operation; `*` is a name.
const ROUTES: &[(&str, &str, Operation)] = &[
    ("POST", "2015-03-31/functions/*/invocations", Operation::Invoke),
    (
        "POST",
        "2021-11-15/functions/*/response-streaming-invocations",
        Operation::InvokeWithResponseStream,
    ),
    ("POST", "2015-03-31/functions", Operation::CreateFunction),
    ("GET", "2015-03-31/functions", Operation::ListFunctions),
    ("GET", "2015-03-31/functions/*", Operation::GetFunction),
    ("DELETE", "2015-03-31/functions/*", Operation::DeleteFunction),
    ("GET", "2015-03-31/functions/*/code", Operation::GetCode),
    ("PUT", "2015-03-31/functions/*/code", Operation::UpdateFunctionCode),
    ("GET", "2015-03-31/functions/*/configuration", Operation::GetFunctionConfiguration),
    ("PUT", "2015-03-31/functions/*/configuration", Operation::UpdateFunctionConfiguration),
    ("POST", "2015-03-31/functions/*/versions", Operation::PublishVersion),
    ("GET", "2015-03-31/functions/*/versions", Operation::ListVersionsByFunction),
    ("POST", "2015-03-31/functions/*/aliases", Operation::CreateAlias),
    ("GET", "2015-03-31/functions/*/aliases", Operation::ListAliases),
    ("GET", "2015-03-31/functions/*/aliases/*", Operation::GetAlias),
    ("PUT", "2015-03-31/functions/*/aliases/*", Operation::UpdateAlias),
    ("DELETE", "2015-03-31/functions/*/aliases/*", Operation::DeleteAlias),
    ("GET", "2016-08-19/account-settings", Operation::GetAccountSettings),
    ("GET", "2017-03-31/tags/*", Operation::ListTags),
    ("POST", "2017-03-31/tags/*", Operation::TagResource),
    ("DELETE", "2017-03-31/tags/*", Operation::UntagResource),
    ("PUT", "2017-10-31/functions/*/concurrency", Operation::PutFunctionConcurrency),
    ("GET", "2019-09-30/functions/*/concurrency", Operation::GetFunctionConcurrency),
    ("DELETE", "2017-10-31/functions/*/concurrency", Operation::DeleteFunctionConcurrency),
    ("PUT", PROVISIONED, Operation::PutProvisionedConcurrency),
    ("GET", PROVISIONED, Operation::GetProvisionedConcurrency),
    ("DELETE", PROVISIONED, Operation::DeleteProvisionedConcurrency),
    ("PUT", EVENTS, Operation::PutEventInvokeConfig),
    ("POST", EVENTS, Operation::UpdateEventInvokeConfig),
    ("GET", EVENTS, Operation::GetEventInvokeConfig),
    ("DELETE", EVENTS, Operation::DeleteEventInvokeConfig),
    ("GET", "2019-09-25/functions/*/event-invoke-config/list", Operation::ListEventInvokeConfigs),
    ("POST", URL, Operation::CreateUrl),
    ("GET", URL, Operation::GetUrl),
    ("PUT", URL, Operation::UpdateUrl),
    ("DELETE", URL, Operation::DeleteUrl),
    ("GET", "2021-10-31/functions/*/urls", Operation::ListUrls),
    ("GET", "2018-10-31/layers", Operation::ListLayers),
    ("POST", "2018-10-31/layers/*/versions", Operation::PublishLayerVersion),
    ("GET", "2018-10-31/layers/*/versions", Operation::ListLayerVersions),
    ("GET", "2018-10-31/layers/*/versions/*", Operation::GetLayerVersion),
    ("GET", "2018-10-31/layers/*/versions/*/content", Operation::GetLayerContent),
    ("DELETE", "2018-10-31/layers/*/versions/*", Operation::DeleteLayerVersion),
];

const EVENTS: &str = "2019-09-25/functions/*/event-invoke-config";
const URL: &str = "2021-10-31/functions/*/url";
const PROVISIONED: &str = "2019-09-30/functions/*/provisioned-concurrency";

/// What begins the paths of operations that are not there, and what they are about.
const UNSUPPORTED: &[(&str, &str)] = &[
    ("2014-11-13/", "InvokeAsync"),
    ("2015-03-31/event-source-mappings", "event source mappings"),
    ("2021-07-20/functions/", "runtime management"),
    ("2024-08-31/functions/", "recursion"),
    ("2020-04-22/code-signing-configs", "code signing"),
    ("2020-06-30/functions/", "code signing"),
    ("2025-11-30/capacity-providers", "capacity providers"),
    ("2025-11-30/functions/", "scaling by capacity providers"),
    ("2025-12-01/durable-execution", "durable executions"),
    ("2025-12-01/functions/", "durable executions"),
];

/// Whether a path is one of this API: it begins with a date.
pub(crate) fn owns(path: &str) -> bool {
    let form = b"/dddd-dd-dd/";
    let bytes = path.as_bytes();
    bytes.len() > form.len()
        && form.iter().zip(bytes).all(|(form, byte)| match form {
            b'd' => byte.is_ascii_digit(),
            other => byte == other,
        })
}

/// The operation of a request, and the names in its path; `None` if there is no such operation.
pub(super) fn find(method: &Method, path: &str) -> Option<(Operation, Vec<String>)> {
    let path = path.trim_matches('/');
    let found = ROUTES.iter().find_map(|(of, template, operation)| {
        if *of != method.as_str() {
            return None;
        }
        names(template, path).map(|names| (*operation, names))
    });
    found.or_else(|| {
        let (_, about) = UNSUPPORTED.iter().find(|(begin, _)| path.starts_with(begin))?;
        Some((Operation::Unsupported(about), Vec::new()))
    })
}

/// The names in `path`, decoded, if it has the form of `template`.
fn names(template: &str, path: &str) -> Option<Vec<String>> {
    let (mut templates, mut segments) = (template.split('/'), path.split('/'));
    let mut names = Vec::new();
    loop {
        match (templates.next(), segments.next()) {
            (None, None) => return Some(names),
            (Some("*"), Some(name)) if !name.is_empty() => {
                // What is no UTF-8 becomes U+FFFD, which no name may have.
                names.push(percent_decode_str(name).decode_utf8_lossy().into_owned());
            }
            (Some(template), Some(segment)) if template == segment => {}
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_this_api_begin_with_a_date() {
        for path in ["/2015-03-31/functions", "/2030-01-01/x"] {
            assert!(owns(path), "{path}");
        }
        for path in ["/v1/health", "/2015-03-31", "/2015-03-31/", "/2015-3-31/x", "/fn/a/b", "/"] {
            assert!(!owns(path), "{path}");
        }
    }

    #[test]
    fn operations_are_found_with_their_names() {
        let found = |method: Method, path: &str| find(&method, path);
        let name = |name: &str| vec![name.to_owned()];
        for (method, path, operation, names) in [
            (Method::POST, "/2015-03-31/functions/", Operation::CreateFunction, vec![]),
            (Method::GET, "/2015-03-31/functions", Operation::ListFunctions, vec![]),
            (Method::GET, "/2015-03-31/functions/f", Operation::GetFunction, name("f")),
            (
                Method::POST,
                "/2015-03-31/functions/arn%3Aaws%3Alambda%3Ax/invocations",
                Operation::Invoke,
                name("arn:aws:lambda:x"),
            ),
            (
                Method::PUT,
                "/2015-03-31/functions/a:b/code",
                Operation::UpdateFunctionCode,
                name("a:b"),
            ),
        ] {
            assert_eq!(found(method, path), Some((operation, names)), "{path}");
        }
        for (method, path) in [
            (Method::GET, "/2015-03-31/functions//code"),
            (Method::PUT, "/2015-03-31/functions/f/invocations"),
            (Method::GET, "/2015-03-31/functions/f/x"),
            (Method::GET, "/1999-01-01/functions"),
        ] {
            assert_eq!(found(method, path), None, "{path}");
        }
        let signing = found(Method::POST, "/2020-04-22/code-signing-configs/").unwrap();
        assert_eq!(signing.0, Operation::Unsupported("code signing"));
    }

    #[test]
    fn no_route_hides_another() {
        for (at, (method, template, operation)) in ROUTES.iter().enumerate() {
            let path = template.replace('*', "name");
            let (found, _) = find(&method.parse().unwrap(), &path).unwrap();
            assert_eq!(found, *operation, "route {at}");
        }
    }
}
