import java.nio.charset.StandardCharsets;

/** One call after the other: context, errors, ends. */
final class CallTests {
    private CallTests() {}

    private static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    static void the_context_is_an_interface_of_the_function() throws Exception {
        try (Instance instance = Instance.ready(Tests.functions, "Calls::context")) {
            String extra = "{\"trace\":\"Root=1-2\",\"arn\":\"arn:of:alias\",\"client_context\":\"{\\\"custom\\\":{\\\"a\\\":\\\"b\\\"}}\"}";
            String told = instance.call(bytes("{}"), extra, System.currentTimeMillis() + 10_000).body();
            Tests.same("[\"" + Instance.ID + "\",\"hello\",\"7\",\"arn:of:alias\",128,\"/aws/lambda/hello\",\"stream-1\",true,\"b\",\"Root=1-2\",\"default\"]", told);
            told = instance.call(bytes("{}"), "", 5).body();
            Tests.holds(told, "arn:aws:lambda:local:000000000000:function:hello:7", "false,null,null,\"default\"");
            Instance.Answer refused = instance.call(bytes("{}"), "{\"client_context\":\"[]\"}", 5);
            Tests.holds(refused.body(), "Runtime.LambdaContextUnmarshalError");
        }
    }

    static void errors_have_the_form_of_aws() throws Exception {
        try (Instance instance = Instance.ready(Tests.functions, "Calls::fail")) {
            String error = instance.call("\"cause\"").body();
            Tests.holds(error, "{\"errorMessage\":\"outer\",\"errorType\":\"java.lang.IllegalStateException\",\"stackTrace\":[\"Calls.fail(Calls.java:",
                    "\"cause\":{\"errorMessage\":\"inner\",\"errorType\":\"java.io.IOException\"");
            if (error.contains("hanshu.") || error.contains("reflect")) {
                throw new AssertionError("our own frames: " + error);
            }
            Tests.fails(instance, "\"silent\"", "\"errorMessage\":\"java.lang.NullPointerException\"");
            Tests.fails(instance, "\"unspeakable\"", "an error that cannot be shown", "Calls$Unspeakable");
            Tests.fails(instance, "\"circle\"", "\"errorMessage\":\"circle\"");
            Tests.fails(instance, "\"linkage\"", "java.lang.NoClassDefFoundError");
            Tests.answers(instance, "\"well\"", "\"well\"");
            Instance.Answer large = instance.call("\"large\"");
            Tests.same(Instance.ERROR, large.kind());
            if (large.payloadChars() > 6 << 20) {
                throw new AssertionError("too large: " + large.payloadChars());
            }
        }
    }

    static void a_broken_machine_gets_no_further_call() throws Exception {
        try (Instance instance = Instance.ready(Tests.functions, "Calls::end")) {
            Instance.Answer answer = instance.call("\"overflow\"");
            Tests.same(Instance.LAST_ERROR, answer.kind());
            Tests.holds(answer.body(), "java.lang.StackOverflowError");
            Tests.same(1, instance.ended());
        }
    }

    static void ends_have_their_status() throws Exception {
        ended("exit", 7);
        ended("memory", 3);
        ended("direct", 3);
        try (Instance instance = Instance.ready(Tests.functions, "Calls::end", "-XX:+ExitOnOutOfMemoryError")) {
            instance.send(Instance.INIT, new byte[0]);
            Tests.same(1, instance.ended());
        }
        Instance closed = Instance.ready(Tests.functions, "Calls::end");
        closed.hangUp();
        Tests.same(0, closed.ended());
    }

    private static void ended(String how, int status) throws Exception {
        try (Instance instance = Instance.ready(Tests.functions, "Calls::end", "-XX:+ExitOnOutOfMemoryError")) {
            try {
                throw new IllegalStateException(instance.call('"' + how + '"').toString());
            } catch (AssertionError e) {
                Tests.same(status, instance.ended());
            }
        }
    }

    static void output_is_handed_on_before_the_answer() throws Exception {
        try (Instance instance = Instance.ready(Tests.functions, "Calls::print")) {
            Tests.answers(instance, "\"no line end\"", "null");
            Tests.same("loading|no line endno line end", instance.printed());
        }
    }

    static void what_a_call_leaves_behind_does_not_touch_the_next() throws Exception {
        try (Instance instance = Instance.ready(Tests.functions, "Calls::litter")) {
            for (int i = 1; i <= 3; i++) {
                Tests.answers(instance, "{}", "[" + i + ",false,true]");
            }
        }
    }

    static void time_is_told_and_output_is_not_counted() throws Exception {
        try (Instance instance = Instance.ready(Tests.functions, "Calls::slow")) {
            byte[] told = instance.call("{}").told();
            long micros = (told[0] & 0xFFL) | (told[1] & 0xFFL) << 8 | (told[2] & 0xFFL) << 16 | (told[3] & 0xFFL) << 24;
            if (micros < 50_000 || micros > 20_000_000) {
                throw new AssertionError("told " + micros + " µs");
            }
            for (int i = 4; i < 12; i++) {
                Tests.same((byte) 0xFF, told[i]);
            }
        }
    }
}
