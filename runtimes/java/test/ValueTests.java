import java.nio.charset.StandardCharsets;

/** Between JSON and Java. */
final class ValueTests {
    private ValueTests() {}

    static void values_come_back_as_they_were() throws Exception {
        try (Instance instance = Instance.ready(Tests.functions, "Plain::echo")) {
            for (String value : new String[] {
                "null", "true", "[]", "{}", "0", "-1", "2147483648", "9007199254740993", "12345678901234567890", "1.5", "-1.0E-7", "\"\"",
                "\"\\\"\\\\\\n\\r\\t\\u0000\\u001f\"", "\"äß😀\"", "\"\\ud83d\"", "[1,[2,[3,{\"a\":[null]}]]]", "{\"b\":1,\"a\":2}"
            }) {
                Tests.answers(instance, value, value);
            }
            Tests.answers(instance, " { \"a\" : [ 1 , 2 ] } \n", "{\"a\":[1,2]}");
            Tests.answers(instance, "\"\\u00e4\\/\\ud83d\\ude00\"", "\"ä/😀\"");
            Tests.answers(instance, "1e3", "1000.0");
            Tests.answers(instance, "", "{}");
            Tests.answers(instance, "[".repeat(1000) + "]".repeat(1000), "[".repeat(1000) + "]".repeat(1000));
        }
    }

    static void what_is_no_json_is_refused() throws Exception {
        try (Instance instance = Instance.ready(Tests.functions, "Plain::echo")) {
            for (String text : new String[] {
                "{", "[1,]", "{\"a\"}", "{\"a\":1,}", "01", "1.", "-", "+1", "tru", "\"a", "\"\n\"", "\"\\x\"", "\"\\u12g4\"", "1 2", "nul", "'a'", "NaN",
                "[".repeat(1001) + "]".repeat(1001), "1".repeat(2000)
            }) {
                Tests.fails(instance, text, "Runtime.UnmarshalError", "Unable to unmarshal input");
            }
            Instance.Answer answer = instance.call(new byte[] {'"', (byte) 0xff, '"'}, "", Long.MAX_VALUE);
            Tests.holds(answer.body(), "not valid UTF-8");
            Tests.answers(instance, "\"\uFFFD\"", "\"\uFFFD\"");
        }
    }

    static void natural_types_are_those_of_aws() throws Exception {
        try (Instance instance = Instance.ready(Tests.functions, "Plain::types")) {
            Tests.answers(instance, "[1,3000000000,1.5,12345678901234567890,\"x\",true,[],{},null]",
                    "[\"Integer\",\"Long\",\"Double\",\"BigInteger\",\"String\",\"Boolean\",\"ArrayList\",\"LinkedHashMap\",null]");
        }
    }

    static void plain_objects_are_filled_and_read() throws Exception {
        try (Instance instance = Instance.ready(Tests.functions, "Objects::bean")) {
            Tests.answers(instance, "{\"Name\":\"a\",\"count\":3,\"open\":\"x\",\"unknown\":[{}],\"secret\":\"s\",\"isReady\":true,\"parts\":[{\"name\":\"b\"}]}",
                    "{\"name\":\"a\",\"count\":3,\"parts\":[{\"name\":\"b\",\"count\":0,\"parts\":null,\"isReady\":false,\"open\":null,\"url\":\"u\"}],"
                            + "\"isReady\":true,\"open\":\"x\",\"url\":\"u\"}");
            Tests.fails(instance, "[]", "where Objects is expected");
            Tests.fails(instance, "{\"count\":1.5}", "1.5 where int is expected");
            Tests.fails(instance, "{\"count\":2147483648}", "where int is expected");
        }
        try (Instance instance = Instance.ready(Tests.functions, "Objects::bare")) {
            Tests.answers(instance, "{\"text\":\"set\"}", "{\"text\":\"set\"}");
        }
    }

    static void records_generics_and_library_types() throws Exception {
        String event = "{\"id\":9007199254740993,\"price\":0.1000,\"colour\":\"RED\",\"at\":\"2026-01-02T03:04:05Z\",\"uuid\":\"" + Instance.ID + "\","
                + "\"note\":\"n\",\"bytes\":\"AQID\",\"sums\":{\"a\":[1,2]},\"set\":[3,3],\"array\":[1.5],\"since\":1500000000.5}";
        try (Instance instance = Instance.ready(Tests.functions, "Objects::order")) {
            Tests.answers(instance, event, event.replace("[3,3]", "[3]").replace("1500000000.5", "1500000000500"));
            Tests.answers(instance, "{}", "{\"id\":0,\"price\":null,\"colour\":null,\"at\":null,\"uuid\":null,\"note\":null,\"bytes\":null,\"sums\":null,"
                    + "\"set\":null,\"array\":null,\"since\":null}");
            Tests.fails(instance, "{\"colour\":\"PINK\"}", "PINK", "Colour");
            Tests.fails(instance, "{\"at\":\"yesterday\"}", "yesterday");
        }
        try (Instance instance = Instance.ready(Tests.functions, "Objects$Child::handle")) {
            Tests.answers(instance, "[{\"text\":\"a\"}]", "\"1 Bare\"");
        }
        try (Instance instance = Instance.ready(Tests.functions, "Plain::sum")) {
            Tests.answers(instance, "[1,2,3]", "6");
        }
    }

    static void what_has_no_json_form_is_an_error() throws Exception {
        for (String handler : new String[] {"Plain::knot", "Plain::thing", "Plain::nan", "Plain::sulking"}) {
            try (Instance instance = Instance.ready(Tests.functions, handler)) {
                Tests.fails(instance, "{}", "Runtime.MarshalError", "Unable to marshal response");
            }
        }
    }

    static void streams_are_passed_on_as_they_are() throws Exception {
        try (Instance instance = Instance.ready(Tests.functions, "Streams::copy")) {
            Tests.answers(instance, " {\"a\" : 1.50}", " {\"a\" : 1.50}");
            Tests.answers(instance, "", "{}");
            Tests.fails(instance, "{not json", "Runtime.MarshalError");
            Tests.same("{}|not json", instance.stream("not json"));
            Tests.answers(instance, "true", "true");
        }
        try (Instance instance = Instance.ready(Tests.functions, "Streams::silent")) {
            Tests.answers(instance, "1", "null");
        }
    }

    static void the_largest_payloads_pass() throws Exception {
        String value = '"' + "y".repeat((6 << 20) - 2) + '"';
        try (Instance instance = Instance.ready(Tests.functions, "Plain::echo")) {
            Instance.Answer answer = instance.call(value.getBytes(StandardCharsets.UTF_8), "", Long.MAX_VALUE);
            Tests.same(value.length(), answer.body().length());
            Tests.same(value.hashCode(), answer.body().hashCode());
        }
    }
}
