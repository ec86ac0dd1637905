package hanshu;

import java.io.FileInputStream;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.util.Random;
import java.util.SplittableRandom;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.atomic.AtomicLong;
import sun.misc.Unsafe;

/**
 * A warm process that is forked into instances; {@link #fork} returns in children alone.
 *
 * <p>What is random in two children must not be the same. Secure sources of random numbers keep open files of the kernel's, with which a process is not
 * forked at all, so none was ever used here. What Java makes of a seed for everything else ({@code Math.random}, {@code Random}, {@code ThreadLocalRandom},
 * {@code SplittableRandom}) is made known here and gets new seeds in the child. Nothing caches the process's id: no class that does is loaded before the fork.
 */
final class Zygote {
    private static final String LIBRARY = "/zygote.so";
    /** Where the spawner's orders come. */
    private static final int CONTROL = 4;
    /** What {@link #await} returns in a child that nobody waits for; in any other it is 0, and in the zygote it does not return. */
    private static final int RESTS = 2;
    private static final String SOURCE = "/dev/urandom";

    /** Counters that seeds are made of. */
    private final AtomicLong[] counters;
    /** Behind {@code Math.random} and {@code StrictMath.random}. */
    private final Random[] shared;

    private Zygote(Unsafe memory) throws ReflectiveOperationException {
        counters = new AtomicLong[] {
            (AtomicLong) value(memory, ThreadLocalRandom.class, "seeder"),
            (AtomicLong) value(memory, Random.class, "seedUniquifier"),
            (AtomicLong) value(memory, SplittableRandom.class, "defaultGen"),
        };
        shared = new Random[] {
            (Random) value(memory, Class.forName("java.lang.Math$RandomNumberGeneratorHolder"), "randomNumberGenerator"),
            (Random) value(memory, Class.forName("java.lang.StrictMath$RandomNumberGeneratorHolder"), "randomNumberGenerator"),
        };
    }

    /** Says HELLO, waits to be forked, and becomes a child; whether that will lie ready until it is wanted, so that it has time to become warm. */
    static boolean fork(String home, Unsafe memory, Channel channel) throws ReflectiveOperationException, IOException {
        Zygote zygote = new Zygote(memory);
        System.load(home + LIBRARY);
        // Twice, so that children find it warm; they come with new seeds of their own.
        zygote.reseed();
        zygote.reseed();
        forget(memory);
        System.gc();
        channel.send(Channel.HELLO);
        int told = await(CONTROL);
        zygote.reseed();
        return told == RESTS;
    }

    private void reseed() throws IOException {
        byte[] bytes;
        try (FileInputStream source = new FileInputStream(SOURCE)) {
            bytes = source.readNBytes((counters.length + shared.length) * Long.BYTES);
        }
        ByteBuffer fresh = ByteBuffer.wrap(bytes);
        for (AtomicLong counter : counters) {
            // Odd: some are multiplied.
            counter.set(fresh.getLong() | 1);
        }
        for (Random random : shared) {
            random.setSeed(fresh.getLong());
        }
    }

    /** What threads have made of the seeds that were: a thread whose probe is zero takes a new one. */
    private static void forget(Unsafe memory) throws ReflectiveOperationException {
        long probe = memory.objectFieldOffset(Thread.class.getDeclaredField("threadLocalRandomProbe"));
        ThreadGroup all = Thread.currentThread().getThreadGroup();
        while (all.getParent() != null) {
            all = all.getParent();
        }
        Thread[] threads = new Thread[all.activeCount() + 16];
        int count = all.enumerate(threads);
        for (int i = 0; i < count; i++) {
            memory.putInt(threads[i], probe, 0);
        }
    }

    private static Object value(Unsafe memory, Class<?> type, String name) throws ReflectiveOperationException {
        Class.forName(type.getName(), true, null);
        java.lang.reflect.Field field = type.getDeclaredField(name);
        return memory.getObject(memory.staticFieldBase(field), memory.staticFieldOffset(field));
    }

    private static native int await(int descriptor);
}
