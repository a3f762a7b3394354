package interop.sofa;

import com.alipay.sofa.rpc.config.ConsumerConfig;
import com.alipay.sofa.rpc.config.MethodConfig;
import com.alipay.sofa.rpc.context.RpcInvokeContext;
import com.alipay.sofa.rpc.core.exception.SofaRpcException;
import interop.Arguments;
import interop.EchoException;
import interop.EchoService;
import interop.Load;
import interop.Peer;
import interop.Person;

import java.util.Arrays;
import java.util.Collections;

/** Calls EchoService over Bolt: `Consumer URL steps`, `Consumer URL load CALLS THREADS`, `once MS`, `values`, `large SIZE` or `wait` as for Dubbo. */
public final class Consumer {
    private Consumer() {
    }

    public static void main(String[] args) throws Exception {
        EchoService service = new ConsumerConfig<EchoService>()
                .setInterfaceId(EchoService.class.getName())
                .setProtocol("bolt")
                .setDirectUrl(args[0])
                .setRegister(false)
                .setSubscribe(false)
                .setRetries(0)
                .setTimeout(10000)
                .setMethods(Collections.singletonList(new MethodConfig().setName("note").setInvokeType("oneway")))
                .refer();
        if (args[1].equals("load")) {
            Load.run(service, Integer.parseInt(args[2]), Integer.parseInt(args[3]), Consumer::kind);
        } else if (args[1].equals("once")) {
            Peer.once(service, Consumer::kind, Integer.parseInt(args[2]));
        } else if (args[1].equals("wait")) {
            Peer.step("wait", "wait", () -> service.echo("wait"));
            Peer.serve();
        } else if (args[1].equals("values")) {
            Peer.values(service);
            changed(service);
        } else if (args[1].equals("large")) {
            Peer.large(service, Consumer::kind, Integer.parseInt(args[2]));
        } else {
            steps(service);
        }
        System.exit(0);
    }

    /** The proxy adds baggage to the request and to the response, and removes some of each request. */
    private static void changed(EchoService service) {
        Peer.step("added", "by the proxy", () -> service.attachment("added"));
        Peer.step("kept", "green", () -> {
            RpcInvokeContext.getContext().putRequestBaggage("kept", "green");
            return service.attachment("kept");
        });
        Peer.step("returned", "by the proxy", () -> {
            service.echo("hello");
            return RpcInvokeContext.getContext().getResponseBaggage("returned");
        });
    }

    private static String kind(Exception e) {
        return e instanceof SofaRpcException ? "rpc" + ((SofaRpcException) e).getErrorType() : e.getClass().getSimpleName();
    }

    private static void steps(EchoService service) {
        Peer.step("echo", "hello", () -> service.echo("hello"));
        Peer.step("bytes", true, () -> Arrays.equals(new byte[2000], service.bytes(new byte[2000])));
        Peer.step("person", new Person("Ada", 36), () -> service.person(new Person("Ada", 36)));
        Peer.step("mixed", true, () -> Arguments.isMixed(service));
        Peer.step("fail", EchoException.class, () -> service.fail("as asked"));
        Peer.step("note", null, () -> {
            service.note("one-way");
            return null;
        });
    }
}
