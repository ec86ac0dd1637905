//! The program is run here as the kernel runs it, by an interpreter of the few instructions that it has.

use seccompiler::{TargetArch, sock_filter};
use syscalls::Sysno;

use super::policy::{Answer, Answers, PolicyError};
use super::*;

const ARCH: &str = std::env::consts::ARCH;
/// What `linux/audit.h` calls the architectures.
const AUDIT_ARCH: u32 = if cfg!(target_arch = "x86_64") { 0xc000_003e } else { 0xc000_00b7 };
const AUDIT_ARCH_I386: u32 = 0x4000_0003;

// What the kernel calls the answers.
const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
const KILL: u32 = libc::SECCOMP_RET_KILL_PROCESS;
const EPERM: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
const ENOSYS: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;

fn parse(policy: &str, arch: &str) -> Result<Answers, PolicyError> {
    policy::parse(policy, arch, number)
}

fn compiled() -> BpfProgram {
    program::compile(&parse(PROCESS_POLICY, ARCH).unwrap(), ARCH).unwrap()
}

/// The answer of a program, and how many instructions it took.
fn run(program: &[sock_filter], arch: u32, number: u32, arguments: &[u64]) -> (u32, usize) {
    let mut data = [number, arch].map(u32::to_ne_bytes).concat();
    data.extend([0; 8]);
    for n in 0..6 {
        data.extend(arguments.get(n).copied().unwrap_or(0).to_ne_bytes());
    }
    let (mut at, mut value, mut steps) = (0, 0, 0);
    loop {
        let sock_filter { code, jt, jf, k } = program[at].clone();
        let mut jump = |condition: bool| at += usize::from(if condition { jt } else { jf });
        match code {
            0x20 => {
                let word = data[k as usize..][..4].try_into().unwrap();
                value = u32::from_ne_bytes(word);
            }
            0x54 => value &= k,
            0x15 => jump(value == k),
            0x25 => jump(value > k),
            0x35 => jump(value >= k),
            0x05 => at += k as usize,
            0x06 => return (k, steps + 1),
            other => panic!("instruction {other:#x} is not known here"),
        }
        at += 1;
        steps += 1;
    }
}

fn answer(call: Sysno, arguments: &[u64]) -> u32 {
    run(&compiled(), AUDIT_ARCH, call.id().try_into().unwrap(), arguments).0
}

#[test]
fn every_listed_call_gets_its_answer_and_every_other_is_refused() {
    let (program, answers) = (compiled(), parse(PROCESS_POLICY, ARCH).unwrap());
    let newest = *answers.last_key_value().unwrap().0;
    for number in 0..=newest {
        let (told, _) = run(&program, AUDIT_ARCH, number, &[]);
        match answers.get(&number) {
            Some(Answer::Allow) => assert_eq!(told, ALLOW, "{number}"),
            Some(Answer::Absent) => assert_eq!(told, ENOSYS, "{number}"),
            None => assert_eq!(told, EPERM, "{number}"),
            Some(Answer::AllowIf(_)) => {
                let refused =
                    |argument| run(&program, AUDIT_ARCH, number, &[argument; 6]).0 == EPERM;
                // All bits but the sign; and RLIMIT_CORE, the one limit that may not be set.
                assert!(refused(0x7fff_ffff) || refused(4), "{number}");
            }
        }
    }
    for number in [newest + 1, newest + 100, 0x3fff_ffff] {
        assert_eq!(run(&program, AUDIT_ARCH, number, &[]).0, ENOSYS, "{number}");
    }
}

#[test]
fn calls_by_another_architectures_numbers_kill() {
    let program = compiled();
    assert_eq!(run(&program, AUDIT_ARCH_I386, 1, &[]).0, KILL);
    if ARCH == "x86_64" {
        for number in [0x4000_0000, 0x4000_0001, u32::MAX] {
            assert_eq!(run(&program, AUDIT_ARCH, number, &[]).0, KILL, "{number:#x}");
        }
    }
}

#[test]
fn the_program_is_small_and_every_answer_near() {
    let program = compiled();
    // The kernel's limit is 4096.
    assert!(program.len() < 700, "{}", program.len());
    let plain = |number| run(&program, AUDIT_ARCH, number, &[]).1;
    let steps: Vec<usize> = (0..500).map(plain).collect();
    let unconditional = [Sysno::read, Sysno::write, Sysno::futex, Sysno::epoll_pwait, Sysno::mmap];
    for call in unconditional {
        let steps = steps[usize::try_from(call.id()).unwrap()];
        assert!(steps <= 16, "{call}: {steps}");
    }
    // The longest are the lists of `prctl`, `ioctl` and `socket`.
    assert!(*steps.iter().max().unwrap() < 90, "{steps:?}");
}

#[test]
fn what_must_never_be_allowed_is_refused() {
    for call in [
        Sysno::ptrace,
        Sysno::process_vm_readv,
        Sysno::process_vm_writev,
        Sysno::kcmp,
        Sysno::pidfd_getfd,
        Sysno::mount,
        Sysno::umount2,
        Sysno::pivot_root,
        Sysno::chroot,
        Sysno::move_mount,
        Sysno::open_tree,
        Sysno::fsopen,
        Sysno::fsmount,
        Sysno::fsconfig,
        Sysno::fspick,
        Sysno::mount_setattr,
        Sysno::unshare,
        Sysno::setns,
        Sysno::bpf,
        Sysno::perf_event_open,
        Sysno::userfaultfd,
        Sysno::keyctl,
        Sysno::add_key,
        Sysno::request_key,
        Sysno::kexec_load,
        Sysno::kexec_file_load,
        Sysno::init_module,
        Sysno::finit_module,
        Sysno::delete_module,
        Sysno::clock_settime,
        Sysno::clock_adjtime,
        Sysno::settimeofday,
        Sysno::adjtimex,
        Sysno::reboot,
        Sysno::swapon,
        Sysno::swapoff,
        Sysno::sethostname,
        Sysno::setdomainname,
        Sysno::open_by_handle_at,
        Sysno::name_to_handle_at,
        Sysno::fanotify_init,
        Sysno::seccomp,
        Sysno::acct,
        Sysno::quotactl,
        Sysno::syslog,
        Sysno::vhangup,
        Sysno::capset,
        Sysno::setgroups,
        Sysno::memfd_secret,
        Sysno::migrate_pages,
        Sysno::move_pages,
        Sysno::vmsplice,
        Sysno::sync,
        Sysno::syncfs,
        Sysno::lookup_dcookie,
    ] {
        assert_eq!(answer(call, &[]), EPERM, "{call}");
    }
    for call in [
        Sysno::clone3,
        Sysno::io_uring_setup,
        Sysno::io_uring_enter,
        Sysno::io_uring_register,
        Sysno::landlock_create_ruleset,
    ] {
        assert_eq!(answer(call, &[]), ENOSYS, "{call}");
    }
}

#[test]
fn arguments_decide_where_they_can() {
    let cases: &[(Sysno, &[u64], bool)] = &[
        // A thread of a C library, a plain fork, and each namespace.
        (Sysno::clone, &[0x3d_0f00], true),
        (Sysno::clone, &[0x11], true),
        (Sysno::clone, &[0x0002_0011], false),
        (Sysno::clone, &[0x0200_0011], false),
        (Sysno::clone, &[0x0400_0011], false),
        (Sysno::clone, &[0x0800_0011], false),
        (Sysno::clone, &[0x1000_0011], false),
        (Sysno::clone, &[0x2000_0011], false),
        (Sysno::clone, &[0x4000_0011], false),
        // AF_UNIX, TCP, UDP with SOCK_CLOEXEC and SOCK_NONBLOCK, netlink route.
        (Sysno::socket, &[1, 5, 0], true),
        (Sysno::socket, &[2, 0x8_0801, 6], true),
        (Sysno::socket, &[10, 0x8_0802, 0], true),
        (Sysno::socket, &[16, 0x8_0003, 0], true),
        // Raw, ICMP, SCTP, packet, netlink audit, alg, vsock, MPTCP.
        (Sysno::socket, &[2, 3, 1], false),
        (Sysno::socket, &[2, 2, 1], false),
        (Sysno::socket, &[2, 1, 132], false),
        (Sysno::socket, &[17, 3, 0], false),
        (Sysno::socket, &[16, 3, 9], false),
        (Sysno::socket, &[38, 5, 0], false),
        (Sysno::socket, &[40, 1, 0], false),
        (Sysno::socket, &[2, 1, 262], false),
        (Sysno::socketpair, &[1, 1, 0], true),
        (Sysno::socketpair, &[30, 1, 0], false),
        (Sysno::ioctl, &[0, 0x5401], true),
        // TIOCSTI and TIOCLINUX; the kernel does not see the upper half of the argument either.
        (Sysno::ioctl, &[0, 0x5412], false),
        (Sysno::ioctl, &[0, 0x541c], false),
        (Sysno::ioctl, &[0, 0x1_0000_5412], false),
        // Every limit may be read, and all but RLIMIT_CORE set.
        (Sysno::prlimit64, &[0, 4, 0], true),
        (Sysno::prlimit64, &[0, 4, 0x7fff_0000_1000], false),
        (Sysno::prlimit64, &[0, 4, 0x1_0000_0000], false),
        (Sysno::setrlimit, &[4], false),
        (Sysno::personality, &[0xffff_ffff], true),
        (Sysno::personality, &[0x0004_0000], false),
        (Sysno::personality, &[0x0040_0000], false),
        (Sysno::mknodat, &[0, 0, 0o010_600], true),
        (Sysno::mknodat, &[0, 0, 0o060_600], false),
        (Sysno::mknodat, &[0, 0, 0o020_600], false),
        // PR_SET_NAME; PR_SET_SECCOMP, PR_SET_SECUREBITS, PR_SET_MM, PR_SET_PTRACER.
        (Sysno::prctl, &[15], true),
        (Sysno::prctl, &[22], false),
        (Sysno::prctl, &[28], false),
        (Sysno::prctl, &[35], false),
        (Sysno::prctl, &[0x5961_6d61], false),
    ];
    for (call, arguments, allowed) in cases {
        let expected = if *allowed { ALLOW } else { EPERM };
        assert_eq!(answer(*call, arguments), expected, "{call} {arguments:x?}");
    }
}

#[test]
fn only_the_limit_on_core_dumps_is_fixed() {
    for resource in 0..16 {
        let expected = if resource == 4 { EPERM } else { ALLOW };
        assert_eq!(answer(Sysno::setrlimit, &[resource]), expected, "{resource}");
        assert_eq!(answer(Sysno::prlimit64, &[0, resource, 1]), expected, "{resource}");
    }
}

#[test]
fn a_long_program_jumps_as_far_as_it_has_to() {
    // Conditions of every other call make each half longer than a short jump reaches.
    let rules = |arguments: std::ops::Range<u32>| {
        arguments.map(|n| format!(" if a0 == {n}")).collect::<Vec<_>>()
    };
    let mut policy = String::new();
    for call in ["read", "close", "lseek", "mmap", "munmap", "brk"] {
        policy.extend(rules(0..60).iter().map(|rule| format!("{call}{rule}\n")));
    }
    let program = program::compile(&parse(&policy, ARCH).unwrap(), ARCH).unwrap();
    assert!(program.len() > 1000);
    for call in [Sysno::read, Sysno::close, Sysno::lseek, Sysno::mmap, Sysno::munmap, Sysno::brk] {
        let number = call.id().try_into().unwrap();
        assert_eq!(run(&program, AUDIT_ARCH, number, &[59]).0, ALLOW, "{call}");
        assert_eq!(run(&program, AUDIT_ARCH, number, &[60]).0, EPERM, "{call}");
    }
    assert_eq!(run(&program, AUDIT_ARCH, Sysno::write.id().try_into().unwrap(), &[]).0, EPERM);
}

#[test]
fn bad_lines_are_named() {
    for (policy, line, what) in [
        ("read\nnonsense", 2, "nonsense"),
        ("read maybe", 1, "expected `if"),
        ("read errno EIO", 1, "expected `if"),
        ("read\n\nread # again", 3, "another line"),
        ("read\nread if a0 == 1", 2, "another line"),
        ("clone3 errno ENOSYS\nclone3", 2, "another line"),
        ("socket if", 1, "condition"),
        ("socket if a0 = 1", 1, "condition"),
        ("socket if a0 == x", 1, "condition"),
        ("socket if a0 == 0x100000000", 1, "condition"),
        ("socket if a0 & 1 == null", 1, "condition"),
        ("socket if a0 & 0x1 2", 1, "condition"),
        ("socket if a9 == 1", 1, "argument"),
    ] {
        let e = parse(policy, ARCH).unwrap_err();
        assert_eq!(e.line, Some(line), "{policy:?}");
        assert!(e.to_string().contains(what), "{policy:?}: {e}");
    }
    assert_eq!(parse("nonsense @vax", ARCH).unwrap().len(), 0);
    let e = program::compile(&parse("read", ARCH).unwrap(), "vax").unwrap_err();
    assert_eq!(e.line, None);
}

#[test]
fn the_list_fits_the_other_architecture() {
    const AUDIT_ARCH_AARCH64: u32 = 0xc000_00b7;
    let numbers = |name: &str| {
        let call = syscalls::aarch64::Sysno::from_str(name).ok();
        call.and_then(|call| u32::try_from(call.id()).ok())
    };
    let answers = policy::parse(PROCESS_POLICY, "aarch64", numbers).unwrap();
    let program = program::compile(&answers, "aarch64").unwrap();
    let told = |name| run(&program, AUDIT_ARCH_AARCH64, numbers(name).unwrap(), &[]).0;
    for (name, expected) in
        [("openat", ALLOW), ("fstatat", ALLOW), ("ptrace", EPERM), ("clone3", ENOSYS)]
    {
        assert_eq!(told(name), expected, "{name}");
    }
    assert_eq!(run(&program, AUDIT_ARCH_AARCH64, u32::MAX, &[]).0, ENOSYS);
    assert_eq!(run(&program, AUDIT_ARCH_I386, 1, &[]).0, KILL);
}

#[test]
fn the_crate_names_this_architecture_as_the_kernel_does() {
    assert!(TargetArch::try_from(ARCH).is_ok());
    assert_eq!(compiled()[1].k, AUDIT_ARCH);
}
