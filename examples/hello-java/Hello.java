import java.util.Map;

/** Greets whoever the query parameter {@code name} says. */
public class Hello {
    private static final int NAME_CHARS = 100;

    /** What this handler asks of an event: the rest of it is left out. */
    public record Request(Map<String, String> queryStringParameters) {}

    /** An answer with everything that HTTP has. */
    public record Answer(int statusCode, Map<String, String> headers, String body) {}

    /** What a call tells about itself: some of the methods of AWS Lambda's {@code Context}, which could stand here instead. */
    public interface Context {
        String getFunctionName();

        String getFunctionVersion();

        String getAwsRequestId();

        int getRemainingTimeInMillis();
    }

    /** Answers a request to the function's URL: {@code ?name=Ada} says who is greeted. */
    public Answer handle(Request request, Context context) {
        Map<String, String> query = request.queryStringParameters();
        String name = query == null ? "world" : query.getOrDefault("name", "world");
        if (name.isBlank() || name.length() > NAME_CHARS) {
            return text(400, "name has to have 1 to " + NAME_CHARS + " characters\n");
        }
        System.out.println("greeting " + name);
        return text(200, """
                Hello, %s, from %s:%s in Java %s
                call %s has %d ms left
                """.formatted(
                name,
                context.getFunctionName(),
                context.getFunctionVersion(),
                Runtime.version(),
                context.getAwsRequestId(),
                context.getRemainingTimeInMillis()));
    }

    private static Answer text(int status, String body) {
        return new Answer(status, Map.of("content-type", "text/plain; charset=utf-8"), body);
    }
}
