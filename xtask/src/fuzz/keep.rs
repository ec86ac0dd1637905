//! Chooses which of the inputs that a fuzzer found are worth committing.
//!
//! libFuzzer runs them all once and writes down which features each reaches (the control file of its merge). By its own measure hundreds of
//! files differ; committed are a few dozen, those that reach most of what the corpus does not.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::say::say;
use crate::shell;

/// Most files of a committed corpus that come from a fuzzer: small enough to look through, and to replay in any test run.
const FILES_MAX: usize = 60;

/// An input and what it reaches.
#[derive(Debug, Default)]
struct Input {
    file: PathBuf,
    features: HashSet<u64>,
}

/// Copies the best of `found` to `corpus`; what is there stays. `fuzzer` has its limits set, and no folders yet.
pub(super) fn best(mut fuzzer: Command, corpus: &Path, found: &Path) -> Result<()> {
    let scratch = tempfile::tempdir().context("cannot make a temporary folder")?;
    let (merged, control) = (scratch.path().join("merged"), scratch.path().join("control"));
    fs::create_dir(&merged)?;
    fuzzer.arg("-set_cover_merge=1").arg(format!("-merge_control_file={}", control.display()));
    shell::run(fuzzer.args([&merged, corpus, found]))?;
    let text = fs::read_to_string(&control).context("cannot read libFuzzer's control file")?;
    let (there, new): (Vec<_>, Vec<_>) =
        inputs(&text).into_iter().partition(|input| input.file.starts_with(corpus));
    let before = there.len();
    let covered = there.into_iter().flat_map(|input| input.features).collect();
    let chosen = choose(new, covered, FILES_MAX.saturating_sub(before));
    for file in &chosen {
        let name = file.file_name().context("an input without a name")?;
        fs::copy(file, corpus.join(name)).context("cannot copy an input")?;
    }
    say!("{}: {before} inputs before, {} new", corpus.display(), chosen.len());
    Ok(())
}

/// Reads a control file (`FuzzerMerge.h` of LLVM): number of files, number of those in the first folder, a name a line, then `FT n feature…` of each.
fn inputs(control: &str) -> Vec<Input> {
    let mut lines = control.lines();
    let count = lines.next().and_then(|n| n.trim().parse().ok()).unwrap_or(0);
    let mut inputs: Vec<Input> = lines
        .by_ref()
        .skip(1)
        .take(count)
        .map(|name| Input { file: name.into(), ..Input::default() })
        .collect();
    for line in lines {
        let mut words = line.split(' ');
        if words.next() != Some("FT") {
            continue;
        }
        let number: Option<usize> = words.next().and_then(|n| n.parse().ok());
        if let Some(input) = number.and_then(|n| inputs.get_mut(n)) {
            input.features = words.filter_map(|word| word.parse().ok()).collect();
        }
    }
    inputs
}

/// The files that add most to what is covered, one after the other, at most `most`. Of equals the one that comes first.
fn choose(mut inputs: Vec<Input>, mut covered: HashSet<u64>, most: usize) -> Vec<PathBuf> {
    let mut chosen = Vec::new();
    while chosen.len() < most {
        for input in &mut inputs {
            input.features.retain(|feature| !covered.contains(feature));
        }
        inputs.retain(|input| !input.features.is_empty());
        inputs.sort_by(|a, b| (b.features.len(), &a.file).cmp(&(a.features.len(), &b.file)));
        if inputs.is_empty() {
            break;
        }
        let Input { file, features } = inputs.swap_remove(0);
        covered.extend(features);
        chosen.push(file);
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONTROL: &str = "3\n0\n/c/seed\n/f/a\n/f/b\nSTARTED 0 5\nFT 0 1 2\nCOV 0 9\nSTARTED 1 3\nFT 1 2 3\nSTARTED 2 1\nFT 2 2 3 4\n";

    #[test]
    fn what_adds_most_is_chosen_first_and_what_adds_nothing_never() {
        let read = || inputs(CONTROL);
        assert_eq!(read().iter().map(|i| i.features.len()).collect::<Vec<_>>(), [2, 2, 3]);
        assert_eq!(choose(read(), HashSet::from([1, 2]), 9), [Path::new("/f/b")]);
        assert_eq!(choose(read(), HashSet::new(), 9), ["/f/b", "/c/seed"].map(Path::new));
        assert_eq!(choose(read(), HashSet::new(), 1).len(), 1);
        assert!(choose(read(), (1..5).collect(), 9).is_empty());
    }
}
