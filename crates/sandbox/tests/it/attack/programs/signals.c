// Signals and scheduling of processes that are not one's own: the first process of the sandbox, and the daemon by the number that it has on the host.
#include "attack.h"
#include <sys/resource.h>

static long by_pidfd(long pid, int signal) {
  long fd = syscall(SYS_pidfd_open, pid, 0L);
  return fd < 0 ? -1 : syscall(SYS_pidfd_send_signal, fd, signal, NULL, 0L);
}

static long of_others(long pid, int signal) {
  siginfo_t info = {.si_signo = signal, .si_code = SI_QUEUE};
  return syscall(SYS_rt_sigqueueinfo, pid, signal, &info);
}

ATTACK(signals) {
  long daemon = number("daemon");
  TRY("stop 1", kill(1, SIGSTOP));
  TRY("kill 1", kill(1, SIGKILL));
  TRY("stop 1 by pidfd", by_pidfd(1, SIGSTOP));
  TRY("kill 1 by pidfd", by_pidfd(1, SIGKILL));
  TRY("kill the thread of 1", syscall(SYS_tgkill, 1L, 1L, (long)SIGKILL));
  TRY("kill the daemon", kill(daemon, SIGKILL));
  TRY("kill the daemon by pidfd", by_pidfd(daemon, SIGKILL));
  TRY("kill the daemon's thread", syscall(SYS_tkill, daemon, (long)SIGKILL));
  TRY("queue to the daemon", of_others(daemon, SIGTERM));
  TRY("kill the daemon's group", kill(-daemon, SIGKILL));
  TRY("kill the parent outside", kill(0, 0) < 0 ? -1 : kill(-1, 0));
  TRY("the daemon's limits", syscall(SYS_prlimit64, daemon, (long)RLIMIT_NOFILE, &(struct rlimit){3, 3}, NULL));
  TRY("the limits of 1", syscall(SYS_prlimit64, 1L, (long)RLIMIT_CPU, &(struct rlimit){1, 1}, NULL));
  TRY("the daemon's priority", setpriority(PRIO_PROCESS, daemon, 19));
  TRY("the daemon's processors", syscall(SYS_sched_setaffinity, daemon, 8L, &(long){1}));
}

// What can be told about others without touching them.
ATTACK(sight) {
  long daemon = number("daemon");
  TRY("session of the daemon", getsid(daemon));
  TRY("group of the daemon", getpgid(daemon));
  TRY("processors of the daemon", syscall(SYS_sched_getaffinity, daemon, 8L, &(long){0}));
  TRY("scheduler of the daemon", sched_getscheduler(daemon));
  TRY("handle of the daemon", syscall(SYS_pidfd_open, daemon, 0L));
}

// The last one: everything that can be reached, the runtime and this process among it.
ATTACK(kill_all) {
  kill(-1, SIGKILL);
  _exit(0);
}

// Stops whatever runs, itself among it, so that nothing can hear of the deadline.
ATTACK(stop_all) {
  kill(-1, SIGSTOP);
  raise(SIGSTOP);
}

// Grandchildren in sessions of their own, some stopped, none of which heeds a signal.
ATTACK(deaf) {
  for (int i = 0; i < 20; i++) {
    if (fork() != 0) continue;
    setsid();
    if (fork() != 0) _exit(0);
    for (int s = 1; s < 65; s++) signal(s, SIG_IGN);
    if (i % 2) raise(SIGSTOP);
    for (;;) ;
  }
  for (;;) pause();
}

// Spins in more processes than there are processors, each a session of its own and scheduled as eagerly as it may be, and goes on.
ATTACK(hog) {
  for (int i = 0; i < 64; i++) {
    if (fork() != 0) continue;
    setsid();
    sched_setscheduler(0, SCHED_OTHER, &(struct sched_param){0});
    for (;;) ;
  }
  TRY("more than its weight", setpriority(PRIO_PROCESS, 0, -5));
  TRY("ahead of all", sched_setscheduler(0, SCHED_RR, &(struct sched_param){1}));
}
