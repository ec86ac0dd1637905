import java.io.ByteArrayOutputStream;
import java.io.File;
import java.io.InputStream;
import java.io.OutputStream;
import java.lang.invoke.MethodHandle;
import java.lang.invoke.MethodHandles;
import java.lang.invoke.MethodType;
import java.lang.invoke.StringConcatFactory;
import java.lang.management.ManagementFactory;
import java.lang.management.MemoryPoolMXBean;
import java.lang.ref.Cleaner;
import java.lang.ref.ReferenceQueue;
import java.lang.ref.WeakReference;
import java.lang.reflect.Proxy;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.Socket;
import java.net.URL;
import java.net.URLClassLoader;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.channels.SelectionKey;
import java.nio.channels.Selector;
import java.nio.channels.ServerSocketChannel;
import java.nio.channels.SocketChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.security.Security;
import java.util.ArrayList;
import java.util.List;
import java.util.Timer;
import java.util.TimerTask;
import java.util.concurrent.Callable;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.locks.LockSupport;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLServerSocket;
import javax.net.ssl.SSLSocket;

/** Tries what a copy of a virtual machine may have lost. */
public class aheadtrial {
    private static final long PATIENCE_SECONDS = 5;
    /** A handshake without certificates, which nothing else may ask for. */
    private static final String[] CIPHERS = {"TLS_ECDH_anon_WITH_AES_128_CBC_SHA"};
    private static final String[] PROTOCOLS = {"TLSv1.2"};

    private static volatile int sink;

    private interface Trial {
        void run() throws Throwable;
    }

    /** Name and error of what does not work. */
    public static List<String> broken() {
        List<String> found = new ArrayList<>();
        tell(found, "descriptors", aheadtrial::descriptors);
        tell(found, "process", aheadtrial::process);
        tell(found, "threads", aheadtrial::threads);
        tell(found, "pools", aheadtrial::pools);
        tell(found, "timers", aheadtrial::timers);
        tell(found, "virtual threads", aheadtrial::virtualThreads);
        tell(found, "errors", aheadtrial::errors);
        tell(found, "classes", aheadtrial::classes);
        tell(found, "collector", aheadtrial::collector);
        tell(found, "compiler", aheadtrial::compiler);
        tell(found, "files", aheadtrial::files);
        tell(found, "network", aheadtrial::network);
        tell(found, "TLS", aheadtrial::tls);
        tell(found, "processes", aheadtrial::processes);
        return found;
    }

    private static void tell(List<String> found, String name, Trial trial) {
        try {
            trial.run();
        } catch (Throwable e) {
            found.add(name + ": " + e + " at " + e.getStackTrace()[0]);
        }
    }

    private static void check(boolean holds, Object seen) {
        if (!holds) {
            throw new IllegalStateException("unexpected: " + seen);
        }
    }

    /** First: the others open some. */
    private static void descriptors() throws Exception {
        List<String> sockets = new ArrayList<>();
        for (String name : new File("/proc/self/fd").list()) {
            String link;
            try {
                link = Files.readSymbolicLink(Path.of("/proc/self/fd", name)).toString();
            } catch (NoSuchFileException e) {
                continue;
            }
            check(link.matches("(pipe:|socket:|/dev/null$|/var/lang/|/var/task/).*"), link);
            if (link.startsWith("socket:")) {
                sockets.add(link);
            }
        }
        check(sockets.size() == 1, sockets);
        for (String line : Files.readAllLines(Path.of("/proc/self/maps"))) {
            // The library of classes, and others that nobody can write to.
            boolean shared = line.split(" ")[1].endsWith("s");
            check(!shared || line.matches("\\S+ r--s .* /(var/lang|usr)/.*"), line);
        }
    }

    private static void process() throws Exception {
        ProcessHandle own = ProcessHandle.current();
        check(own.pid() == 2 && own.parent().map(ProcessHandle::pid).orElse(1L) == 1, own.pid());
        check(Thread.currentThread().getName().equals("main"), Thread.currentThread());
        List<String> names = Thread.getAllStackTraces().keySet().stream().map(Thread::getName).collect(Collectors.toList());
        check(names.containsAll(List.of("main", "Reference Handler", "Finalizer", "Common-Cleaner")), names);
        check(ManagementFactory.getThreadMXBean().getCurrentThreadCpuTime() > 0, "no time");
        check(ManagementFactory.getRuntimeMXBean().getPid() == 2, "another process id");
    }

    private static void threads() throws Exception {
        int[] sum = new int[1];
        Object lock = new Object();
        Thread helper = new Thread(() -> {
            synchronized (lock) {
                sum[0] = IntStream.range(0, 1000).sum();
                lock.notifyAll();
            }
        });
        synchronized (lock) {
            helper.start();
            while (sum[0] == 0) {
                lock.wait(PATIENCE_SECONDS * 1000);
            }
        }
        helper.join(PATIENCE_SECONDS * 1000);
        check(sum[0] == 499500 && !helper.isAlive(), sum[0]);
        CountDownLatch interrupted = new CountDownLatch(1);
        Thread sleeper = new Thread(() -> {
            try {
                Thread.sleep(60_000);
            } catch (InterruptedException e) {
                interrupted.countDown();
            }
        });
        sleeper.start();
        sleeper.interrupt();
        check(interrupted.await(PATIENCE_SECONDS, TimeUnit.SECONDS), "not interrupted");
        long begun = System.nanoTime();
        LockSupport.parkNanos(5_000_000);
        Thread.sleep(5);
        check(System.nanoTime() > begun, "no time went by");
    }

    private static void pools() throws Exception {
        ExecutorService pool = Executors.newFixedThreadPool(4);
        List<Callable<Integer>> tasks = IntStream.range(0, 50).<Callable<Integer>>mapToObj(n -> () -> n * n).collect(Collectors.toList());
        List<Future<Integer>> done = pool.invokeAll(tasks, PATIENCE_SECONDS, TimeUnit.SECONDS);
        check(done.get(49).get() == 2401, done);
        pool.shutdown();
        check(pool.awaitTermination(PATIENCE_SECONDS, TimeUnit.SECONDS), "a pool does not end");
        check(IntStream.range(0, 100_000).parallel().mapToLong(n -> n).sum() == 4999950000L, "parallel");
        int later = CompletableFuture.supplyAsync(() -> 6).thenApplyAsync(n -> n * 7).get(PATIENCE_SECONDS, TimeUnit.SECONDS);
        check(later == 42, later);
    }

    private static void timers() throws Exception {
        CountDownLatch ticks = new CountDownLatch(3);
        ScheduledExecutorService pool = Executors.newSingleThreadScheduledExecutor();
        pool.scheduleAtFixedRate(ticks::countDown, 1, 1, TimeUnit.MILLISECONDS);
        check(ticks.await(PATIENCE_SECONDS, TimeUnit.SECONDS), "no tick");
        pool.shutdownNow();
        CountDownLatch rung = new CountDownLatch(1);
        Timer timer = new Timer(true);
        timer.schedule(new TimerTask() {
            @Override
            public void run() {
                rung.countDown();
            }
        }, 1);
        check(rung.await(PATIENCE_SECONDS, TimeUnit.SECONDS), "no timer");
        timer.cancel();
    }

    /** Where the version has them. */
    private static void virtualThreads() throws Throwable {
        if (Runtime.version().feature() < 21) {
            return;
        }
        CountDownLatch ran = new CountDownLatch(100);
        Runnable sleep = () -> {
            LockSupport.parkNanos(1_000_000);
            ran.countDown();
        };
        for (int i = 0; i < 100; i++) {
            Thread.class.getMethod("startVirtualThread", Runnable.class).invoke(null, sleep);
        }
        check(ran.await(PATIENCE_SECONDS, TimeUnit.SECONDS), ran.getCount());
    }

    /** Those that the virtual machine makes of signals, and where they come from. */
    private static void errors() {
        String nothing = sink < 0 ? "" : null;
        for (int i = 0; i < 2000; i++) {
            try {
                sink += nothing.length();
                check(false, "no error");
            } catch (NullPointerException e) {
                check(e.getStackTrace()[0].getMethodName().equals("errors"), e);
            }
        }
        try {
            sink = 1 / (sink - sink);
            check(false, "no error");
        } catch (ArithmeticException e) {
            check(e.getMessage().contains("zero"), e);
        }
        try {
            sink = deeper(1);
            check(false, "no end");
        } catch (StackOverflowError e) {
            check(e.getStackTrace()[10].getMethodName().equals("deeper"), e);
        }
    }

    private static int deeper(int n) {
        return deeper(n + 1) + n;
    }

    private static void classes() throws Throwable {
        MethodType type = MethodType.methodType(String.class, String.class, int.class);
        MethodHandle join = StringConcatFactory.makeConcatWithConstants(MethodHandles.lookup(), "join", type, "\1-\1").getTarget();
        check("a-1".equals((String) join.invokeExact("a", 1)), "join");
        Object seven = Proxy.newProxyInstance(aheadtrial.class.getClassLoader(), new Class<?>[] {Callable.class}, (proxy, method, arguments) -> 7);
        check((Integer) ((Callable<?>) seven).call() == 7, "proxy");
        URL[] jar = {new URL("file:/var/task/ahead.jar")};
        if (new File("/var/task/ahead.jar").exists()) {
            try (URLClassLoader loader = new URLClassLoader(jar, null)) {
                Class<?> again = loader.loadClass("aheadjar");
                check(again.getClassLoader() == loader, again);
                check(again.getMethod("answer", String.class).invoke(null, "x").toString().contains("x"), again);
            }
        }
        check(String.format("%05.1f", 3.14159).equals("003.1"), "format");
        check(java.time.Instant.ofEpochSecond(0).toString().equals("1970-01-01T00:00:00Z"), "time");
    }

    private static void collector() throws Exception {
        ReferenceQueue<Object> queue = new ReferenceQueue<>();
        CountDownLatch cleaned = new CountDownLatch(1);
        WeakReference<Object> weak = new WeakReference<>(new Object(), queue);
        Cleaner.create().register(new Object(), cleaned::countDown);
        List<int[]> kept = new ArrayList<>();
        for (int i = 0; i < 100_000; i++) {
            int[] some = new int[256];
            some[0] = i;
            if (i % 100 == 0) {
                kept.add(some);
            }
        }
        System.gc();
        check(queue.remove(PATIENCE_SECONDS * 1000) == weak, weak);
        check(cleaned.await(PATIENCE_SECONDS, TimeUnit.SECONDS), "not cleaned");
        check(kept.size() == 1000 && kept.get(999)[0] == 99_900, kept.size());
        check(ByteBuffer.allocateDirect(1 << 20).put(0, (byte) 1).get(0) == 1, "direct");
    }

    /** What is run often is compiled: there is more compiled code. */
    private static void compiler() {
        sink = hot(1);
        long before = codeBytes();
        before = codeBytes();
        for (long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(PATIENCE_SECONDS); System.nanoTime() < end; ) {
            for (int i = 0; i < 10_000; i++) {
                sink = hot(i);
            }
            if (codeBytes() > before) {
                return;
            }
        }
        check(false, before);
    }

    private static int hot(int n) {
        int sum = n;
        for (int i = 0; i < 100; i++) {
            sum = sum * 31 + i;
        }
        return sum;
    }

    private static long codeBytes() {
        long bytes = 0;
        for (MemoryPoolMXBean pool : ManagementFactory.getMemoryPoolMXBeans()) {
            bytes += pool.getName().startsWith("Code") ? pool.getUsage().getUsed() : 0;
        }
        return bytes;
    }

    private static void files() throws Exception {
        Path path = Path.of("/tmp/trial");
        try (FileChannel file = FileChannel.open(path, StandardOpenOption.CREATE, StandardOpenOption.READ, StandardOpenOption.WRITE)) {
            file.write(ByteBuffer.wrap("0123456789".getBytes(StandardCharsets.UTF_8)));
            check(file.map(FileChannel.MapMode.READ_ONLY, 0, 10).get(9) == '9', "map");
        }
        check(Files.readString(path).length() == 10, path);
        Files.delete(path);
    }

    private static void network() throws Exception {
        try (Selector selector = Selector.open(); ServerSocketChannel server = ServerSocketChannel.open()) {
            server.bind(new InetSocketAddress(InetAddress.getLoopbackAddress(), 0));
            server.configureBlocking(false).register(selector, SelectionKey.OP_ACCEPT);
            try (SocketChannel client = SocketChannel.open(server.getLocalAddress())) {
                check(selector.select(PATIENCE_SECONDS * 1000) == 1, "nobody comes");
                try (SocketChannel accepted = server.accept()) {
                    accepted.write(ByteBuffer.wrap(new byte[] {42}));
                    ByteBuffer got = ByteBuffer.allocate(1);
                    client.read(got);
                    check(got.get(0) == 42, got);
                }
            }
        }
    }

    private static void tls() throws Exception {
        // This process ends with the trial.
        Security.setProperty("jdk.tls.disabledAlgorithms", "");
        Security.setProperty("jdk.tls.legacyAlgorithms", "");
        SSLContext context = SSLContext.getInstance("TLS");
        context.init(null, null, null);
        InetAddress here = InetAddress.getLoopbackAddress();
        try (SSLServerSocket server = (SSLServerSocket) context.getServerSocketFactory().createServerSocket(0, 1, here)) {
            server.setEnabledProtocols(PROTOCOLS);
            server.setEnabledCipherSuites(CIPHERS);
            CompletableFuture<byte[]> got = CompletableFuture.supplyAsync(() -> {
                try (Socket accepted = server.accept(); InputStream in = accepted.getInputStream()) {
                    return in.readNBytes(5);
                } catch (Exception e) {
                    throw new IllegalStateException(e);
                }
            });
            try (SSLSocket client = (SSLSocket) context.getSocketFactory().createSocket(here, server.getLocalPort())) {
                client.setSoTimeout((int) PATIENCE_SECONDS * 1000);
                client.setEnabledProtocols(PROTOCOLS);
                client.setEnabledCipherSuites(CIPHERS);
                OutputStream out = client.getOutputStream();
                out.write("hello".getBytes(StandardCharsets.UTF_8));
                out.flush();
                check(new String(got.get(PATIENCE_SECONDS, TimeUnit.SECONDS), StandardCharsets.UTF_8).equals("hello"), got);
            }
        }
    }

    private static void processes() throws Exception {
        Process child = new ProcessBuilder("/bin/sh", "-c", "echo $PPID; read word; echo $word; exit 3").start();
        child.getOutputStream().write("word\n".getBytes(StandardCharsets.UTF_8));
        child.getOutputStream().close();
        ByteArrayOutputStream said = new ByteArrayOutputStream();
        child.getInputStream().transferTo(said);
        check(said.toString().equals("2\nword\n"), said);
        check(child.waitFor(PATIENCE_SECONDS, TimeUnit.SECONDS) && child.exitValue() == 3, child);
        Process sleeper = new ProcessBuilder("/bin/sh", "-c", "read word").start();
        CompletableFuture<Process> end = sleeper.onExit();
        sleeper.destroyForcibly();
        check(end.get(PATIENCE_SECONDS, TimeUnit.SECONDS).exitValue() == 137, sleeper);
        Thread hook = new Thread(() -> {});
        Runtime.getRuntime().addShutdownHook(hook);
        check(Runtime.getRuntime().removeShutdownHook(hook), hook);
    }
}
