import java.util.LinkedHashMap;
import java.util.Map;

/** What lies in a jar of the code that a process runs before it has a function. */
public class aheadjar {
    public static Map<String, Object> answer(String text) {
        Map<String, Object> answer = new LinkedHashMap<>();
        answer.put("isBase64Encoded", false);
        answer.put("headers", Map.of());
        answer.put("statusCode", 200);
        answer.put("body", text);
        return answer;
    }
}
