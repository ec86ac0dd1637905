/** Processes that are started ahead of their function: what it finds is what a plain start gives it. */
final class AheadTests {
    private AheadTests() {}

    private static Instance ahead(String handler, String environment) throws Exception {
        Instance instance = new Instance(Tests.functions, handler, environment, new String[] {});
        instance.expect(Instance.READY);
        return instance;
    }

    static void variables_and_folder_are_the_processs_own() throws Exception {
        String folder = new java.io.File(Tests.functions).getCanonicalPath();
        try (Instance instance = ahead("Surrounded::see", "[\"OWN=a=b \u00fc\",\"EMPTY=\"]")) {
            Tests.answers(instance, "{}", "[\"a=b \u00fc\",\"\",\"a=b \u00fc|" + folder + "\",true,\"hanshu.Main\"]");
        }
    }

    static void nothing_is_printed_and_calls_are_counted_from_the_first() throws Exception {
        try (Instance instance = ahead("Calls::print", "[]")) {
            Tests.answers(instance, "\"text\"", "null");
            Tests.same("loading|texttext", instance.printed());
        }
    }

    static void the_context_is_the_functions() throws Exception {
        try (Instance instance = ahead("Calls::context", "[]")) {
            String told = instance.call("{}").body();
            Tests.holds(told, "\"hello\",\"7\",\"arn:aws:lambda:local:000000000000:function:hello:7\"", "true,null,null,\"default\"");
        }
    }

    static void code_that_cannot_be_loaded_is_told() throws Exception {
        try (Instance instance = new Instance(Tests.functions, "Missing::handle", "[]", new String[] {})) {
            Tests.holds(instance.expect(Instance.INIT_ERROR).text(), "Class not found: Missing");
            Tests.same(1, instance.ended());
        }
    }
}
