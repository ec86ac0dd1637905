package hanshu;

import java.lang.reflect.Constructor;
import java.lang.reflect.Method;
import java.lang.reflect.Modifier;
import java.math.BigDecimal;
import java.math.BigInteger;
import java.nio.ByteBuffer;
import java.time.Instant;
import java.time.format.DateTimeParseException;
import java.util.Base64;
import java.util.Date;

/** Strings, numbers and booleans of JSON as the types that are asked for. */
final class Scalars {
    /** From here on a number of a {@code Date} counts milliseconds, below it seconds: it is the year 5138 in these, 1973 in those. */
    private static final BigDecimal MILLISECONDS_FROM = BigDecimal.valueOf(100_000_000_000L);
    /** Static methods that make something of its text, by their habitual names. */
    private static final String[] MAKERS = {"parse", "valueOf", "fromString", "of"};

    private Scalars() {}

    /** A string as a {@code type}. */
    static Object ofString(String text, Class<?> type) throws Fault {
        if (type.isAssignableFrom(String.class)) {
            return text;
        }
        try {
            if (type == char.class || type == Character.class) {
                return single(text);
            }
            if (type == boolean.class || type == Boolean.class) {
                return truth(text);
            }
            if (type == byte[].class) {
                return Base64.getDecoder().decode(text);
            }
            if (type == ByteBuffer.class) {
                return ByteBuffer.wrap(Base64.getDecoder().decode(text));
            }
            if (type == Date.class) {
                return Date.from(Instant.parse(text));
            }
            if (type.isPrimitive() || Number.class.isAssignableFrom(type) && type.getName().startsWith("java.lang.")) {
                return ofNumber(text.trim(), type);
            }
            return type.isEnum() ? constant(text, type) : made(text, type);
        } catch (IllegalArgumentException | DateTimeParseException e) {
            throw mismatch('"' + text + '"', type);
        }
    }

    /** A boolean as a {@code type}. */
    static Object ofBoolean(boolean value, Class<?> type) throws Fault {
        if (type == boolean.class || type.isAssignableFrom(Boolean.class)) {
            return value;
        }
        if (type == String.class || type == CharSequence.class) {
            return String.valueOf(value);
        }
        throw mismatch(String.valueOf(value), type);
    }

    /** A number, as it is written, as a {@code type}: exactly, or not at all. */
    static Object ofNumber(String text, Class<?> type) throws Fault {
        if (type == String.class || type == CharSequence.class) {
            return text;
        }
        try {
            if (type == double.class || type == Double.class) {
                return Double.valueOf(text);
            }
            if (type == float.class || type == Float.class) {
                return Float.valueOf(text);
            }
            if (type.isAssignableFrom(Double.class) && isReal(text)) {
                return Double.valueOf(text);
            }
            return ofDecimal(new BigDecimal(text), type, text);
        } catch (ArithmeticException | NumberFormatException e) {
            throw mismatch(text, type);
        }
    }

    private static Object ofDecimal(BigDecimal value, Class<?> type, String text) throws Fault {
        if (type == BigDecimal.class) {
            return value;
        }
        if (type == Date.class) {
            boolean seconds = value.abs().compareTo(MILLISECONDS_FROM) < 0;
            return new Date((seconds ? value.movePointRight(3) : value).longValue());
        }
        if (type == Instant.class) {
            return Instant.ofEpochSecond(value.longValue(), value.remainder(BigDecimal.ONE).movePointRight(9).longValue());
        }
        // A few characters may stand for a billion digits.
        if (Math.abs((long) value.scale()) > 1000) {
            throw mismatch(text, type);
        }
        if (type == int.class || type == Integer.class) {
            return value.intValueExact();
        }
        if (type == long.class || type == Long.class) {
            return value.longValueExact();
        }
        if (type == short.class || type == Short.class) {
            return value.shortValueExact();
        }
        if (type == byte.class || type == Byte.class) {
            return value.byteValueExact();
        }
        BigInteger whole = value.toBigIntegerExact();
        if (type == BigInteger.class) {
            return whole;
        }
        if (type.isAssignableFrom(Integer.class) || type == Number.class) {
            return Decoder.whole(whole);
        }
        throw mismatch(text, type);
    }

    private static boolean isReal(String text) {
        return text.indexOf('.') >= 0 || text.indexOf('e') >= 0 || text.indexOf('E') >= 0;
    }

    private static char single(String text) {
        if (text.length() != 1) {
            throw new IllegalArgumentException();
        }
        return text.charAt(0);
    }

    private static boolean truth(String text) {
        if (!text.equalsIgnoreCase("true") && !text.equalsIgnoreCase("false")) {
            throw new IllegalArgumentException();
        }
        return Boolean.parseBoolean(text);
    }

    private static Object constant(String text, Class<?> type) {
        for (Object constant : type.getEnumConstants()) {
            if (((Enum<?>) constant).name().equals(text)) {
                return constant;
            }
        }
        throw new IllegalArgumentException();
    }

    /** By a static method or constructor of the class that takes a text: UUIDs, URIs, times. */
    private static Object made(String text, Class<?> type) throws Fault {
        try {
            for (String name : MAKERS) {
                for (Class<?> from : new Class<?>[] {String.class, CharSequence.class}) {
                    Method maker = find(type, name, from);
                    if (maker != null) {
                        return maker.invoke(null, text);
                    }
                }
            }
            Constructor<?> constructor = type.getConstructor(String.class);
            return constructor.newInstance(text);
        } catch (ReflectiveOperationException e) {
            throw mismatch('"' + text + '"', type);
        }
    }

    private static Method find(Class<?> type, String name, Class<?> from) {
        try {
            Method method = type.getMethod(name, from);
            return Modifier.isStatic(method.getModifiers()) && type.isAssignableFrom(method.getReturnType()) ? method : null;
        } catch (NoSuchMethodException e) {
            return null;
        }
    }

    private static Fault mismatch(String text, Class<?> type) {
        String shown = text.length() <= 100 ? text : text.substring(0, 100) + "…";
        return Fault.unmarshal(shown + " where " + type.getName() + " is expected");
    }
}
