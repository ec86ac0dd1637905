//! Operations on maps.

use std::io::{Read, Write};

use model::api::{MapView, Page};
use model::ids::NamespaceName;
use ureq::SendBody;
use ureq::http::Method;

use super::{Ask, Client, Expected, NO_BODY, PACKAGE_TIMEOUT, encode};
use crate::cli::failure::CliError;

/// Maps of one request for a list.
const PAGE: usize = 100;

fn path(namespace: &NamespaceName, id: &str) -> String {
    format!("/v1/namespaces/{namespace}/maps/{}", encode(id))
}

impl Client {
    /// Starts a map over what `input` has, of which the length may not be known. `options`: query parameters.
    pub(crate) fn start_map(
        &self,
        namespace: &NamespaceName,
        options: &[(&str, String)],
        input: &mut dyn Read,
        length: Option<u64>,
    ) -> Result<MapView, CliError> {
        let options: Vec<_> =
            options.iter().map(|(name, value)| format!("{name}={}", encode(value))).collect();
        let path = format!("/v1/namespaces/{namespace}/maps?{}", options.join("&"));
        let length = length.map(|bytes| bytes.to_string());
        let mut headers = vec![("content-type", "application/octet-stream")];
        headers.extend(length.as_ref().map(|bytes| ("content-length", bytes.as_str())));
        // The daemon is done with an input soon after it has the last of it, but its disk may be slow.
        let patience = Some(PACKAGE_TIMEOUT);
        let ask = Ask { headers: &headers, patience, ..Ask::control(&Method::POST, &path) };
        self.accept(self.send(ask, SendBody::from_reader(input))?)?.json()
    }

    /// A map as it stands.
    pub(crate) fn map(&self, namespace: &NamespaceName, id: &str) -> Result<MapView, CliError> {
        self.json(&Method::GET, &path(namespace, id), NO_BODY)
    }

    /// All maps of a namespace, the oldest first.
    pub(crate) fn maps(&self, namespace: &NamespaceName) -> Result<Vec<MapView>, CliError> {
        let (mut all, mut after) = (Vec::new(), None::<String>);
        loop {
            let mut path = format!("/v1/namespaces/{namespace}/maps?limit={PAGE}");
            if let Some(after) = &after {
                path.push_str(&format!("&after={}", encode(after)));
            }
            let page: Page<MapView> = self.json(&Method::GET, &path, NO_BODY)?;
            all.extend(page.items);
            after = page.next;
            if after.is_none() {
                return Ok(all);
            }
        }
    }

    /// Calls a map off.
    pub(crate) fn cancel_map(&self, namespace: &NamespaceName, id: &str) -> Result<(), CliError> {
        let path = format!("{}/cancel", path(namespace, id));
        self.change(&Method::POST, &path, Expected::Anything, NO_BODY).map(drop)
    }

    /// Forgets a map that has ended.
    pub(crate) fn delete_map(&self, namespace: &NamespaceName, id: &str) -> Result<(), CliError> {
        self.delete(&path(namespace, id))
    }

    /// Writes the results of a map to `target` as they come.
    pub(crate) fn map_results(
        &self,
        namespace: &NamespaceName,
        id: &str,
        target: &mut dyn Write,
    ) -> Result<(), CliError> {
        let path = format!("{}/results", path(namespace, id));
        let response = self.send(Ask::control(&Method::GET, &path), SendBody::none())?;
        if response.status().as_u16() >= 400 {
            // Reads the refusal: it is never more than that.
            return self.accept(response).map(drop);
        }
        std::io::copy(&mut response.into_body().into_reader(), target)
            .map_err(|e| CliError::new(format!("the results broke off: {e}")).hint("try again"))?;
        Ok(())
    }
}
