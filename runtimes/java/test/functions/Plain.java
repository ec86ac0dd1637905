import java.util.ArrayList;
import java.util.List;
import java.util.Map;

/** Handlers on plain types. */
public class Plain {
    /** Without properties that could be shown. */
    public static class Note {
        private int hidden;

        public Note getMyself() {
            return this;
        }
    }

    public Object echo(Object event) {
        return event;
    }

    public static Object echoStatic(Object event) {
        return event;
    }

    public Object handleRequest(Object event) {
        return event;
    }

    public Object tooMany(String a, String b, String c) {
        return a;
    }

    Object hidden(Object event) {
        return event;
    }

    public List<String> types(List<Object> values) {
        List<String> names = new ArrayList<>();
        for (Object value : values) {
            names.add(value == null ? null : value.getClass().getSimpleName());
        }
        return names;
    }

    public long sum(int[] numbers) {
        long sum = 0;
        for (int number : numbers) {
            sum += number;
        }
        return sum;
    }

    public Object knot() {
        return new Note();
    }

    public Object thing() {
        return new Object();
    }

    public double nan() {
        return Double.NaN;
    }

    public Object sulking() {
        return new Object() {
            public int getNumber() {
                throw new IllegalStateException("no number today");
            }
        };
    }
}
