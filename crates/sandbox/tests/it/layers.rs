//! Layers of processes: the search paths of AWS Lambda, how `/opt` is mounted, what is left on the host's disk.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use model::ports::Sandbox as _;
use serde_json::{Value, json};

use crate::support::{
    World, attach, cc, in_runtime, invocation, run, version, zip, zip_with_modes,
};
use crate::{Place, Test};

/// Time for one call, and for what goes on in the background.
const AMPLE: Duration = Duration::from_secs(30);

const PYTHON: &str = "import ctypes, subprocess, sys
import own, plain, packaged

def handler(event, context):
    # By the function's own environment: what it starts finds layers as it does itself.
    child = subprocess.run([sys.executable, '-c', 'import plain; print(plain.text)'], capture_output=True, text=True)
    return {
        'tool': subprocess.run(['layer-tool'], capture_output=True, text=True).stdout,
        'library': ctypes.CDLL('liblayer.so').answer(),
        'modules': [own.text, plain.text, packaged.text],
        'child': child.stdout.strip(),
        'mounts': open('/proc/self/mountinfo').read(),
    }
";
const NODE: &str = "const { execFileSync } = require('child_process');
exports.handler = async () => ({
  tool: execFileSync('layer-tool').toString(),
  modules: ['own', 'plain', 'packaged'].map((name) => require(name).text),
  child: execFileSync(process.execPath, ['-p', 'require(`plain`).text']).toString().trim(),
  mounts: require('fs').readFileSync('/proc/self/mountinfo', 'utf8'),
});
";

pub(crate) fn tests() -> Vec<Test> {
    vec![
        Test {
            name: "layers::python_searches_where_aws_lambda_does".into(),
            place: Place::Shared,
            run: Box::new(|world| Box::pin(async move { python(&world).await })),
        },
        Test {
            name: "layers::node_searches_where_aws_lambda_does".into(),
            place: Place::Shared,
            run: Box::new(|world| Box::pin(async move { node(&world).await })),
        },
        Test {
            name: "layers::what_was_merged_goes_with_its_last_instance".into(),
            place: Place::Shared,
            run: Box::new(|world| Box::pin(async move { merged_goes(&world).await })),
        },
    ]
}

/// A layer with a program and a library.
fn machine_code(world: &World) -> Bytes {
    let folder = world.folder.path().join("layer in C");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("answer.c"), "int answer(void) { return 42; }\n").unwrap();
    cc(&folder, &["-shared", "-fPIC", "-o", "liblayer.so"], ["answer.c"]);
    let library = fs::read(folder.join("liblayer.so")).unwrap();
    zip_with_modes(&[
        ("bin/layer-tool", b"#!/bin/sh\necho tool\n", 0o755),
        ("lib/liblayer.so", &library, 0o755),
    ])
}

/// The answer of a function with this code, upon these layers.
async fn answer(world: &World, runtime: &str, code: &Bytes, layers: &[Bytes]) -> Value {
    let info = world.sandbox.check_package(code.clone()).await.unwrap();
    let version = version(&world.sandbox, "layered", info.digest, BTreeMap::new());
    let mut version = Arc::unwrap_or_clone(in_runtime(&world.sandbox, &version, runtime));
    attach(&*world.sandbox, &mut version, layers).await;
    let image = world.sandbox.prepare(Arc::new(version)).await.unwrap();
    let mut instance = image.start().await.unwrap();
    let outcome = run(&mut *instance, &invocation("null".into(), AMPLE)).await;
    instance.stop().await;
    let body = outcome.result.unwrap_or_else(|failure| {
        panic!("{:?}: {}", failure.kind, String::from_utf8_lossy(&failure.payload))
    });
    serde_json::from_slice(&body).unwrap()
}

/// Checks how `/opt` is mounted, and takes that out of the answer.
fn check_mount(answer: &mut Value) {
    let mounts = answer["mounts"].take();
    let at_opt = |line: &&str| line.split(' ').nth(4) == Some("/opt");
    let lines: Vec<_> = mounts.as_str().unwrap().lines().filter(at_opt).collect();
    let [line] = lines.as_slice() else { panic!("mounted at /opt: {lines:?}") };
    let options: Vec<_> = line.split(' ').nth(5).unwrap().split(',').collect();
    for option in ["ro", "nosuid", "nodev"] {
        assert!(options.contains(&option), "{line}");
    }
}

async fn python(world: &World) {
    let name = world.sandbox.resolve_runtime("python3").unwrap().name;
    let code = zip(&[("main.py", PYTHON), ("own.py", "text = 'function'")]);
    let packages = format!("python/lib/{name}/site-packages");
    let modules = zip(&[
        ("python/own.py", "text = 'layer'"),
        ("python/plain.py", "text = 'plain'"),
        ("python/packaged.py", "text = 'not this one'"),
        (&format!("{packages}/packaged.py"), "text = 'packaged'"),
    ]);
    let mut said = answer(world, "python3", &code, &[machine_code(world), modules]).await;
    check_mount(&mut said);
    let expected = json!({
        "tool": "tool\n", "library": 42, "modules": ["function", "plain", "packaged"],
        "child": "plain", "mounts": null,
    });
    assert_eq!(said, expected);
}

async fn node(world: &World) {
    let name = world.sandbox.resolve_runtime("nodejs").unwrap().name.replace("nodejs", "node");
    let code = zip(&[("main.js", NODE), ("node_modules/own.js", "exports.text = 'function'")]);
    let modules = zip(&[
        ("nodejs/node_modules/own.js", "exports.text = 'layer'"),
        ("nodejs/node_modules/plain.js", "exports.text = 'plain'"),
        ("nodejs/node_modules/packaged.js", "exports.text = 'not this one'"),
        (&format!("nodejs/{name}/node_modules/packaged.js"), "exports.text = 'packaged'"),
    ]);
    let mut said = answer(world, "nodejs", &code, &[machine_code(world), modules]).await;
    check_mount(&mut said);
    let expected = json!({
        "tool": "tool\n", "modules": ["function", "plain", "packaged"],
        "child": "plain", "mounts": null,
    });
    assert_eq!(said, expected);
}

async fn merged_goes(world: &World) {
    let merged = || fs::read_dir(world.folder.path().join("cache/merged")).unwrap().count();
    let gone = async || {
        let until = Instant::now() + AMPLE;
        while merged() > 0 {
            assert!(Instant::now() < until, "a merged folder stays");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    // Of the tests before.
    gone().await;
    let code = zip(&[("main.py", "def handler(event, context): return open('/opt/a').read()")]);
    let info = world.sandbox.check_package(code).await.unwrap();
    let version = version(&world.sandbox, "layered", info.digest, BTreeMap::new());
    let mut version = Arc::unwrap_or_clone(version);
    attach(&*world.sandbox, &mut version, &[zip(&[("a", "a")]), zip(&[("b", "b")])]).await;
    let image = world.sandbox.prepare(Arc::new(version)).await.unwrap();
    let mut instance = image.start().await.unwrap();
    drop(image);
    let outcome = run(&mut *instance, &invocation("null".into(), AMPLE)).await;
    assert_eq!((&*outcome.result.unwrap(), merged()), (&b"\"a\""[..], 1));
    instance.stop().await;
    gone().await;
}
