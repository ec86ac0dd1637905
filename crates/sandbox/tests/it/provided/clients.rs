//! Clients of the Runtime API as their registries give them, and as anybody may write one: each takes an event, answers, fails, says that it cannot
//! start, and knows when it has to be done.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use bytes::Bytes;
use model::invocation::FailureKind;
use model::ports::{Image, Sandbox as _, StartFailed};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{AMPLE, call, fails, value};
use crate::native::{install, zip};
use crate::support::{World, cc, guests, in_runtime, version, zip_with_modes};
use crate::{Place, Test};

const PYTHON: &str = "#!/usr/bin/env -S python3 -m awslambdaric ${_HANDLER}\n";
const JAVA: &str = "#!/usr/bin/env -S java -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -cp /var/task:/var/task/lib/* com.amazonaws.services.lambda.runtime.api.client.AWSLambda ${_HANDLER}\n";
const NODE: &str = "#!/usr/bin/env -S node node_modules/aws-lambda-ric/index.mjs ${_HANDLER}\n";
/// The client in JavaScript. Its own script compiles its native part, from sources that come with it.
const NODE_PACKAGE: &str = "aws-lambda-ric@4.0.2";
/// The client in Python and what it needs, each by its version.
const PYTHON_PACKAGES: [&str; 3] =
    ["awslambdaric==4.2.2", "simplejson==4.3.0", "snapshot-restore-py==1.0.0"];

pub(super) fn tests() -> Vec<Test> {
    macro_rules! tests {
        ($($name:ident,)*) => {
            vec![$(Test {
                name: concat!("runtime-api::clients::", stringify!($name)).into(),
                place: Place::Shared,
                run: Box::new(|world| Box::pin(async move { $name(&world).await })),
            },)*]
        };
    }
    tests![
        a_client_in_python,
        a_client_in_java,
        a_client_in_javascript,
        a_client_in_node_alone,
        a_client_in_c,
        a_client_in_shell,
    ]
}

async fn a_client_in_python(world: &World) {
    let folder = TempDir::new().unwrap();
    let minor = world.sandbox.resolve_runtime("python3").unwrap().name.replace("python", "");
    let pip = ["-m", "pip", "install", "--quiet", "--root-user-action", "ignore", "--no-deps"];
    let what = ["--only-binary", ":all:", "--python-version", &minor, "--target", "."];
    install(folder.path(), "python3", &[&pip[..], &what, &PYTHON_PACKAGES].concat());
    write(folder.path(), "main.py", include_str!("clients/main.py"));
    let package = scripted(folder.path(), PYTHON);
    does_all(world, package, ["main.handler", "main.broken"]).await;
}

async fn a_client_in_java(world: &World) {
    let folder = TempDir::new().unwrap();
    write(folder.path(), "pom.xml", include_str!("clients/pom.xml"));
    write(folder.path(), "Main.java", include_str!("clients/Main.java"));
    let copy = [
        "-q",
        "-B",
        "-Dstyle.color=never",
        "dependency:copy-dependencies",
        "-DoutputDirectory=lib",
    ];
    install(folder.path(), "mvn", &copy);
    install(folder.path(), "javac", &["-cp", "lib/*", "Main.java"]);
    let package = scripted(folder.path(), JAVA);
    does_all(world, package, ["Main::handler", "Main$Broken::handler"]).await;
}

/// As with the guests in WebAssembly: made once, and whoever copied the tests to where there is no toolchain copied it as well.
async fn a_client_in_javascript(world: &World) {
    const NAME: &str = "client-node.zip";
    let package = tokio::task::spawn_blocking(|| fs::read(NAME).unwrap_or_else(|_| compiled(NAME)));
    does_all(world, package.await.unwrap().into(), ["handler.handler", "handler.broken"]).await;
}

/// The package with the client of npm, kept.
fn compiled(name: &str) -> Vec<u8> {
    let package = guests().join(name);
    if !package.exists() {
        let folder = TempDir::new().unwrap();
        // The headers of the Node.js that is there: by itself it would fetch them from where they are made.
        let headers = format!("--nodedir={}", node_prefix());
        let npm = ["install", "--silent", "--no-fund", "--no-audit", &headers, NODE_PACKAGE];
        install(folder.path(), "npm", &npm);
        write(folder.path(), "handler.js", include_str!("clients/handler.js"));
        let draft = package.with_extension("draft");
        fs::write(&draft, scripted(folder.path(), NODE)).unwrap();
        fs::rename(draft, &package).unwrap();
    }
    fs::read(package).unwrap()
}

/// Where Node.js is installed: the folder above its `bin`, and above `include` with its headers.
#[expect(clippy::disallowed_methods, reason = "asks what the package manager is told")]
fn node_prefix() -> String {
    let asked = ["-p", "path.resolve(process.execPath, '../..')"];
    let said = Command::new("node").args(asked).output().expect("`node` runs");
    String::from_utf8(said.stdout).unwrap().trim().to_owned()
}

/// No more than Node.js itself has.
async fn a_client_in_node_alone(world: &World) {
    let package = zip_with_modes(&[("bootstrap", include_bytes!("clients/main.js"), 0o755)]);
    does_all(world, package, ["main.handler", "main.broken"]).await;
}

async fn a_client_in_c(world: &World) {
    let package = zip_with_modes(&[("bootstrap", &client(), 0o755)]);
    does_all(world, package, ["main.handler", "main.broken"]).await;
}

/// Its shell has no program but one for requests, which the package brings.
async fn a_client_in_shell(world: &World) {
    let script = include_bytes!("clients/script.sh");
    let package = zip_with_modes(&[("bootstrap", script, 0o755), ("request", &client(), 0o755)]);
    does_all(world, package, ["main.handler", "main.broken"]).await;
}

fn client() -> Vec<u8> {
    let folder = TempDir::new().unwrap();
    write(folder.path(), "client.c", include_str!("clients/client.c"));
    cc(folder.path(), &["-static", "-o", "client"], ["client.c"]);
    fs::read(folder.path().join("client")).unwrap()
}

fn write(folder: &Path, name: &str, text: &str) {
    fs::write(folder.join(name), text).unwrap();
}

/// A package of a folder, with a script that is executed.
fn scripted(folder: &Path, bootstrap: &str) -> Bytes {
    use std::os::unix::fs::PermissionsExt as _;
    write(folder, "bootstrap", bootstrap);
    let executable = fs::Permissions::from_mode(0o755);
    fs::set_permissions(folder.join("bootstrap"), executable).unwrap();
    zip(folder)
}

async fn prepare(world: &World, package: &Bytes, handler: &str) -> Arc<dyn Image> {
    let info = world.sandbox.check_package(package.clone()).await.unwrap();
    let version = version(&world.sandbox, "client", info.digest, [].into());
    let version = in_runtime(&world.sandbox, &version, "provided.al2023");
    let mut version = Arc::unwrap_or_clone(version);
    version.config.handler = handler.into();
    Arc::clone(&world.sandbox).prepare(Arc::new(version)).await.unwrap()
}

async fn does_all(world: &World, package: Bytes, [handler, broken]: [&str; 2]) {
    let mut instance = prepare(world, &package, handler).await.start().await.unwrap();
    let event = json!({"op": "echo", "value": ["ä", 1]});
    // After an error it goes on.
    for fail in [false, true, false] {
        if fail {
            let failed = call(&mut *instance, json!({"op": "fail"})).await;
            fails(failed, FailureKind::Handler, "not today");
            continue;
        }
        let answer = value(&mut *instance, event.clone()).await;
        assert_eq!(answer["event"], event);
        let left = left(&answer);
        let most = i64::try_from(AMPLE.as_millis()).unwrap();
        assert!(left > 0 && left <= most, "{left} ms left of {most}");
    }
    instance.stop().await;
    match prepare(world, &package, broken).await.start().await {
        Err(StartFailed::Function(failure)) => {
            let said = String::from_utf8_lossy(&failure.payload).into_owned();
            assert_eq!(failure.kind, FailureKind::Init, "{said}");
            assert!(said.contains("not today"), "{said}");
        }
        other => panic!("{other:?}"),
    }
}

/// How long the client says that it had, in milliseconds: itself, or by the deadline that it was told.
fn left(answer: &Value) -> i64 {
    answer["left"].as_i64().unwrap_or_else(|| {
        let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_millis();
        answer["deadline"].as_i64().unwrap() - i64::try_from(now).unwrap()
    })
}
