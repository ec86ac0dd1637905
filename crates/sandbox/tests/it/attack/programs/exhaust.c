// Takes all there is of what the kernel counts, and keeps it.
//
// Says by which error it ended. How much it got is not said: what counts is what the neighbour and the host can still get.
#include "attack.h"
#include <mqueue.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <time.h>

// A bound for what has no end within the limits of a process.
enum { MANY = 200000, PROCESSES = 8 };

// Takes until it fails; the word is that of the first failure.
#define TAKE(what, expression)                                          \
  do {                                                                  \
    int taken_ = 0;                                                     \
    errno = 0;                                                          \
    while (taken_ < MANY && (long)(expression) >= 0) taken_++;          \
    say(what, taken_ == MANY ? "no end" : word_of(errno));              \
  } while (0)

ATTACK(inotify) {
  int fd = -1;
  TAKE("instances", (fd = inotify_init1(IN_CLOEXEC)) < 0 ? -1 : inotify_add_watch(fd, "/tmp", IN_ALL_EVENTS));
}

// More than one process, for each has its own limit of descriptors.
ATTACK(descriptors) {
  for (int i = 0; i < PROCESSES; i++) {
    if (fork() != 0) continue;
    while (eventfd(0, 0) >= 0) {}
    for (;;) pause();
  }
  TAKE("a hundred thousand", open("/tmp", O_RDONLY));
}

ATTACK(pipes) {
  for (int i = 0; i < PROCESSES; i++) {
    if (fork() != 0) continue;
    int p[2];
    char page[65536] = {0};
    while (pipe2(p, O_NONBLOCK) == 0) {
      fcntl(p[1], F_SETPIPE_SZ, 1 << 20);
      while (write(p[1], page, sizeof page) > 0) {}
    }
    for (;;) pause();
  }
  int p[2];
  TAKE("pipes", pipe(p));
}

ATTACK(sockets) {
  for (int i = 0; i < PROCESSES; i++) {
    if (fork() != 0) continue;
    int p[2];
    char page[65536] = {0};
    while (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, p) == 0) {
      while (write(p[1], page, sizeof page) > 0) {}
    }
    for (;;) pause();
  }
  TAKE("sockets", socket(AF_INET, SOCK_STREAM, 0));
}

// A descriptor sent and not yet received counts for nobody's table: sockets in sockets.
ATTACK(in_flight) {
  for (int round = 0; round < 64; round++) {
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, pair) < 0) break;
    int fds[200];
    for (int i = 0; i < 200; i++) fds[i] = pair[0];
    char space[CMSG_SPACE(sizeof fds)] = {0};
    struct iovec byte = {"x", 1};
    struct msghdr message = {.msg_iov = &byte, .msg_iovlen = 1, .msg_control = space, .msg_controllen = sizeof space};
    struct cmsghdr *head = CMSG_FIRSTHDR(&message);
    *head = (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof fds)};
    memcpy(CMSG_DATA(head), fds, sizeof fds);
    while (sendmsg(pair[1], &message, MSG_NOSIGNAL) >= 0) {}
    if (errno == ETOOMANYREFS) break;
  }
  say("descriptors in flight", word_of(errno));
}

ATTACK(timers) {
  timer_t timer;
  struct sigevent silent = {.sigev_notify = SIGEV_NONE};
  TAKE("timers", timer_create(CLOCK_MONOTONIC, &silent, &timer));
}

// Signals that nobody takes.
ATTACK(queued_signals) {
  sigset_t all;
  sigfillset(&all);
  sigprocmask(SIG_BLOCK, &all, NULL);
  TAKE("queued signals", sigqueue(getpid(), SIGRTMIN + 1, (union sigval){0}));
}

ATTACK(queues) {
  char name[32];
  int n = 0;
  struct mq_attr large = {.mq_maxmsg = 10, .mq_msgsize = 8192};
  TAKE("message queues", (snprintf(name, sizeof name, "/q%d", n++), mq_open(name, O_RDWR | O_CREAT, 0600, &large)));
  TAKE("old message queues", msgget(IPC_PRIVATE, 0600 | IPC_CREAT));
  TAKE("semaphores", semget(IPC_PRIVATE, 250, 0600 | IPC_CREAT));
}

ATTACK(locks) {
  int fd = open("/tmp/locks", O_RDWR | O_CREAT, 0600);
  long at = 0;
  // Every second byte: ranges that touch would become one.
  TAKE("locks", (at += 2, fcntl(fd, F_SETLK, &(struct flock){.l_type = F_WRLCK, .l_start = at, .l_len = 1})));
}

ATTACK(locked_memory) {
  TAKE("locked memory", syscall(SYS_mlock2, mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), 1L << 20, 0L));
  TAKE("huge pages", mmap(NULL, 2 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | MAP_POPULATE, -1, 0) == MAP_FAILED ? -1 : 0);
}

ATTACK(tiny_files) {
  char name[64];
  long made = 0;
  for (; made < 1000000; made++) {
    if (made % 10000 == 0) {
      snprintf(name, sizeof name, "/tmp/%ld", made / 10000);
      if (mkdir(name, 0700) < 0) break;
    }
    snprintf(name, sizeof name, "/tmp/%ld/%ld", made / 10000, made);
    int fd = open(name, O_CREAT | O_WRONLY, 0600);
    if (fd < 0) break;
    close(fd);
  }
  say("tiny files", made == 1000000 ? "no end" : word_of(errno));
}

// Processes until there are no more, each of which does the same.
ATTACK(forks) {
  for (;;) fork();
}

// ---- memory of every kind, up to a bound well above the limit: a host that has no defence has other guests

enum { MEGABYTE = 1 << 20, MOST_MB = 600 };

// Takes and touches until the bound; what fails says so, and who is killed says nothing.
static void take(void *(*more)(void)) {
  for (int taken_mb = 0; taken_mb < MOST_MB; taken_mb++) {
    void *at = more();
    if (at == MAP_FAILED) {
      say("memory", word_of(errno));
      return;
    }
    memset(at, 'x', MEGABYTE);
  }
  say("memory", "no end");
}

static void take_by_file(int fd) {
  static char block[MEGABYTE];
  memset(block, 'x', sizeof block);
  for (int taken_mb = 0; taken_mb < MOST_MB; taken_mb++) {
    if (write(fd, block, sizeof block) < 0) {
      say("memory", word_of(errno));
      return;
    }
  }
  say("memory", "no end");
}

static void *private_map(void) { return mmap(NULL, MEGABYTE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); }
static void *shared_map(void) { return mmap(NULL, MEGABYTE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0); }
static void *sysv_map(void) {
  int id = shmget(IPC_PRIVATE, MEGABYTE, 0600 | IPC_CREAT);
  return id < 0 ? MAP_FAILED : shmat(id, NULL, 0);
}

ATTACK(anonymous_memory) { take(private_map); }
ATTACK(shared_memory) { take(shared_map); }
ATTACK(sysv_memory) { take(sysv_map); }
ATTACK(tmpfs_memory) { take_by_file(open("/tmp/memory", O_CREAT | O_WRONLY, 0600)); }
ATTACK(shm_memory) { take_by_file(open("/dev/shm/memory", O_CREAT | O_WRONLY, 0600)); }
ATTACK(memfd_memory) { take_by_file(memfd_create("memory", 0)); }

// No process of many is above any limit of a single one.
ATTACK(spread_memory) {
  enum { PARTS = 24 };
  int full[2];
  char byte = 'x';
  if (pipe(full) < 0) _exit(1);
  for (int i = 0; i < PARTS; i++) {
    if (fork() != 0) continue;
    for (int taken_mb = 0; taken_mb < 16; taken_mb++) memset(private_map(), 'x', MEGABYTE);
    if (write(full[1], &byte, 1) < 0) _exit(1);
    for (;;) pause();
  }
  close(full[1]);
  int parts = 0;
  while (parts < PARTS && read(full[0], &byte, 1) == 1) parts++;
  say("memory", parts == PARTS ? "no end" : "less");
}

// Page cache of what is on the disk: reclaimed under pressure, so it ends nobody.
ATTACK(page_cache) {
  char block[65536];
  for (int round = 0; round < 64; round++) {
    int fd = open("/var/task/attack", O_RDONLY);
    posix_fadvise(fd, 0, 0, POSIX_FADV_WILLNEED);
    while (read(fd, block, sizeof block) > 0) {}
    close(fd);
  }
  say("page cache", "done");
}

// What a well-behaved neighbour needs of each of these.
ATTACK(well) {
  timer_t timer;
  struct sigevent silent = {.sigev_notify = SIGEV_NONE};
  int p[2];
  signal(SIGUSR1, SIG_IGN);
  TRY("inotify", inotify_add_watch(inotify_init1(0), "/tmp", IN_ALL_EVENTS));
  TRY("timer", timer_create(CLOCK_MONOTONIC, &silent, &timer));
  TRY("signal", sigqueue(getpid(), SIGUSR1, (union sigval){0}));
  TRY("pipe", pipe(p));
  TRY("large pipe", pipe(p) < 0 ? -1 : fcntl(p[1], F_SETPIPE_SZ, 1 << 18));
  TRY("pair", socketpair(AF_UNIX, SOCK_STREAM, 0, p));
  TRY("epoll", epoll_create1(0));
  TRY("eventfd", eventfd(0, 0));
  TRY("lock", flock(open("/tmp/lock", O_CREAT | O_RDWR, 0600), LOCK_EX));
  TRY("file", write(open("/tmp/file", O_CREAT | O_RDWR, 0600), "x", 1));
  TRY("memory", mmap(NULL, 4 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0) == MAP_FAILED ? -1 : 0);
}
