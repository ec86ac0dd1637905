//! Routes of aliases as text: targets here, rules in [`rule`].

pub(super) mod rule;

use model::alias::Target;
use model::ids::VersionRef;

use super::failure::CliError;

/// What `--to` says: `7`, or `7=95` and `8=5` with the weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct To {
    version: VersionRef,
    weight: Option<u32>,
}

/// `VERSION` or `VERSION=WEIGHT`.
pub(super) fn to(text: &str) -> Result<To, String> {
    let (version, weight) = match text.split_once('=') {
        None => (text, None),
        Some((version, weight)) => {
            let weight = weight.trim().parse().map_err(|_| {
                format!("weight '{weight}' is not valid: expected a whole number, as in 7=95")
            })?;
            (version.trim(), Some(weight))
        }
    };
    Ok(To { version: self::version(version)?, weight })
}

/// `$LATEST` or a version's number.
pub(super) fn version(text: &str) -> Result<VersionRef, String> {
    text.parse().map_err(|e: model::Error| e.message().to_owned())
}

/// The targets that all `--to` make together.
pub(super) fn targets(all: &[To]) -> Result<Vec<Target>, CliError> {
    let targets: Option<Vec<Target>> = match all {
        [one] => Some(vec![Target { version: one.version, weight: one.weight.unwrap_or(1) }]),
        many => {
            many.iter().map(|to| Some(Target { version: to.version, weight: to.weight? })).collect()
        }
    };
    let targets = targets.ok_or_else(|| {
        CliError::new(
            "several versions need a weight each: expected for instance --to 7=95 --to 8=5",
        )
    })?;
    model::alias::validate_targets(&targets)?;
    Ok(targets)
}

/// `7`, or `7 95%, 8 5%`.
pub(super) fn targets_text(targets: &[Target]) -> String {
    if let [only] = targets {
        return only.version.to_string();
    }
    let sum: f64 = targets.iter().map(|target| f64::from(target.weight)).sum();
    let part = |target: &Target| {
        format!("{} {}", target.version, percent(f64::from(target.weight) * 100.0 / sum))
    };
    targets.iter().map(part).collect::<Vec<_>>().join(", ")
}

/// Per cent with two places at most: `5%`, `0.25%`.
pub(super) fn percent(value: f64) -> String {
    let text = format!("{value:.2}");
    format!("{}%", text.trim_end_matches('0').trim_end_matches('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(all: &[&str]) -> Result<String, String> {
        let all: Vec<To> = all.iter().map(|text| to(text)).collect::<Result<_, _>>()?;
        targets(&all).map(|targets| targets_text(&targets)).map_err(|e| e.to_string())
    }

    #[test]
    fn targets_are_versions_with_weights() {
        for (given, text) in [
            (&["7"][..], "7"),
            (&["$LATEST"], "$LATEST"),
            (&["7=3"], "7"),
            (&["7=95", "8=5"], "7 95%, 8 5%"),
            (&["7=2", "8=1"], "7 66.67%, 8 33.33%"),
            (&["7=1", "8=0"], "7 100%, 8 0%"),
        ] {
            assert_eq!(read(given).unwrap(), text);
        }
        for (given, part) in [
            (&["7", "8"][..], "a weight each"),
            (&["7=95", "8"], "a weight each"),
            (&["live"], "$LATEST or a version number"),
            (&["7=5%"], "as in 7=95"),
            (&["7=0"], "at least one above 0"),
            (&["7=1", "7=2"], "there twice"),
            (&["7=1000001"], "out of range"),
        ] {
            let e = read(given).unwrap_err();
            assert!(e.contains(part), "{given:?}: {e}");
        }
    }
}
