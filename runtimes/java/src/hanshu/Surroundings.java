package hanshu;

import java.lang.reflect.Field;
import java.nio.charset.StandardCharsets;
import java.util.Collections;
import java.util.Map;
import sun.misc.Unsafe;

/**
 * Variables and folder of the process, which Java takes for given: set here, in Java's own record of them and in the process, so that child processes and native
 * code have them as well.
 */
final class Surroundings {
    private static final String LIBRARY = "/ahead.so";

    final Unsafe memory;
    /** What {@code System.getenv} shows, without what keeps callers from writing to it. */
    private final Map<String, String> shown;

    /** Loads the library that lies beside the classes. */
    Surroundings(String home) throws ReflectiveOperationException {
        Field only = Unsafe.class.getDeclaredField("theUnsafe");
        only.setAccessible(true);
        memory = (Unsafe) only.get(null);
        shown = writable(System.getenv());
        System.load(home + LIBRARY);
    }

    /** No option opens the module that this lies in: it would be open to the function as well. */
    @SuppressWarnings("unchecked")
    private Map<String, String> writable(Map<String, String> view) throws ReflectiveOperationException {
        Class<?> type = Collections.unmodifiableMap(Map.of()).getClass();
        return (Map<String, String>) memory.getObject(view, memory.objectFieldOffset(type.getDeclaredField("m")));
    }

    /** Sets a variable. */
    void variable(String name, String value) {
        shown.put(name, value);
        long[] texts = {text(name), text(value)};
        int failed = setVariable(texts[0], texts[1]);
        memory.freeMemory(texts[0]);
        memory.freeMemory(texts[1]);
        if (failed != 0) {
            throw new IllegalStateException("the variable " + name + " cannot be set");
        }
    }

    /** Goes to a folder, which has to be the one that the virtual machine was started in, or lie upon it. */
    void folder(String path) {
        long text = text(path);
        int failed = setFolder(text);
        memory.freeMemory(text);
        if (failed != 0) {
            throw new IllegalStateException("no folder " + path);
        }
    }

    /** A text for native code; somebody has to free it. */
    private long text(String text) {
        byte[] bytes = text.getBytes(StandardCharsets.UTF_8);
        long address = memory.allocateMemory(bytes.length + 1L);
        for (int i = 0; i < bytes.length; i++) {
            memory.putByte(address + i, bytes[i]);
        }
        memory.putByte(address + bytes.length, (byte) 0);
        return address;
    }

    private static native int setVariable(long name, long value);

    private static native int setFolder(long path);
}
