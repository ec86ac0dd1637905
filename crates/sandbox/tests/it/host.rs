//! The table of what the host gives, as the real kernel answers.

use std::sync::Arc;

use model::isolation::Need;
use sandbox::{UID_BASE_DEFAULT, examine};

use crate::support::World;
use crate::wasm::sandboxes;
use crate::{Place, Test};

pub(crate) fn tests() -> Vec<Test> {
    vec![Test {
        name: "host::the_table_is_true_where_instances_start".into(),
        place: Place::Shared,
        run: Box::new(|world| Box::pin(the_table_is_true_where_instances_start(world))),
    }]
}

#[expect(clippy::disallowed_methods, reason = "the test's own PATH is where runtimes are")]
async fn the_table_is_true_where_instances_start(world: Arc<World>) {
    // Of both sandboxes.
    let told = sandboxes(&world).await.isolation();
    // All other tests start instances.
    for name in ["user-namespaces", "namespaces", "pidfd", "runtimes"] {
        assert!(told.has(name), "{name}: {}", told.detail(name));
    }
    let root = rustix::process::geteuid().is_root();
    assert_eq!(told.has("users"), root, "{}", told.detail("users"));
    assert!(root || !told.full);
    let lacking = |f: &&model::isolation::Feature| f.need == Need::Isolation;
    assert_eq!(told.full, told.missing().filter(lacking).count() == 0);

    let path = std::env::var("PATH").unwrap();
    let found = examine("/proc/self/exe".into(), &path, UID_BASE_DEFAULT).await.unwrap();
    assert_eq!(found, told, "without a sandbox the same is found");
}
