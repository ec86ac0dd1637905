// Becoming somebody else: user ids, capabilities, set-uid files, device nodes, file handles.
#include "attack.h"
#include <grp.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

static long take_capabilities(void) {
  struct __user_cap_header_struct head = {_LINUX_CAPABILITY_VERSION_3, 0};
  struct __user_cap_data_struct all[2] = {{~0U, ~0U, ~0U}, {~0U, ~0U, ~0U}};
  return syscall(SYS_capset, &head, all);
}

ATTACK(rights) {
  TRY("setuid 0", syscall(SYS_setuid, 0L));
  TRY("setresuid 0", syscall(SYS_setresuid, 0L, 0L, 0L));
  TRY("setgid 0", syscall(SYS_setgid, 0L));
  TRY("setgroups 0", syscall(SYS_setgroups, 1L, &(gid_t){0}));
  // Never fails, but says who one was before: asked twice, it says who one is.
  TRY("setfsuid 0", (syscall(SYS_setfsuid, 0L), errno = EPERM, syscall(SYS_setfsuid, 0L) == 0 ? 0 : -1));
  TRY("capset", take_capabilities());
  TRY("ambient capability", prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_SYS_ADMIN, 0, 0));
  TRY("new privileges again", prctl(PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0));
  TRY("secure bits", prctl(PR_SET_SECUREBITS, SECBIT_KEEP_CAPS, 0, 0, 0));
  TRY("map of user ids", overwrite("/proc/self/uid_map"));
  TRY("raise the limit of descriptors", syscall(SYS_prlimit64, 0L, 7L, (uint64_t[]){1 << 20, 1 << 20}, NULL));
  TRY("raise the limit of processes", syscall(SYS_prlimit64, 0L, 6L, (uint64_t[]){1 << 20, 1 << 20}, NULL));
  TRY("real-time", sched_setscheduler(0, SCHED_FIFO, &(struct sched_param){1}));
  TRY("nice -20", syscall(SYS_setpriority, 0L, 0L, -20L));
  TRY("lock all memory", syscall(SYS_mlockall, 3L) < 0 ? -1 : mmap(NULL, 64 << 20, 3, 0x22, -1, 0) == MAP_FAILED ? -1 : 0);
}

static long make(const char *path, mode_t mode, dev_t dev) { return syscall(SYS_mknodat, AT_FDCWD, path, mode, dev); }

// By a name that is no path: the file system's own number of the host's root folder.
static long by_handle(void) {
  struct { struct file_handle head; uint32_t body[6]; } handle = {{8, 1, {}}, {2, 0}};
  return syscall(SYS_open_by_handle_at, open("/var/task", O_RDONLY), &handle, O_RDONLY);
}

ATTACK(nodes) {
  TRY("memory device", make("/tmp/mem", S_IFCHR | 0666, makedev(1, 1)));
  TRY("disk device", make("/tmp/disk", S_IFBLK | 0666, makedev(8, 0)));
  TRY("virtual disk device", make("/dev/shm/disk", S_IFBLK | 0666, makedev(254, 0)));
  TRY("null device", make("/tmp/null", S_IFCHR | 0666, makedev(1, 3)));
  TRY("whiteout", make("/tmp/whiteout", S_IFCHR, 0));
  TRY("open /dev/mem", open("/dev/mem", O_RDONLY));
  TRY("open /dev/kmsg", open("/dev/kmsg", O_RDONLY));
  TRY("open /dev/fuse", open("/dev/fuse", O_RDWR));
  TRY("open /dev/kvm", open("/dev/kvm", O_RDWR));
  TRY("open /dev/net/tun", open("/dev/net/tun", O_RDWR));
  TRY("open /dev/ptmx", open("/dev/ptmx", O_RDWR));
  TRY("open /dev/vda", open("/dev/vda", O_RDONLY));
  TRY("by handle", by_handle());
}

// A copy of this program that gives itself the set-uid bit, run: who is it? The marker makes main say so.
static long runs_as_itself(int fd) {
  char path[32];
  snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
  int from = open("/proc/self/exe", O_RDONLY | O_CLOEXEC), out[2];
  char buffer[65536];
  for (ssize_t n; (n = read(from, buffer, sizeof buffer)) > 0;)
    if (write(fd, buffer, n) != n) return -1;
  if (fchmod(fd, 06755) < 0 || pipe(out) < 0) return -1;
  // Writable files are not executed: by a second, read-only descriptor.
  int program = open(path, O_RDONLY | O_CLOEXEC);
  if (program < 0) return -1;
  close(fd);
  pid_t pid = fork();
  if (pid == 0) {
    dup2(out[1], 1);
    char *argv[] = {"attack", "whoami", NULL}, *environment[] = {NULL};
    syscall(SYS_execveat, program, "", argv, environment, AT_EMPTY_PATH);
    dprintf(1, "%s", word_of(errno));
    _exit(1);
  }
  close(out[1]);
  ssize_t n = read(out[0], buffer, sizeof buffer - 1);
  kill(pid, SIGKILL);
  if (n <= 0) return -1;
  buffer[n] = 0;
  char mine[64];
  snprintf(mine, sizeof mine, "%d %d %d %d\n", getuid(), getuid(), getgid(), getgid());
  if (strncmp(buffer, mine, strlen(mine)) == 0) return 0;
  errno = strcmp(buffer, "EPERM") == 0 || strcmp(buffer, "EACCES") == 0 ? EACCES : EOVERFLOW;
  return -1;
}

ATTACK(whoami) { printf("%d %d %d %d\n", getuid(), geteuid(), getgid(), getegid()); }

// Set-uid bits of one's own make one nobody but oneself (`done`: it ran as itself); those of others are not to be had.
ATTACK(set_uid_files) {
  TRY("own file runs as itself", runs_as_itself(open("/tmp/suid", O_RDWR | O_CREAT, 0755)));
  TRY("own memory runs as itself", runs_as_itself(memfd_create("suid", 0)));
  TRY("give it to root", (close(open("/tmp/root", O_RDWR | O_CREAT, 0755)), chown("/tmp/root", 0, 0)));
  TRY("file capabilities", setxattr("/tmp/root", "security.capability", "\1\0\0\2\377\377\377\377\0\0\0\0\377\377\377\377\0\0\0\0", 20, 0));
  TRY("trusted attribute", setxattr("/tmp/root", "trusted.x", "x", 1, 0));
  TRY("su", access("/usr/bin/su", F_OK));
  TRY("newuidmap", access("/usr/bin/newuidmap", F_OK));
  TRY("mount by set-uid", access("/usr/bin/mount", F_OK));
}
