//! Documents that must keep step with something else: error pages with the codes, the list of decision records with the records.

use std::collections::BTreeSet;

use super::{Finding, Tree};

/// Where the codes are declared, in a `codes! { … }` block.
const CODES: &str = "crates/model/src/error.rs";
/// Where their pages lie.
const PAGES: &str = "docs/errors/";
/// The list of decision records, in their folder.
const DECISIONS: &str = "docs/adr/README.md";

/// Codes without a page, pages without a code, pages whose heading is not their code.
pub(crate) fn check_errors(tree: &Tree) -> Vec<Finding> {
    let codes = tree.text(CODES).map(codes).unwrap_or_default();
    if codes.is_empty() {
        return vec![Finding::of_file(CODES, "has no `codes! { … }` block with error codes")];
    }
    let mut findings = Vec::new();
    for code in &codes {
        let page = format!("{PAGES}{code}.md");
        match tree.text(&page) {
            None => {
                findings.push(Finding::of_file(CODES, format!("code {code} has no page {page}")))
            }
            Some(text) if text.lines().next() != Some(&format!("# {code}")) => {
                findings.push(Finding::new(&page, 1, format!("expected the heading `# {code}`")));
            }
            Some(_) => {}
        }
    }
    for (path, _) in tree.ending(".md") {
        let name = path.strip_prefix(PAGES).and_then(|p| p.strip_suffix(".md"));
        if let Some(name) = name
            && !codes.contains(name)
        {
            findings.push(Finding::of_file(path, format!("{name} is no code of {CODES}")));
        }
    }
    findings
}

/// The texts of `Name = "text",` lines within `codes! { … }`.
fn codes(source: &str) -> BTreeSet<String> {
    let block = source.lines().skip_while(|l| *l != "codes! {").take_while(|l| *l != "}");
    let text = |line: &str| {
        let (name, text) = line.trim().split_once(" = \"")?;
        let declared = name.bytes().all(|b| b.is_ascii_alphanumeric());
        declared.then(|| text.strip_suffix("\",").map(str::to_owned))?
    };
    block.filter_map(text).collect()
}

/// Decision records that their list does not name, and numbers given twice or left out.
pub(crate) fn check_decisions(tree: &Tree) -> Vec<Finding> {
    let list = tree.text(DECISIONS).unwrap_or_default();
    let folder = DECISIONS.trim_end_matches("README.md");
    let records = tree.ending(".md").filter_map(|(path, _)| {
        let name = path.strip_prefix(folder)?;
        (path != DECISIONS).then_some((path, name))
    });
    let mut findings = Vec::new();
    for (index, (path, name)) in records.enumerate() {
        if !list.contains(&format!("]({name})")) {
            findings.push(Finding::of_file(path, format!("{DECISIONS} does not list it")));
        }
        let number = format!("{:04}-", index + 1);
        if !name.starts_with(&number) {
            findings
                .push(Finding::of_file(path, format!("expected a name that starts with {number}")));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "x! {\n    N = \"no-code\",\n}\ncodes! {\n    /// Doc = \"no\".\n    Gone = \"gone\",\n    TooBig = \"too-big\",\n}\nconst A: &str = \"b\",\n";

    fn lines(findings: &[Finding]) -> Vec<String> {
        findings.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn codes_are_read_from_their_block_only() {
        assert_eq!(codes(SOURCE).into_iter().collect::<Vec<_>>(), ["gone", "too-big"]);
    }

    #[test]
    fn codes_and_pages_have_to_match() {
        let good = [
            (CODES, SOURCE),
            ("docs/errors/gone.md", "# gone\n"),
            ("docs/errors/too-big.md", "# too-big\n"),
        ];
        assert_eq!(check_errors(&Tree::of(&good)), []);
        let bad = [
            (CODES, SOURCE),
            ("docs/errors/gone.md", "# Gone\n"),
            ("docs/errors/old.md", "# old\n"),
        ];
        assert_eq!(
            lines(&check_errors(&Tree::of(&bad))),
            [
                "docs/errors/gone.md:1: expected the heading `# gone`",
                "crates/model/src/error.rs: code too-big has no page docs/errors/too-big.md",
                "docs/errors/old.md: old is no code of crates/model/src/error.rs",
            ]
        );
        assert_eq!(check_errors(&Tree::of(&[])).len(), 1);
    }

    #[test]
    fn decisions_are_numbered_and_listed() {
        let good = [(DECISIONS, "- [One](0001-one.md)"), ("docs/adr/0001-one.md", "")];
        assert_eq!(check_decisions(&Tree::of(&good)), []);
        let bad = [
            (DECISIONS, "- 0001-one.md"),
            ("docs/adr/0001-one.md", ""),
            ("docs/adr/0003-three.md", ""),
        ];
        assert_eq!(
            lines(&check_decisions(&Tree::of(&bad))),
            [
                "docs/adr/0001-one.md: docs/adr/README.md does not list it",
                "docs/adr/0003-three.md: docs/adr/README.md does not list it",
                "docs/adr/0003-three.md: expected a name that starts with 0002-",
            ]
        );
    }
}
