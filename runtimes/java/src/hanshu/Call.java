package hanshu;

import java.nio.charset.StandardCharsets;
import java.util.Map;

/** One call: what an INVOKE frame says. {@code trace}, {@code clientContext} and {@code arn} are null where nothing is said. */
record Call(String id, long deadlineMs, String trace, Map<?, ?> clientContext, String arn, byte[] frame, int eventAt) {
    static final int ID_BYTES = 36;
    private static final int EXTRA_LENGTH_AT = ID_BYTES + 8;
    private static final int EXTRA_AT = EXTRA_LENGTH_AT + 4;

    /** Reads the payload of the frame, but not the event. */
    static Call read(byte[] frame) throws Fault {
        String id = new String(frame, 0, ID_BYTES, StandardCharsets.US_ASCII);
        long deadline = Integer.toUnsignedLong(Channel.integer(frame, ID_BYTES))
                | (long) Channel.integer(frame, ID_BYTES + 4) << 32;
        int extraBytes = Channel.integer(frame, EXTRA_LENGTH_AT);
        Map<?, ?> extra = Map.of();
        if (extraBytes > 0) {
            extra = (Map<?, ?>) Decoder.natural(new String(frame, EXTRA_AT, extraBytes, StandardCharsets.UTF_8));
        }
        Map<?, ?> client = clientContext((String) extra.get("client_context"));
        String trace = (String) extra.get("trace");
        return new Call(id, deadline, trace, client, (String) extra.get("arn"), frame, EXTRA_AT + extraBytes);
    }

    private static Map<?, ?> clientContext(String text) throws Fault {
        if (text == null || text.isEmpty()) {
            return null;
        }
        if (Decoder.natural(text) instanceof Map<?, ?> context) {
            return context;
        }
        throw new Fault("Runtime.LambdaContextUnmarshalError", "Unable to parse Client Context JSON: not an object");
    }

    /** The event; an empty one means an empty object. */
    String event() throws Fault {
        if (eventAt == frame.length) {
            return "{}";
        }
        return Decoder.text(frame, eventAt, frame.length - eventAt);
    }
}
