/*
 * What Java cannot do to its own process: set variables and change the folder, for native code and child processes. Loaded by hanshu.Surroundings in a
 * process that is started ahead of its function, and called there alone.
 *
 * Built without headers of Java and without a C library: a virtual machine brings one with it, whichever that is. Texts come as addresses.
 */

int chdir(const char *path);
int setenv(const char *name, const char *value, int overwrite);

static const char *text(long long address)
{
    return (const char *)(__UINTPTR_TYPE__)address;
}

/* static native int setVariable(long name, long value): not zero if there is no memory for it. */
int Java_hanshu_Surroundings_setVariable(void *jni, void *type, long long name, long long value)
{
    (void)jni;
    (void)type;
    return setenv(text(name), text(value), 1);
}

/* static native int setFolder(long path): not zero if there is no such folder. */
int Java_hanshu_Surroundings_setFolder(void *jni, void *type, long long path)
{
    (void)jni;
    (void)type;
    return chdir(text(path));
}
