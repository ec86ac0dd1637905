package hanshu;

import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.File;
import java.io.InputStream;
import java.io.OutputStream;
import java.lang.reflect.Constructor;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.lang.reflect.Modifier;
import java.lang.reflect.Type;
import java.net.MalformedURLException;
import java.net.URL;
import java.net.URLClassLoader;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.List;

/**
 * Finds what a handler string stands for: {@code package.Class::method}, or {@code package.Class}, whose method is {@code handleRequest}.
 *
 * <p>The method takes an event, or an event and a context, or a context alone where that is an interface of the right name, or nothing; or it takes
 * an {@code InputStream} and an {@code OutputStream}, and may take a context behind them. The interfaces of AWS Lambda's library are such.
 */
final class Loader {
    /** Where layers have their libraries. */
    private static final String LAYERS = "/opt/java/lib";
    private static final String DEFAULT_METHOD = "handleRequest";
    private static final String CONTEXT = "Context";

    private Loader() {}

    /** Loads the handler from the code in {@code root}; throws what its class throws while it is loaded. */
    static Handler load(String name, String root) throws Throwable {
        int colons = name.indexOf("::");
        String className = (colons < 0 ? name : name.substring(0, colons)).replace('/', '.');
        String methodName = colons < 0 ? DEFAULT_METHOD : name.substring(colons + 2);
        if (className.isEmpty() || methodName.isEmpty()) {
            throw new Fault("Runtime.MalformedHandlerName", "Bad handler '" + name + "': expected PACKAGE.CLASS::METHOD or PACKAGE.CLASS");
        }
        ClassLoader loader = new URLClassLoader(classPath(root), ClassLoader.getPlatformClassLoader());
        Thread.currentThread().setContextClassLoader(loader);
        Class<?> type;
        try {
            type = Class.forName(className, true, loader);
        } catch (ClassNotFoundException e) {
            // It may be another class that is missing.
            throw className.equals(e.getMessage()) ? new Fault(e.getClass().getName(), "Class not found: " + className) : e;
        } catch (ExceptionInInitializerError e) {
            throw e.getCause() == null ? e : e.getCause();
        }
        return handler(type, methodName, loader);
    }

    /** The code itself, jars beside it and in {@code lib}, jars of layers; of each folder in the order of their names. */
    private static URL[] classPath(String root) throws MalformedURLException {
        List<URL> path = new ArrayList<>();
        path.add(new File(root + "/").toURI().toURL());
        for (String folder : new String[] {root, root + "/lib", LAYERS}) {
            String[] jars = new File(folder).list((in, file) -> file.endsWith(".jar"));
            if (jars != null) {
                Arrays.sort(jars);
                for (String jar : jars) {
                    path.add(new File(folder, jar).toURI().toURL());
                }
            }
        }
        return path.toArray(new URL[0]);
    }

    private static Handler handler(Class<?> type, String name, ClassLoader loader) throws Throwable {
        Method method = Arrays.stream(type.getMethods())
                .filter(m -> m.getName().equals(name) && !m.isBridge() && isCallable(m))
                // The one that is told most; of equals always the same.
                .max(Comparator.comparingInt(Loader::rank).thenComparing(Method::toGenericString))
                .orElseThrow(() -> new Fault(
                        "java.lang.NoSuchMethodException",
                        "No public method named " + name + " with appropriate method signature found on class " + type.getName()
                                + ": expected an event, streams, and perhaps a context"));
        method.setAccessible(true);
        Object instance = Modifier.isStatic(method.getModifiers()) ? null : instance(type);
        return isStreams(method) ? streams(method, instance, loader) : values(type, method, instance, loader);
    }

    private static Object instance(Class<?> type) throws Throwable {
        Constructor<?> constructor;
        try {
            constructor = type.getDeclaredConstructor();
        } catch (NoSuchMethodException e) {
            throw new Fault("java.lang.NoSuchMethodException", "Class " + type.getName() + " has no constructor without arguments");
        }
        constructor.setAccessible(true);
        try {
            return constructor.newInstance();
        } catch (InstantiationException e) {
            throw new Fault("java.lang.InstantiationException", "Class " + type.getName() + " is abstract");
        } catch (InvocationTargetException e) {
            throw e.getCause();
        }
    }

    private static boolean isCallable(Method method) {
        int count = method.getParameterCount();
        Class<?>[] types = method.getParameterTypes();
        boolean streams = isStreams(method);
        boolean context = count > 1 && isContext(types[count - 1]);
        return streams ? count == 2 || count == 3 && context : count < 2 || count == 2 && context;
    }

    private static int rank(Method method) {
        return method.getParameterCount();
    }

    private static boolean isStreams(Method method) {
        Class<?>[] types = method.getParameterTypes();
        return types.length >= 2 && types[0] == InputStream.class && types[1] == OutputStream.class;
    }

    /** Whether a parameter is answered by {@link CallContext}: any interface of that name, whoever made it. */
    private static boolean isContext(Class<?> type) {
        return type.isInterface() && type.getSimpleName().endsWith(CONTEXT);
    }

    private static Handler values(Class<?> type, Method method, Object instance, ClassLoader loader) {
        Class<?>[] types = method.getParameterTypes();
        boolean context = types.length > 0 && isContext(types[types.length - 1]);
        boolean event = types.length > (context ? 1 : 0);
        Type eventType = event ? Types.in(type, method.getGenericParameterTypes()[0]) : null;
        return call -> {
            Object[] arguments = new Object[types.length];
            if (event) {
                arguments[0] = Decoder.decode(call.event(), eventType);
            }
            if (context) {
                arguments[types.length - 1] = CallContext.of(types[types.length - 1], call);
            }
            Object answer = invoke(method, instance, arguments, loader);
            try {
                return Encoder.encode(answer);
            } catch (VirtualMachineError | Fault e) {
                throw e;
            } catch (Throwable e) {
                throw Fault.marshal(e.toString());
            }
        };
    }

    private static Handler streams(Method method, Object instance, ClassLoader loader) {
        Class<?>[] types = method.getParameterTypes();
        return call -> {
            ByteArrayOutputStream out = new ByteArrayOutputStream();
            byte[] event = call.eventAt() == call.frame().length ? "{}".getBytes(StandardCharsets.US_ASCII) : null;
            InputStream in = event != null
                    ? new ByteArrayInputStream(event)
                    : new ByteArrayInputStream(call.frame(), call.eventAt(), call.frame().length - call.eventAt());
            Object[] arguments = types.length == 2 ? new Object[] {in, out} : new Object[] {in, out, CallContext.of(types[2], call)};
            invoke(method, instance, arguments, loader);
            return checked(out.toByteArray());
        };
    }

    /** What a handler wrote itself is passed on as it is, if it is what it has to be. */
    private static byte[] checked(byte[] answer) throws Fault {
        if (answer.length == 0) {
            return "null".getBytes(StandardCharsets.US_ASCII);
        }
        try {
            Decoder.natural(Decoder.text(answer, 0, answer.length));
            return answer;
        } catch (Fault e) {
            throw Fault.marshal("the stream is no JSON: " + e.getMessage());
        }
    }

    private static Object invoke(Method method, Object instance, Object[] arguments, ClassLoader loader) throws Throwable {
        Thread.currentThread().setContextClassLoader(loader);
        return Shape.call(method, instance, arguments);
    }
}
