package hanshu;

/**
 * Reads JSON (RFC 8259) piece by piece, for somebody who knows what to expect: {@link Decoder}. A value is looked at with {@link #peek}, then taken.
 */
final class JsonReader {
    /** How deep values may lie in each other: the stack holds several times that. */
    static final int DEPTH = 1000;
    /** How long a number may be: reading one takes time by the square of it. */
    private static final int NUMBER_CHARS = 1000;

    private final String text;
    private int at;
    private int depth;

    JsonReader(String text) {
        this.text = text;
    }

    /** The first character of the next value; a minus or digit for numbers. */
    char peek() throws Fault {
        skipSpace();
        if (at == text.length()) {
            throw wrong("expected a value");
        }
        return text.charAt(at);
    }

    /** Nothing but space follows. */
    void end() throws Fault {
        skipSpace();
        if (at != text.length()) {
            throw wrong("expected the end");
        }
    }

    /** Enters an object or array, which begins with {@code open}. */
    void open(char open) throws Fault {
        take(open);
        if (++depth > DEPTH) {
            throw wrong("nested more than " + DEPTH + " levels deep");
        }
    }

    /** Whether another entry comes before {@code close}, which is then taken; {@code first} says that none came yet. */
    boolean more(char close, boolean first) throws Fault {
        if (peek() == close) {
            at++;
            depth--;
            return false;
        }
        if (!first) {
            take(',');
        }
        return true;
    }

    /** The name of an object's next entry, with the colon. */
    String name() throws Fault {
        String name = string();
        take(':');
        return name;
    }

    /** Takes {@code true}, {@code false} or {@code null}. */
    void literal(String word) throws Fault {
        if (!text.startsWith(word, at)) {
            throw wrong("expected a value");
        }
        at += word.length();
    }

    /** Whether {@code null} is next, which is then taken. */
    boolean isNull() throws Fault {
        if (peek() != 'n') {
            return false;
        }
        literal("null");
        return true;
    }

    /** Takes a number, as it is written. */
    String number() throws Fault {
        int begin = at;
        accept('-');
        if (!accept('0')) {
            digits();
        }
        if (accept('.')) {
            digits();
        }
        if (accept('e') || accept('E')) {
            if (!accept('+')) {
                accept('-');
            }
            digits();
        }
        if (at - begin > NUMBER_CHARS) {
            throw wrong("a number of more than " + NUMBER_CHARS + " characters");
        }
        return text.substring(begin, at);
    }

    /** Takes a string. */
    String string() throws Fault {
        take('"');
        int begin = at;
        while (at < text.length()) {
            char c = text.charAt(at);
            if (c == '"') {
                return text.substring(begin, at++);
            }
            if (c == '\\') {
                return escaped(new StringBuilder().append(text, begin, at));
            }
            refuseControl(c);
            at++;
        }
        throw wrong("a string without end");
    }

    private String escaped(StringBuilder out) throws Fault {
        while (at < text.length()) {
            char c = text.charAt(at++);
            if (c == '"') {
                return out.toString();
            }
            refuseControl(c);
            out.append(c == '\\' ? escape() : c);
        }
        throw wrong("a string without end");
    }

    private char escape() throws Fault {
        char c = at < text.length() ? text.charAt(at++) : 0;
        return switch (c) {
            case '"', '\\', '/' -> c;
            case 'b' -> '\b';
            case 'f' -> '\f';
            case 'n' -> '\n';
            case 'r' -> '\r';
            case 't' -> '\t';
            case 'u' -> unicode();
            default -> throw wrong("an escape that JSON has not");
        };
    }

    private char unicode() throws Fault {
        int value = 0;
        for (int i = 0; i < 4; i++) {
            int digit = at < text.length() && text.charAt(at) < 128 ? Character.digit(text.charAt(at), 16) : -1;
            if (digit < 0) {
                throw wrong("expected four hexadecimal digits");
            }
            value = value << 4 | digit;
            at++;
        }
        return (char) value;
    }

    private void refuseControl(char c) throws Fault {
        if (c < ' ') {
            throw wrong("a control character in a string");
        }
    }

    private void digits() throws Fault {
        int begin = at;
        while (at < text.length() && text.charAt(at) >= '0' && text.charAt(at) <= '9') {
            at++;
        }
        if (at == begin) {
            throw wrong("expected a value");
        }
    }

    private boolean accept(char c) {
        boolean there = at < text.length() && text.charAt(at) == c;
        at += there ? 1 : 0;
        return there;
    }

    private void take(char c) throws Fault {
        skipSpace();
        if (!accept(c)) {
            throw wrong("expected '" + c + "'");
        }
    }

    private void skipSpace() {
        while (at < text.length() && " \t\n\r".indexOf(text.charAt(at)) >= 0) {
            at++;
        }
    }

    /** A fault with the place. */
    Fault wrong(String what) {
        return Fault.unmarshal(what + " at character " + at);
    }
}
