import java.io.File;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.jar.JarOutputStream;
import java.util.zip.ZipEntry;

/** From a handler's name to its method. */
final class LoadingTests {
    private LoadingTests() {}

    static void names_of_handlers() throws Exception {
        for (String handler : new String[] {"Plain::echo", "Plain::echoStatic", "Plain", "Plain::handleRequest", "parts/Inner::echo", "parts.Inner::echo"}) {
            try (Instance instance = Instance.ready(Tests.functions, handler)) {
                Tests.answers(instance, "{\"a\":1}", "{\"a\":1}");
            }
        }
    }

    static void what_cannot_be_loaded_says_why() throws Exception {
        refused("Missing::handle", "Class not found: Missing", "java.lang.ClassNotFoundException");
        refused("Plain::missing", "No public method named missing", "java.lang.NoSuchMethodException");
        refused("Plain::tooMany", "appropriate method signature");
        refused("Plain::hidden", "No public method named hidden");
        refused("::handle", "Runtime.MalformedHandlerName");
        refused("Plain::", "Runtime.MalformedHandlerName");
        refused("Broken$AtLoad::handle", "\"errorMessage\":\"not today\"", "java.lang.IllegalStateException", "Broken.java");
        refused("Broken$AtConstruction::handle", "\"errorMessage\":\"not ever\"", "java.io.IOException");
        refused("Broken$WithArguments::handle", "no constructor without arguments");
        refused("Broken$Abstract::handle", "is abstract");
    }

    private static void refused(String handler, String... words) throws Exception {
        try (Instance instance = new Instance(Tests.functions, handler)) {
            Tests.holds(instance.expect(Instance.INIT_ERROR).text(), words);
            Tests.same(1, instance.ended());
        }
    }

    static void jars_beside_the_code_and_in_lib_are_on_the_class_path() throws Exception {
        Path root = Files.createTempDirectory("jars");
        Files.createDirectory(root.resolve("lib"));
        jar(root.resolve("app.jar"), "parts/Inner.class");
        jar(root.resolve("lib/plain.jar"), "Plain.class", "Plain$Note.class");
        for (String handler : new String[] {"parts.Inner::echo", "Plain::echo"}) {
            try (Instance instance = Instance.ready(root.toString(), handler)) {
                Tests.answers(instance, "[]", "[]");
            }
        }
        for (File file : new File[] {root.resolve("lib/plain.jar").toFile(), root.resolve("lib").toFile(), root.resolve("app.jar").toFile(), root.toFile()}) {
            file.delete();
        }
    }

    private static void jar(Path at, String... classes) throws Exception {
        try (JarOutputStream jar = new JarOutputStream(Files.newOutputStream(at))) {
            for (String name : classes) {
                jar.putNextEntry(new ZipEntry(name));
                jar.write(Files.readAllBytes(Path.of(Tests.functions, name)));
            }
        }
    }
}
