package hanshu;

import java.lang.reflect.Array;
import java.lang.reflect.Constructor;
import java.lang.reflect.Modifier;
import java.lang.reflect.RecordComponent;
import java.lang.reflect.Type;
import java.math.BigInteger;
import java.nio.ByteBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.TreeMap;
import java.util.TreeSet;
import sun.reflect.ReflectionFactory;

/** JSON as Java objects: of the types that a handler asks for, or of natural ones. What is no object, array or null, {@link Scalars} reads. */
final class Decoder {
    private final JsonReader in;

    private Decoder(String text) {
        in = new JsonReader(text);
    }

    /** A value of this type. */
    static Object decode(String text, Type type) throws Fault {
        Decoder decoder = new Decoder(text);
        Object value = decoder.read(type);
        decoder.in.end();
        return value;
    }

    /** A map, list, string, boolean, number ({@code Integer}, {@code Long}, {@code BigInteger}, {@code Double}) or null. */
    static Object natural(String text) throws Fault {
        return decode(text, Object.class);
    }

    /** UTF-8 as text; what is none is refused. */
    static String text(byte[] bytes, int at, int length) throws Fault {
        String text = new String(bytes, at, length, StandardCharsets.UTF_8);
        if (text.indexOf('\uFFFD') >= 0) {
            try {
                StandardCharsets.UTF_8.newDecoder().decode(ByteBuffer.wrap(bytes, at, length));
            } catch (CharacterCodingException e) {
                throw Fault.unmarshal("not valid UTF-8");
            }
        }
        return text;
    }

    private Object read(Type type) throws Fault {
        Class<?> raw = Types.raw(type);
        if (raw == Optional.class) {
            return in.peek() == 'n' ? nothing(raw) : Optional.ofNullable(read(Types.argument(type, Optional.class, 0)));
        }
        return switch (in.peek()) {
            case '{' -> raw == Object.class || Map.class.isAssignableFrom(raw) ? map(type, raw) : object(type, raw);
            case '[' -> list(type, raw);
            case '"' -> Scalars.ofString(in.string(), raw);
            case 't' -> Scalars.ofBoolean(literal("true"), raw);
            case 'f' -> Scalars.ofBoolean(literal("false"), raw);
            case 'n' -> nothing(raw);
            default -> Scalars.ofNumber(in.number(), raw);
        };
    }

    private boolean literal(String word) throws Fault {
        in.literal(word);
        return word.equals("true");
    }

    private Object nothing(Class<?> raw) throws Fault {
        in.literal("null");
        if (raw == Optional.class) {
            return Optional.empty();
        }
        // The zero of the type, as an array of it holds from the start.
        return raw.isPrimitive() && raw != void.class ? Array.get(Array.newInstance(raw, 1), 0) : null;
    }

    private Object map(Type type, Class<?> raw) throws Fault {
        Type keys = raw == Object.class ? String.class : Types.argument(type, Map.class, 0);
        Type values = raw == Object.class ? Object.class : Types.argument(type, Map.class, 1);
        Class<?> key = keys == Object.class ? String.class : Types.raw(keys);
        Map<Object, Object> map = emptyMap(raw);
        in.open('{');
        for (boolean first = true; in.more('}', first); first = false) {
            Object name = Scalars.ofString(in.name(), key);
            map.put(name, read(values));
        }
        return map;
    }

    @SuppressWarnings("unchecked")
    private static Map<Object, Object> emptyMap(Class<?> raw) throws Fault {
        if (raw.isAssignableFrom(LinkedHashMap.class)) {
            return new LinkedHashMap<>();
        }
        return raw.isAssignableFrom(TreeMap.class) ? new TreeMap<>() : (Map<Object, Object>) make(raw);
    }

    private Object list(Type type, Class<?> raw) throws Fault {
        boolean array = raw.isArray();
        if (!array && raw != Object.class && !Iterable.class.isAssignableFrom(raw)) {
            throw in.wrong("an array where " + raw.getName() + " is expected");
        }
        Type items = array ? raw.getComponentType() : raw == Object.class ? Object.class : Types.argument(type, Iterable.class, 0);
        Collection<Object> list = array ? new ArrayList<>() : emptyCollection(raw);
        in.open('[');
        for (boolean first = true; in.more(']', first); first = false) {
            list.add(read(items));
        }
        return array ? toArray((List<Object>) list, raw.getComponentType()) : list;
    }

    private static Object toArray(List<Object> list, Class<?> component) {
        Object array = Array.newInstance(component, list.size());
        for (int i = 0; i < list.size(); i++) {
            Array.set(array, i, list.get(i));
        }
        return array;
    }

    @SuppressWarnings("unchecked")
    private static Collection<Object> emptyCollection(Class<?> raw) throws Fault {
        if (raw.isAssignableFrom(ArrayList.class)) {
            return new ArrayList<>();
        }
        if (raw.isAssignableFrom(LinkedHashSet.class)) {
            return new LinkedHashSet<>();
        }
        if (raw.isAssignableFrom(TreeSet.class)) {
            return new TreeSet<>();
        }
        return raw.isAssignableFrom(ArrayDeque.class) ? new ArrayDeque<>() : (Collection<Object>) make(raw);
    }

    private Object object(Type type, Class<?> raw) throws Fault {
        if (raw.isPrimitive() || raw.isArray() || raw.isEnum() || raw.getName().startsWith("java.")) {
            throw in.wrong("an object where " + raw.getName() + " is expected");
        }
        if (raw.isRecord()) {
            return readRecord(type, raw);
        }
        Object made = make(raw);
        Shape shape = Shape.of(raw);
        in.open('{');
        for (boolean first = true; in.more('}', first); first = false) {
            String name = in.name();
            Shape.Setter setter = shape.setter(name);
            Type expected = setter == null ? Object.class : Types.in(type, setter.type());
            Object value = read(expected);
            if (setter != null) {
                set(setter, made, name, value);
            }
        }
        return made;
    }

    private static void set(Shape.Setter setter, Object of, String name, Object value) throws Fault {
        try {
            setter.to().set(of, value);
        } catch (Throwable e) {
            throw Fault.unmarshal("the property " + name + " of " + of.getClass().getName() + " cannot be set: " + e);
        }
    }

    private Object readRecord(Type type, Class<?> raw) throws Fault {
        RecordComponent[] components = raw.getRecordComponents();
        Class<?>[] types = new Class<?>[components.length];
        Object[] values = new Object[components.length];
        Map<String, Integer> places = new HashMap<>();
        for (int i = 0; i < components.length; i++) {
            types[i] = components[i].getType();
            values[i] = types[i].isPrimitive() ? Array.get(Array.newInstance(types[i], 1), 0) : types[i] == Optional.class ? Optional.empty() : null;
            places.put(components[i].getName(), i);
        }
        in.open('{');
        for (boolean first = true; in.more('}', first); first = false) {
            Integer place = places.get(in.name());
            Object value = read(place == null ? Object.class : Types.in(type, components[place].getGenericType()));
            if (place != null) {
                values[place] = value;
            }
        }
        try {
            Constructor<?> constructor = raw.getDeclaredConstructor(types);
            constructor.setAccessible(true);
            return constructor.newInstance(values);
        } catch (ReflectiveOperationException | RuntimeException e) {
            throw Fault.unmarshal(raw.getName() + " cannot be made: " + (e.getCause() == null ? e : e.getCause()));
        }
    }

    /** An empty object. A class without a constructor for that gets none called: its fields are all that is set. */
    private static Object make(Class<?> raw) throws Fault {
        if (raw.isInterface() || Modifier.isAbstract(raw.getModifiers())) {
            throw Fault.unmarshal(raw.getName() + " cannot be made: it is abstract");
        }
        try {
            Constructor<?> constructor;
            try {
                constructor = raw.getDeclaredConstructor();
                constructor.setAccessible(true);
            } catch (NoSuchMethodException e) {
                constructor = ReflectionFactory.getReflectionFactory().newConstructorForSerialization(raw, Object.class.getDeclaredConstructor());
            }
            return constructor.newInstance();
        } catch (ReflectiveOperationException | RuntimeException e) {
            throw Fault.unmarshal(raw.getName() + " cannot be made: " + (e.getCause() == null ? e : e.getCause()));
        }
    }

    /** The natural type of a whole number. */
    static Number whole(BigInteger value) {
        int bits = value.bitLength();
        if (bits < Integer.SIZE) {
            return value.intValue();
        }
        return bits < Long.SIZE ? (Number) value.longValue() : value;
    }
}
