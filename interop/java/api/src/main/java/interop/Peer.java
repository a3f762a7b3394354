package interop;

import java.io.IOException;
import java.util.Arrays;
import java.util.function.Function;

/** What the programs of the suite share: they talk to the tests in lines. */
public final class Peer {
    private Peer() {
    }

    /** Says that the program serves, and returns when the test has closed standard input. */
    public static void serve() throws IOException {
        System.out.println("READY");
        while (System.in.read() >= 0) {
            continue;
        }
    }

    /** Makes one call that takes so long, and says how it ended. */
    public static void once(EchoService service, Function<Exception, String> kind, int milliseconds) {
        try {
            System.out.println("REPLY " + service.slow("once", milliseconds));
        } catch (Exception e) {
            System.out.println("FAILED " + kind.apply(e) + " " + String.valueOf(e.getMessage()).replace('\n', ' '));
        }
    }

    /** Calls with arguments of many kinds and sizes, whose results must have the same values. */
    public static void values(EchoService service) {
        step("echo", "\u00e9\u20ac\ud83d\ude00", () -> service.echo("\u00e9\u20ac\ud83d\ude00"));
        step("chunked", Arguments.chunked(), () -> service.echo(Arguments.chunked()));
        for (int size : new int[] {0, 1, 15, 16, 1023, 1024, 4095, 32768, 65536, 1000000}) {
            step("bytes-" + size, true, () -> Arrays.equals(Arguments.bytes(size), service.bytes(Arguments.bytes(size))));
        }
        step("person", new Person("Ada", 36), () -> service.person(new Person("Ada", 36)));
        step("circle", true, () -> {
            Person person = service.person(Arguments.circle());
            return person.friend == person;
        });
        step("mixed", true, () -> Arguments.isMixed(service));
        step("fail", EchoException.class, () -> service.fail("as asked"));
    }

    /** A large call between two small ones, on one connection; the large one fails, and says so. */
    public static void large(EchoService service, Function<Exception, String> kind, int size) {
        step("before", "hello", () -> service.echo("hello"));
        try {
            System.out.println("REPLY " + service.bytes(Arguments.bytes(size)).length);
        } catch (Exception e) {
            System.out.println("FAILED " + kind.apply(e) + " " + String.valueOf(e.getMessage()).replace('\n', ' '));
        }
        step("after", "hello", () -> service.echo("hello"));
    }

    /** One recorded call. */
    public interface Step {
        Object run() throws Exception;
    }

    /** Runs a call that must end as `expected`: a value, or the class of an exception. */
    public static void step(String name, Object expected, Step step) {
        Object got;
        Exception error = null;
        try {
            got = step.run();
        } catch (Exception e) {
            got = e.getClass();
            error = e;
        }
        boolean same = expected == null ? got == null : expected.equals(got);
        System.out.println((same ? "STEP " : "WRONG ") + name + (same ? "" : " " + got + (error == null ? "" : " " + error.getMessage())));
    }
}
