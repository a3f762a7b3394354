package interop;

import java.io.IOException;
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
