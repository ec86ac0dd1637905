//! WebAssembly programs: which file is the one.

use super::STEMS;

/// Whether a file's name says that it is a program.
pub(super) fn is_program(name: &str) -> bool {
    name.ends_with(".wasm")
}

/// The program among the files at the top: the only one, or the one with the likeliest name.
pub(super) fn handler(names: &[String]) -> Option<String> {
    let top: Vec<&String> = names.iter().filter(|n| is_program(n) && !n.contains('/')).collect();
    let likely = STEMS
        .iter()
        .find_map(|stem| top.iter().find(|n| n.strip_suffix(".wasm").is_some_and(|s| s == *stem)));
    match (likely, top.as_slice()) {
        (Some(name), _) | (None, [name]) => Some((*name).clone()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_only_program_or_the_likeliest_is_called() {
        let of =
            |names: &[&str]| handler(&names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>());
        assert_eq!(of(&["hello.wasm", "README.md"]).as_deref(), Some("hello.wasm"));
        assert_eq!(of(&["b.wasm", "main.wasm"]).as_deref(), Some("main.wasm"));
        assert_eq!(of(&["a.wasm", "b.wasm"]), None);
        assert_eq!(of(&["lib/a.wasm"]), None);
    }
}
