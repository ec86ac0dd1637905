package hanshu;

/** One frame: what kind it is of, and what follows its header. */
record Frame(int kind, byte[] payload) {}
