// `/proc`, the terminal, and one's own memory as ways out.
#include "attack.h"
#include <sys/mount.h>
#include <termios.h>

// What is empty tells nothing: `ENODATA`. A file may be masked so.
static int readable(const char *path) {
  char byte;
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return -1;
  ssize_t n = read(fd, &byte, 1);
  if (n == 0) errno = ENODATA;
  return n == 1 ? 0 : -1;
}

static int lower_score(void) {
  int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
  return fd < 0 ? -1 : write(fd, "-1000", 5) == 5 ? 0 : -1;
}

ATTACK(first_process) {
  char target[256];
  TRY("environ", readable("/proc/1/environ"));
  TRY("mem", readable("/proc/1/mem"));
  TRY("maps", readable("/proc/1/maps"));
  TRY("root", readable("/proc/1/root/etc/passwd"));
  TRY("cwd", readable("/proc/1/cwd/."));
  TRY("exe", readlink("/proc/1/exe", target, sizeof target));
  TRY("descriptor 4", readable("/proc/1/fd/4"));
  TRY("descriptors", access("/proc/1/fd/.", R_OK) < 0 ? -1 : open("/proc/1/fd", O_RDONLY));
  TRY("stack", readable("/proc/1/stack"));
  TRY("system call", readable("/proc/1/syscall"));
  TRY("auxv", readable("/proc/1/auxv"));
  TRY("namespace", readlink("/proc/1/ns/mnt", target, sizeof target));
  TRY("write mem", overwrite("/proc/1/mem"));
  TRY("kill me last", overwrite("/proc/1/oom_score_adj"));
  TRY("thread", readable("/proc/1/task/1/mem"));
  TRY("spawner above", readable("/proc/0/environ"));
}

// Where the kernel's knobs are, and where its secrets.
ATTACK(knobs) {
  TRY("core_pattern", overwrite("/proc/sys/kernel/core_pattern"));
  TRY("modprobe", overwrite("/proc/sys/kernel/modprobe"));
  TRY("host name", overwrite("/proc/sys/kernel/hostname"));
  TRY("next pid", overwrite("/proc/sys/kernel/ns_last_pid"));
  TRY("shared memory", overwrite("/proc/sys/kernel/shmmax"));
  TRY("drop caches", overwrite("/proc/sys/vm/drop_caches"));
  TRY("overcommit", overwrite("/proc/sys/vm/overcommit_memory"));
  TRY("forwarding", overwrite("/proc/sys/net/ipv4/ip_forward"));
  TRY("user namespaces", overwrite("/proc/sys/user/max_user_namespaces"));
  TRY("binary formats", overwrite("/proc/sys/fs/binfmt_misc/register"));
  TRY("sysrq", overwrite("/proc/sysrq-trigger"));
  TRY("interrupts", overwrite("/proc/irq/default_smp_affinity"));
  TRY("release_agent", overwrite("/sys/fs/cgroup/release_agent"));
  TRY("release_agent v1", overwrite("/sys/fs/cgroup/memory/release_agent"));
  TRY("uevent helper", overwrite("/sys/kernel/uevent_helper"));
  TRY("security", overwrite("/sys/kernel/security/lockdown"));
  TRY("debug", readable("/sys/kernel/debug/."));
  TRY("less likely to be killed", lower_score());
  TRY("kernel memory", readable("/proc/kcore"));
  TRY("kernel log", readable("/proc/kmsg"));
  TRY("page counts", readable("/proc/kpagecount"));
  TRY("timers of all", readable("/proc/timer_list"));
  TRY("keys", readable("/proc/keys"));
  TRY("slabs", readable("/proc/slabinfo"));
  TRY("memory of slabs", readable("/proc/vmallocinfo"));
}

// Each of these is read only, also by the back door of a shared map or of one's own `/proc`.
ATTACK(own_code) {
  TRY("code", overwrite("/var/task/attack"));
  TRY("new code", open("/var/task/new", O_CREAT | O_WRONLY, 0644));
  TRY("unlink code", unlink("/var/task/attack"));
  TRY("rename code", rename("/var/task/attack", "/var/task/other"));
  TRY("mode of code", chmod("/var/task/attack", 0777));
  TRY("link code", link("/var/task/attack", "/tmp/attack"));
  TRY("own executable", overwrite("/proc/self/exe"));
  TRY("runtime's executable", overwrite("/proc/2/exe"));
  const char *java = "/var/runtime/java/hanshu/Main.class";
  TRY("bootstrap", overwrite(access(java, F_OK) ? "/var/runtime/python/bootstrap.py" : java));
  TRY("etc", overwrite("/etc/passwd"));
  TRY("resolver", overwrite("/etc/resolv.conf"));
  TRY("layers", open("/opt/x", O_CREAT | O_WRONLY, 0644));
  TRY("root", mkdir("/x", 0700));
  TRY("devices", mkdir("/dev/x", 0700));
  TRY("unnamed file", open("/var/task", O_TMPFILE | O_WRONLY, 0600));
  TRY("shared map", mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, open("/var/task/attack", O_RDONLY), 0) == MAP_FAILED ? -1 : 0);
  TRY("times of code", utimensat(AT_FDCWD, "/var/task/attack", NULL, 0));
  TRY("attribute of code", syscall(SYS_setxattr, "/var/task/attack", "user.x", "x", 1L, 0L));
}

// A layer lies on the host's disk once, however many functions have it: what is written to one is written to all.
ATTACK(layers) {
  char other[4096];
  TRY("file", overwrite("/opt/shared"));
  TRY("cut a file", truncate("/opt/shared", 0));
  TRY("new file", open("/opt/new", O_CREAT | O_WRONLY, 0644));
  TRY("new folder", mkdir("/opt/folder", 0755));
  TRY("unlink", unlink("/opt/shared"));
  TRY("rename", rename("/opt/own", "/opt/shared"));
  TRY("mode", chmod("/opt/shared", 0777));
  TRY("mode of the folder", chmod("/opt", 0777));
  TRY("owner", chown("/opt/shared", getuid(), getgid()));
  TRY("times", utimensat(AT_FDCWD, "/opt/shared", NULL, 0));
  TRY("link", link("/opt/shared", "/tmp/shared"));
  TRY("unnamed file", open("/opt", O_TMPFILE | O_WRONLY, 0600));
  TRY("shared map", mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, open("/opt/shared", O_RDONLY), 0) == MAP_FAILED ? -1 : 0);
  TRY("open again", overwrite("/proc/self/cwd/../../opt/shared"));
  TRY("remount", mount(NULL, "/opt", NULL, MS_REMOUNT | MS_BIND, NULL));
  TRY("unmount", umount2("/opt", MNT_DETACH));
  TRY("mount over it", mount("tmpfs", "/opt", "tmpfs", 0, NULL));
  for (const char *const *at = (const char *const[]){"packages", "merged", "drafts", NULL}; *at; at++) {
    snprintf(other, sizeof other, "%s/cache/%s", argument("folder"), *at);
    TRY(*at, open(other, O_RDONLY));
    snprintf(other, sizeof other, "/opt/../../%s", *at);
    TRY(*at, open(other, O_RDONLY));
  }
  TRY("the other function's", open("/opt/secret", O_RDONLY));
}

ATTACK(terminal) {
  char byte = 'x';
  TRY("push into 0", ioctl(0, TIOCSTI, &byte));
  TRY("push into 1", ioctl(1, TIOCSTI, &byte));
  TRY("paste", ioctl(0, TIOCLINUX, &byte));
  TRY("take the terminal", ioctl(0, TIOCSCTTY, 1));
  TRY("console", ioctl(0, TIOCCONS));
  TRY("own terminal", open("/dev/tty", O_RDWR));
  TRY("console device", open("/dev/console", O_RDWR));
  TRY("first terminal", open("/dev/tty1", O_RDWR));
}
