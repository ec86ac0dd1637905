import java.io.File;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.TreeSet;

/** Says what it sees of itself, as the functions in prestart.rs do. */
public class Main {
    public interface Context {
        String getFunctionName();

        int getMemoryLimitInMB();
    }

    public Object handle(Map<String, String> event, Context context) throws Exception {
        if (event.get("run") != null) {
            return run(event.get("run"));
        }
        Map<String, Object> seen = new LinkedHashMap<>();
        seen.put("environment", System.getenv());
        seen.put("folder", System.getProperty("user.dir"));
        seen.put("relative", Arrays.asList(new File("Main.class").exists(), Files.exists(Path.of("Main.class")), new File("").getCanonicalPath()));
        seen.put("limits", read("limits"));
        seen.put("descriptors", descriptors());
        Map<String, Object> mounts = new TreeMap<>();
        for (String line : read("mountinfo").strip().split("\n")) {
            String[] fields = line.split(" ");
            mounts.put(fields[4], new TreeSet<>(Arrays.asList(fields[5].split(","))));
        }
        seen.put("mounts", mounts);
        List<String> status = new ArrayList<>();
        for (String line : read("status").split("\n")) {
            if (line.matches("(NoNew|Sec|Cap|Uid|Gid).*")) {
                status.add(line);
            }
        }
        seen.put("status", status);
        // Not as the kernel counts them: compilers come and go.
        TreeSet<String> threads = new TreeSet<>();
        Thread.getAllStackTraces().keySet().forEach(thread -> threads.add(thread.getName()));
        seen.put("threads", threads);
        seen.put("opt", names("/opt"));
        seen.put("code", names("/var/task"));
        seen.put("tmp", new File("/tmp").getTotalSpace());
        seen.put("left", names("/tmp"));
        seen.put("context", Arrays.asList(context.getFunctionName(), context.getMemoryLimitInMB()));
        Map<String, String> properties = new TreeMap<>();
        System.getProperties().forEach((name, value) -> properties.put(String.valueOf(name), String.valueOf(value)));
        seen.put("properties", properties);
        Thread thread = Thread.currentThread();
        seen.put("thread", Arrays.asList(thread.getName(), thread.getId(), thread.isInterrupted(), new Thread().getName()));
        // Last: a child brings threads and descriptors with it.
        seen.put("inherited", said("pwd -P; echo *; printf %s \"$OWN\"; exec /var/lang/bin/java -Xmx32m -XX:TieredStopAtLevel=1 -cp . Main"));
        return seen;
    }

    private static Object run(String what) throws Exception {
        switch (what) {
            case "heap":
                return Runtime.getRuntime().maxMemory();
            case "exit":
                Runtime.getRuntime().addShutdownHook(new Thread(() -> System.out.println("the hook ran")));
                System.exit(7);
                return null;
            case "halt":
                new Thread(() -> Runtime.getRuntime().halt(7)).start();
                Thread.sleep(60_000);
                return null;
            case "look":
                return Strangers.look();
            case "keep":
                System.setProperty("kept", "x");
                Strangers.kept = "x";
                Files.createFile(Path.of("/tmp/kept"));
                return 1;
            case "kept":
                return Arrays.asList(System.getProperty("kept") != null, Strangers.kept != null, Files.exists(Path.of("/tmp/kept")));
            case "random":
            case "random and dear":
                return Strangers.random(!what.equals("random"));
            default:
                throw new IllegalArgumentException(what);
        }
    }

    /** What a child of a child finds: the variables and the folder are the process's, not only Java's. */
    public static void main(String[] arguments) {
        System.out.print(new TreeMap<>(System.getenv()).keySet() + System.getenv("OWN") + System.getProperty("user.dir"));
    }

    private static String said(String script) throws IOException {
        Process child = new ProcessBuilder("/bin/sh", "-c", script).redirectErrorStream(true).start();
        return new String(child.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
    }

    static String read(String name) throws IOException {
        return Files.readString(Path.of("/proc/self", name));
    }

    /** What each is, without the numbers of pipes and sockets, and without its own number but for the four that are agreed on. */
    static List<String> descriptors() throws IOException {
        List<String> all = new ArrayList<>();
        for (String name : names("/proc/self/fd")) {
            try {
                all.add((name.compareTo("3") > 0 ? "" : name + " ") + Files.readSymbolicLink(Path.of("/proc/self/fd", name)).toString().split(":")[0]);
            } catch (NoSuchFileException e) {
                // By which the folder was read.
            }
        }
        return all;
    }

    static List<String> names(String folder) {
        return new ArrayList<>(new TreeSet<>(Arrays.asList(new File(folder).list())));
    }
}
