import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.security.SecureRandom;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Base64;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.SplittableRandom;
import java.util.TreeMap;
import java.util.UUID;
import java.util.concurrent.ThreadLocalRandom;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLEngine;
import javax.net.ssl.TrustManager;

/** What two instances must not have in common: zygote.rs asks. */
class Strangers {
    static String kept;

    /** Objects of the kernel's, shared memory, namespaces, the helper that forked it, and the variables that others see. */
    static List<Object> look() throws IOException {
        List<String> links = new ArrayList<>();
        for (String name : Main.names("/proc/self/fd")) {
            try {
                links.add(Files.readSymbolicLink(Path.of("/proc/self/fd", name)).toString());
            } catch (NoSuchFileException e) {
                // By which the folder was read.
            }
        }
        List<String> shared = new ArrayList<>();
        for (String line : Main.read("maps").split("\n")) {
            String mode = line.split(" ")[1];
            // Not what only the file's own pages are seen by.
            if (mode.endsWith("s") && !mode.equals("r--s")) {
                shared.add(line);
            }
        }
        Map<String, String> spaces = new TreeMap<>();
        for (String name : Main.names("/proc/self/ns")) {
            if (!name.endsWith("_for_children")) {
                spaces.put(name, Files.readSymbolicLink(Path.of("/proc/self/ns", name)).toString());
            }
        }
        int helpers = Collections.frequency(Main.names("/proc"), "3");
        // Where a child and its zygote would have one position in one file.
        return Arrays.asList(links, shared, spaces, helpers, Main.read("environ"), position());
    }

    private static String position() throws IOException {
        for (String name : Main.names("/proc/self/fd")) {
            try {
                if (Files.readSymbolicLink(Path.of("/proc/self/fd", name)).endsWith("modules")) {
                    return Main.read("fdinfo/" + name).lines().filter(line -> line.startsWith("flags") || line.startsWith("pos")).toList().toString();
                }
            } catch (NoSuchFileException e) {
                // As above.
            }
        }
        return "";
    }

    /** What a function takes for random; {@code dear}: also by what takes a fifth of a second to load. */
    static Map<String, Object> random(boolean dear) throws Exception {
        Map<String, Object> said = new LinkedHashMap<>();
        said.put("Math.random", Math.random());
        said.put("StrictMath.random", StrictMath.random());
        said.put("new Random", new Random().nextLong());
        said.put("second new Random", new Random().nextLong());
        said.put("ThreadLocalRandom", ThreadLocalRandom.current().nextLong());
        long[] other = new long[1];
        Thread thread = new Thread(() -> other[0] = ThreadLocalRandom.current().nextLong());
        thread.start();
        thread.join();
        said.put("ThreadLocalRandom of a thread", other[0]);
        said.put("SplittableRandom", new SplittableRandom().nextLong());
        said.put("SecureRandom", new SecureRandom().nextLong());
        said.put("UUID.randomUUID", UUID.randomUUID().toString());
        said.put("shuffle", shuffled());
        said.put("temporary file", Files.createTempFile("a", "b").toString());
        if (!dear) {
            return said;
        }
        byte[] bytes = new byte[16];
        SecureRandom.getInstance("SHA1PRNG").nextBytes(bytes);
        said.put("SHA1PRNG", Base64.getEncoder().encodeToString(bytes));
        SecureRandom.getInstance("DRBG").nextBytes(bytes);
        said.put("DRBG", Base64.getEncoder().encodeToString(bytes));
        said.put("TLS client random", clientRandom());
        return said;
    }

    private static String shuffled() {
        List<Integer> numbers = new ArrayList<>();
        for (int i = 0; i < 40; i++) {
            numbers.add(i);
        }
        Collections.shuffle(numbers);
        return numbers.toString();
    }

    /** Bytes 11 to 42 of the first record. */
    private static String clientRandom() throws Exception {
        SSLContext context = SSLContext.getInstance("TLS");
        // Without the certificates that this host trusts.
        context.init(null, new TrustManager[0], null);
        SSLEngine engine = context.createSSLEngine("localhost", 443);
        engine.setUseClientMode(true);
        ByteBuffer record = ByteBuffer.allocate(engine.getSession().getPacketBufferSize());
        engine.wrap(ByteBuffer.allocate(0), record);
        return Base64.getEncoder().encodeToString(Arrays.copyOfRange(record.array(), 11, 43));
    }
}
