package hanshu;

import java.lang.reflect.InvocationHandler;
import java.lang.reflect.Method;
import java.lang.reflect.Proxy;
import java.nio.charset.StandardCharsets;
import java.util.Map;

/**
 * The handler's context: whatever interface it asks for, answered by the names of AWS Lambda's {@code Context}.
 *
 * <p>That interface comes with the function. A function without it may declare one of its own, with the methods that it wants.
 */
final class CallContext implements InvocationHandler {
    /** What INIT says of the function. */
    static Map<?, ?> function = Map.of();

    private final Call call;

    private CallContext(Call call) {
        this.call = call;
    }

    /** The context of a call as a {@code type}, which is an interface. */
    static Object of(Class<?> type, Call call) {
        return view(type, new CallContext(call));
    }

    @Override
    public Object invoke(Object proxy, Method method, Object[] arguments) throws Throwable {
        return switch (method.getName()) {
            case "getAwsRequestId" -> call.id();
            case "getRemainingTimeInMillis" -> remaining(method.getReturnType());
            case "getFunctionName" -> function.get("name");
            case "getFunctionVersion" -> function.get("version");
            case "getInvokedFunctionArn" -> call.arn() == null ? function.get("arn") : call.arn();
            case "getMemoryLimitInMB" -> function.get("memory_mb");
            case "getLogGroupName" -> function.get("log_group");
            case "getLogStreamName" -> function.get("log_stream");
            case "getXrayTraceId" -> call.trace();
            case "getIdentity" -> null;
            case "getLogger" -> view(method.getReturnType(), CallContext::log);
            case "getClientContext" -> clientContext(method.getReturnType());
            default -> other(this, proxy, method, arguments);
        };
    }

    private Object remaining(Class<?> type) {
        long left = Math.max(call.deadlineMs() - System.currentTimeMillis(), 0);
        return type == long.class || type == Long.class ? (Object) left : (Object) (int) Math.min(left, Integer.MAX_VALUE);
    }

    private Object clientContext(Class<?> type) {
        Map<?, ?> context = call.clientContext();
        return context == null ? null : view(type, (proxy, method, arguments) -> switch (method.getName()) {
            case "getCustom" -> context.get("custom");
            case "getEnvironment" -> context.get("env");
            case "getClient" -> context.get("client") instanceof Map<?, ?> client ? client(method.getReturnType(), client) : null;
            default -> other(context, proxy, method, arguments);
        });
    }

    private static Object client(Class<?> type, Map<?, ?> client) {
        return view(type, (proxy, method, arguments) -> switch (method.getName()) {
            case "getInstallationId" -> client.get("installation_id");
            case "getAppTitle" -> client.get("app_title");
            case "getAppVersionName" -> client.get("app_version_name");
            case "getAppVersionCode" -> client.get("app_version_code");
            case "getAppPackageName" -> client.get("app_package_name");
            default -> other(client, proxy, method, arguments);
        });
    }

    /** {@code LambdaLogger}: one line for each call, for its methods add none. */
    private static Object log(Object proxy, Method method, Object[] arguments) throws Throwable {
        if (!method.getName().equals("log") || method.isDefault()) {
            return other(System.out, proxy, method, arguments);
        }
        Object message = arguments[0];
        String text = message instanceof byte[] bytes ? new String(bytes, StandardCharsets.UTF_8) : String.valueOf(message);
        System.out.print(text.endsWith("\n") ? text : text + "\n");
        System.out.flush();
        return null;
    }

    /** What interfaces answer themselves, what every object answers, and what newer interfaces may ask. */
    private static Object other(Object self, Object proxy, Method method, Object[] arguments) throws Throwable {
        if (method.isDefault()) {
            return InvocationHandler.invokeDefault(proxy, method, arguments);
        }
        return switch (method.getName()) {
            case "toString" -> method.getDeclaringClass() == Object.class ? proxy.getClass().getInterfaces()[0].getName() : null;
            case "hashCode" -> System.identityHashCode(self);
            case "equals" -> proxy == arguments[0];
            default -> throw new UnsupportedOperationException(method.toString());
        };
    }

    private static Object view(Class<?> type, InvocationHandler answers) {
        return Proxy.newProxyInstance(type.getClassLoader(), new Class<?>[] {type}, answers);
    }
}
