import java.math.BigDecimal;
import java.time.Instant;
import java.util.Date;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.UUID;

/** Handlers on objects with properties; itself one. */
public class Objects {
    public enum Colour {
        RED,
        GREEN
    }

    public record Order(long id, BigDecimal price, Colour colour, Instant at, UUID uuid, Optional<String> note, byte[] bytes,
            Map<String, List<Integer>> sums, Set<Integer> set, double[] array, Date since) {}

    /** Without a constructor that could be called. */
    public static class Bare {
        private final String text;

        public Bare(String text) {
            this.text = "made " + text;
        }

        public String getText() {
            return text;
        }
    }

    /** Its type argument is known where it is extended. */
    public abstract static class Parent<T> {
        public String handle(List<T> events) {
            return events.size() + " " + events.get(0).getClass().getSimpleName();
        }
    }

    public static class Child extends Parent<Bare> {}

    private String name;
    private int count;
    private List<Objects> parts;
    private boolean isReady;
    private String secret = "kept";
    public String open;

    public String getName() {
        return name;
    }

    public void setName(String name) {
        this.name = name;
    }

    public int getCount() {
        return count;
    }

    public void setCount(int count) {
        this.count = count;
    }

    public List<Objects> getParts() {
        return parts;
    }

    public void setParts(List<Objects> parts) {
        this.parts = parts;
    }

    public boolean isReady() {
        return isReady;
    }

    public void setReady(boolean ready) {
        isReady = ready;
    }

    public String getURL() {
        return "u";
    }

    public static Objects bean(Objects event) {
        if (!event.secret.equals("kept")) {
            throw new IllegalStateException("a private field was set");
        }
        return event;
    }

    public static Bare bare(Bare event) {
        return event;
    }

    public static Order order(Order event) {
        return event;
    }
}
