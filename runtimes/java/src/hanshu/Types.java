package hanshu;

import java.lang.reflect.Array;
import java.lang.reflect.GenericArrayType;
import java.lang.reflect.ParameterizedType;
import java.lang.reflect.Type;
import java.lang.reflect.TypeVariable;
import java.lang.reflect.WildcardType;
import java.util.HashMap;
import java.util.Map;

/** What generic types mean where they are used. */
final class Types {
    private Types() {}

    /** A generic type whose arguments are known. */
    private record Known(Class<?> raw, Type[] arguments) implements ParameterizedType {
        @Override
        public Type[] getActualTypeArguments() {
            return arguments;
        }

        @Override
        public Type getRawType() {
            return raw;
        }

        @Override
        public Type getOwnerType() {
            return null;
        }
    }

    /** The class of a type. */
    static Class<?> raw(Type type) {
        if (type instanceof Class<?> c) {
            return c;
        }
        if (type instanceof ParameterizedType p) {
            return (Class<?>) p.getRawType();
        }
        if (type instanceof GenericArrayType a) {
            return Array.newInstance(raw(a.getGenericComponentType()), 0).getClass();
        }
        return Object.class;
    }

    /** What {@code inner}, as a member of {@code owner} or of what that extends declares it, means for {@code owner}. */
    static Type in(Type owner, Type inner) {
        if (inner instanceof Class<?>) {
            return inner;
        }
        Map<TypeVariable<?>, Type> known = new HashMap<>();
        learn(owner, known);
        return resolve(inner, known, 0);
    }

    /** What {@code type} says for a parameter of its supertype {@code of}; {@code Object} if nothing. */
    static Type argument(Type type, Class<?> of, int index) {
        return of.isAssignableFrom(raw(type)) ? in(type, of.getTypeParameters()[index]) : Object.class;
    }

    private static void learn(Type type, Map<TypeVariable<?>, Type> known) {
        if (type == null) {
            return;
        }
        Class<?> raw = raw(type);
        if (type instanceof ParameterizedType p) {
            TypeVariable<?>[] names = raw.getTypeParameters();
            for (int i = 0; i < names.length; i++) {
                known.putIfAbsent(names[i], resolve(p.getActualTypeArguments()[i], known, 0));
            }
        }
        learn(raw.getGenericSuperclass(), known);
        for (Type type2 : raw.getGenericInterfaces()) {
            learn(type2, known);
        }
    }

    private static Type resolve(Type type, Map<TypeVariable<?>, Type> known, int depth) {
        // A bound may name its own variable: T extends Comparable<T>.
        if (depth > 8) {
            return Object.class;
        }
        if (type instanceof TypeVariable<?> v) {
            Type found = known.get(v);
            return found != null ? found : resolve(v.getBounds()[0], known, depth + 1);
        }
        if (type instanceof WildcardType w) {
            return resolve(w.getUpperBounds()[0], known, depth + 1);
        }
        if (type instanceof GenericArrayType a) {
            Type component = resolve(a.getGenericComponentType(), known, depth + 1);
            return Array.newInstance(raw(component), 0).getClass();
        }
        if (type instanceof ParameterizedType p) {
            Type[] arguments = p.getActualTypeArguments().clone();
            for (int i = 0; i < arguments.length; i++) {
                arguments[i] = resolve(arguments[i], known, depth + 1);
            }
            return new Known((Class<?>) p.getRawType(), arguments);
        }
        return type;
    }
}
