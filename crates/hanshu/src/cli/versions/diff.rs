//! `hanshu versions diff`: what differs between two versions.

use clap::Args;
use model::api::{FileChange, FileDiff, VersionDiff};
use model::ids::VersionRef;

use crate::cli::context::Context;
use crate::cli::screen::{Ink, Screen, bytes, count, tame};
use crate::cli::{differences, route};

/// Show what differs between two versions: configuration, layers, and the files line by line
#[derive(Debug, Args)]
pub(crate) struct DiffArgs {
    /// The function
    name: String,
    /// The first version
    #[arg(value_name = "VERSION", value_parser = route::version)]
    from: VersionRef,
    /// The second version
    #[arg(value_name = "VERSION", value_parser = route::version, default_value = "$LATEST")]
    to: VersionRef,
}

impl DiffArgs {
    pub(super) fn run(self, cx: &Context) -> anyhow::Result<()> {
        let diff = cx.client()?.version_diff(&cx.function(&self.name)?, self.from, self.to)?;
        Ok(cx.screen.show(&diff, |diff| text(&cx.screen, diff))?)
    }
}

fn text(screen: &Screen, diff: &VersionDiff) -> String {
    if diff.config.is_empty() && diff.files.is_empty() {
        return format!("versions {} and {} are the same", diff.from, diff.to);
    }
    let mut lines = differences::lines(screen, &diff.config);
    for file in &diff.files {
        lines.push(head(screen, file));
        let unified = file.unified.as_deref().unwrap_or_default();
        lines.extend(differences::unified(screen, unified));
    }
    if diff.more_files > 0 {
        let more = count(u64::try_from(diff.more_files).unwrap_or(u64::MAX), "file");
        lines.push(format!("and {more} more: download both versions to see them"));
    }
    lines.join("\n")
}

/// `modified lib/a.js (1.2 KiB → 1.3 KiB)`.
fn head(screen: &Screen, file: &FileDiff) -> String {
    let (ink, what) = match file.change {
        FileChange::Added => (Ink::Green, "added"),
        FileChange::Removed => (Ink::Red, "removed"),
        FileChange::Modified => (Ink::Cyan, "modified"),
    };
    let sizes: Vec<String> =
        [file.size_before, file.size_after].into_iter().flatten().map(bytes).collect();
    screen.ink(ink, &format!("{what} {} ({})", tame(&file.path), sizes.join(" → ")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cli::screen::Format;
    use crate::config::environment::Environment;

    #[test]
    fn configuration_comes_before_files() {
        let screen = Screen::detect(Format::Text, &Environment::of(&[("NO_COLOR", "1")]));
        let diff: VersionDiff = serde_json::from_value(json!({
            "from": "3", "to": "$LATEST",
            "config": [{"path": "config.timeout_ms", "before": 3000, "after": 5000}],
            "files": [
                {"path": "index.js", "change": "modified", "size_before": 10, "size_after": 12,
                 "unified": "@@ -1 +1 @@\n-a\n+b\n"},
                {"path": "logo.png", "change": "added", "size_after": 2048}
            ],
            "more_files": 1
        }))
        .unwrap();
        assert_eq!(
            text(&screen, &diff),
            "~ config.timeout_ms: 3000 → 5000\nmodified index.js (10 B → 12 B)\n@@ -1 +1 @@\n-a\n+b\n\
             added logo.png (2.0 KiB)\nand 1 file more: download both versions to see them"
        );
        let same = VersionDiff { config: Vec::new(), files: Vec::new(), ..diff };
        assert_eq!(text(&screen, &same), "versions 3 and $LATEST are the same");
    }
}
