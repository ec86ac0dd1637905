package hanshu;

import java.io.ByteArrayOutputStream;
import java.io.OutputStream;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;

/**
 * What a stream handler writes its answer to. An answer that is JSON is held and returned whole, as AWS Lambda's runtime for Java does; any other goes out in
 * pieces, when the handler flushes or a packet is full.
 *
 * <p>Which it is, its first byte says: JSON begins with a brace, a bracket or a quote. An object with eight zero bytes behind it is none, but the status and
 * the headers of an answer in pieces: AWS Lambda has this form for languages whose runtime knows no other. Nothing is kept of an answer that goes out: a
 * write blocks while the caller reads slower.
 */
final class Pieces extends OutputStream {
    private static final byte[] NO_PRELUDE = "{}".getBytes(StandardCharsets.US_ASCII);
    /** Zero bytes between status and headers and the first piece. */
    private static final int DELIMITER_BYTES = 8;
    /** Where a piece stands in its packet: behind the header and the call's id. */
    private static final int PIECE_AT = Channel.HEADER_BYTES + Call.ID_BYTES;
    private static final int PACKET_BYTES = PIECE_AT + 64 * 1024;
    /** What is held at most of an answer that is no JSON and that nobody has flushed. */
    private static final int HELD_BYTES = 32 * 1024;

    private final Channel channel;
    private final byte[] call;
    private final ByteArrayOutputStream held = new ByteArrayOutputStream();
    /** The first byte that is no space; a space while there is none. */
    private byte first = ' ';
    /** Zero bytes at the end of what is held. */
    private int zeros;
    /** The next piece, once the answer goes out; null before. */
    private byte[] packet;
    private int end = PIECE_AT;
    private boolean over;

    /** {@code call}: the payload of the INVOKE frame. */
    Pieces(Channel channel, byte[] call) {
        this.channel = channel;
        this.call = call;
    }

    @Override
    public void write(int b) {
        write(new byte[] {(byte) b}, 0, 1);
    }

    @Override
    public synchronized void write(byte[] bytes, int from, int count) {
        // What threads of a call write that is over belongs to nobody.
        if (over) {
            return;
        }
        int at = packet == null ? from + hold(bytes, from, count) : from;
        while (at < from + count) {
            int part = Math.min(from + count - at, packet.length - end);
            System.arraycopy(bytes, at, packet, end, part);
            at += part;
            end += part;
            if (end == packet.length) {
                send();
            }
        }
    }

    @Override
    public synchronized void flush() {
        if (over) {
            return;
        }
        if (packet == null && !isJson()) {
            start(NO_PRELUDE, 0);
        }
        send();
    }

    @Override
    public void close() {
        flush();
    }

    /** The handler has returned: the answer, or null if it went out in pieces. */
    synchronized byte[] finish() throws Fault {
        if (packet != null) {
            send();
            return null;
        }
        byte[] answer = held.toByteArray();
        if (answer.length == 0) {
            return "null".getBytes(StandardCharsets.US_ASCII);
        }
        try {
            // What a handler wrote itself is passed on as it is, if it is what it has to be.
            Decoder.natural(Decoder.text(answer, 0, answer.length));
            return answer;
        } catch (Fault e) {
            if (isJson()) {
                throw Fault.marshal("the stream is no JSON: " + e.getMessage());
            }
            start(NO_PRELUDE, 0);
            return null;
        }
    }

    /** Nothing more is taken. */
    synchronized void end() {
        over = true;
    }

    /** Holds some of these bytes, and says how many; if not all, the answer goes out. */
    private int hold(byte[] bytes, int from, int count) {
        int taken = 0;
        while (taken < count && zeros < DELIMITER_BYTES && (isJson() || held.size() + taken < HELD_BYTES)) {
            byte b = bytes[from + taken++];
            if (first == ' ' && " \t\r\n".indexOf(b) < 0) {
                first = b;
            }
            zeros = b == 0 && first == '{' ? zeros + 1 : 0;
        }
        held.write(bytes, from, taken);
        if (zeros == DELIMITER_BYTES) {
            byte[] prelude = Arrays.copyOf(held.toByteArray(), held.size() - DELIMITER_BYTES);
            start(prelude, held.size());
        } else if (!isJson() && held.size() == HELD_BYTES) {
            start(NO_PRELUDE, 0);
        }
        return taken;
    }

    /** Lets the answer go out from here on; the first piece is what is held, from there. */
    private void start(byte[] prelude, int from) {
        if (PIECE_AT + prelude.length > Channel.PACKET_BYTES) {
            throw new IllegalArgumentException("status and headers of the answer have " + prelude.length + " bytes: too many");
        }
        channel.start(call, prelude);
        packet = new byte[PACKET_BYTES];
        end = PIECE_AT + held.size() - from;
        System.arraycopy(held.toByteArray(), from, packet, PIECE_AT, held.size() - from);
        held.reset();
        send();
    }

    private void send() {
        if (end > PIECE_AT) {
            channel.piece(call, packet, end);
            end = PIECE_AT;
        }
    }

    /** Whether the answer is JSON, or may yet be. */
    private boolean isJson() {
        return first == ' ' || first == '{' || first == '[' || first == '"';
    }
}
