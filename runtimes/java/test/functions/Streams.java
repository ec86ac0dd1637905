import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;

/** Handlers on streams. */
public class Streams {
    public interface Context {}

    public void copy(InputStream in, OutputStream out, Context context) throws IOException {
        in.transferTo(out);
    }

    public void silent(InputStream in, OutputStream out) {}

    /** Writes the event's text, with a flush at every bar; an exclamation mark at the end is an error. */
    public void pieces(InputStream in, OutputStream out) throws IOException {
        String text = new String(in.readAllBytes(), java.nio.charset.StandardCharsets.UTF_8);
        for (String piece : text.split("[|]")) {
            if (piece.equals("!")) {
                throw new IOException("half-way");
            }
            out.write(piece.replace('~', (char) 0).getBytes(java.nio.charset.StandardCharsets.UTF_8));
            out.flush();
        }
    }

    public void large(InputStream in, OutputStream out) throws IOException {
        for (int i = 0; i < 300_000; i++) {
            out.write('a' + i % 26);
        }
        out.write(new byte[200_000]);
    }

    private static OutputStream kept;

    /** Writes to what an earlier call was given, too. */
    public void late(InputStream in, OutputStream out) throws IOException {
        if (kept != null) {
            kept.write("late".getBytes());
            kept.flush();
        }
        kept = out;
        out.write('x');
        out.flush();
    }
}
