//! Handlers in Java, from what compiled classes call their methods.

use std::io::{Cursor, Read};

use super::SEARCHED_BYTES;

/// Names of the method, likeliest first; the first is that of AWS Lambda's interfaces.
const METHODS: &[&str] = &["handleRequest", "handler", "handle"];
/// Ends of the names of classes that hold handlers, likeliest first.
const CLASSES: &[&str] = &["Handler", "Function", "App", "Main"];
/// How many classes of a package are looked at.
const CLASSES_MAX: usize = 2_000;
/// Packages of classes that have methods of such names and are no handlers.
const NOT_OURS: &[&str] = &["com/amazonaws/", "META-INF/"];

/// A compiled class: its name with dots, its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Class {
    pub(super) name: String,
    pub(super) bytes: Vec<u8>,
}

/// Whether an entry of a package is a class that may hold the handler.
pub(super) fn is_class(name: &str) -> bool {
    name.ends_with(".class") && !name.contains('$') && !NOT_OURS.iter().any(|p| name.starts_with(p))
}

/// Whether an entry is a jar beside the code, rather than one of its libraries.
pub(super) fn is_jar(name: &str) -> bool {
    !name.contains('/') && name.ends_with(".jar")
}

/// A class file, or all that a jar holds; nothing of what cannot be read.
pub(super) fn classes(name: &str, read: impl Read) -> Vec<Class> {
    let mut bytes = Vec::new();
    if is_class(name) {
        return match read.take(SEARCHED_BYTES).read_to_end(&mut bytes) {
            Ok(_) => vec![Class { name: class_name(name), bytes }],
            Err(_) => Vec::new(),
        };
    }
    let whole = read.take(model::limits::PACKAGE_BYTES as u64).read_to_end(&mut bytes);
    whole.ok().and_then(|_| in_zip(&bytes).ok()).unwrap_or_default()
}

/// The classes of a zip.
pub(super) fn in_zip(zip: &[u8]) -> zip::result::ZipResult<Vec<Class>> {
    let mut archive = zip::ZipArchive::new(Cursor::new(zip))?;
    let names: Vec<String> =
        archive.file_names().filter(|n| is_class(n)).map(str::to_owned).collect();
    let mut found = Vec::new();
    for name in names.iter().take(CLASSES_MAX) {
        found.extend(classes(name, archive.by_name(name)?));
    }
    Ok(found)
}

/// The handler, if one class is the likely one.
pub(super) fn handler(classes: &[Class]) -> Option<String> {
    METHODS.iter().find_map(|method| {
        let with: Vec<&Class> = classes.iter().filter(|c| names(&c.bytes, method)).collect();
        let likely = CLASSES.iter().find_map(|end| with.iter().find(|c| c.name.ends_with(end)));
        match (with.as_slice(), likely) {
            ([one], _) | (_, Some(one)) => Some(format!("{}::{method}", one.name)),
            _ => None,
        }
    })
}

fn class_name(file: &str) -> String {
    file.trim_end_matches(".class").replace('/', ".")
}

/// Whether a class file has this name among its constants (JVMS 4.4.7): the names of its methods, and of those that it calls, are there.
fn names(class: &[u8], name: &str) -> bool {
    let Ok(length) = u16::try_from(name.len()) else { return false };
    let [high, low] = length.to_be_bytes();
    let constant: Vec<u8> = [1, high, low].into_iter().chain(name.bytes()).collect();
    class.windows(constant.len()).any(|window| window == constant)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(name: &str, constants: &[&str]) -> Class {
        let constant = |c: &&str| {
            let [high, low] = u16::try_from(c.len()).unwrap().to_be_bytes();
            [1, high, low].into_iter().chain(c.bytes()).collect::<Vec<u8>>()
        };
        Class { name: name.into(), bytes: constants.iter().flat_map(constant).collect() }
    }

    #[test]
    fn the_class_with_the_method_is_the_handler() {
        let one = class("a.b.Hello", &["<init>", "handleRequest"]);
        let other = class("a.Util", &["help", "handleRequests"]);
        assert_eq!(handler(&[other.clone(), one.clone()]).unwrap(), "a.b.Hello::handleRequest");
        let second = class("a.OrderHandler", &["handleRequest"]);
        assert_eq!(handler(&[one.clone(), second]).unwrap(), "a.OrderHandler::handleRequest");
        assert_eq!(handler(&[one, class("a.b.Bye", &["handleRequest"])]), None);
        assert_eq!(handler(&[class("Hello", &["handle"]), other]).unwrap(), "Hello::handle");
        assert_eq!(handler(&[]), None);
    }

    #[test]
    fn nested_classes_and_aws_own_are_none() {
        assert!(is_class("a/Hello.class"));
        for name in [
            "a/Hello$1.class",
            "com/amazonaws/services/lambda/runtime/RequestHandler.class",
            "a.jar",
        ] {
            assert!(!is_class(name), "{name}");
        }
        assert!(is_jar("app.jar") && !is_jar("lib/app.jar"));
        assert_eq!(classes("app.jar", &b"no zip"[..]), []);
    }
}
