package hanshu;

/** The function's handler, with what lies between it and the bytes of a frame. */
@FunctionalInterface
interface Handler {
    /** Runs one call and returns its answer, JSON, or null if it went out by the channel in pieces; throws what the function has thrown. */
    byte[] handle(Call call, Channel channel) throws Throwable;
}
