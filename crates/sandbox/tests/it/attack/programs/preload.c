// Loaded into every program that the function's environment reaches (`LD_PRELOAD`): the earliest code of the function in any process. Writes down who
// it is in and what that process is allowed.
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

__attribute__((constructor)) static void loaded(void) {
  char status[4096] = {0}, line[128];
  int from = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
  int to = open("/tmp/preloaded", O_CREAT | O_WRONLY | O_APPEND | O_CLOEXEC, 0600);
  if (from < 0 || to < 0 || read(from, status, sizeof status - 1) < 0) _exit(90);
  const char *privileges = strstr(status, "NoNewPrivs:\t"), *filter = strstr(status, "Seccomp:\t"), *rights = strstr(status, "CapEff:\t");
  int allowed = !privileges || privileges[12] != '1' || !filter || filter[9] != '2' || !rights || strncmp(rights + 8, "0000000000000000", 16) != 0;
  snprintf(line, sizeof line, "process %d: %s\n", getpid(), allowed ? "not locked in" : "locked in");
  if (write(to, line, strlen(line)) < 0) _exit(91);
  close(from);
  close(to);
}
