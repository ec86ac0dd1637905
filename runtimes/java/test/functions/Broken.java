import java.io.IOException;

/** Handlers that cannot be loaded. */
public class Broken {
    public static class AtLoad {
        static {
            if (true) {
                throw new IllegalStateException("not today");
            }
        }

        public void handle() {}
    }

    public static class AtConstruction {
        public AtConstruction() throws IOException {
            throw new IOException("not ever");
        }

        public void handle() {}
    }

    public static class WithArguments {
        public WithArguments(int number) {}

        public void handle() {}
    }

    public abstract static class Abstract {
        public void handle() {}
    }
}
