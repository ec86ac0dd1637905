//! What is executed: the handler of a web server is its command line.

use std::path::Path;

use model::function::{FunctionConfig, Variable};

use crate::jail::Mount;
use crate::process::environment::{LAYERS, TASK_ROOT};
use crate::process::packages::Unpacked;

/// Where servers listen unless the function says otherwise, as on Google Cloud Run.
const PORT: u16 = 8080;
/// The function's variable that says otherwise.
const PORT_VARIABLE: &str = "PORT";
/// Where interpreters lie, relative to the root.
const INTERPRETERS: &str = "var/lang/bin";
/// The programs of every root.
const SYSTEM: [(&str, &str); 2] = [("sh", "/bin/sh"), ("env", "/usr/bin/env")];

/// Where the server listens: the function's own `PORT`, if it has one.
pub(crate) fn port(config: &FunctionConfig) -> u16 {
    match config.environment.get(PORT_VARIABLE) {
        Some(Variable::Plain(text)) => text.parse().ok().filter(|port| *port > 0).unwrap_or(PORT),
        _ => PORT,
    }
}

/// Whether a function's command line begins with this name.
pub(crate) fn runs(config: &FunctionConfig, name: &str) -> bool {
    words(&config.handler).is_ok_and(|words| words.first().is_some_and(|first| first == name))
}

/// The command line, with its program by a path that the function sees; else what is wrong with it.
pub(super) fn command(
    config: &FunctionConfig,
    unpacked: &Unpacked,
    mounts: &[Mount],
) -> Result<Vec<String>, String> {
    let mut words = words(&config.handler)?;
    let port = port(config).to_string();
    for word in &mut words {
        *word = word.replace("${PORT}", &port).replace("$PORT", &port);
    }
    let Some(first) = words.first_mut() else {
        return Err("the handler is empty: expected a command line, or bootstrap".into());
    };
    *first = program(first, unpacked, mounts)?;
    Ok(words)
}

fn program(name: &str, unpacked: &Unpacked, mounts: &[Mount]) -> Result<String, String> {
    if name.starts_with('/') {
        return Ok(name.to_owned());
    }
    let is_there = |folder: &Path| folder.join(name).symlink_metadata().is_ok();
    if is_there(unpacked.package()) {
        return Ok(Path::new(TASK_ROOT).join(name).to_string_lossy().into_owned());
    }
    if let Some(layers) = unpacked.layers() {
        for below in ["", "bin"] {
            if is_there(&layers.join(below)) {
                return Ok(Path::new(LAYERS).join(below).join(name).to_string_lossy().into_owned());
            }
        }
    }
    let interpreter = format!("{INTERPRETERS}/{name}");
    if mounts.iter().any(|mount| mount.target() == interpreter) {
        return Ok(format!("/{interpreter}"));
    }
    let system = SYSTEM.iter().find(|(own, _)| *own == name);
    system.map(|(_, path)| (*path).to_owned()).ok_or_else(|| {
        let names = mounts.iter().filter_map(|m| m.target().strip_prefix(INTERPRETERS));
        let names: Vec<&str> = names.map(|name| name.trim_start_matches('/')).collect();
        format!(
            "Couldn't find '{name}': expected a file in [{TASK_ROOT} {LAYERS} {LAYERS}/bin], or one of: {}, sh",
            names.join(", ")
        )
    })
}

/// Splits a command line as a shell would, by spaces outside of quotes; nothing else is special.
fn words(line: &str) -> Result<Vec<String>, String> {
    let mut words: Vec<String> = Vec::new();
    let (mut word, mut quote): (Option<String>, Option<char>) = (None, None);
    for c in line.chars() {
        match (quote, c) {
            (Some(open), c) if open == c => quote = None,
            (None, '"' | '\'') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, ' ') => words.extend(word.take()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    if quote.is_some() {
        return Err(format!("the handler has a quote without an end: {line}"));
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_lines_are_split() {
        for (line, split) in [
            ("bootstrap", &["bootstrap"][..]),
            ("  node  server.js ", &["node", "server.js"]),
            ("sh -c 'exec node  \"$0\"' x", &["sh", "-c", "exec node  \"$0\"", "x"]),
            ("a --b=\"c d\"e ''", &["a", "--b=c de", ""]),
        ] {
            assert_eq!(words(line).unwrap(), split, "{line}");
        }
        assert!(words("a 'b").unwrap_err().contains("quote"));
    }

    #[test]
    fn the_port_is_the_functions_own_if_it_says_one() {
        let mut config = FunctionConfig::new("web", "bootstrap");
        assert_eq!(port(&config), PORT);
        for (text, found) in [("3000", 3000), ("0", PORT), ("x", PORT), ("70000", PORT)] {
            config.environment.insert("PORT".into(), text.into());
            assert_eq!(port(&config), found, "{text}");
        }
    }
}
