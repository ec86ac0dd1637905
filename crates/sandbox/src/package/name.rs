//! Which names an entry may have.

use model::limits;

/// Longest component of a path, in bytes (`NAME_MAX` of Linux file systems).
const COMPONENT_BYTES: usize = 255;
/// Longest name in an error message, in characters.
const MESSAGE_CHARS: usize = 120;

/// Returns the path that a name stands for, relative and without `.`, empty components or a slash at the end; or the rule that it breaks.
/// Empty if the name means the root itself.
pub(super) fn check(name: &[u8]) -> Result<String, &'static str> {
    if name.len() > limits::PACKAGE_PATH_BYTES {
        return Err("has a path of more than 1024 bytes");
    }
    let Ok(name) = std::str::from_utf8(name) else {
        return Err("has a name that is not UTF-8");
    };
    if name.contains('\0') {
        return Err("has a NUL in its name");
    }
    if name.contains('\\') {
        return Err("has a backslash in its name: expected '/' between folders");
    }
    if name.starts_with('/') {
        return Err("has an absolute path: expected a relative one");
    }
    let mut path = String::with_capacity(name.len());
    for component in name.split('/') {
        match component {
            "" | "." => continue,
            ".." => return Err("leads out of the package: '..' is not allowed"),
            _ if component.len() > COMPONENT_BYTES => {
                return Err("has a file or folder name of more than 255 bytes");
            }
            _ => {}
        }
        if !path.is_empty() {
            path.push('/');
        }
        path.push_str(component);
    }
    if path.is_empty() && !name.ends_with('/') {
        return Err("has no name");
    }
    Ok(path)
}

/// A name as it may stand in a message: cut, with control characters escaped.
pub(super) fn for_message(name: &[u8]) -> String {
    let name = String::from_utf8_lossy(name);
    let mut out: String = name.chars().take(MESSAGE_CHARS).flat_map(char::escape_debug).collect();
    if name.chars().nth(MESSAGE_CHARS).is_some() {
        out.push('…');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_names_pass_and_are_tidied() {
        for (name, path) in [
            ("index.js", "index.js"),
            ("./index.js", "index.js"),
            ("a//b/./c.py", "a/b/c.py"),
            ("a/b/", "a/b"),
            ("./", ""),
            ("..a/b../...", "..a/b../..."),
            ("naïve – 函数.js", "naïve – 函数.js"),
            ("C:x", "C:x"),
        ] {
            assert_eq!(check(name.as_bytes()).unwrap(), path, "{name}");
        }
    }

    #[test]
    fn each_bad_name_has_its_rule() {
        let long = "x/".repeat(513);
        let component = "y".repeat(256);
        for (name, rule) in [
            (&b"/etc/passwd"[..], "absolute"),
            (b"//x", "absolute"),
            (b"../x", "'..'"),
            (b"a/../../x", "'..'"),
            (b"a/..", "'..'"),
            (b"a\\..\\x", "backslash"),
            (b"a\0b", "NUL"),
            (b"\xff\xfe", "UTF-8"),
            (b"", "no name"),
            (b".", "no name"),
            (long.as_bytes(), "1024"),
            (component.as_bytes(), "255"),
        ] {
            let got = check(name).unwrap_err();
            assert!(got.contains(rule), "{name:?}: {got}");
        }
        assert!("1024".contains(&limits::PACKAGE_PATH_BYTES.to_string()));
    }

    #[test]
    fn names_in_messages_are_short_and_harmless() {
        let shown = for_message("\u{1b}[2J\n".repeat(1000).as_bytes());
        assert!(shown.len() < 2000 && !shown.contains(['\u{1b}', '\n']), "{shown}");
    }
}
