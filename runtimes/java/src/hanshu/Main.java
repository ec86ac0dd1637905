package hanshu;

import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.Map;

/**
 * Loads a Java handler and serves one call at a time over file descriptor 3: ../../../PROTOCOL.md.
 *
 * <p>Start at {@link #main}. {@link Channel} speaks frames, {@link Loader} finds the handler and makes a {@link Handler} of it, {@link Decoder} and
 * {@link Encoder} stand between JSON and Java ({@link JsonReader} and {@link Shape} below them), {@link CallContext} is what handlers learn of a
 * call, {@link Failure} what callers learn of an error. {@link Ahead} is what a process does that is started ahead of its function, {@link Zygote} what one does that is
 * forked.
 *
 * <p>Between two calls the main thread blocks in {@code read}; threads of the function go on. Context, errors and class path are those of AWS
 * Lambda's runtime for Java, whose interfaces come with the function: none of their names is known here.
 */
public final class Main {
    /** The exit status of a virtual machine that ends for want of memory ({@code -XX:+ExitOnOutOfMemoryError}). */
    private static final int OUT_OF_MEMORY = 3;
    /** Where AWS Lambda's runtime for Java says how the call is traced. */
    private static final String TRACE = "com.amazonaws.xray.traceHeader";

    private final Channel channel;
    private final PrintStream[] streams = {System.out, System.err};

    /** One for calls by way of {@code channel}. */
    Main(Channel channel) {
        this.channel = channel;
    }

    /** Start-up, then calls, without end. */
    public static void main(String[] arguments) throws Throwable {
        if (arguments.length > 0) {
            Ahead.warm();
        }
        Channel channel = new Channel();
        if (arguments.length > 0 && arguments[0].equals("zygote")) {
            Ahead.fork(channel);
        }
        channel.send(Channel.HELLO);
        Frame init = channel.receive();
        if (init.kind() != Channel.INIT) {
            Runtime.getRuntime().halt(1);
        }
        new Main(channel).run(init.payload());
    }

    private void run(byte[] init) {
        Handler handler;
        try {
            handler = load(init, null);
        } catch (Throwable e) {
            refuse(e);
            Runtime.getRuntime().halt(1);
            return;
        }
        flush();
        channel.send(Channel.READY);
        while (true) {
            answer(handler, receive());
        }
    }

    /** The handler that INIT names; {@code folder} is where to go instead of to the code. */
    Handler load(byte[] init, String folder) throws Throwable {
        Map<?, ?> settings = (Map<?, ?>) Decoder.natural(new String(init, StandardCharsets.UTF_8));
        String root = (String) settings.get("task_root");
        CallContext.function = (Map<?, ?>) settings.get("function");
        if (settings.get("environment") instanceof List<?> environment) {
            Ahead.adopt(environment, folder == null ? root : folder);
        }
        return Loader.load((String) settings.get("handler"), root);
    }

    /** Says why the code is not loaded. */
    void refuse(Throwable e) {
        endIfOutOfMemory(e);
        flush();
        channel.send(Channel.INIT_ERROR, Failure.describe(e));
    }

    /** Blocks until a call comes. */
    Frame receive() {
        return channel.receive();
    }

    /** Runs one call. */
    void answer(Handler handler, Frame frame) {
        long begun = System.nanoTime();
        if (frame.kind() != Channel.INVOKE) {
            Runtime.getRuntime().halt(1);
        }
        byte[] payload = frame.payload();
        int kind = Channel.RESPONSE;
        byte[] answer;
        try {
            Call call = Call.read(payload);
            trace(call);
            answer = handler.handle(call, channel);
            if (answer == null) {
                kind = Channel.STREAM_END;
                answer = new byte[0];
            }
        } catch (Throwable e) {
            endIfOutOfMemory(e);
            // As on AWS Lambda, a virtual machine that has failed once is not trusted with another call.
            boolean broken = e instanceof VirtualMachineError && !Failure.isWantOfThreads(e);
            kind = broken ? Channel.LAST_ERROR : Channel.ERROR;
            answer = Failure.describe(e);
        }
        flush();
        channel.answer(kind, payload, (System.nanoTime() - begun) / 1000, answer);
        if (kind == Channel.LAST_ERROR) {
            Runtime.getRuntime().halt(1);
        }
        // The function may have left the thread marked: it is ours again.
        Thread.interrupted();
    }

    private static void trace(Call call) {
        if (call.trace() != null) {
            System.setProperty(TRACE, call.trace());
        } else if (System.getProperty(TRACE) != null) {
            System.clearProperty(TRACE);
        }
    }

    /** Ends as the virtual machine itself does where it runs out: what threw the error may not have been the virtual machine. */
    private void endIfOutOfMemory(Throwable e) {
        if (e instanceof OutOfMemoryError && !Failure.isWantOfThreads(e)) {
            flush();
            Runtime.getRuntime().halt(OUT_OF_MEMORY);
        }
    }

    /** Hands on what was printed without a line end, also by way of streams that the function has put in their place. */
    private void flush() {
        for (PrintStream stream : streams) {
            stream.flush();
        }
        if (System.out != streams[0]) {
            flush(System.out);
        }
        if (System.err != streams[1]) {
            flush(System.err);
        }
    }

    private static void flush(PrintStream stream) {
        try {
            stream.flush();
        } catch (RuntimeException e) {
            // The function's own stream, and its own affair.
        }
    }
}
