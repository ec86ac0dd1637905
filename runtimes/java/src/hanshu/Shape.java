package hanshu;

import java.lang.reflect.AccessibleObject;
import java.lang.reflect.Field;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.lang.reflect.Modifier;
import java.lang.reflect.RecordComponent;
import java.lang.reflect.Type;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.Locale;
import java.util.Map;

/**
 * The properties of a plain class: what its getters and public fields tell, what its setters and fields take.
 *
 * <p>A private field counts where a getter shows it, or where the class has no constructor that could be called without arguments.
 */
final class Shape {
    /** Reads a property of an object. */
    interface Getter {
        Object get(Object of) throws Throwable;
    }

    /** Sets a property of an object. */
    record Setter(Type type, Assignment to) {}

    /** The act of setting. */
    interface Assignment {
        void set(Object of, Object value) throws Throwable;
    }

    private static final ClassValue<Shape> SHAPES = new ClassValue<>() {
        @Override
        protected Shape computeValue(Class<?> type) {
            return new Shape(type);
        }
    };

    private final Map<String, Getter> getters = new LinkedHashMap<>();
    private final Map<String, Setter> setters = new HashMap<>();
    private final Map<String, Setter> inAnyCase = new HashMap<>();
    private final Map<String, Field> fields = new LinkedHashMap<>();

    private Shape(Class<?> type) {
        collectFields(type);
        if (type.isRecord()) {
            for (RecordComponent component : type.getRecordComponents()) {
                getters.put(component.getName(), getter(component.getAccessor()));
            }
            return;
        }
        Map<String, Method> shown = new HashMap<>();
        for (Method method : type.getMethods()) {
            if (Modifier.isStatic(method.getModifiers()) || method.isBridge() || method.getDeclaringClass() == Object.class) {
                continue;
            }
            String name = method.getName();
            if (isGetter(method)) {
                shown.put(property(name), method);
            } else if (name.length() > 3 && name.startsWith("set") && method.getParameterCount() == 1) {
                Setter setter = new Setter(method.getGenericParameterTypes()[0], (of, value) -> call(method, of, value));
                unlock(method);
                addSetter(named(name.substring(3)), setter);
            }
        }
        addGetters(shown);
        boolean bare = !hasPlainConstructor(type);
        fields.forEach((name, field) -> {
            if (bare || Modifier.isPublic(field.getModifiers()) || shown.containsKey(name)) {
                addSetter(name, new Setter(field.getGenericType(), field::set));
            }
        });
    }

    static Shape of(Class<?> type) {
        return SHAPES.get(type);
    }

    /** All readable properties, in the order of their fields, then by name. */
    Map<String, Getter> getters() {
        return getters;
    }

    /** How to set a property by its name in JSON, whose case may differ; null if there is none. */
    Setter setter(String name) {
        Setter exact = setters.get(name);
        return exact != null ? exact : inAnyCase.get(name.toLowerCase(Locale.ROOT));
    }

    private void collectFields(Class<?> type) {
        for (Class<?> at = type; at != null && at != Object.class; at = at.getSuperclass()) {
            for (Field field : at.getDeclaredFields()) {
                boolean ours = !Modifier.isStatic(field.getModifiers()) && !Modifier.isTransient(field.getModifiers()) && !field.isSynthetic();
                if (ours && !fields.containsKey(field.getName()) && unlock(field)) {
                    fields.put(field.getName(), field);
                }
            }
        }
    }

    private void addGetters(Map<String, Method> shown) {
        fields.forEach((name, field) -> {
            Method method = shown.get(name);
            if (method != null) {
                getters.put(name, getter(method));
            } else if (Modifier.isPublic(field.getModifiers())) {
                getters.put(name, field::get);
            }
        });
        shown.keySet().stream().sorted().forEach(name -> getters.putIfAbsent(name, getter(shown.get(name))));
    }

    private void addSetter(String name, Setter setter) {
        setters.putIfAbsent(name, setter);
        inAnyCase.putIfAbsent(name.toLowerCase(Locale.ROOT), setter);
    }

    private static boolean isGetter(Method method) {
        String name = method.getName();
        Class<?> type = method.getReturnType();
        return method.getParameterCount() == 0
                && type != void.class
                && (name.length() > 3 && name.startsWith("get") || name.length() > 2 && name.startsWith("is") && type == boolean.class);
    }

    /** The property that a getter shows. A field may be called as the method is: {@code isBase64Encoded}. */
    private String property(String getter) {
        if (getter.startsWith("is")) {
            return fields.containsKey(getter) ? getter : named(getter.substring(2));
        }
        return named(getter.substring(3));
    }

    /** The name of a property, from what stands behind {@code get} or {@code set}: as its field is written, or else in the way of Jackson. */
    private String named(String capital) {
        String plain = capital.substring(0, 1).toLowerCase(Locale.ROOT) + capital.substring(1);
        if (fields.containsKey(plain)) {
            return plain;
        }
        int upper = 0;
        while (upper < capital.length() && Character.isUpperCase(capital.charAt(upper))) {
            upper++;
        }
        return capital.substring(0, upper).toLowerCase(Locale.ROOT) + capital.substring(upper);
    }

    private static boolean hasPlainConstructor(Class<?> type) {
        try {
            type.getDeclaredConstructor();
            return true;
        } catch (NoSuchMethodException e) {
            return false;
        }
    }

    private static Getter getter(Method method) {
        unlock(method);
        return of -> call(method, of);
    }

    /** Calls a method and throws what it throws. */
    static Object call(Method method, Object of, Object... arguments) throws Throwable {
        try {
            return method.invoke(of, arguments);
        } catch (InvocationTargetException e) {
            throw e.getCause();
        }
    }

    private static boolean unlock(AccessibleObject member) {
        return member.trySetAccessible();
    }
}
