package hanshu;

import java.io.FileDescriptor;
import java.io.FileInputStream;
import java.io.FileOutputStream;
import java.io.IOException;
import java.lang.reflect.Constructor;
import java.util.Arrays;
import sun.reflect.ReflectionFactory;

/**
 * The daemon's end of the process: frames over the socket on file descriptor 3.
 *
 * <p>The socket keeps packets apart and no packet holds parts of two frames, so one {@code read} never takes anything of the next frame: whatever
 * waits in the socket can still be taken back by the daemon.
 */
final class Channel implements AutoCloseable {
    static final int INIT = 1;
    static final int INVOKE = 2;
    static final int HELLO = 16;
    static final int READY = 17;
    static final int INIT_ERROR = 18;
    static final int RESPONSE = 19;
    static final int ERROR = 20;
    static final int LAST_ERROR = 21;
    static final int STREAM_END = 24;
    private static final int STREAM_START = 22;
    private static final int CHUNK = 23;

    private static final int FD = 3;
    static final int HEADER_BYTES = 8;
    /** What a packet holds at most, and what one read takes. */
    static final int PACKET_BYTES = 65536;
    /** Before the body of an answer: the call's id, the time taken, and that what was printed is not counted. */
    private static final int TOLD_BYTES = 12;
    private static final long LARGEST = 0xFFFF_FFFFL;

    private final FileInputStream in;
    private final FileOutputStream out;
    private final byte[] packet = new byte[PACKET_BYTES];

    Channel() throws ReflectiveOperationException {
        // Java opens sockets, but takes none over by number. This way needs no option on the command line, which would cost milliseconds.
        Constructor<?> of = FileDescriptor.class.getDeclaredConstructor(int.class);
        Object fd = ReflectionFactory.getReflectionFactory()
                .newConstructorForSerialization(FileDescriptor.class, of)
                .newInstance(FD);
        in = new FileInputStream((FileDescriptor) fd);
        out = new FileOutputStream((FileDescriptor) fd);
    }

    /** One that reads and writes files, to try the way. */
    Channel(String from, String to) throws IOException {
        in = new FileInputStream(from);
        out = new FileOutputStream(to);
    }

    @Override
    public void close() throws IOException {
        in.close();
        out.close();
    }

    /** Blocks until a whole frame is here. Ends the process when the daemon has closed the socket. */
    Frame receive() {
        int have = read(packet, 0, PACKET_BYTES);
        while (have < HEADER_BYTES) {
            have += read(packet, have, PACKET_BYTES - have);
        }
        int kind = packet[4] & 0xFF;
        int total = HEADER_BYTES + integer(packet, 0);
        if (have >= total) {
            return new Frame(kind, Arrays.copyOfRange(packet, HEADER_BYTES, total));
        }
        byte[] payload = new byte[total - HEADER_BYTES];
        System.arraycopy(packet, HEADER_BYTES, payload, 0, have - HEADER_BYTES);
        while (have < total) {
            have += read(payload, have - HEADER_BYTES, Math.min(total - have, PACKET_BYTES));
        }
        return new Frame(kind, payload);
    }

    private int read(byte[] into, int at, int most) {
        try {
            int count = in.read(into, at, most);
            if (count > 0) {
                return count;
            }
        } catch (IOException e) {
            // The daemon went away with a frame of ours unread.
        }
        Runtime.getRuntime().halt(0);
        return most;
    }

    /** Sends a frame without payload. */
    void send(int kind) {
        send(kind, new byte[0]);
    }

    /** Sends a frame with this payload. */
    void send(int kind, byte[] payload) {
        send(kind, new byte[0], payload);
    }

    /** Sends the answer to the call whose INVOKE frame had this payload. */
    void answer(int kind, byte[] call, long tookMicros, byte[] body) {
        byte[] prefix = Arrays.copyOf(call, Call.ID_BYTES + TOLD_BYTES);
        put(prefix, Call.ID_BYTES, Math.min(tookMicros, LARGEST));
        Arrays.fill(prefix, Call.ID_BYTES + 4, prefix.length, (byte) 0xFF);
        send(kind, prefix, body);
    }

    /** Begins an answer in pieces to the call whose INVOKE frame had this payload. */
    void start(byte[] call, byte[] prelude) {
        send(STREAM_START, Arrays.copyOf(call, Call.ID_BYTES), prelude);
    }

    /** Sends a piece of it. The packet holds the piece up to {@code end}, behind room for what stands before it. */
    void piece(byte[] call, byte[] packet, int end) {
        put(packet, 0, end - HEADER_BYTES);
        put(packet, 4, CHUNK);
        System.arraycopy(call, 0, packet, HEADER_BYTES, Call.ID_BYTES);
        try {
            out.write(packet, 0, end);
        } catch (IOException e) {
            Runtime.getRuntime().halt(1);
        }
    }

    private void send(int kind, byte[] prefix, byte[] body) {
        long length = (long) prefix.length + body.length;
        int first = (int) Math.min(HEADER_BYTES + length, PACKET_BYTES);
        int head = HEADER_BYTES + prefix.length;
        put(packet, 0, length);
        put(packet, 4, kind);
        System.arraycopy(prefix, 0, packet, HEADER_BYTES, prefix.length);
        System.arraycopy(body, 0, packet, head, first - head);
        try {
            out.write(packet, 0, first);
            for (int at = first - head; at < body.length; at += PACKET_BYTES) {
                out.write(body, at, Math.min(body.length - at, PACKET_BYTES));
            }
        } catch (IOException e) {
            Runtime.getRuntime().halt(1);
        }
    }

    /** An integer of the protocol: four bytes, the lowest first. */
    static int integer(byte[] bytes, int at) {
        return (bytes[at] & 0xFF)
                | (bytes[at + 1] & 0xFF) << 8
                | (bytes[at + 2] & 0xFF) << 16
                | bytes[at + 3] << 24;
    }

    private static void put(byte[] bytes, int at, long value) {
        for (int i = 0; i < 4; i++) {
            bytes[at + i] = (byte) (value >>> 8 * i);
        }
    }
}
