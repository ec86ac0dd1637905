// What the attacks in C share. One program holds all of them; its first argument names the one to run, the others are `key=value`.
//
// An attack says what came of each thing it tried, one line each: `what: word`, where the word is `done`, an errno by name, or `SIGSYS` and
// the like when the try was the end of the process that tried it. After the last line it says `.` and sleeps: what it holds it goes on
// holding while the test looks after the victims.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

// An attack: a function that is found by its name.
struct attack {
  const char *name;
  void (*run)(void);
  struct attack *next;
};
extern struct attack *attacks;
#define ATTACK(id)                                                      \
  static void id(void);                                                 \
  static struct attack entry_##id = {#id, id, NULL};                    \
  __attribute__((constructor)) static void add_##id(void) {             \
    entry_##id.next = attacks;                                          \
    attacks = &entry_##id;                                              \
  }                                                                     \
  static void id(void)

// Tries an expression in a process of its own, so that neither its success nor its death touches the next try. Failure is a negative value.
#define TRY(what, expression)                                           \
  do {                                                                  \
    pid_t child_ = begin_try();                                         \
    if (child_ == 0) {                                                  \
      errno = 0;                                                        \
      long result_ = (long)(expression);                                \
      _exit(result_ < 0 ? errno : 0);                                   \
    }                                                                   \
    end_try(what, child_);                                              \
  } while (0)

pid_t begin_try(void);
void end_try(const char *what, pid_t child);
// A line of its own: `what: word`.
void say(const char *what, const char *word);
// The name of an errno; `done` for 0.
const char *word_of(int error);
// The argument `key`; it has to be there.
const char *argument(const char *key);
long number(const char *key);
// Opens for writing and writes one byte.
int overwrite(const char *path);
