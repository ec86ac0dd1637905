//! Links in Markdown that lead to no file.

use super::{Finding, Tree};

/// Links to files that do not exist. Links to elsewhere and to headings are left alone.
pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.ending(".md") {
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let mut fenced = false;
        for (number, line) in (1..).zip(text.lines()) {
            if line.trim_start().starts_with("```") {
                fenced = !fenced;
            } else if !fenced {
                let broken =
                    targets(line).into_iter().filter(|t| !leads_somewhere(tree, folder, t));
                findings.extend(
                    broken
                        .map(|t| Finding::new(path, number, format!("link to {t}: no such file"))),
                );
            }
        }
    }
    findings
}

/// What the links of one line point to; inline code has no links.
fn targets(line: &str) -> Vec<&str> {
    let mut found = Vec::new();
    for text in line.split('`').step_by(2) {
        let mut rest = text;
        while let Some((_, after)) = rest.split_once("](") {
            let Some((target, after)) = after.split_once(')') else {
                break;
            };
            // A title may follow: [text](target "title").
            found.extend(target.split_whitespace().next());
            rest = after;
        }
    }
    found
}

fn leads_somewhere(tree: &Tree, folder: &str, target: &str) -> bool {
    let file = target.split('#').next().unwrap_or_default();
    let elsewhere = file.is_empty() || file.contains("://") || file.starts_with("mailto:");
    elsewhere || resolve(folder, file).is_some_and(|path| tree.has(&path))
}

/// `file`, as a link in `folder` means it, from the root; `None` if it leaves the checkout.
fn resolve(folder: &str, file: &str) -> Option<String> {
    let start = if file.starts_with('/') { "" } else { folder };
    let mut parts: Vec<&str> = Vec::new();
    for part in start.split('/').chain(file.split('/')) {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_that_lead_somewhere_pass() {
        let text = "[a](b.md) [root](/README.md) [up](../README.md#x \"title\") [here](#top) [web](https://x.y/z)\n\
            `[code](none.md)` and [folder](.)\n```\n[fenced](none.md)\n```\n";
        let tree = Tree::of(&[("docs/a.md", text), ("docs/b.md", ""), ("README.md", "[d](docs/)")]);
        assert_eq!(check(&tree), []);
    }

    #[test]
    fn links_that_lead_nowhere_are_found_with_their_line() {
        let text = "x\n[a](none.md) ![i](img/none.png) [out](../../etc)\n";
        let found = check(&Tree::of(&[("docs/a.md", text)]));
        let lines: Vec<_> = found.iter().map(ToString::to_string).collect();
        assert_eq!(
            lines,
            [
                "docs/a.md:2: link to none.md: no such file",
                "docs/a.md:2: link to img/none.png: no such file",
                "docs/a.md:2: link to ../../etc: no such file",
            ]
        );
    }
}
