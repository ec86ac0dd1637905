package hanshu;

import java.lang.reflect.Method;
import java.lang.reflect.Type;

/** A method that takes the event as an object and returns the answer as one. */
final class ValueHandler implements Handler {
    private final Method method;
    private final Object instance;
    private final ClassLoader loader;
    private final Class<?>[] types;
    /** Null for a method that takes no event. */
    private final Type event;
    private final boolean context;

    ValueHandler(Class<?> type, Method method, Object instance, ClassLoader loader) {
        this.method = method;
        this.instance = instance;
        this.loader = loader;
        types = method.getParameterTypes();
        context = types.length > 0 && Loader.isContext(types[types.length - 1]);
        event = types.length > (context ? 1 : 0) ? Types.in(type, method.getGenericParameterTypes()[0]) : null;
    }

    @Override
    public byte[] handle(Call call, Channel channel) throws Throwable {
        Object[] arguments = new Object[types.length];
        if (event != null) {
            arguments[0] = Decoder.decode(call.event(), event);
        }
        if (context) {
            arguments[types.length - 1] = CallContext.of(types[types.length - 1], call);
        }
        Thread.currentThread().setContextClassLoader(loader);
        Object answer = Shape.call(method, instance, arguments);
        try {
            return Encoder.encode(answer);
        } catch (VirtualMachineError | Fault e) {
            throw e;
        } catch (Throwable e) {
            throw Fault.marshal(e.toString());
        }
    }
}
