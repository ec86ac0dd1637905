import java.io.File;
import java.util.Arrays;
import java.util.List;

/** Says what the process has around it. */
public class Surrounded {
    public List<Object> see(Object event) throws Exception {
        Process child = new ProcessBuilder("/bin/sh", "-c", "printf '%s|%s' \"$OWN\" \"$(pwd -P)\"").start();
        return Arrays.asList(
                System.getenv("OWN"), System.getenv().get("EMPTY"), new String(child.getInputStream().readAllBytes(), "UTF-8"),
                new File("Surrounded.class").canRead(), System.getProperty("sun.java.command"));
    }
}
