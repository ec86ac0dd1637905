/* A WASI command in C: what it finds in its package and what it keeps in /tmp, with the event. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(void) {
    char event[4096] = "", words[64] = "", note[64] = "";
    fread(event, 1, sizeof event - 1, stdin);
    FILE *file = fopen("/var/task/words.txt", "r");
    if (!file || !fgets(words, sizeof words, file)) {
        fprintf(stderr, "no words\n");
        return 1;
    }
    fclose(file);
    file = fopen("/tmp/note", "w");
    fputs("kept", file);
    fclose(file);
    file = fopen("/tmp/note", "r");
    fgets(note, sizeof note, file);
    fclose(file);
    printf("[%s,\"%s\",\"%s\",\"%s\"]\n", event, words, note, getenv("AWS_LAMBDA_FUNCTION_NAME") ? "named" : "");
    return 0;
}
