//! Java's part of the contract suite. Its classes are compiled once, by the machine's kit.

use std::sync::LazyLock;

use bytes::Bytes;

use super::layers;
use crate::support::{javac, zip, zip_of};

/// Runtime, handler, package, layers, packages that cannot be loaded.
type Parts =
    (&'static str, &'static str, Bytes, [Bytes; 2], Vec<(&'static str, Bytes, &'static str)>);

pub(super) fn kit() -> Parts {
    static KIT: LazyLock<Parts> = LazyLock::new(make);
    KIT.clone()
}

fn make() -> Parts {
    let module = |name: &str, text: &str| {
        package(
            &format!("{name}.java"),
            &format!("public class {name} {{ public static String text = \"{text}\"; }}"),
        )
    };
    let (one, two) = (module("layer_one", "first"), module("layer_two", "second"));
    let broken = vec![
        ("no such class", zip(&[("other.txt", "")]), "Index"),
        ("no such method", package("Index.java", "public class Index {}"), "handle"),
        ("no class file", zip(&[("Index.class", "not compiled")]), "ClassFormatError"),
        (
            "throws",
            package(
                "Index.java",
                "public class Index { static { if (true) throw new IllegalStateException(\"not today\"); } }",
            ),
            "not today",
        ),
    ];
    (
        "java17",
        "Index::handle",
        package("Index.java", include_str!("java/Index.java")),
        layers([("java/lib/layer_one.jar", &one), ("java/lib/layer_two.jar", &two)]),
        broken,
    )
}

/// A package of compiled classes, which is a jar as well.
fn package(name: &str, text: &str) -> Bytes {
    let classes = javac(&[(name, text)]);
    zip_of(
        &classes.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect::<Vec<_>>(),
    )
}
