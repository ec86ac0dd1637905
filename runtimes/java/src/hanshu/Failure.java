package hanshu;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** Errors in the form of AWS Lambda, as JSON. */
final class Failure {
    /** Bounds of an error's JSON, so that it fits a frame whatever was thrown: a character takes at most 6 bytes. */
    private static final int MESSAGE_CHARS = 256 * 1024;
    private static final int TRACE_ENTRIES = 200;
    private static final int CAUSES = 10;
    private static final int CAUSE_MESSAGE_CHARS = 8 * 1024;
    private static final int CAUSE_TRACE_ENTRIES = 50;
    private static final int NAME_CHARS = 512;

    private static final String OWN = "hanshu.";

    private Failure() {}

    /** {@code errorMessage}, {@code errorType}, {@code stackTrace} and {@code cause} of an error. Never throws, whatever was thrown. */
    static byte[] describe(Throwable e) {
        try {
            Map<String, Object> all = one(e, MESSAGE_CHARS, TRACE_ENTRIES);
            Map<String, Object> last = all;
            Throwable cause = causeOf(e);
            for (int i = 0; cause != null && i < CAUSES; i++) {
                Map<String, Object> next = one(cause, CAUSE_MESSAGE_CHARS, CAUSE_TRACE_ENTRIES);
                last.put("cause", next);
                last = next;
                cause = causeOf(cause);
            }
            return Encoder.encode(all);
        } catch (Throwable other) {
            return "{\"errorMessage\":\"an error that cannot be shown\",\"errorType\":\"java.lang.Error\",\"stackTrace\":[]}"
                    .getBytes(StandardCharsets.UTF_8);
        }
    }

    /** Whether an {@link OutOfMemoryError} is one of threads or processes, which leaves memory and virtual machine as they are. */
    static boolean isWantOfThreads(Throwable e) {
        String message = e.getMessage();
        return e instanceof OutOfMemoryError && message != null && message.startsWith("unable to create native thread");
    }

    private static Map<String, Object> one(Throwable e, int messageChars, int traceEntries) {
        String type = e instanceof Fault fault ? fault.type() : e.getClass().getName();
        Map<String, Object> error = new LinkedHashMap<>();
        error.put("errorMessage", shortened(messageOf(e, type), messageChars));
        error.put("errorType", shortened(type, NAME_CHARS));
        error.put("stackTrace", traceOf(e, traceEntries));
        return error;
    }

    /** The function's own classes answer these questions, and may fail at it. */
    private static String messageOf(Throwable e, String type) {
        try {
            String message = e.getLocalizedMessage();
            return message == null ? type : message;
        } catch (RuntimeException | StackOverflowError other) {
            return "an error that cannot be shown";
        }
    }

    private static Throwable causeOf(Throwable e) {
        try {
            Throwable cause = e.getCause();
            return cause == e ? null : cause;
        } catch (RuntimeException | StackOverflowError other) {
            return null;
        }
    }

    private static List<String> traceOf(Throwable e, int most) {
        List<String> lines = new ArrayList<>();
        StackTraceElement[] trace = e.getStackTrace();
        int end = trace.length;
        // Who called the function is of no interest to it: our frames, and those of reflection between it and us.
        while (end > 0 && isOurs(trace[end - 1].getClassName())) {
            end--;
        }
        for (int i = 0; i < Math.min(end, most); i++) {
            lines.add(shortened(trace[i].toString(), NAME_CHARS));
        }
        return lines;
    }

    private static boolean isOurs(String name) {
        return name.startsWith(OWN)
                || name.startsWith("java.lang.reflect.")
                || name.startsWith("jdk.internal.reflect.")
                || name.startsWith("java.lang.invoke.");
    }

    private static String shortened(String text, int chars) {
        return text.length() <= chars ? text : text.substring(0, chars);
    }
}
