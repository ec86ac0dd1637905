package hanshu;

import java.io.ByteArrayInputStream;
import java.lang.reflect.Method;
import java.nio.charset.StandardCharsets;

/** A method that reads the event from a stream and writes the answer to another: {@link Pieces}. */
final class StreamHandler implements Handler {
    private final Method method;
    private final Object instance;
    private final ClassLoader loader;

    StreamHandler(Method method, Object instance, ClassLoader loader) {
        this.method = method;
        this.instance = instance;
        this.loader = loader;
    }

    @Override
    public byte[] handle(Call call, Channel channel) throws Throwable {
        byte[] frame = call.frame();
        Pieces out = new Pieces(channel, frame);
        int bytes = frame.length - call.eventAt();
        ByteArrayInputStream in = bytes == 0 ? new ByteArrayInputStream(ascii("{}")) : new ByteArrayInputStream(frame, call.eventAt(), bytes);
        Class<?>[] types = method.getParameterTypes();
        Object[] arguments = types.length == 2 ? new Object[] {in, out} : new Object[] {in, out, CallContext.of(types[2], call)};
        Thread.currentThread().setContextClassLoader(loader);
        try {
            Shape.call(method, instance, arguments);
            return out.finish();
        } finally {
            out.end();
        }
    }

    private static byte[] ascii(String text) {
        return text.getBytes(StandardCharsets.US_ASCII);
    }
}
