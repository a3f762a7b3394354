package interop.dubbo;

import interop.Arguments;
import interop.EchoException;
import interop.EchoService;
import interop.Load;
import interop.Peer;
import interop.Person;
import org.apache.dubbo.common.Version;
import org.apache.dubbo.config.ReferenceConfig;
import org.apache.dubbo.rpc.RpcContext;
import org.apache.dubbo.rpc.RpcException;
import org.apache.dubbo.rpc.service.GenericService;

import java.util.Arrays;

/**
 * Calls EchoService at a URL: `Consumer URL GROUP VERSION steps`, `... load CALLS THREADS`, `... once MS` (one call that takes so
 * long, and says how it ended), `... values` (many calls, and changed headers), `... large SIZE` (one large call between small ones) or
 * `... wait` (one call, then keeps the connection until standard input ends). An empty GROUP is none.
 */
public final class Consumer {
    private Consumer() {
    }

    public static void main(String[] args) throws Exception {
        Setup.secured(); // the URL also says so
        ReferenceConfig<EchoService> reference = Setup.echo(args[0], args[1], args[2]);
        EchoService service = reference.get();
        if (args[3].equals("load")) {
            Load.run(service, Integer.parseInt(args[4]), Integer.parseInt(args[5]), Consumer::kind);
        } else if (args[3].equals("once")) {
            Peer.once(service, Consumer::kind, Integer.parseInt(args[4]));
        } else if (args[3].equals("wait")) {
            Peer.step("wait", "wait", () -> service.echo("wait"));
            Peer.serve();
        } else if (args[3].equals("values")) {
            Peer.values(service);
            changed(service);
        } else if (args[3].equals("large")) {
            Peer.large(service, Consumer::kind, Integer.parseInt(args[4]));
        } else {
            steps(service);
            generic(args[0], args[1], args[2]);
        }
        System.exit(0);
    }

    /** The proxy adds an attachment to the request and one to the response, and removes one of each request. */
    private static void changed(EchoService service) {
        Peer.step("added", "by the proxy", () -> service.attachment("added"));
        Peer.step("removed", null, () -> {
            RpcContext.getContext().setAttachment("removed", "green");
            return service.attachment("removed");
        });
        Peer.step("kept", "green", () -> {
            RpcContext.getContext().setAttachment("kept", "green");
            return service.attachment("kept");
        });
        if (Version.getVersion().startsWith("3")) { // Dubbo 2.7 keeps no attachments of responses of synchronous calls
            Peer.step("returned", "by the proxy", () -> {
                service.echo("hello");
                return RpcContext.getServerContext().getAttachment("returned");
            });
        }
    }

    /** The kind of an RpcException is its code; any other is known by its class. */
    private static String kind(Exception e) {
        if (e instanceof RpcException) {
            return "rpc" + ((RpcException) e).getCode();
        }
        return e.getClass().getSimpleName();
    }

    private static void steps(EchoService service) {
        Peer.step("echo", "hello", () -> service.echo("hello"));
        Peer.step("echo-null", null, () -> service.echo(null));
        Peer.step("echo-unicode", "\u00e9\u20ac\ud83d\ude00", () -> service.echo("\u00e9\u20ac\ud83d\ude00"));
        Peer.step("echo-chunked", Arguments.chunked(), () -> service.echo(Arguments.chunked()));
        Peer.step("bytes", true, () -> Arrays.equals(new byte[2000], service.bytes(new byte[2000])));
        Peer.step("person", new Person("Ada", 36), () -> service.person(new Person("Ada", 36)));
        Peer.step("person-circle", true, () -> {
            Person person = service.person(Arguments.circle());
            return person.friend == person;
        });
        Peer.step("mixed", true, () -> Arguments.isMixed(service));
        Peer.step("fail", EchoException.class, () -> service.fail("as asked"));
        Peer.step("attachment", "green", () -> {
            RpcContext.getContext().setAttachment("colour", "green");
            return service.attachment("colour");
        });
        Peer.step("note", null, () -> {
            service.note("one-way");
            return null;
        });
    }

    private static void generic(String url, String group, String version) {
        ReferenceConfig<GenericService> reference = Setup.reference(GenericService.class, url);
        reference.setInterface(EchoService.class.getName());
        reference.setGeneric("true");
        if (!group.isEmpty()) {
            reference.setGroup(group);
        }
        if (!version.isEmpty()) {
            reference.setVersion(version);
        }
        GenericService service = reference.get();
        Peer.step("generic", "hello", () -> service.$invoke("echo", new String[] {"java.lang.String"}, new Object[] {"hello"}));
    }
}
