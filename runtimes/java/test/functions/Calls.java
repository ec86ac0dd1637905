import java.io.IOException;
import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;

/** Handlers that look at their call, fail, end and litter. */
public class Calls {
    public interface Context {
        String getAwsRequestId();

        String getFunctionName();

        String getFunctionVersion();

        String getInvokedFunctionArn();

        int getMemoryLimitInMB();

        String getLogGroupName();

        String getLogStreamName();

        long getRemainingTimeInMillis();

        Client getClientContext();

        Object getIdentity();

        String getXrayTraceId();

        default String getMore() {
            return "default";
        }
    }

    public interface Client {
        Map<String, String> getCustom();
    }

    public static class Unspeakable extends RuntimeException {
        private static final long serialVersionUID = 1;

        @Override
        public String getMessage() {
            throw this;
        }
    }

    private static int served;

    static {
        System.out.print("loading|");
    }

    public List<Object> context(Object event, Context context) {
        if (context.getIdentity() != null || !context.equals(context) || context.toString().isEmpty()) {
            throw new IllegalStateException();
        }
        Client client = context.getClientContext();
        return Arrays.asList(
                context.getAwsRequestId(), context.getFunctionName(), context.getFunctionVersion(), context.getInvokedFunctionArn(),
                context.getMemoryLimitInMB(), context.getLogGroupName(), context.getLogStreamName(),
                context.getRemainingTimeInMillis() > 1000, client == null ? null : client.getCustom().get("a"),
                System.getProperty("com.amazonaws.xray.traceHeader"), context.getMore());
    }

    public String fail(String how) throws Exception {
        switch (how) {
            case "cause":
                throw new IllegalStateException("outer", new IOException("inner"));
            case "silent":
                throw new NullPointerException();
            case "unspeakable":
                throw new Unspeakable();
            case "circle":
                Exception one = new Exception("circle");
                one.initCause(new Exception("other", one));
                throw one;
            case "linkage":
                throw new NoClassDefFoundError("gone");
            case "large":
                throw new Exception("\u0001".repeat(1 << 22), new Exception("\u0001".repeat(1 << 22)));
            default:
                return how;
        }
    }

    public void end(String how) {
        switch (how) {
            case "overflow" -> end(how);
            case "exit" -> System.exit(7);
            case "direct" -> ByteBuffer.allocateDirect(1 << 30);
            default -> {
                List<byte[]> all = new ArrayList<>();
                while (true) {
                    all.add(new byte[1 << 20]);
                }
            }
        }
    }

    public void print(String text) {
        System.out.print(text);
        System.err.print(text);
    }

    public List<Object> litter() {
        boolean marked = Thread.currentThread().isInterrupted();
        boolean ours = Thread.currentThread().getContextClassLoader() == Calls.class.getClassLoader();
        Thread.currentThread().interrupt();
        Thread.currentThread().setContextClassLoader(null);
        new Thread(() -> {
            while (true) {
                Thread.onSpinWait();
            }
        }).start();
        return List.of(++served, marked, ours);
    }

    public void slow() throws InterruptedException {
        Thread.sleep(60);
    }
}
