import java.io.IOException;
import java.net.InetSocketAddress;
import java.net.Socket;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;

/** The contract suite's handler (model::suites::sandbox): does what the event says. */
public class Index {
    private static final List<Object> KEPT = new ArrayList<>();
    private static int served;
    private static volatile long longest;

    /** Has no JSON form: it holds itself. */
    public static class Knot {
        public Knot getKnot() {
            return this;
        }
    }

    public Object handle(Map<String, Object> e) throws Exception {
        switch ((String) e.get("op")) {
            case "echo":
                return e.get("value");
            case "count":
                return ++served;
            case "throw":
                throw new IllegalStateException((String) e.get("text"));
            case "print":
                System.out.println(e.get("text"));
                return null;
            case "flood":
                return flood(((Number) e.get("bytes")).longValue());
            case "big":
                return "z".repeat((Integer) e.get("bytes"));
            case "unserialisable":
                return new Knot();
            case "busy":
                while (true) {
                    served++;
                }
            case "never":
                return forever();
            case "children":
                return children((String) e.get("marker"), "return".equals(e.get("then")));
            case "forks":
                KEPT.add(shell("b() { b | b & b; }; b", (String) e.get("marker")));
                return forever();
            case "exit":
                System.exit((Integer) e.get("code"));
                return null;
            case "signal":
                shell("kill -" + e.get("signal") + " $PPID", "");
                return forever();
            case "memory":
                return memory();
            case "connect":
                return connect((Integer) e.get("port"));
            case "write":
                Files.writeString(Path.of((String) e.get("path")), (String) e.get("text"));
                return null;
            case "read":
                return Files.readString(Path.of((String) e.get("path")));
            case "list":
                return names((String) e.get("path"));
            case "import":
                return Class.forName((String) e.get("name")).getField("text").get(null);
            case "environment":
                return System.getenv();
            case "tick":
                tick();
                return null;
            case "pause":
                // The look that comes after a pause may be due still.
                Thread.sleep(20);
                return longest;
            default:
                throw new IllegalArgumentException("no such op");
        }
    }

    private static void tick() {
        longest = 0;
        long begun = System.currentTimeMillis();
        Thread ticking = new Thread(() -> {
            for (long last = begun; ; ) {
                try {
                    Thread.sleep(1);
                } catch (InterruptedException e) {
                    return;
                }
                long now = System.currentTimeMillis();
                longest = Math.max(longest, now - last);
                last = now;
            }
        });
        ticking.setDaemon(true);
        ticking.start();
    }

    private static Object forever() throws InterruptedException {
        while (true) {
            Thread.sleep(1000);
        }
    }

    private static long flood(long bytes) {
        byte[] line = new byte[1024];
        Arrays.fill(line, (byte) 'x');
        line[1023] = '\n';
        for (long i = 0; i < bytes / line.length; i++) {
            System.out.write(line, 0, line.length);
        }
        return bytes;
    }

    private static Process shell(String script, String marker) throws IOException {
        return new ProcessBuilder("sh", "-c", script, marker).start();
    }

    private static Object children(String marker, boolean andReturn) throws Exception {
        Process outer = shell("sh -c 'echo up; read x; :' \"$0\"; :", marker);
        // What it reads from stays open.
        KEPT.add(outer);
        outer.inputReader().readLine();
        return andReturn ? 2 : forever();
    }

    private static Object memory() {
        while (true) {
            byte[] block = new byte[1 << 20];
            Arrays.fill(block, (byte) 'x');
            KEPT.add(block);
        }
    }

    private static String connect(int port) throws IOException {
        try (Socket socket = new Socket()) {
            socket.connect(new InetSocketAddress("127.0.0.1", port), 5000);
            return "connected";
        }
    }

    private static String[] names(String folder) throws IOException {
        try (var entries = Files.list(Path.of(folder))) {
            return entries.map(p -> p.getFileName().toString()).toArray(String[]::new);
        }
    }
}
