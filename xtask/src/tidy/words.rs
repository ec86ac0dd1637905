//! Words that we do not use, because another word of the glossary names the thing.
//!
//! Identifiers count as the words they are made of: `JobQueue` and `job_queue` both hold "job". A word may stand where it names
//! somebody else's thing; [`ALLOWED`] lists those phrases, each with its reason.

use super::{Finding, Tree};

/// A banned word and what to say instead.
const BANNED: &[(&str, &str)] = &[
    ("lambda", "function"),
    ("worker", "instance, or a task's own name"),
    ("container", "sandbox or instance"),
    ("job", "invocation, or a task's own name"),
    ("bundle", "package"),
];

/// Phrases within which a banned word is somebody else's, and why.
const ALLOWED: &[(&[&str], &str)] = &[
    (
        &[
            "AWS Lambda",
            "AWS-Lambda",
            "aws-lambda",
            "aws_lambda",
            "awsLambda",
            "Lambda API",
            "lambda-api",
            "Lambda quotas",
            "Lambda function URL",
        ],
        "the product whose interface we speak, and its client packages",
    ),
    (
        &[
            "aws:lambda",
            "aws/lambda",
            "amazonaws.services.lambda",
            "AWS_LAMBDA_",
            "AWS_Lambda_",
            "LAMBDA_",
        ],
        "names that functions written for that product rely on",
    ),
    (
        &[
            "Lambda-Runtime-",
            "lambda-extension-",
            "Lambda-Extension-",
            "LambdaEvent",
            "LambdaFunctionURL",
            "aws-lambda-go/lambda",
        ],
        "headers of the Runtime API, and names of its official clients",
    ),
    (
        &[
            "mod lambda",
            "lambda::",
            "crate::lambda",
            "src/lambda",
            "lambda/",
            "`lambda`",
            "\"lambda\"",
            "'lambda'",
        ],
        "the module that speaks that interface, and the event format of that name",
    ),
    (
        &[
            "cargo lambda",
            "lambda list-",
            "cargo-lambda",
            "lambda_runtime",
            "lambda-runtime",
            "lambda_function",
            "lambda_handler",
        ],
        "tools, clients and file names that people already use",
    ),
    (&["lambda:", "lambda e", "lambda *", "lambda _"], "Python's keyword in the handlers of tests"),
    (
        &["worker_threads", "worker thread", "Worker(", "Worker }"],
        "the Node.js module of that name, and tokio's option",
    ),
    (
        &["Docker container", "in a container", "inside a container", "UseContainerSupport"],
        "the daemon's own surroundings, which somebody else made, and an option of Java's",
    ),
    (&["jobserver", "--jobs", "CI job", "job control"], "cargo, CI and shells"),
    (&["CA bundle", "ca-bundle"], "files of trusted certificates"),
    (&["tzdb-bundle"], "an option of jiff's"),
];

/// Places where every word may stand.
const ALLOWED_PLACES: &[(&str, &str)] =
    &[("xtask/src/tidy/words.rs", "lists the words"), (".py", "has a keyword of that name")];

/// A line that starts so lists the words not to use.
const LIST_MARK: &str = "Not: ";

/// What is read: our own texts, no lock files and no data.
const ENDINGS: &[&str] = &[
    ".rs", ".md", ".toml", ".js", ".mjs", ".cjs", ".ts", ".py", ".sh", ".css", ".html", ".ci/run",
];

/// Banned words in texts and in the names of files.
pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    let read = |path: &str| ENDINGS.iter().any(|e| path.ends_with(e));
    let free = |path: &str| ALLOWED_PLACES.iter().any(|(place, _)| path.ends_with(place));
    for (path, text) in tree.texts().filter(|(path, _)| read(path) && !free(path)) {
        // The path stands as line 0: a finding about the file as a whole.
        for (number, line) in std::iter::once(path).chain(text.lines()).enumerate() {
            if !line.trim_start().starts_with(LIST_MARK) {
                findings.extend(banned_in(line).map(|message| Finding::new(path, number, message)));
            }
        }
    }
    findings
}

fn banned_in(line: &str) -> impl Iterator<Item = String> {
    words(line).into_iter().filter_map(|word| {
        let lower = word.text.to_ascii_lowercase();
        let singular = lower.strip_suffix('s').unwrap_or(&lower);
        let (banned, instead) = BANNED.iter().find(|(banned, _)| *banned == singular)?;
        (!is_allowed(line, &word))
            .then(|| format!("\"{banned}\" is not a word of ours: say {instead}"))
    })
}

fn is_allowed(line: &str, word: &Word<'_>) -> bool {
    let end = word.at + word.text.len();
    let mut phrases = ALLOWED.iter().flat_map(|(phrases, _)| *phrases);
    phrases.any(|phrase| {
        line.match_indices(phrase).any(|(at, _)| at < end && word.at < at + phrase.len())
    })
}

/// A word and where it starts, in bytes.
#[derive(Debug)]
struct Word<'a> {
    at: usize,
    text: &'a str,
}

/// The words of a line; `snake_case` and `CamelCase` come apart.
fn words(line: &str) -> Vec<Word<'_>> {
    let mut found = Vec::new();
    let mut start = None;
    let mut before = ' ';
    for (at, c) in line.char_indices().chain([(line.len(), ' ')]) {
        let hump = before.is_ascii_lowercase() && c.is_ascii_uppercase();
        if let Some(from) = start
            && (!c.is_ascii_alphabetic() || hump)
        {
            found.extend(line.get(from..at).map(|text| Word { at: from, text }));
            start = None;
        }
        if start.is_none() && c.is_ascii_alphabetic() {
            start = Some(at);
        }
        before = c;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(line: &str) -> usize {
        check(&Tree::of(&[("a.rs", line)])).len()
    }

    #[test]
    fn words_come_apart_at_underscores_and_humps() {
        let texts: Vec<_> =
            words("fn job_queue(JobQueue, aB2c) ä").iter().map(|w| w.text).collect();
        assert_eq!(texts, ["fn", "job", "queue", "Job", "Queue", "a", "B", "c"]);
    }

    #[test]
    fn banned_words_are_found_in_code_and_comments() {
        for line in [
            "struct JobQueue;",
            "let worker_count = 1;",
            "// starts a container",
            "const MAX_LAMBDA: u8 = 1;",
            "/// Jobs wait here.",
            "the lambda runs",
            "a bundle of code",
        ] {
            assert_eq!(found(line), 1, "{line}");
        }
        assert_eq!(found("workers and jobs"), 2);
    }

    #[test]
    fn other_words_and_other_peoples_things_pass() {
        for line in [
            "jobber, bundled, workerd, containerd, jobless",
            "AWS Lambda's default; AWS_LAMBDA_FUNCTION_NAME; LAMBDA_TASK_ROOT; arn:aws:lambda:local",
            "const { Worker } = require('worker_threads'); new Worker(file)",
            "handler = \"lambda_function.lambda_handler\"",
            "Not: job, worker, container",
        ] {
            assert_eq!(found(line), 0, "{line}");
        }
    }

    #[test]
    fn the_names_of_files_count_and_data_does_not() {
        let tree = Tree::of(&[
            ("src/worker.rs", "fn a() {}\n"),
            ("crates/server/src/lambda/mod.rs", ""),
            ("a.json", "job"),
        ]);
        let lines: Vec<_> = check(&tree).iter().map(ToString::to_string).collect();
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines.iter().all(|l| l.starts_with("src/worker.rs: \"worker\"")), "{lines:?}");
    }

    #[test]
    fn every_exception_has_a_reason() {
        assert!(ALLOWED.iter().all(|(phrases, reason)| !phrases.is_empty() && !reason.is_empty()));
        assert!(ALLOWED_PLACES.iter().all(|(_, reason)| !reason.is_empty()));
    }
}
