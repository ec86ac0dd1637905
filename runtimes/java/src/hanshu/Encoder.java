package hanshu;

import java.lang.reflect.Array;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.time.temporal.TemporalAccessor;
import java.util.Base64;
import java.util.Date;
import java.util.Iterator;
import java.util.Map;
import java.util.Optional;

/** Java objects as JSON. */
final class Encoder {
    private static final char[] HEX = "0123456789abcdef".toCharArray();

    private final StringBuilder out = new StringBuilder();
    private int depth;

    private Encoder() {}

    /** JSON of a value; a {@link Fault} if it has none, and whatever a getter throws. */
    static byte[] encode(Object value) throws Throwable {
        Encoder encoder = new Encoder();
        encoder.write(value);
        return encoder.out.toString().getBytes(StandardCharsets.UTF_8);
    }

    private void write(Object value) throws Throwable {
        if (value == null || value instanceof Boolean) {
            out.append(value);
        } else if (value instanceof CharSequence || value instanceof Character) {
            string(value.toString());
        } else if (value instanceof Number number) {
            number(number);
        } else if (value instanceof Enum<?> constant) {
            string(constant.name());
        } else if (value instanceof byte[] bytes) {
            string(Base64.getEncoder().encodeToString(bytes));
        } else if (value instanceof ByteBuffer buffer) {
            byte[] bytes = new byte[buffer.remaining()];
            buffer.duplicate().get(bytes);
            write(bytes);
        } else if (value instanceof Date date) {
            out.append(date.getTime());
        } else if (value instanceof Optional<?> optional) {
            write(optional.orElse(null));
        } else {
            compound(value);
        }
    }

    private void compound(Object value) throws Throwable {
        if (++depth > JsonReader.DEPTH) {
            throw Fault.marshal("nested more than " + JsonReader.DEPTH + " levels deep, or within itself");
        }
        if (value instanceof Map<?, ?> map) {
            map(map);
        } else if (value instanceof Iterable<?> iterable && !(value instanceof java.nio.file.Path)) {
            list(iterable.iterator());
        } else if (value.getClass().isArray()) {
            array(value);
        } else if (isText(value)) {
            string(value.toString());
        } else {
            object(value);
        }
        depth--;
    }

    /** Values of the Java library whose text is their value: times, UUIDs, URIs, paths. */
    private static boolean isText(Object value) {
        return value instanceof TemporalAccessor
                || value instanceof java.time.temporal.TemporalAmount
                || value instanceof java.time.ZoneId
                || value instanceof java.util.UUID
                || value instanceof java.util.Locale
                || value instanceof java.util.Currency
                || value instanceof java.net.URI
                || value instanceof java.net.URL
                || value instanceof java.nio.file.Path
                || value instanceof Class<?>
                || value.getClass().getName().startsWith("org.joda.time.");
    }

    private void map(Map<?, ?> map) throws Throwable {
        char before = '{';
        for (Map.Entry<?, ?> entry : map.entrySet()) {
            out.append(before);
            before = ',';
            Object key = entry.getKey();
            string(key instanceof Enum<?> constant ? constant.name() : String.valueOf(key));
            out.append(':');
            write(entry.getValue());
        }
        out.append(before == '{' ? "{}" : "}");
    }

    private void list(Iterator<?> items) throws Throwable {
        out.append('[');
        for (boolean first = true; items.hasNext(); first = false) {
            if (!first) {
                out.append(',');
            }
            write(items.next());
        }
        out.append(']');
    }

    private void array(Object array) throws Throwable {
        out.append('[');
        for (int i = 0; i < Array.getLength(array); i++) {
            if (i > 0) {
                out.append(',');
            }
            write(Array.get(array, i));
        }
        out.append(']');
    }

    private void object(Object value) throws Throwable {
        Map<String, Shape.Getter> getters = Shape.of(value.getClass()).getters();
        String name = value.getClass().getName();
        if (getters.isEmpty() || name.startsWith("java.")) {
            throw Fault.marshal("objects of " + name + " have no JSON form: expected properties with getters, or public fields");
        }
        char before = '{';
        for (Map.Entry<String, Shape.Getter> getter : getters.entrySet()) {
            out.append(before);
            before = ',';
            string(getter.getKey());
            out.append(':');
            write(getter.getValue().get(value));
        }
        out.append('}');
    }

    private void number(Number number) throws Fault {
        boolean real = number instanceof Double || number instanceof Float;
        if (real && !Double.isFinite(number.doubleValue())) {
            throw Fault.marshal(number + " is no JSON");
        }
        // Java's own forms of numbers are JSON; others may say what they like.
        boolean own = number.getClass().getName().startsWith("java.");
        out.append(own ? number.toString() : new java.math.BigDecimal(number.toString()).toString());
    }

    private void string(String text) {
        out.append('"');
        int done = 0;
        for (int i = 0; i < text.length(); i++) {
            char c = text.charAt(i);
            if (c >= ' ' && c != '"' && c != '\\' && !isLoneSurrogate(text, i)) {
                continue;
            }
            out.append(text, done, i);
            escape(c);
            done = i + 1;
        }
        out.append(text, done, text.length()).append('"');
    }

    private void escape(char c) {
        switch (c) {
            case '"', '\\' -> out.append('\\').append(c);
            case '\n' -> out.append("\\n");
            case '\r' -> out.append("\\r");
            case '\t' -> out.append("\\t");
            default -> {
                out.append("\\u");
                for (int shift = 12; shift >= 0; shift -= 4) {
                    out.append(HEX[c >> shift & 0xF]);
                }
            }
        }
    }

    /** Half of a pair can be escaped, but is no UTF-8. */
    private static boolean isLoneSurrogate(String text, int i) {
        char c = text.charAt(i);
        if (!Character.isSurrogate(c)) {
            return false;
        }
        return Character.isHighSurrogate(c)
                ? i + 1 == text.length() || !Character.isLowSurrogate(text.charAt(i + 1))
                : i == 0 || !Character.isHighSurrogate(text.charAt(i - 1));
    }
}
