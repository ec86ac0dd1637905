/* The smallest function in C: the Runtime API of AWS Lambda by hand, on one connection, in HTTP/1.1. */

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

#define API "/2018-06-01/runtime/invocation/"

static FILE *in, *out;

/* Connects to where AWS_LAMBDA_RUNTIME_API says: ADDRESS:PORT. */
static int connect_to_api(void)
{
    char host[64] = "";
    unsigned port = 0;
    const char *api = getenv("AWS_LAMBDA_RUNTIME_API");
    if (!api || sscanf(api, "%63[^:]:%u", host, &port) != 2)
        return 0;
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(port) };
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0 || inet_pton(AF_INET, host, &address.sin_addr) != 1)
        return 0;
    if (connect(fd, (struct sockaddr *)&address, sizeof address) != 0)
        return 0;
    in = fdopen(fd, "r");
    out = fdopen(fd, "w");
    return in && out;
}

/* Reads a response: its body, to be freed, and the id of the call if it is one. */
static char *response(char id[64])
{
    char line[8192];
    size_t length = 0;
    while (fgets(line, sizeof line, in) && strcmp(line, "\r\n") != 0) {
        if (strncasecmp(line, "content-length:", 15) == 0)
            length = strtoul(line + 15, NULL, 10);
        sscanf(line, "%*[Ll]ambda-%*[Rr]untime-%*[Aa]ws-%*[Rr]equest-%*[Ii]d: %63s", id);
    }
    char *body = malloc(length + 1);
    if (!body || fread(body, 1, length, in) != length)
        exit(1);
    body[length] = 0;
    return body;
}

int main(void)
{
    if (!connect_to_api())
        return 1;
    for (;;) {
        char id[64] = "";
        fprintf(out, "GET " API "next HTTP/1.1\r\nhost: runtime\r\n\r\n");
        fflush(out);
        char *event = response(id);
        printf("call %s\n", id);
        fflush(stdout);
        fprintf(out, "POST " API "%s/response HTTP/1.1\r\nhost: runtime\r\n", id);
        fprintf(out, "content-length: %zu\r\n\r\n{\"received\":%s}", strlen(event) + 13, event);
        fflush(out);
        free(event);
        free(response(id));
    }
}
