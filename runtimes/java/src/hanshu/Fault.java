package hanshu;

/** An error of the runtime's own, in its own words: it has no stack trace that a function's author could use. */
final class Fault extends Exception {
    private static final long serialVersionUID = 1;
    private final String type;

    Fault(String type, String message) {
        super(message, null, false, false);
        this.type = type;
    }

    /** The text is no JSON, or not of the expected form. */
    static Fault unmarshal(String what) {
        return new Fault("Runtime.UnmarshalError", "Unable to unmarshal input: " + what);
    }

    /** The answer has no JSON form. */
    static Fault marshal(String what) {
        return new Fault("Runtime.MarshalError", "Unable to marshal response: " + what);
    }

    /** What callers see as the error's type. */
    String type() {
        return type;
    }
}
