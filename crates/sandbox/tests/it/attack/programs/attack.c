// Finds the attack and runs it; how a try is reported.
#include "attack.h"

struct attack *attacks;
static char **arguments;

const char *word_of(int error) {
  return error == 0 ? "done" : strerrorname_np(error);
}

void say(const char *what, const char *word) {
  printf("%s: %s\n", what, word);
  fflush(stdout);
}

pid_t begin_try(void) {
  pid_t child = fork();
  if (child < 0) {
    perror("fork of a try");
    exit(99);
  }
  return child;
}

void end_try(const char *what, pid_t child) {
  int status;
  while (waitpid(child, &status, 0) < 0) {
    if (errno != EINTR) exit(98);
  }
  if (WIFSIGNALED(status)) {
    char word[32];
    snprintf(word, sizeof word, "SIG%s", sigabbrev_np(WTERMSIG(status)));
    say(what, word);
  } else {
    say(what, word_of(WEXITSTATUS(status)));
  }
}

const char *argument(const char *key) {
  size_t length = strlen(key);
  for (char **a = arguments; *a; a++) {
    if (strncmp(*a, key, length) == 0 && (*a)[length] == '=') return *a + length + 1;
  }
  fprintf(stderr, "no argument %s\n", key);
  exit(97);
}

long number(const char *key) { return atol(argument(key)); }

int overwrite(const char *path) {
  int fd = open(path, O_WRONLY | O_CLOEXEC);
  if (fd < 0) return -1;
  return write(fd, "1", 1) == 1 ? 0 : -1;
}

int main(int argc, char **argv) {
  if (argc < 2) return 96;
  arguments = argv + 2;
  for (struct attack *a = attacks; a; a = a->next) {
    if (strcmp(a->name, argv[1]) != 0) continue;
    a->run();
    puts(".");
    fflush(stdout);
    for (;;) pause();
  }
  fprintf(stderr, "no attack %s\n", argv[1]);
  return 95;
}
