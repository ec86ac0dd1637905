import java.nio.charset.StandardCharsets;

/** Functions with the official {@code aws-lambda-java-core} and {@code aws-lambda-java-events}. */
final class AwsTests {
    private AwsTests() {}

    private static void answers(String handler, String event, String expected) throws Exception {
        try (Instance instance = Instance.ready(Tests.aws, handler)) {
            Tests.answers(instance, event, expected);
        }
    }

    static void request_handlers_are_called_with_their_context() throws Exception {
        try (Instance instance = Instance.ready(Tests.aws, "aws.Handlers$Maps")) {
            Tests.answers(instance, "{\"key\":\"value\"}", "\"value " + Instance.ID + " 128 true null\"");
            Tests.same("said by hello\nas bytes\n", instance.printed());
        }
        try (Instance instance = Instance.ready(Tests.aws, "aws.Handlers$Client::handleRequest")) {
            String extra = "{\"client_context\":\"{\\\"client\\\":{\\\"app_title\\\":\\\"t\\\"},\\\"custom\\\":{\\\"a\\\":\\\"b\\\"},\\\"env\\\":{\\\"e\\\":\\\"f\\\"}}\"}";
            String body = instance.call("{}".getBytes(StandardCharsets.UTF_8), extra, Long.MAX_VALUE).body();
            Tests.same("[\"t\",\"b\",\"f\"]", body);
        }
        answers("aws.Handlers$Streams", "{\"a\": 1}", "{\"a\": 1}");
    }

    static void events_of_gateways() throws Exception {
        answers("aws.Handlers$Http::handleRequest",
                "{\"version\":\"2.0\",\"rawPath\":\"/a\",\"queryStringParameters\":{\"q\":\"1\"},\"isBase64Encoded\":true,"
                        + "\"requestContext\":{\"http\":{\"method\":\"PUT\"},\"timeEpoch\":1700000000000}}",
                "{\"statusCode\":201,\"headers\":{\"a\":\"PUT\"},\"multiValueHeaders\":null,\"cookies\":null,\"body\":\"/a true {q=1}\",\"isBase64Encoded\":true}");
        answers("aws.Handlers::proxy", "{\"path\":\"/b\",\"isBase64Encoded\":false}",
                "{\"statusCode\":200,\"headers\":null,\"multiValueHeaders\":null,\"body\":\"/b\",\"isBase64Encoded\":false}");
    }

    static void events_of_queues_buckets_streams_and_tables() throws Exception {
        answers("aws.Handlers::queue",
                "{\"Records\":[{\"messageId\":\"m\",\"eventSourceARN\":\"arn\",\"attributes\":{\"x\":\"y\"},\"md5OfBody\":\"d\"}]}",
                "{\"batchItemFailures\":[{\"itemIdentifier\":\"marny\"}]}");
        answers("aws.Handlers::bucket",
                "{\"Records\":[{\"eventTime\":\"2026-02-03T04:05:06.000Z\",\"s3\":{\"bucket\":{\"name\":\"b\"},\"object\":{\"key\":\"k\",\"size\":5000000000}}}]}",
                "\"b 5000000000 2026\"");
        answers("aws.Handlers::stream",
                "{\"Records\":[{\"kinesis\":{\"data\":\"aGVsbG8=\",\"approximateArrivalTimestamp\":1545084650.987}}]}",
                "\"hello 1545084650987\"");
        answers("aws.Handlers::table",
                "{\"Records\":[{\"dynamodb\":{\"NewImage\":{\"name\":{\"S\":\"n\"},\"age\":{\"N\":\"7\"},\"tags\":{\"SS\":[\"a\",\"b\"]},\"on\":{\"BOOL\":true}}}}]}",
                "\"n 7 [a, b] true\"");
    }
}
