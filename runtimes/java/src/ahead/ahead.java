import java.io.File;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.math.BigDecimal;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * What a process runs before it has a function: a handler of each form, to be warm (hanshu/Ahead.java), and {@code prove}, for the daemon, which tries the first
 * of each class before it gives one to a function.
 */
public class ahead {
    /** As AWS Lambda's interface of that name, as far as it is asked here. */
    public interface Context {
        String getAwsRequestId();

        String getFunctionName();

        long getRemainingTimeInMillis();
    }

    /** An object with properties. */
    public static class Bean {
        private String name;
        private int count;
        private BigDecimal price;
        private List<Bean> parts;

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

        public BigDecimal getPrice() {
            return price;
        }

        public void setPrice(BigDecimal price) {
            this.price = price;
        }

        public List<Bean> getParts() {
            return parts;
        }

        public void setParts(List<Bean> parts) {
            this.parts = parts;
        }
    }

    public Object answer(Map<String, Object> event) {
        // The one class that lies in a jar.
        Map<String, Object> answer = aheadjar.answer("Hello");
        answer.put("event", event);
        return answer;
    }

    public Map<String, Object> context(Map<String, Object> event, Context context) {
        event.put("id", context.getAwsRequestId() + context.getFunctionName() + context.getRemainingTimeInMillis());
        return event;
    }

    public static Bean bean(Bean event) {
        // An arrow, and texts joined as compilers do it.
        event.getParts().forEach(part -> part.setName(part.getName() + event.getName()));
        return event;
    }

    public void copy(InputStream in, OutputStream out) throws IOException {
        in.transferTo(out);
    }

    public Object fail(Object event) {
        throw new IllegalStateException("ahead", new IOException("cause"));
    }

    public Map<String, Object> prove(Map<String, Object> event) throws Exception {
        // Before anything else, for that opens files.
        List<String> broken = Boolean.TRUE.equals(event.get("thoroughly")) ? aheadtrial.broken() : List.of();
        String variable = (String) event.get("variable");
        Process child = new ProcessBuilder("/bin/sh", "-c", "printf %s \"$" + variable + "\"; pwd -P; [ -e ahead.class ] || exit 1").start();
        String inherited = new String(child.getInputStream().readAllBytes());
        boolean same = inherited.equals(System.getenv(variable) + System.getProperty("user.dir") + "\n");
        Map<String, Object> seen = new LinkedHashMap<>();
        seen.put("broken", broken);
        seen.put("variable", same ? System.getenv(variable) : inherited);
        seen.put("folder", System.getProperty("user.dir"));
        seen.put("code", child.waitFor() == 0 && new File("ahead.class").canRead());
        seen.put("layers", new File("/opt").list().length);
        seen.put("written", writes("/var/task/x") || writes("/opt/x"));
        seen.put("tmp_bytes", new File("/tmp").getTotalSpace());
        return seen;
    }

    private static boolean writes(String path) {
        try {
            return new File(path).createNewFile();
        } catch (IOException e) {
            return false;
        }
    }
}
