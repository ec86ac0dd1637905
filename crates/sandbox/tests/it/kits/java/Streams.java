import java.io.InputStream;
import java.io.OutputStream;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/* The contract suite's handler that answers in pieces (model::suites::sandbox). */
public class Index {
    public void handle(InputStream in, OutputStream out) throws Exception {
        String event = new String(in.readAllBytes(), StandardCharsets.UTF_8);
        int pieces = Integer.parseInt(field(event, "pieces"));
        byte[] piece = new byte[Integer.parseInt(field(event, "bytes"))];
        String then = field(event, "then");
        out.write("{\"statusCode\":201,\"headers\":{\"x-said\":\"before\"}}".getBytes(StandardCharsets.UTF_8));
        out.write(new byte[8]);
        for (int n = 0; n < pieces || then.equals("endless"); n++) {
            Arrays.fill(piece, (byte) ('a' + n % 26));
            out.write(piece);
            out.flush();
            System.out.println("wrote " + (n + 1));
        }
        switch (then) {
            case "throw" -> throw new IllegalStateException("half-way");
            case "exit" -> Runtime.getRuntime().halt(7);
            case "never" -> Thread.sleep(9_999_000);
            default -> {}
        }
    }

    private static String field(String event, String name) {
        Matcher found = Pattern.compile("\"" + name + "\":\"?(\\w+)").matcher(event);
        found.find();
        return found.group(1);
    }
}
