//! Java's part of the contract suite. Its classes are compiled once, by the machine's kit.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use bytes::Bytes;

use super::layers;
use crate::support::{javac, zip, zip_of};

/// Runtime, handler, package and the one that answers in pieces, layers, packages that cannot be loaded.
type Parts =
    (&'static str, &'static str, [Bytes; 2], [Bytes; 2], Vec<(&'static str, Bytes, &'static str)>);

const THROWS: &str = "public class Index {
    static { if (true) throw new IllegalStateException(\"not today\"); }
}";

pub(super) fn kit() -> Parts {
    static KIT: LazyLock<Parts> = LazyLock::new(make);
    KIT.clone()
}

fn make() -> Parts {
    let classes = javac(&[
        ("Index.java", include_str!("java/Index.java")),
        ("layer_one.java", "public class layer_one { public static String text = \"first\"; }"),
        ("layer_two.java", "public class layer_two { public static String text = \"second\"; }"),
    ]);
    let streams = javac(&[("Index.java", include_str!("java/Streams.java"))]);
    let empty = javac(&[("Index.java", "public class Index {}")]);
    let throws = javac(&[("Index.java", THROWS)]);
    let (one, two) = (jar(&classes, "layer_one"), jar(&classes, "layer_two"));
    let broken = vec![
        ("no such class", zip(&[("other.txt", "")]), "Index"),
        ("no such method", jar(&empty, "Index"), "handle"),
        ("no class file", zip(&[("Index.class", "not compiled")]), "ClassFormatError"),
        ("throws", jar(&throws, "Index"), "not today"),
    ];
    (
        "java17",
        "Index::handle",
        [jar(&classes, "Index"), jar(&streams, "Index")],
        layers([("java/lib/layer_one.jar", &one), ("java/lib/layer_two.jar", &two)]),
        broken,
    )
}

/// A jar, which is a package as well, of the classes whose names begin so.
fn jar(classes: &BTreeMap<String, Vec<u8>>, name: &str) -> Bytes {
    let wanted = classes.iter().filter(|(file, _)| file.starts_with(name));
    zip_of(&wanted.map(|(file, bytes)| (file.as_str(), bytes.as_slice())).collect::<Vec<_>>())
}
