//! A function's code: in the body of a request, and by a signed URL.

use std::borrow::Cow;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use model::function::CodeRef;
use model::layer::LayerKey;
use serde::Deserialize;

use super::asked::Asked;
use super::error::Fault;
use super::names::Target;
use super::{Answer, configuration, signature};
use crate::control::code::package_answer;
use crate::control::to_the_end;

/// How long a URL of a package is good, as long as the service's.
const LOCATION_TIME: Duration = Duration::from_secs(10 * 60);

/// Where code comes from: `FunctionCode`, and the same members of `UpdateFunctionCode`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct WantedCode<'a> {
    #[serde(borrow)]
    zip_file: Option<Cow<'a, str>>,
    #[serde(rename = "S3Bucket")]
    s3_bucket: Option<String>,
    image_uri: Option<String>,
    architectures: Option<Vec<String>>,
}

impl WantedCode<'_> {
    /// The bytes of the zip.
    pub(super) fn zip(&self) -> Result<Vec<u8>, Fault> {
        check_architectures(self.architectures.as_deref())?;
        if self.image_uri.is_some() {
            return Err(Fault::invalid(
                "ImageUri is not supported by this daemon: expected ZipFile",
            ));
        }
        if self.s3_bucket.is_some() {
            return Err(Fault::invalid(
                "S3Bucket is not supported by this daemon: expected ZipFile",
            ));
        }
        let Some(text) = &self.zip_file else {
            return Err(Fault::invalid("Please provide a source for function code."));
        };
        STANDARD
            .decode(text.as_bytes())
            .map_err(|_| Fault::invalid("ZipFile is not valid: expected a zip in base64"))
    }
}

/// A function runs on this host's processors.
pub(super) fn check_architectures(wanted: Option<&[String]>) -> Result<(), Fault> {
    let own = configuration::architecture();
    match wanted {
        None | Some([]) => Ok(()),
        Some([one]) if one == own => Ok(()),
        Some(_) => {
            Err(Fault::invalid(format!("Architectures are not this host's: expected {own}")))
        }
    }
}

/// Stores the package of a request, once its slot is given.
pub(super) async fn store(asked: &mut Asked, zip: Vec<u8>) -> Result<CodeRef, Fault> {
    let slot = match asked.slot.take() {
        Some(slot) => slot,
        None => asked.app.catalog.upload_slot().await?,
    };
    let namespace = asked.home.namespace.clone();
    let add = |app: std::sync::Arc<crate::App>| async move {
        app.catalog.add_package(&namespace, zip.into(), None, slot).await
    };
    Ok(to_the_end(&asked.app, add).await?)
}

/// A URL of the function's package for whoever asked for the function: signed with the same access key, so that it needs no other.
pub(super) fn location(asked: &Asked, target: &Target) -> Option<String> {
    let path = format!("2015-03-31/functions/{}/code", target.key().name);
    match target.qualifier() {
        None => signed(asked, &path),
        Some(qualifier) => {
            let qualifier = qualifier.to_string().replace('$', "%24");
            signed(asked, &format!("{path}?Qualifier={qualifier}"))
        }
    }
}

/// [`location`] of a version of a layer.
pub(super) fn layer_location(asked: &Asked, key: &LayerKey, version: u64) -> Option<String> {
    signed(asked, &format!("2018-10-31/layers/{}/versions/{version}/content", key.name))
}

/// What is under a path of this API, for whoever asked.
fn signed(asked: &Asked, path: &str) -> Option<String> {
    let url = format!("{}/{path}", asked.app.config.public_url.trim_end_matches('/'));
    let Some(key) = &asked.key else { return Some(url) };
    let now = asked.app.clock.now();
    let url = url.parse().ok()?;
    signature::presigned((&key.id, &key.secret), &asked.home.region, &url, now, LOCATION_TIME)
}

/// What [`location`] leads to. The service has it in Amazon S3.
pub(super) async fn get(asked: &Asked) -> Answer {
    let target = asked.target()?;
    let at = asked.look_up(&target).await?;
    package(asked, &at.version.code, target.key().name.as_str()).await
}

/// A package as a zip.
pub(super) async fn package(asked: &Asked, code: &CodeRef, name: &str) -> Answer {
    Ok(package_answer(&asked.app, &asked.parts.headers, code, name).await?)
}
