//! What a host gives to keep functions apart and in bounds, and what it lacks: the table of `hanshu doctor`, of `GET /v1/health` and of the
//! daemon's log. Start at [`Feature`]; who finds out lives in the crate `sandbox`.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The feature that warm runtimes are forked, which a daemon may lose while it runs.
pub const ZYGOTE: &str = "zygote";

/// What a feature is needed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Need {
    /// Full isolation: without it a promise of `SECURITY.md` does not hold on this host.
    Isolation,
    /// Serving at all: without it a daemon does not start, or runs no function.
    Service,
    /// Something that not every function uses, or that has a substitute.
    Option,
}

/// One thing that a host has or lacks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Feature {
    /// Its name, for programs: lower case, words joined by hyphens.
    pub name: String,
    /// Whether it is there and can be used.
    pub available: bool,
    /// What it is needed for.
    pub need: Need,
    /// What was found: which mechanism, which version, or why there is none.
    pub detail: String,
    /// What is lost without it.
    pub lost: String,
}

impl Feature {
    /// A feature that is there; see [`Feature::missing`].
    pub fn found(name: &str, need: Need, detail: impl Into<String>, lost: &str) -> Self {
        Self {
            name: name.to_owned(),
            available: true,
            need,
            detail: detail.into(),
            lost: lost.to_owned(),
        }
    }

    /// A feature that is not there; `why` becomes its detail.
    pub fn missing(name: &str, need: Need, why: impl Into<String>, lost: &str) -> Self {
        Self { available: false, ..Self::found(name, need, why, lost) }
    }

    /// [`Feature::found`] or [`Feature::missing`].
    pub fn of(name: &str, need: Need, found: Result<String, String>, lost: &str) -> Self {
        match found {
            Ok(detail) => Self::found(name, need, detail, lost),
            Err(why) => Self::missing(name, need, why, lost),
        }
    }
}

/// How instances are isolated and limited on a host, feature by feature.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Isolation {
    /// Whether nothing is missing that full isolation needs.
    pub full: bool,
    /// Each feature, the most important first.
    pub features: Vec<Feature>,
}

impl Isolation {
    /// Of these features.
    pub fn of(features: Vec<Feature>) -> Self {
        let lacks = |f: &Feature| f.need == Need::Isolation && !f.available;
        Self { full: !features.iter().any(lacks), features }
    }

    /// What is missing, whatever it is needed for.
    pub fn missing(&self) -> impl Iterator<Item = &Feature> {
        self.features.iter().filter(|f| !f.available)
    }

    /// What was found of the feature `name`; empty if there is no such feature in the table.
    pub fn detail(&self, name: &str) -> &str {
        self.features.iter().find(|f| f.name == name).map_or("", |f| &f.detail)
    }

    /// Notes that a feature, one that is not needed, has turned out to be none.
    pub fn lose(&mut self, name: &str, why: String) {
        for feature in self.features.iter_mut().filter(|f| f.name == name) {
            (feature.available, feature.detail) = (false, why.clone());
        }
    }

    /// Whether the feature `name` is there.
    pub fn has(&self, name: &str) -> bool {
        self.features.iter().any(|f| f.name == name && f.available)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feature(need: Need, available: bool) -> Feature {
        let found = if available { Ok("1".into()) } else { Err("no".into()) };
        Feature::of("x", need, found, "much")
    }

    #[test]
    fn only_what_isolation_needs_makes_it_less_than_full() {
        for (need, full) in [(Need::Isolation, false), (Need::Service, true), (Need::Option, true)]
        {
            let isolation =
                Isolation::of(vec![feature(Need::Isolation, true), feature(need, false)]);
            assert_eq!(isolation.full, full, "{need:?}");
            assert_eq!(isolation.missing().count(), 1);
        }
    }

    #[test]
    fn features_are_found_by_name() {
        let isolation = Isolation::of(vec![feature(Need::Option, false)]);
        assert_eq!((isolation.detail("x"), isolation.has("x")), ("no", false));
        assert_eq!((isolation.detail("y"), isolation.has("y")), ("", false));
    }
}
