package hanshu;

import java.io.File;
import java.io.InputStream;
import java.io.OutputStream;
import java.lang.reflect.Constructor;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.lang.reflect.Modifier;
import java.net.MalformedURLException;
import java.net.URL;
import java.net.URLClassLoader;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

/**
 * Finds what a handler string stands for: {@code package.Class::method}, or {@code package.Class}, whose method is {@code handleRequest}.
 *
 * <p>The method takes an event, or an event and a context, or a context alone where that is an interface of the right name, or nothing; or it takes
 * an {@code InputStream} and an {@code OutputStream}, and may take a context behind them. The interfaces of AWS Lambda's library are such.
 *
 * <p>Here and in what every start passes there is no arrow function: the first one costs the virtual machine more than 10 ms.
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
            String[] files = new File(folder).list();
            if (files != null) {
                Arrays.sort(files);
                for (String file : files) {
                    if (file.endsWith(".jar")) {
                        path.add(new File(folder, file).toURI().toURL());
                    }
                }
            }
        }
        return path.toArray(new URL[0]);
    }

    private static Handler handler(Class<?> type, String name, ClassLoader loader) throws Throwable {
        Method method = null;
        for (Method candidate : type.getMethods()) {
            boolean fits = candidate.getName().equals(name) && !candidate.isBridge() && isCallable(candidate);
            if (fits && (method == null || isBetter(candidate, method))) {
                method = candidate;
            }
        }
        if (method == null) {
            throw new Fault(
                    "java.lang.NoSuchMethodException",
                    "No public method named " + name + " with appropriate method signature found on class " + type.getName()
                            + ": expected an event, streams, and perhaps a context");
        }
        method.setAccessible(true);
        Object instance = Modifier.isStatic(method.getModifiers()) ? null : instance(type);
        return isStreams(method) ? new StreamHandler(method, instance, loader) : new ValueHandler(type, method, instance, loader);
    }

    /** The one that is told most; of equals always the same. */
    private static boolean isBetter(Method one, Method other) {
        int more = one.getParameterCount() - other.getParameterCount();
        return more != 0 ? more > 0 : one.toGenericString().compareTo(other.toGenericString()) > 0;
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

    private static boolean isStreams(Method method) {
        Class<?>[] types = method.getParameterTypes();
        return types.length >= 2 && types[0] == InputStream.class && types[1] == OutputStream.class;
    }

    /** Whether a parameter is answered by {@link CallContext}: any interface of that name, whoever made it. */
    static boolean isContext(Class<?> type) {
        return type.isInterface() && type.getSimpleName().endsWith(CONTEXT);
    }
}
