/* As `bootstrap` a runtime in plain C; under another name one request of it: METHOD PATH [BODY], which prints the call's id, its deadline and the
   body where there are such. */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#define API "/2018-06-01/runtime"
#define ERROR "{\"errorType\":\"C.Error\",\"errorMessage\":\"not today\"}"

static char answer[65536];

/* Sends a request on a connection of its own, and returns the body of what comes back. */
static char *request(const char *method, const char *path, const char *body)
{
    char head[512], host[64];
    const char *address = getenv("AWS_LAMBDA_RUNTIME_API");
    int port = 0;
    if (!address || sscanf(address, "%63[^:]:%d", host, &port) != 2)
        exit(2);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
    inet_pton(AF_INET, host, &to.sin_addr);
    int at = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(at, (struct sockaddr *)&to, sizeof to) < 0)
        exit(3);
    snprintf(head, sizeof head, "%s %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\nContent-Length: %zu\r\n\r\n", method,
             path, address, strlen(body));
    if (write(at, head, strlen(head)) < 0 || (*body && write(at, body, strlen(body)) < 0))
        exit(4);
    size_t length = 0;
    ssize_t got;
    while ((got = read(at, answer + length, sizeof answer - 1 - length)) > 0)
        length += got;
    answer[length] = 0;
    close(at);
    char *end = strstr(answer, "\r\n\r\n");
    if (!end || strncmp(answer, "HTTP/1.1 20", 11))
        exit(5);
    *end = 0;
    return end + 4;
}

/* A header of the last answer. */
static void header(const char *name, char *value, size_t size)
{
    *value = 0;
    for (char *line = answer; line; line = strstr(line, "\r\n"), line = line ? line + 2 : NULL)
        if (!strncasecmp(line, name, strlen(name)) && line[strlen(name)] == ':')
            snprintf(value, size, "%.*s", (int)strcspn(line + strlen(name) + 2, "\r"), line + strlen(name) + 2);
}

static void serve(void)
{
    static char event[32768], out[65536];
    char id[64], deadline[32], path[256];
    if (!strcmp(getenv("_HANDLER"), "main.broken")) {
        request("POST", API "/init/error", ERROR);
        exit(1);
    }
    for (;;) {
        snprintf(event, sizeof event, "%s", request("GET", API "/invocation/next", ""));
        header("Lambda-Runtime-Aws-Request-Id", id, sizeof id);
        header("Lambda-Runtime-Deadline-Ms", deadline, sizeof deadline);
        int fails = strstr(event, "fail") != NULL;
        snprintf(path, sizeof path, API "/invocation/%s/%s", id, fails ? "error" : "response");
        snprintf(out, sizeof out, "{\"event\":%s,\"deadline\":%s}", event, deadline);
        request("POST", path, fails ? ERROR : out);
    }
}

int main(int count, char **words)
{
    if (count < 3)
        serve();
    char *body = request(words[1], words[2], count > 3 ? words[3] : "");
    if (!strcmp(words[1], "GET")) {
        char id[64], deadline[32];
        header("Lambda-Runtime-Aws-Request-Id", id, sizeof id);
        header("Lambda-Runtime-Deadline-Ms", deadline, sizeof deadline);
        printf("%s\n%s\n%s\n", id, deadline, body);
    }
    return 0;
}
