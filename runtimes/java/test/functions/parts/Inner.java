package parts;

/** A handler in a package. */
public class Inner {
    public Object echo(Object event) {
        return event;
    }
}
