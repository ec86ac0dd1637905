//! How an alias is written.

use model::alias::Shadow;
use model::api::{AliasView, ShiftView, VariableView};

use crate::cli::route::{rule, targets_text};
use crate::cli::screen::{self, milliseconds};

/// The route on one line: targets, what goes before them, and what is under way.
pub(in crate::cli) fn route(view: &AliasView) -> String {
    let mut parts = vec![targets_text(&view.config.targets)];
    let rules = u64::try_from(view.config.rules.len()).unwrap_or(u64::MAX);
    parts.extend((rules > 0).then(|| screen::count(rules, "rule")));
    parts.extend(view.config.sticky.as_ref().map(|sticky| format!("sticky by {sticky}")));
    parts.extend(view.shift.as_ref().map(|s| format!("shifting {}", shift(s))));
    parts.extend(view.config.shadow.as_ref().map(|s| format!("shadow {}", shadow(s))));
    parts.join("; ")
}

/// `to 8: 5%, step 1 of 3`.
pub(super) fn shift(shift: &ShiftView) -> String {
    let share = shift.canary.get(shift.step.saturating_sub(1));
    let share = share.map(|share| format!(" {share},")).unwrap_or_default();
    format!("to {}:{share} step {} of {}", shift.to, shift.step, shift.canary.len())
}

pub(super) fn shadow(shadow: &Shadow) -> String {
    format!("{} gets {}", shadow.version, shadow.share)
}

/// A line of the listing.
pub(super) fn row(view: &AliasView) -> Vec<String> {
    let or_none = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let config = &view.config;
    vec![
        view.name.clone(),
        targets_text(&config.targets),
        config.rules.len().to_string(),
        or_none(config.sticky.as_ref().map(ToString::to_string)),
        or_none(view.shift.as_ref().map(shift)),
        or_none(config.shadow.as_ref().map(shadow)),
        view.modified_at.clone(),
    ]
}

/// Everything about one alias.
pub(super) fn whole(view: &AliasView, with_values: bool) -> String {
    let config = &view.config;
    let mut fields = vec![
        ("alias", format!("{}:{}", view.function, view.name)),
        ("description", config.description.clone()),
        ("url", view.url.clone()),
        ("arn", view.arn.clone()),
    ];
    fields.extend(config.rules.iter().map(|rule| ("rule", rule::text(rule))));
    fields.push(("targets", targets_text(&config.targets)));
    fields.extend(config.sticky.as_ref().map(|sticky| ("sticky", sticky.to_string())));
    fields.extend(config.shadow.as_ref().map(|s| ("shadow", shadow(s))));
    fields.extend(view.shift.as_ref().map(|s| ("shift", shift(s))));
    for (key, value) in &config.environment {
        fields.push(match value {
            VariableView::Plain(value) if with_values => ("environment", format!("{key}={value}")),
            VariableView::Plain(_) => ("environment", format!("{key}=…")),
            VariableView::Secret(_) | VariableView::Kept => ("secret", key.clone()),
        });
    }
    fields.push(("created", view.created_at.clone()));
    fields.push(("modified", view.modified_at.clone()));
    fields.push(("revision", view.revision.to_string()));
    screen::fields(&fields)
}

/// A shift under way, with both samples.
pub(super) fn shift_whole(shift: &ShiftView) -> String {
    let list = |items: Vec<String>| items.join(", ");
    let mut text = screen::fields(&[
        ("shift", self::shift(shift)),
        ("before", targets_text(&shift.before)),
        ("steps", list(shift.canary.iter().map(ToString::to_string).collect())),
        ("every", milliseconds(shift.every_ms.saturating_mul(1000))),
        ("stop if", list(shift.stop_if.iter().map(ToString::to_string).collect())),
        ("min calls", shift.min_calls.to_string()),
        ("started", shift.started_at.clone()),
        ("step since", shift.step_since.clone()),
    ]);
    for (name, sample) in [("new", &shift.new), ("old", &shift.old)] {
        text.push_str(&format!("\n{name:<12} {}", self::sample(sample)));
    }
    text
}

/// `200 calls, 3 errors (1.5%), p50 1.20 ms, p99 9.00 ms`.
pub(super) fn sample(sample: &model::api::SampleView) -> String {
    let mut parts = vec![screen::count(sample.calls, "call")];
    if sample.calls > 0 {
        #[expect(clippy::cast_precision_loss, reason = "counts of calls, far below 2^52")]
        let share = sample.errors as f64 * 100.0 / sample.calls as f64;
        let errors = screen::count(sample.errors, "error");
        parts.push(format!("{errors} ({})", crate::cli::route::percent(share)));
    }
    parts.extend(sample.p50_us.map(|us| format!("p50 {}", milliseconds(us))));
    parts.extend(sample.p99_us.map(|us| format!("p99 {}", milliseconds(us))));
    parts.join(", ")
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::json;

    use super::*;

    pub(in crate::cli::alias) fn view() -> AliasView {
        serde_json::from_value(json!({
            "name": "live", "function": "hello", "arn": "", "url": "http://u",
            "description": "", "targets": [{"version": "7", "weight": 95}, {"version": "8", "weight": 5}],
            "rules": [{"when": [{"on": "header.x-beta", "exact": "yes"}], "to": "8"}],
            "sticky": "header.x-user", "environment": {"A": "b", "T": {"secret": true}},
            "shadow": {"version": "9", "share": "10%"},
            "shift": {
                "to": "8", "before": [{"version": "7", "weight": 1}], "canary": ["5%", "100%"], "step": 1,
                "step_since": "s", "every_ms": 120_000, "stop_if": ["errors > 1%"], "min_calls": 20, "started_at": "s",
                "new": {"calls": 200, "errors": 3, "p50_us": 1200, "p99_us": 9000}, "old": {"calls": 0, "errors": 0}
            },
            "created_at": "c", "modified_at": "m", "revision": 12
        }))
        .unwrap()
    }

    #[test]
    fn a_route_fits_on_a_line() {
        assert_eq!(
            route(&view()),
            "7 95%, 8 5%; 1 rule; sticky by header.x-user; shifting to 8: 5%, step 1 of 2; shadow 9 gets 10%"
        );
    }

    #[test]
    fn values_are_shown_when_asked_for() {
        let text = whole(&view(), false);
        for line in ["rule         header.x-beta = yes -> 8", "environment  A=…", "secret       T"]
        {
            assert!(text.lines().any(|l| l == line), "{text}");
        }
        assert!(whole(&view(), true).contains("A=b"));
    }

    #[test]
    fn both_samples_are_shown() {
        let text = shift_whole(view().shift.as_ref().unwrap());
        for line in [
            "new          200 calls, 3 errors (1.5%), p50 1.20 ms, p99 9.00 ms",
            "old          0 calls",
            "every        120.0 s",
        ] {
            assert!(text.lines().any(|l| l == line), "{text}");
        }
    }
}
