// System calls that no function needs and that reach far into the kernel: by number, for libc wraps few of them.
#include "attack.h"
#include <linux/bpf.h>
#include <linux/perf_event.h>
#include <sys/ptrace.h>
#include <sys/timex.h>
#include <sys/uio.h>

ATTACK(mounts) {
  TRY("mount tmpfs", syscall(SYS_mount, "none", "/tmp", "tmpfs", 0L, NULL));
  TRY("mount proc", syscall(SYS_mount, "none", "/tmp", "proc", 0L, NULL));
  TRY("bind", syscall(SYS_mount, "/", "/tmp", NULL, 4096L /* MS_BIND */, NULL));
  TRY("remount code", syscall(SYS_mount, NULL, "/var/task", NULL, 4096L | 32 /* MS_REMOUNT */, NULL));
  TRY("unmask proc", syscall(SYS_umount2, "/proc/sys", 2L /* MNT_DETACH */));
  TRY("umount code", syscall(SYS_umount2, "/var/task", 2L));
  TRY("umount root", syscall(SYS_umount2, "/", 2L));
  TRY("pivot_root", syscall(SYS_pivot_root, ".", "."));
  TRY("chroot", syscall(SYS_chroot, "/tmp"));
  TRY("open_tree", syscall(SYS_open_tree, AT_FDCWD, "/", 1L /* OPEN_TREE_CLONE */));
  TRY("move_mount", syscall(SYS_move_mount, AT_FDCWD, "/tmp", AT_FDCWD, "/opt", 0L));
  TRY("fsopen", syscall(SYS_fsopen, "tmpfs", 0L));
  TRY("fspick", syscall(SYS_fspick, AT_FDCWD, "/", 0L));
  TRY("mount_setattr", syscall(SYS_mount_setattr, AT_FDCWD, "/", 0x8000L, (uint64_t[]){0, 1, 0, 0}, 32L));
  TRY("swapon", syscall(SYS_swapon, "/tmp/x", 0L));
  TRY("swapoff", syscall(SYS_swapoff, "/tmp/x"));
  TRY("quotactl", syscall(SYS_quotactl, 0x80000100L, "/", 0L, NULL));
}

ATTACK(kernel) {
  union bpf_attr map = {.map_type = BPF_MAP_TYPE_ARRAY, .key_size = 4, .value_size = 4, .max_entries = 1};
  TRY("bpf", syscall(SYS_bpf, BPF_MAP_CREATE, &map, sizeof map));
  struct perf_event_attr event = {.type = PERF_TYPE_SOFTWARE, .size = sizeof event, .config = PERF_COUNT_SW_CPU_CLOCK, .exclude_kernel = 1};
  TRY("perf_event_open", syscall(SYS_perf_event_open, &event, 0, -1, -1, 0L));
  char ring[120] = {0};
  TRY("io_uring_setup", syscall(SYS_io_uring_setup, 4L, ring));
  TRY("userfaultfd", syscall(SYS_userfaultfd, 1L /* UFFD_USER_MODE_ONLY */));
  TRY("kexec_load", syscall(SYS_kexec_load, 0L, 0L, NULL, 0L));
  TRY("init_module", syscall(SYS_init_module, "", 0L, ""));
  TRY("finit_module", syscall(SYS_finit_module, 0L, "", 0L));
  TRY("delete_module", syscall(SYS_delete_module, "x", 0L));
  TRY("fanotify_init", syscall(SYS_fanotify_init, 0L, 0L));
  TRY("syslog", syscall(SYS_syslog, 3L, ring, (long)sizeof ring));
  TRY("acct", syscall(SYS_acct, "/tmp/x"));
  TRY("reboot", syscall(SYS_reboot, 0xfee1deadL, 672274793L, 0L /* CAD off: the mildest */, NULL));
  TRY("vhangup", syscall(SYS_vhangup));
  TRY("personality", syscall(SYS_personality, 0x0400000L /* READ_IMPLIES_EXEC */));
#ifdef __x86_64__
  TRY("iopl", syscall(SYS_iopl, 3L));
  TRY("ioperm", syscall(SYS_ioperm, 0x80L, 1L, 1L));
  TRY("modify_ldt", syscall(SYS_modify_ldt, 0x11L, ring, 16L));
#endif
}

ATTACK(keys) {
  TRY("add_key", syscall(SYS_add_key, "user", "hanshu", "x", 1L, -3L /* session */));
  TRY("request_key", syscall(SYS_request_key, "user", "hanshu", NULL, -3L));
  TRY("keyctl join", syscall(SYS_keyctl, 1L, "hanshu"));
  TRY("keyctl user", syscall(SYS_keyctl, 0L, -4L, 1L));
}

ATTACK(tracing) {
  char there[16];
  struct iovec to = {there, sizeof there}, from = {(void *)&attacks, sizeof there};
  long runtime = getppid();
  TRY("attach 1", syscall(SYS_ptrace, PTRACE_ATTACH, 1L, NULL, NULL));
  TRY("seize 1", syscall(SYS_ptrace, PTRACE_SEIZE, 1L, NULL, NULL));
  TRY("read 1", syscall(SYS_process_vm_readv, 1L, &to, 1L, &from, 1L, 0L));
  TRY("write 1", syscall(SYS_process_vm_writev, 1L, &to, 1L, &from, 1L, 0L));
  TRY("traceme", syscall(SYS_ptrace, PTRACE_TRACEME, 0L, NULL, NULL));
  TRY("attach the runtime", syscall(SYS_ptrace, PTRACE_ATTACH, runtime, NULL, NULL));
  TRY("read the runtime", syscall(SYS_process_vm_readv, runtime, &to, 1L, &from, 1L, 0L));
  TRY("kcmp 1", syscall(SYS_kcmp, 1L, (long)getpid(), 0L, 0L, 0L));
  TRY("take descriptor 4 of 1", syscall(SYS_pidfd_getfd, syscall(SYS_pidfd_open, 1L, 0L), 4L, 0L));
  TRY("move the pages of 1", syscall(SYS_migrate_pages, 1L, 8L, &(long){1}, &(long){1}));
}

ATTACK(clocks) {
  struct timespec then = {1, 0};
  struct timeval then_too = {1, 0};
  struct timex tick = {.modes = ADJ_TICK, .tick = 11000};
  TRY("clock_settime", syscall(SYS_clock_settime, 0L, &then));
  TRY("settimeofday", syscall(SYS_settimeofday, &then_too, NULL));
  TRY("adjtimex", syscall(SYS_adjtimex, &tick));
  TRY("clock_adjtime", syscall(SYS_clock_adjtime, 0L, &tick));
  TRY("sethostname", syscall(SYS_sethostname, "mine", 4L));
  TRY("setdomainname", syscall(SYS_setdomainname, "mine", 4L));
}
