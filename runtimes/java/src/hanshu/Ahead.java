package hanshu;

import java.io.IOException;
import java.net.URLClassLoader;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.List;
import java.util.Map;

/**
 * A process that is started ahead of its function: {@link #warm} before there is one, {@link #adopt} when there is.
 *
 * <p>Warm means that the virtual machine has loaded, linked and partly compiled what a start and a call pass. The way leads through INIT by the code on
 * disk, classes in a folder and in a jar, to the answer, with handlers of each form ({@code ahead.java}); reading and writing end at devices.
 */
final class Ahead {
    /** How often: the compiler takes up what has run two hundred times. */
    private static final int CALLS = 300;
    /** What loads the virtual machine's parts once, and what is called now and then. */
    private static final int LOADS = 3;
    /** So many calls use a megabyte. */
    private static final int TIDY = 75;
    /** Calls of the simplest form, as they come from a function's URL. */
    private static final String EVENT = "{\"version\":\"2.0\",\"routeKey\":\"$default\",\"rawPath\":\"/\",\"rawQueryString\":\"a=b\","
            + "\"headers\":{\"host\":\"127.0.0.1:80\",\"accept\":\"*/*\",\"user-agent\":\"x/1.0\"},\"isBase64Encoded\":false,\"list\":[1,2.5,true,null],"
            + "\"requestContext\":{\"http\":{\"method\":\"GET\",\"path\":\"/\",\"protocol\":\"HTTP/1.1\",\"sourceIp\":\"127.0.0.1\",\"userAgent\":\"x/1.0\"},"
            + "\"time\":\"01/Jan/2026:00:00:00 +0000\",\"timeEpoch\":1767225600000},\"text\":\"\\u00fc\\n\"}";
    private static final String EXTRA = "{\"trace\":\"Root=1\",\"arn\":\"arn\"}";
    /** The interface of a bean: getters, setters, a generic list, a number that is exact. */
    private static final String BEAN = "{\"name\":\"n\",\"count\":1,\"price\":1.5,\"parts\":[{\"name\":\"p\"}]}";

    private static String home;
    private static Surroundings surroundings;

    private Ahead() {}

    /** Takes the way of starts and calls, leaving nothing behind that a function could tell. */
    static void warm() throws Throwable {
        // Not what the process was started with, as far as a function can ask.
        System.setProperty("sun.java.command", Main.class.getName());
        home = Main.class.getProtectionDomain().getCodeSource().getLocation().getPath();
        home = home.endsWith("/") ? home.substring(0, home.length() - 1) : home;
        surroundings = new Surroundings(home);
        pass(false);
        System.gc();
    }

    /** Waits to be forked, once warm; returns in children alone. One that nobody waits for yet takes hold of the memory that its first call writes to. */
    static void fork(Channel channel) throws Throwable {
        if (Zygote.fork(home, surroundings.memory, channel)) {
            pass(true);
        }
    }

    /** The way of starts and calls: with handlers of each form, again and again, or once with the simplest. */
    private static void pass(boolean once) throws Throwable {
        ClassLoader before = Thread.currentThread().getContextClassLoader();
        try (Channel nowhere = new Channel("/dev/zero", "/dev/null")) {
            Main main = new Main(nowhere);
            if (once) {
                call(main, load(main, home, "answer"), EVENT, "", 1);
            }
            for (int i = 0; i < LOADS && !once; i++) {
                call(main, load(main, home, "copy"), EVENT, "", 1);
                call(main, load(main, home, "bean"), BEAN, "", LOADS);
                call(main, load(main, home, "context"), EVENT, EXTRA, LOADS);
                call(main, load(main, home, "fail"), EVENT, "", LOADS);
                call(main, load(main, home, "answer"), EVENT, "", i == 0 ? CALLS : LOADS);
                main.refuse(new Fault("", ""));
            }
        }
        CallContext.function = Map.of();
        Thread.currentThread().setContextClassLoader(before);
    }

    /** As INIT of a function does, with variables and a folder that are as they were. */
    private static Handler load(Main main, String home, String method) throws Throwable {
        String variable = "LAMBDA_RUNTIME_DIR";
        String value = System.getenv(variable);
        String environment = value == null ? "" : '"' + variable + '=' + value + '"';
        String init = "{\"handler\":\"ahead::" + method + "\",\"task_root\":\"" + home + "\",\"function\":{\"name\":\"ahead\",\"memory_mb\":128},"
                + "\"environment\":[" + environment + "]}";
        return main.load(init.getBytes(StandardCharsets.UTF_8), System.getProperty("user.dir"));
    }

    private static void call(Main main, Handler handler, String event, String extra, int times) throws Exception {
        byte[] body = (extra + event).getBytes(StandardCharsets.UTF_8);
        byte[] call = new byte[Call.ID_BYTES + 12 + body.length];
        Arrays.fill(call, 0, Call.ID_BYTES, (byte) '0');
        call[Call.ID_BYTES + 8] = (byte) extra.length();
        System.arraycopy(body, 0, call, Call.ID_BYTES + 12, body.length);
        for (int i = 0; i < times; i++) {
            if (i % TIDY == 0 && times > 1) {
                // Memory that was never used costs nothing: so little of it is, again and again. A child's single call is not worth it, as the collector writes to all.
                System.gc();
            }
            main.receive();
            main.answer(handler, new Frame(Channel.INVOKE, call));
        }
        // The jars would stay open otherwise.
        ((URLClassLoader) Thread.currentThread().getContextClassLoader()).close();
    }

    /** Becomes the function's process: what {@code exec} would have given it. */
    static void adopt(List<?> environment, String folder) {
        for (Object variable : environment) {
            String text = (String) variable;
            int at = text.indexOf('=');
            surroundings.variable(text.substring(0, at), text.substring(at + 1));
        }
        surroundings.folder(folder);
    }
}
