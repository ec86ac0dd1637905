//! What the jail consists of, looked at from the inside; and that the runtimes' own libraries work in it.
//!
//! What a function can try against it is another matter: the attack suite's.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use landlock::{ABI, Access as _, Ruleset, RulesetAttr as _, RulesetStatus, Scope};
use model::invocation::StartPath;
use model::ports::Sandbox as _;
use serde_json::{Value, json};

use crate::support::{World, in_runtime, invocation, ready, run, version, zip};
use crate::{Place, Test};

/// Runs the Python text that it is sent and returns what that leaves in `result`.
const CODE: &str = "import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
def errno_of(*call):
    return ctypes.get_errno() if libc.syscall(*map(ctypes.c_long, call)) < 0 else 0
def handler(event, context):
    scope = dict(globals(), result=None)
    exec(event, scope)
    return scope['result']
";
/// Time for a call that is expected to answer.
const AMPLE: Duration = Duration::from_secs(60);

pub(crate) fn tests() -> Vec<Test> {
    macro_rules! tests {
        ($($name:ident,)*) => {
            vec![$(
                Test {
                    name: concat!("jail::", stringify!($name)).into(),
                    place: Place::Shared,
                    run: Box::new(|world| Box::pin(async move { $name(&world).await })),
                },
                Test {
                    name: concat!("jail-forked::", stringify!($name)).into(),
                    place: Place::Forked { tests: "jail" },
                    run: Box::new(|world| Box::pin(async move { $name(&world).await })),
                },
            )*]
        };
    }
    tests![
        the_filter_of_system_calls_is_loaded,
        calls_of_the_32_bit_interface_kill,
        signals_out_of_the_instance_are_refused,
        proc_is_read_only_and_masked,
        mounts_have_the_flags_that_they_must,
        etc_is_made_here,
        memory_file_systems_limit_inodes,
        privileges_cannot_come_back,
        node_and_its_libraries_work,
        python_and_its_libraries_work,
    ]
}

/// What one call of fresh code answers.
async fn answer(world: &World, runtime: &str, files: &[(&str, &str)], event: Value) -> Value {
    let info = world.sandbox.check_package(zip(files)).await.unwrap();
    let version = version(&world.sandbox, "jail", info.digest, BTreeMap::new());
    let version = in_runtime(&world.sandbox, &version, runtime);
    if world.forked {
        ready(&world.sandbox, &version).await;
    }
    let image = world.sandbox.prepare(version).await.unwrap();
    let mut instance = image.start().await.unwrap();
    assert_eq!(instance.start_timings().path == StartPath::Zygote, world.forked);
    let outcome = run(&mut *instance, &invocation(event.to_string(), AMPLE)).await;
    instance.stop().await;
    let body = outcome.result.unwrap_or_else(|failure| {
        panic!("{:?}: {}", failure.kind, String::from_utf8_lossy(&failure.payload))
    });
    serde_json::from_slice(&body).unwrap()
}

async fn python(world: &World, text: &str) -> Value {
    answer(world, "python3", &[("main.py", CODE)], json!(text)).await
}

async fn the_filter_of_system_calls_is_loaded(world: &World) {
    let status = python(world, "result = open('/proc/self/status').read()").await;
    let status = status.as_str().unwrap();
    // One filter, of the mode that takes programs.
    for line in ["Seccomp:\t2", "Seccomp_filters:\t1", "NoNewPrivs:\t1"] {
        assert!(status.lines().any(|l| l == line), "{line}: {status}");
    }
    let text = format!(
        "result = [errno_of({}, 0), errno_of({}, 0, 0), errno_of({}, 0x10000000), errno_of({}, 0, 0), errno_of(9999)]",
        libc::SYS_clone3,
        libc::SYS_io_uring_setup,
        libc::SYS_unshare,
        libc::SYS_ptrace,
    );
    let told = [libc::ENOSYS, libc::ENOSYS, libc::EPERM, libc::EPERM, libc::ENOSYS];
    assert_eq!(python(world, &text).await, json!(told));
    // An address of another architecture's; TIOCSTI; a raw socket.
    let text = format!(
        "result = [errno_of({}, 0x0040000), errno_of({}, 0, 0x5412, 0), errno_of({}, 2, 3, 1)]",
        libc::SYS_personality,
        libc::SYS_ioctl,
        libc::SYS_socket,
    );
    assert_eq!(python(world, &text).await, json!(vec![libc::EPERM; 3]));
}

async fn calls_of_the_32_bit_interface_kill(world: &World) {
    if cfg!(not(target_arch = "x86_64")) {
        // Other processors have no instruction for it.
        return;
    }
    // mov eax, 20 (getpid); int 0x80; ret
    let text = "
import mmap
code = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
code.write(bytes.fromhex('b814000000cd80c3'))
call = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(code)))
child = os.fork()
if child == 0:
    call()
    os._exit(0)
status = os.waitpid(child, 0)[1]
result = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 'it ran'";
    assert_eq!(python(world, text).await, libc::SIGSYS);
}

async fn signals_out_of_the_instance_are_refused(world: &World) {
    // Tried on a thread that ends with it: only a try tells what the kernel has.
    let scoped = std::thread::spawn(|| {
        let ruleset = Ruleset::default().scope(Scope::from_all(ABI::V6)).unwrap();
        ruleset.create().unwrap().restrict_self().unwrap().ruleset
    });
    let text = format!("result = errno_of({}, 1, 0)", libc::SYS_kill);
    // Without, pid 1 belongs to the same user and may be signalled, in vain.
    let told = match scoped.join().unwrap() {
        RulesetStatus::FullyEnforced => libc::EPERM,
        _ => 0,
    };
    assert_eq!(python(world, &text).await, told);
    // Its own processes it may end.
    let text = "
child = os.fork()
if child == 0: os.execvp('sh', ['sh', '-c', 'while :; do :; done'])
os.kill(child, 9)
result = os.waitpid(child, 0)[1]";
    assert_eq!(python(world, text).await, libc::SIGKILL);
}

async fn proc_is_read_only_and_masked(world: &World) {
    let masked = [
        "acpi",
        "bus",
        "fs",
        "interrupts",
        "irq",
        "kallsyms",
        "kcore",
        "keys",
        "kmsg",
        "scsi",
        "sysrq-trigger",
        "timer_list",
    ];
    let text = format!(
        "
def look(name):
    path = '/proc/' + name
    if not os.path.exists(path): return None
    try: return os.listdir(path) if os.path.isdir(path) else open(path).read()
    except PermissionError: return 'closed'
result = {{name: look(name) for name in {masked:?}}}"
    );
    let seen = python(world, &text).await;
    for name in masked {
        let there = Path::new("/proc").join(name);
        let expected = match fs::symlink_metadata(there) {
            Ok(meta) if meta.is_dir() => json!([]),
            Ok(meta) if meta.mode() & 0o004 == 0 => json!("closed"),
            Ok(_) => json!(""),
            Err(_) => json!(null),
        };
        assert_eq!(seen[name], expected, "{name}");
    }
    let text = "
def write(path):
    try: os.close(os.open(path, os.O_WRONLY))
    except OSError as e: return e.errno
result = {p: write('/proc/' + p) for p in ['self/comm', 'self/oom_score_adj', 'sys/kernel/hostname', 'sys/vm/drop_caches']}";
    for (path, errno) in python(world, text).await.as_object().unwrap() {
        let errno = i32::try_from(errno.as_i64().unwrap_or(0)).unwrap();
        assert!([libc::EROFS, libc::EACCES].contains(&errno), "{path}: {errno}");
    }
    // What runtimes size themselves by is there; pid 1 is not.
    let text = "
names = ['meminfo', 'cpuinfo', 'stat', 'loadavg', 'uptime', 'version', 'sys/vm/overcommit_memory', 'sys/net/core/somaxconn', 'self/maps']
result = [[n for n in names if not open('/proc/' + n).read()], sorted(p for p in os.listdir('/proc') if p.isdigit())]";
    assert_eq!(python(world, text).await, json!([[], ["2"]]));
}

async fn mounts_have_the_flags_that_they_must(world: &World) {
    let mounts = python(world, "result = open('/proc/self/mountinfo').read()").await;
    let mounts = mounts.as_str().unwrap();
    assert!(mounts.lines().count() > 10, "{mounts}");
    for line in mounts.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let (place, flags) = (words[4], words[5].split(',').collect::<Vec<_>>());
        let device = place.starts_with("/dev/") && place != "/dev/shm";
        let writable = device || ["/dev/shm", "/tmp"].contains(&place);
        assert!(flags.contains(&"nosuid"), "{line}");
        assert_eq!(flags.contains(&"nodev"), !device, "{line}");
        assert_eq!(flags.contains(&"ro"), !writable, "{line}");
    }
}

async fn etc_is_made_here(world: &World) {
    let text = "result = [sorted(os.listdir('/')), sorted(os.listdir('/etc')), sorted(os.listdir('/dev')), open('/etc/hosts').read()]";
    let seen = python(world, text).await;
    for absent in ["home", "root", "sys", "boot", "run", "mnt", "media", "srv"] {
        assert!(!seen[0].as_array().unwrap().contains(&json!(absent)), "{absent}: {seen}");
    }
    let etc = ["group", "hosts", "nsswitch.conf", "passwd", "pki", "resolv.conf", "ssl"];
    assert!(seen[1].as_array().unwrap().iter().all(|name| etc.contains(&name.as_str().unwrap())));
    let dev =
        ["fd", "full", "null", "random", "shm", "stderr", "stdin", "stdout", "urandom", "zero"];
    assert_eq!(seen[2], json!(dev));
    assert_eq!(seen[3], "127.0.0.1 localhost\n::1 localhost\n");
}

async fn memory_file_systems_limit_inodes(world: &World) {
    let text = "
def of(path):
    s = os.statvfs(path)
    return [s.f_blocks * s.f_frsize // 8192, s.f_files]
result = [of('/tmp'), of('/dev/shm')]";
    for pair in python(world, text).await.as_array().unwrap() {
        assert!(pair[0].as_u64().unwrap() > 1000, "{pair}");
        assert_eq!(pair[0], pair[1]);
    }
    // The last inode but those that the file system itself has.
    let text = "
made = 0
try:
    while made < 100_000:
        os.close(os.open(f'/dev/shm/{made}', os.O_CREAT | os.O_WRONLY))
        made += 1
except OSError as e:
    result = [made > 8000, made < 8192 + 1, e.errno]";
    assert_eq!(python(world, text).await, json!([true, true, libc::ENOSPC]));
}

async fn privileges_cannot_come_back(world: &World) {
    let text = "
PR_GET_SECUREBITS, PR_CAPBSET_READ = 27, 23
umask = os.umask(0)
result = [libc.prctl(PR_GET_SECUREBITS), sum(libc.prctl(PR_CAPBSET_READ, n) == 1 for n in range(64)), umask]";
    // All bits but the one that keeps capabilities, which is locked as it is: off.
    assert_eq!(python(world, text).await, json!([0xef, 0, 0o022]));
    // No core dump stays no core dump.
    let text = "
import resource
before = resource.getrlimit(resource.RLIMIT_CORE)
try:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    result = 'it was set'
except (OSError, ValueError):
    result = before == resource.getrlimit(resource.RLIMIT_CORE)";
    assert_eq!(python(world, text).await, json!(true));
    if world.sandbox.isolation().has("users") {
        assert_eq!(python(world, "result = os.getgroups()").await, json!([]));
    }
}

async fn node_and_its_libraries_work(world: &World) {
    let files = [("main.js", include_str!("jail/libraries.js"))];
    let seen = answer(world, "nodejs", &files, json!(null)).await;
    let seen = seen.as_object().unwrap();
    assert!(seen.len() > 10, "{seen:?}");
    for (what, told) in seen {
        assert_eq!(*told, json!(true), "{what}");
    }
}

async fn python_and_its_libraries_work(world: &World) {
    let files = [("main.py", include_str!("jail/libraries.py"))];
    let seen = answer(world, "python3", &files, json!(null)).await;
    let seen = seen.as_object().unwrap();
    assert!(seen.len() > 10, "{seen:?}");
    for (what, told) in seen {
        assert_eq!(*told, json!(true), "{what}");
    }
}
