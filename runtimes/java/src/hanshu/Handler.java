package hanshu;

/** The function's handler, with what lies between it and the bytes of a frame. */
@FunctionalInterface
interface Handler {
    /** Runs one call and returns its answer, JSON; throws what the function has thrown. */
    byte[] handle(Call call) throws Throwable;
}
