// New namespaces, other namespaces, and the other doors into the kernel that lead to the same calls.
#include "attack.h"
#include <linux/sched.h>

static long clone_with(unsigned long flags) {
  long pid = syscall(SYS_clone, flags | SIGCHLD, NULL, NULL, NULL, NULL);
  if (pid == 0) _exit(0);
  return pid;
}

static long clone3_with(uint64_t flags, uint64_t cgroup) {
  struct clone_args how = {.flags = flags, .exit_signal = SIGCHLD, .cgroup = cgroup};
  long pid = syscall(SYS_clone3, &how, sizeof how);
  if (pid == 0) _exit(0);
  return pid;
}

static long enter(const char *path) {
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  return fd < 0 ? -1 : syscall(SYS_setns, fd, 0L);
}

// A user namespace makes its maker root in it: then a mount namespace, and twice pivot_root to shed the root that was given.
static long shed_the_root(void) {
  if (syscall(SYS_unshare, CLONE_NEWUSER | CLONE_NEWNS) < 0) return -1;
  if (syscall(SYS_mount, "none", "/tmp", "tmpfs", 0L, NULL) < 0) return -1;
  if (chdir("/tmp") < 0 || mkdir("old", 0700) < 0) return -1;
  if (syscall(SYS_pivot_root, ".", "old") < 0) return -1;
  return syscall(SYS_pivot_root, "old", "old");
}

ATTACK(namespaces) {
  TRY("unshare user", syscall(SYS_unshare, CLONE_NEWUSER));
  TRY("unshare mount", syscall(SYS_unshare, CLONE_NEWNS));
  TRY("unshare pid", syscall(SYS_unshare, CLONE_NEWPID));
  TRY("unshare network", syscall(SYS_unshare, CLONE_NEWNET));
  TRY("unshare ipc", syscall(SYS_unshare, CLONE_NEWIPC));
  TRY("unshare uts", syscall(SYS_unshare, CLONE_NEWUTS));
  TRY("unshare cgroup", syscall(SYS_unshare, CLONE_NEWCGROUP));
  TRY("unshare time", syscall(SYS_unshare, CLONE_NEWTIME));
  TRY("clone user", clone_with(CLONE_NEWUSER));
  TRY("clone user and network", clone_with(CLONE_NEWUSER | CLONE_NEWNET));
  TRY("clone user, high bits set", clone_with(CLONE_NEWUSER | 0xdead00000000UL));
  TRY("clone3 user", clone3_with(CLONE_NEWUSER, 0));
  TRY("clone3 user, mount and network", clone3_with(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWNET, 0));
  TRY("clone3 time", clone3_with(CLONE_NEWTIME, 0));
  TRY("two roots shed", shed_the_root());
}

ATTACK(other_namespaces) {
  TRY("mount of 1", enter("/proc/1/ns/mnt"));
  TRY("user of 1", enter("/proc/1/ns/user"));
  TRY("own mount", enter("/proc/self/ns/mnt"));
  TRY("own network", enter("/proc/self/ns/net"));
  TRY("own user", enter("/proc/self/ns/user"));
  TRY("all of 1", syscall(SYS_setns, syscall(SYS_pidfd_open, 1L, 0L), (long)(CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWPID)));
  // NS_GET_USERNS and NS_GET_PARENT: a descriptor of the namespace above.
  TRY("owner of the own mounts", ioctl(open("/proc/self/ns/mnt", O_RDONLY), 0xb701));
  TRY("parent of the own user", ioctl(open("/proc/self/ns/user", O_RDONLY), 0xb702));
}

#ifdef __x86_64__
// The 32-bit system call table, reached from 64-bit code. Its numbers are others, so a filter by number alone lets it pass.
static long by_int80(long call, long a, long b, long c) {
  long result;
  __asm__ volatile("int $0x80" : "=a"(result) : "a"(call), "b"(a), "c"(b), "d"(c) : "memory", "r8", "r9", "r10", "r11");
  if (result >= 0 || result < -4095) return result;
  errno = (int)-result;
  return -1;
}
#endif

ATTACK(doors) {
#ifdef __x86_64__
  TRY("int80 unshare", by_int80(310, CLONE_NEWUSER, 0, 0));
  TRY("int80 ptrace", by_int80(26, 0 /* PTRACE_TRACEME */, 0, 0));
  TRY("int80 personality", by_int80(136, 0x0400000, 0, 0));
  TRY("int80 getpid", by_int80(20, 0, 0, 0));
  TRY("x32 unshare", syscall(0x40000000L + SYS_unshare, CLONE_NEWUSER));
  TRY("x32 ptrace", syscall(0x40000000L + 521, 0L, 0L, 0L, 0L));
  TRY("x32 getpid", syscall(0x40000000L + SYS_getpid));
#endif
  TRY("no such call", syscall(100000L));
}
