import com.amazonaws.services.lambda.runtime.Context;
import java.util.Map;

public class Main {
    public Map<String, Object> handler(Map<String, Object> event, Context context) {
        if ("fail".equals(event.get("op"))) {
            throw new IllegalArgumentException("not today");
        }
        return Map.of("event", event, "left", context.getRemainingTimeInMillis());
    }

    public static class Broken {
        public Broken() {
            throw new IllegalStateException("not today");
        }

        public Object handler(Object event) {
            return event;
        }
    }
}
