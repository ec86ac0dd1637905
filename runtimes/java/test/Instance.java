import java.io.DataInputStream;
import java.io.EOFException;
import java.io.File;
import java.io.IOException;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;

/**
 * The bootstrap in a process of its own, driven as the daemon does, over file descriptor 3. Java makes no pair of Unix sockets, so it is a connection
 * that bash opens before it becomes the virtual machine.
 */
final class Instance implements AutoCloseable {
    static final int INIT = 1;
    static final int INVOKE = 2;
    static final int HELLO = 16;
    static final int READY = 17;
    static final int INIT_ERROR = 18;
    static final int RESPONSE = 19;
    static final int ERROR = 20;
    static final int LAST_ERROR = 21;
    static final int STREAM_START = 22;
    static final int CHUNK = 23;
    static final int STREAM_END = 24;
    static final String ID = "8d1e1c5e-0000-4000-8000-0123456789ab";
    /** Nothing in these tests takes longer unless it hangs. */
    private static final int PATIENCE_MS = 30_000;

    /** A frame from the bootstrap. */
    record Frame(int kind, byte[] payload) {
        String text() {
            return new String(payload, StandardCharsets.UTF_8);
        }
    }

    /** An answer without what stands before its body. */
    record Answer(int kind, String body, byte[] told) {
        int payloadChars() {
            return body.length();
        }
    }

    private final Process process;
    private final Socket socket;
    private final File printed;

    Instance(String root, String handler, String... options) throws IOException {
        this(root, handler, null, options);
    }

    /** One that is started ahead of its function where there is an {@code environment}: a list of variables, JSON. */
    Instance(String root, String handler, String environment, String[] options) throws IOException {
        printed = File.createTempFile("bootstrap", ".txt");
        printed.deleteOnExit();
        try (ServerSocket server = new ServerSocket(0, 1, InetAddress.getLoopbackAddress())) {
            server.setSoTimeout(PATIENCE_MS);
            List<String> line = new ArrayList<>(List.of("bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/$0; exec \"$@\"", "" + server.getLocalPort()));
            line.addAll(List.of(System.getProperty("java.home") + "/bin/java", "-Xmx64m", "-Xshare:auto", "-XX:TieredStopAtLevel=1"));
            line.addAll(List.of(options));
            line.addAll(List.of("-cp", System.getProperty("java.class.path"), "hanshu.Main"));
            if (environment != null) {
                line.add("ahead");
            }
            process = new ProcessBuilder(line).directory(new File(environment == null ? root : "/")).redirectErrorStream(true).redirectOutput(printed).start();
            socket = server.accept();
        }
        socket.setSoTimeout(PATIENCE_MS);
        send(INIT, ("{\"handler\":\"" + handler + "\",\"task_root\":\"" + root + "\",\"function\":{\"name\":\"hello\",\"version\":\"7\","
                + "\"arn\":\"arn:aws:lambda:local:000000000000:function:hello:7\",\"memory_mb\":128,\"log_group\":\"/aws/lambda/hello\","
                + "\"log_stream\":\"stream-1\"}" + (environment == null ? "" : ",\"environment\":" + environment) + "}").getBytes(StandardCharsets.UTF_8));
        expect(HELLO);
    }

    /** One whose code is loaded. */
    static Instance ready(String root, String handler, String... options) throws IOException {
        Instance instance = new Instance(root, handler, options);
        instance.expect(READY);
        return instance;
    }

    Frame expect(int kind) throws IOException {
        Frame frame = receive();
        if (frame.kind() != kind) {
            throw new AssertionError("expected a frame of kind " + kind + ", was " + frame.kind() + ": " + frame.text());
        }
        return frame;
    }

    Answer call(String event) throws IOException {
        return call(event.getBytes(StandardCharsets.UTF_8), "", System.currentTimeMillis() + 20_000);
    }

    /** One call that is answered in pieces: what stands before them, they, and the error behind them, by bars. */
    String stream(String event) throws IOException {
        invoke(event.getBytes(StandardCharsets.UTF_8), "", System.currentTimeMillis() + 20_000);
        StringBuilder told = new StringBuilder();
        for (Frame frame = expect(STREAM_START); ; frame = receive()) {
            int bodyAt = frame.kind() == STREAM_START || frame.kind() == CHUNK ? 36 : 48;
            byte[] bytes = frame.payload();
            if (!new String(bytes, 0, 36, StandardCharsets.US_ASCII).equals(ID) || bytes.length > 65536 + 36) {
                throw new AssertionError("a piece of another call, or too large: " + bytes.length);
            }
            if (frame.kind() == STREAM_END) {
                return told.toString();
            }
            told.append(told.isEmpty() ? "" : "|").append(new String(bytes, bodyAt, bytes.length - bodyAt, StandardCharsets.UTF_8));
            if (frame.kind() == ERROR) {
                return told.toString();
            }
        }
    }

    Answer call(byte[] event, String extra, long deadlineMs) throws IOException {
        invoke(event, extra, deadlineMs);
        Frame frame = receive();
        byte[] bytes = frame.payload();
        if (!new String(bytes, 0, 36, StandardCharsets.US_ASCII).equals(ID)) {
            throw new AssertionError("an answer to another call");
        }
        byte[] told = java.util.Arrays.copyOfRange(bytes, 36, 48);
        return new Answer(frame.kind(), new String(bytes, 48, bytes.length - 48, StandardCharsets.UTF_8), told);
    }

    private void invoke(byte[] event, String extra, long deadlineMs) throws IOException {
        byte[] more = extra.getBytes(StandardCharsets.UTF_8);
        ByteBuffer payload = ByteBuffer.allocate(48 + more.length + event.length).order(ByteOrder.LITTLE_ENDIAN);
        payload.put(ID.getBytes(StandardCharsets.US_ASCII)).putLong(deadlineMs).putInt(more.length).put(more).put(event);
        send(INVOKE, payload.array());
    }

    void send(int kind, byte[] payload) throws IOException {
        ByteBuffer frame = ByteBuffer.allocate(8 + payload.length).order(ByteOrder.LITTLE_ENDIAN);
        frame.putInt(payload.length).putInt(kind).put(payload);
        socket.getOutputStream().write(frame.array());
    }

    private Frame receive() throws IOException {
        DataInputStream in = new DataInputStream(socket.getInputStream());
        byte[] header = new byte[8];
        try {
            in.readFully(header);
        } catch (EOFException e) {
            throw new AssertionError("the process has ended; it printed: " + printed());
        }
        ByteBuffer fields = ByteBuffer.wrap(header).order(ByteOrder.LITTLE_ENDIAN);
        byte[] payload = new byte[fields.getInt()];
        in.readFully(payload);
        return new Frame(fields.getInt(), payload);
    }

    /** What it has written to its standard streams. */
    String printed() throws IOException {
        return Files.readString(printed.toPath());
    }

    /** Closes the socket, as a daemon that ends. */
    void hangUp() throws IOException {
        socket.close();
    }

    /** Its exit status, when it has ended. */
    int ended() throws Exception {
        if (!process.waitFor(PATIENCE_MS, TimeUnit.MILLISECONDS)) {
            throw new AssertionError("the process goes on");
        }
        return process.exitValue();
    }

    @Override
    public void close() throws IOException {
        socket.close();
        process.destroyForcibly();
        printed.delete();
    }
}
