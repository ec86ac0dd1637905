import java.util.Map;

public class Hello {
    /** What a call tells about itself: any of the methods of AWS Lambda's Context, which is taken as well. */
    public interface Context {
        String getAwsRequestId();
    }

    /** Called with the event (parsed JSON) and the context of the call; what it returns is the answer, as JSON. */
    public Map<String, Object> handle(Map<String, Object> event, Context context) {
        System.out.println("request " + context.getAwsRequestId() + " with " + event.size() + " keys");
        return Map.of("message", "Hello, " + event.getOrDefault("name", "world"));
    }
}
