import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.util.Arrays;
import java.util.Comparator;

/** Runs every test, one after the other: {@code java Tests FUNCTIONS AWS}, the folders with the classes that the tests load. */
public final class Tests {
    /** Where the functions of these tests lie, compiled. */
    static String functions;
    /** Where those lie that use AWS Lambda's library, with the library in {@code lib}. */
    static String aws;

    private Tests() {}

    public static void main(String[] arguments) throws Exception {
        functions = arguments[0];
        aws = arguments[1];
        int passed = 0;
        int failed = 0;
        for (Class<?> suite : new Class<?>[] {LoadingTests.class, ValueTests.class, CallTests.class, AheadTests.class, StreamTests.class, AwsTests.class}) {
            Method[] tests = suite.getDeclaredMethods();
            Arrays.sort(tests, Comparator.comparing(Method::getName));
            for (Method test : tests) {
                if (test.isSynthetic() || test.getParameterCount() > 0) {
                    continue;
                }
                String name = suite.getSimpleName() + "." + test.getName();
                try {
                    test.invoke(null);
                    passed++;
                    System.out.println("ok " + name);
                } catch (InvocationTargetException e) {
                    failed++;
                    System.out.println("not ok " + name);
                    e.getCause().printStackTrace(System.out);
                }
            }
        }
        System.out.println("# pass " + passed + "\n# fail " + failed);
        System.exit(failed == 0 ? 0 : 1);
    }

    static void same(Object expected, Object actual) {
        if (!expected.equals(actual)) {
            throw new AssertionError("expected " + expected + "\n     was " + actual);
        }
    }

    static void holds(String text, String... parts) {
        for (String part : parts) {
            if (!text.contains(part)) {
                throw new AssertionError("no " + part + " in " + text);
            }
        }
    }

    /** A call of an instance that answers: this body. */
    static void answers(Instance instance, String event, String expected) throws Exception {
        Instance.Answer answer = instance.call(event);
        same("19 " + expected, answer.kind() + " " + answer.body());
    }

    /** A call that fails, with an error that holds these words. */
    static void fails(Instance instance, String event, String... words) throws Exception {
        Instance.Answer answer = instance.call(event);
        same(Instance.ERROR, answer.kind());
        holds(answer.body(), words);
    }
}
