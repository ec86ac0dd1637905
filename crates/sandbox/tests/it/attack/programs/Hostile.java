import java.io.BufferedReader;
import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.lang.ProcessBuilder.Redirect;
import java.lang.reflect.Constructor;
import java.lang.reflect.Field;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import sun.misc.Unsafe;
import sun.reflect.ReflectionFactory;

/** The hostile function in Java: runs what the event says and returns the lines that it said. */
public class Hostile {
    /** As it was when this was loaded: before the first call, with nobody waiting for an answer. */
    private static final String AT_LOAD = status();

    private static final List<Object> KEPT = new ArrayList<>();

    @SuppressWarnings("unchecked")
    public List<String> handle(Map<String, Object> event) throws Exception {
        if (event.get("text") != null) {
            return own((String) event.get("text"));
        }
        List<String> line = new ArrayList<>(List.of("sh", "-c", "exec \"$0\" \"$@\" 3<&0", "/var/task/attack", (String) event.get("c")));
        line.addAll((List<String>) event.get("arguments"));
        // With the frame socket, which a careless function could hand down.
        Process program = new ProcessBuilder(line).redirectInput(frameSocket()).redirectErrorStream(true).start();
        KEPT.add(program);
        List<String> said = new ArrayList<>();
        BufferedReader lines = program.inputReader(StandardCharsets.UTF_8);
        for (String text = lines.readLine(); text != null; text = lines.readLine()) {
            if (text.equals(".")) {
                return said;
            }
            said.add(text);
        }
        said.add("ended: " + program.waitFor());
        return said;
    }

    private static List<String> own(String name) throws Exception {
        switch (name) {
            case "at_load":
                List<String> said = new ArrayList<>();
                rights(said, AT_LOAD, "at load");
                rights(said, status(), "now");
                return said;
            case "preload":
                return Files.readAllLines(Path.of("/tmp/preloaded"));
            case "threads":
                while (true) {
                    new Thread(() -> {
                        while (true) {
                            KEPT.size();
                        }
                    }).start();
                }
            case "flood":
                byte[] frame = frame(20, new byte[48]);
                while (true) {
                    socket().write(frame);
                }
            case "another":
                byte[] payload = new byte[50];
                java.util.Arrays.fill(payload, 0, 36, (byte) 'a');
                payload[48] = payload[49] = '1';
                socket().write(frame(19, payload));
                Thread.sleep(60_000);
                return null;
            case "memory":
                for (long size = 1 << 20; ; ) {
                    Unsafe unsafe = unsafe();
                    long at = unsafe.allocateMemory(size);
                    unsafe.setMemory(at, size, (byte) 1);
                }
            default:
                throw new IllegalArgumentException(name);
        }
    }

    private static void rights(List<String> said, String status, String when) {
        for (String name : new String[] {"NoNewPrivs", "CapEff", "CapBnd", "CapPrm", "Seccomp"}) {
            String value = status.lines().filter(l -> l.startsWith(name + ":")).findFirst().orElse(":?");
            said.add(name + " " + when + ": " + value.substring(value.indexOf(':') + 1).trim());
        }
    }

    private static String status() {
        try {
            return Files.readString(Path.of("/proc/self/status"));
        } catch (java.io.IOException e) {
            return e.toString();
        }
    }

    private static byte[] frame(int kind, byte[] payload) {
        byte[] frame = new byte[8 + payload.length];
        frame[0] = (byte) payload.length;
        frame[4] = (byte) kind;
        System.arraycopy(payload, 0, frame, 8, payload.length);
        return frame;
    }

    private static Object make(Class<?> type, Class<?>[] types, Object... arguments) throws Exception {
        Constructor<?> constructor = type.getDeclaredConstructor(types);
        return ReflectionFactory.getReflectionFactory().newConstructorForSerialization(type, constructor).newInstance(arguments);
    }

    private static FileOutputStream socket() throws Exception {
        return new FileOutputStream((FileDescriptor) make(FileDescriptor.class, new Class<?>[] {int.class}, 3));
    }

    /** What Java's own pipelines use to hand a descriptor on, with the socket's number in it. */
    private static Redirect frameSocket() throws Exception {
        Class<?> type = Class.forName("java.lang.ProcessBuilder$RedirectPipeImpl");
        Object redirect = make(type, new Class<?>[0]);
        Unsafe unsafe = unsafe();
        Object fd = unsafe.getObject(redirect, unsafe.objectFieldOffset(type.getDeclaredField("fd")));
        unsafe.putInt(fd, unsafe.objectFieldOffset(FileDescriptor.class.getDeclaredField("fd")), 3);
        return (Redirect) redirect;
    }

    private static Unsafe unsafe() throws Exception {
        Field field = Unsafe.class.getDeclaredField("theUnsafe");
        field.setAccessible(true);
        return (Unsafe) field.get(null);
    }
}
