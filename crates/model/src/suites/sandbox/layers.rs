//! What functions see of their layers: all of them as one, at `/opt`, for ever the same.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};

use super::{Kit, answer, fails, start};
use crate::function::CodeRef;
use crate::invocation::FailureKind;
use crate::layer::AttachedLayer;
use crate::ports::{Image, Instance};

/// The kit's function upon these layers, the first one lowest.
async fn image(kit: &Kit, layers: &[&Bytes]) -> Arc<dyn Image> {
    let mut version = Arc::unwrap_or_clone(kit.version_of(&kit.package).await);
    for (at, layer) in layers.iter().enumerate() {
        let info = kit.sandbox.check_package((*layer).clone()).await.expect("the kit's layer");
        version.layers.push(AttachedLayer {
            name: format!("layer{at}").parse().expect("a valid name"),
            version: 1,
            code: CodeRef {
                digest: info.digest,
                size_bytes: layer.len() as u64,
                unpacked_bytes: info.unpacked_bytes,
            },
        });
    }
    kit.image_of(Arc::new(version)).await
}

async fn read(instance: &mut Box<dyn Instance>, path: &str) -> Value {
    answer(instance, json!({"op": "read", "path": path})).await
}

async fn names(instance: &mut Box<dyn Instance>, path: &str) -> Vec<String> {
    let names = answer(instance, json!({"op": "list", "path": path})).await;
    let mut names: Vec<String> = serde_json::from_value(names).expect("a list of names");
    names.sort();
    names
}

pub(super) async fn without_layers_there_is_nothing(kit: &Kit) {
    let mut instance = kit.start().await;
    assert_eq!(names(&mut instance, "/opt").await, [""; 0]);
    instance.stop().await;
}

pub(super) async fn one_layer_is_there_as_it_is(kit: &Kit) {
    let [first, _] = &kit.layers;
    let mut instance = start(&*image(kit, &[first]).await).await;
    assert_eq!(read(&mut instance, "/opt/both").await, "first");
    assert_eq!(names(&mut instance, "/opt/folder").await, ["one"]);
    assert_eq!(names(&mut instance, "/opt/file_or_folder").await, ["inner"]);
    instance.stop().await;
}

pub(super) async fn later_layers_lie_over_earlier_ones(kit: &Kit) {
    let [first, second] = &kit.layers;
    let mut instance = start(&*image(kit, &[first, second]).await).await;
    for (path, text) in [
        ("/opt/both", "second"),
        ("/opt/folder/one", "first"),
        ("/opt/folder/two", "second"),
        ("/opt/file_or_folder", "second"),
        ("/opt/folder_or_file/inner", "second"),
    ] {
        assert_eq!(read(&mut instance, path).await, text, "{path}");
    }
    assert_eq!(names(&mut instance, "/opt/folder").await, ["one", "two"]);
    // The other way round, for the same function: an order is part of what is kept.
    let mut other = start(&*image(kit, &[second, first]).await).await;
    assert_eq!(read(&mut other, "/opt/both").await, "first");
    assert_eq!(names(&mut other, "/opt/file_or_folder").await, ["inner"]);
    assert_eq!(read(&mut instance, "/opt/both").await, "second");
    instance.stop().await;
    other.stop().await;
}

pub(super) async fn modules_of_layers_are_found(kit: &Kit) {
    let [first, second] = &kit.layers;
    let mut instance = start(&*image(kit, &[first, second]).await).await;
    for (name, text) in [("layer_one", "first"), ("layer_two", "second")] {
        assert_eq!(answer(&mut instance, json!({"op": "import", "name": name})).await, text);
    }
    instance.stop().await;
    let mut without = kit.start().await;
    let event = json!({"op": "import", "name": "layer_one"});
    fails(&mut without, event, FailureKind::Handler, "layer_one").await;
    without.stop().await;
}

pub(super) async fn layers_cannot_be_changed(kit: &Kit) {
    let [first, second] = &kit.layers;
    for layers in [&[first][..], &[first, second]] {
        let image = image(kit, layers).await;
        let mut instance = start(&*image).await;
        let before = read(&mut instance, "/opt/both").await;
        for path in ["/opt/new", "/opt/both", "/opt/folder/one", "/opt/folder/new"] {
            let event = json!({"op": "write", "path": path, "text": "x"});
            fails(&mut instance, event, FailureKind::Handler, "").await;
        }
        let mut other = start(&*image).await;
        for instance in [&mut instance, &mut other] {
            assert_eq!(read(instance, "/opt/both").await, before);
        }
        instance.stop().await;
        other.stop().await;
    }
}

pub(super) async fn layers_are_forgotten_when_nobody_uses_them(kit: &Kit) {
    let [first, second] = &kit.layers;
    let image = image(kit, &[first, second]).await;
    for layer in &kit.layers {
        let info = kit.sandbox.check_package(layer.clone()).await.expect("checked twice");
        kit.sandbox.forget_package(&info.digest).await;
    }
    // While the image is there, it can be started.
    let mut instance = start(&*image).await;
    drop(image);
    for (name, text) in [("one", "first"), ("two", "second")] {
        assert_eq!(read(&mut instance, &format!("/opt/folder/{name}")).await, text);
    }
    instance.stop().await;
}
