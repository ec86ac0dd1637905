//! What an alias's rules and sticky key read of a request.

use std::borrow::Cow;
use std::net::IpAddr;

use http::request::Parts;
use http::{HeaderMap, header};
use model::alias::Parameters;

use crate::gateway::decoded_query;

/// The parameters of a request.
#[derive(Debug)]
pub(crate) struct RequestParameters<'a> {
    headers: &'a HeaderMap,
    /// Of a call by URL; a call through the API has none of these.
    url: Option<Url<'a>>,
    source: IpAddr,
    /// The authorization is a key of the platform, and nobody's business.
    hide_authorization: bool,
}

#[derive(Debug)]
struct Url<'a> {
    method: &'a str,
    path: &'a str,
    query: &'a str,
}

impl<'a> RequestParameters<'a> {
    /// Of a call by a function's URL; `path` is what stands behind the function's name.
    pub(crate) fn of_url(parts: &'a Parts, path: &'a str, source: IpAddr, keyed: bool) -> Self {
        let url = Url {
            method: parts.method.as_str(),
            path,
            query: parts.uri.query().unwrap_or_default(),
        };
        Self { headers: &parts.headers, url: Some(url), source, hide_authorization: keyed }
    }

    /// Of a call through the API: path, query and method are the API's own.
    pub(crate) fn of_call(headers: &'a HeaderMap, source: IpAddr) -> Self {
        Self { headers, url: None, source, hide_authorization: true }
    }
}

impl Parameters for RequestParameters<'_> {
    fn header(&self, name: &str) -> Option<&str> {
        if self.hide_authorization && name == header::AUTHORIZATION.as_str() {
            return None;
        }
        self.headers.get(name)?.to_str().ok()
    }

    fn query(&self, name: &str) -> Option<Cow<'_, str>> {
        let pairs = self.url.as_ref()?.query.split('&').filter(|pair| !pair.is_empty());
        let mut pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        let (_, value) = pairs.find(|(key, _)| decoded_query(key) == name)?;
        Some(decoded_query(value))
    }

    fn cookie(&self, name: &str) -> Option<&str> {
        let values = self.headers.get_all(header::COOKIE).iter();
        let mut cookies = values.filter_map(|value| value.to_str().ok()).flat_map(|v| v.split(';'));
        cookies.find_map(|cookie| {
            let (key, value) = cookie.trim().split_once('=')?;
            (key == name).then_some(value)
        })
    }

    fn path(&self) -> Option<&str> {
        self.url.as_ref().map(|url| url.path)
    }

    fn method(&self) -> Option<&str> {
        self.url.as_ref().map(|url| url.method)
    }

    fn source(&self) -> Option<IpAddr> {
        Some(self.source)
    }
}

#[cfg(test)]
mod tests {
    use http::Request;
    use model::alias::Parameter;

    use super::*;

    #[test]
    fn parameters_are_read_where_they_stand() {
        let request = Request::put("http://h/fn/default/f/a%20b?x=1+2&y&x=3&%C3%A9=e")
            .header("x-beta", "yes")
            .header("authorization", "Bearer hsk_x")
            .header("cookie", "a=1; session=s=t")
            .header("cookie", "b=2");
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let source = "10.0.0.1".parse().unwrap();
        let url = RequestParameters::of_url(&parts, "/a%20b", source, true);
        let call = RequestParameters::of_call(&parts.headers, source);
        let get = |of: &dyn Parameters, name: &str| {
            of.get(&name.parse::<Parameter>().unwrap()).map(Cow::into_owned)
        };
        for (name, value, by_call) in [
            ("header.x-beta", Some("yes"), true),
            ("header.authorization", None, true),
            ("header.x-other", None, true),
            ("query.x", Some("1 2"), false),
            ("query.y", Some(""), false),
            ("query.é", Some("e"), false),
            ("query.z", None, false),
            ("cookie.session", Some("s=t"), true),
            ("cookie.b", Some("2"), true),
            ("path", Some("/a%20b"), false),
            ("method", Some("PUT"), false),
            ("source", Some("10.0.0.1"), true),
        ] {
            assert_eq!(get(&url, name).as_deref(), value, "{name}");
            let value = value.filter(|_| by_call);
            assert_eq!(get(&call, name).as_deref(), value, "{name} by a call");
        }
        let open = RequestParameters::of_url(&parts, "/", source, false);
        assert!(get(&open, "header.authorization").is_some());
    }
}
