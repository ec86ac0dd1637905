/*
 * A runtime that does nothing, for `cargo x bench sandbox`: linked statically, it needs nothing of the host, so that its start is the
 * jail's and the kernel's alone. It passes for Node.js when it is asked for its version, and it speaks runtimes/PROTOCOL.md as far
 * as a start goes: HELLO and READY at once, then it waits until the daemon goes away.
 *
 * In the sandbox it has arguments and its socket is descriptor 3; bare, it has none and its socket is standard output.
 */
#include <string.h>
#include <unistd.h>

static const unsigned char FRAMES[16] = {
    0, 0, 0, 0, /* HELLO */ 16, 0, 0, 0,
    0, 0, 0, 0, /* READY */ 17, 0, 0, 0,
};

int main(int argc, char **argv)
{
    static const char VERSION[] = "v20.0.0\n";
    char rest[4096];
    int fd = argc > 1 ? 3 : 1;

    if (argc > 1 && strcmp(argv[1], "--version") == 0)
        return write(1, VERSION, sizeof VERSION - 1) != sizeof VERSION - 1;
    if (write(fd, FRAMES, sizeof FRAMES) != sizeof FRAMES)
        return 1;
    while (read(fd, rest, sizeof rest) > 0)
        ;
    return 0;
}
