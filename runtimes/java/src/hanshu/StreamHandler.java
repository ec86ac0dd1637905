package hanshu;

import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.lang.reflect.Method;
import java.nio.charset.StandardCharsets;

/** A method that reads the event from a stream and writes the answer to another. */
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
    public byte[] handle(Call call) throws Throwable {
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        byte[] frame = call.frame();
        int bytes = frame.length - call.eventAt();
        ByteArrayInputStream in = bytes == 0 ? new ByteArrayInputStream(ascii("{}")) : new ByteArrayInputStream(frame, call.eventAt(), bytes);
        Class<?>[] types = method.getParameterTypes();
        Object[] arguments = types.length == 2 ? new Object[] {in, out} : new Object[] {in, out, CallContext.of(types[2], call)};
        Thread.currentThread().setContextClassLoader(loader);
        Shape.call(method, instance, arguments);
        return checked(out.toByteArray());
    }

    /** What a handler wrote itself is passed on as it is, if it is what it has to be. */
    private static byte[] checked(byte[] answer) throws Fault {
        if (answer.length == 0) {
            return ascii("null");
        }
        try {
            Decoder.natural(Decoder.text(answer, 0, answer.length));
            return answer;
        } catch (Fault e) {
            throw Fault.marshal("the stream is no JSON: " + e.getMessage());
        }
    }

    private static byte[] ascii(String text) {
        return text.getBytes(StandardCharsets.US_ASCII);
    }
}
