package hello;

import com.amazonaws.services.lambda.runtime.Context;
import com.amazonaws.services.lambda.runtime.RequestHandler;
import java.util.Map;

/** Greets whoever the event's {@code name} says, or the query parameter of that name. */
public class Hello implements RequestHandler<Hello.Event, Map<String, String>> {
    /** What this handler asks of an event: the rest of it is left out. */
    public record Event(String name, Map<String, String> queryStringParameters) {}

    @Override
    public Map<String, String> handleRequest(Event event, Context context) {
        context.getLogger().log("request " + context.getAwsRequestId());
        String name = event.name();
        if (name == null && event.queryStringParameters() != null) {
            name = event.queryStringParameters().get("name");
        }
        return Map.of("message", "Hello, " + (name == null ? "world" : name));
    }
}
