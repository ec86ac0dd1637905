/** Answers in pieces. */
final class StreamTests {
    private StreamTests() {}

    static void what_is_flushed_goes_out() throws Exception {
        try (Instance instance = Instance.ready(Tests.functions, "Streams::pieces")) {
            for (int i = 0; i < 2; i++) {
                Tests.same("{}|a|b|c", instance.stream("a|b|c"));
            }
            Tests.same("{}|data: 1\n\n|data: 2\n\n", instance.stream("data: 1\n\n|data: 2\n\n"));
        }
    }

    static void json_is_held() throws Exception {
        try (Instance instance = Instance.ready(Tests.functions, "Streams::pieces")) {
            Tests.answers(instance, "{\"a\"|:1}", "{\"a\":1}");
            Tests.answers(instance, " [1|,2]", " [1,2]");
            Tests.answers(instance, "\"te|xt\"", "\"text\"");
            Tests.answers(instance, "|", "null");
        }
    }

    static void an_object_and_zeros_are_status_and_headers() throws Exception {
        try (Instance instance = Instance.ready(Tests.functions, "Streams::pieces")) {
            Tests.same("{\"statusCode\":201}|x|y", instance.stream("{\"statusCode\":|201}~~~|~~~~~x|y"));
            Tests.same("{\"statusCode\":201}", instance.stream("{\"statusCode\":201}~~~~~~~~"));
        }
    }

    static void an_error_behind_the_first_piece_cuts_the_answer() throws Exception {
        try (Instance instance = Instance.ready(Tests.functions, "Streams::pieces")) {
            Tests.holds(instance.stream("a|!"), "{}|a|{\"errorMessage\":\"half-way\"");
            Tests.fails(instance, "!", "half-way");
            Tests.same("{}|b", instance.stream("b"));
        }
    }

    static void large_answers_go_out_unasked() throws Exception {
        try (Instance instance = Instance.ready(Tests.functions, "Streams::large")) {
            String[] pieces = instance.stream("").split("[|]");
            int length = 0;
            for (int i = 1; i < pieces.length; i++) {
                length += pieces[i].length();
            }
            Tests.same(500_000, length);
            Tests.same("abc", pieces[1].substring(0, 3));
        }
    }

    static void what_is_written_after_the_end_is_nobodys() throws Exception {
        try (Instance instance = Instance.ready(Tests.functions, "Streams::late")) {
            for (int i = 0; i < 3; i++) {
                Tests.same("{}|x", instance.stream(""));
            }
        }
    }
}
