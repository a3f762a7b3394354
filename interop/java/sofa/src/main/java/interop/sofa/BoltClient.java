package interop.sofa;

import com.alipay.remoting.rpc.RpcClient;
import com.alipay.remoting.rpc.exception.InvokeServerException;
import interop.Peer;
import interop.Person;

/**
 * A plain SOFABolt client: `BoltClient HOST:PORT OPTIONS`, where the options of the address say the protocol. It then keeps the idle connection, on which it sends heartbeats, until standard input ends.
 */
public final class BoltClient {
    private BoltClient() {
    }

    public static void main(String[] args) throws Exception {
        String url = args[0] + "?" + args[1];
        RpcClient client = new RpcClient();
        client.startup();
        Peer.step("echo", new Person("Ada", 36), () -> client.invokeSync(url, new Person("Ada", 36), 5000));
        Peer.step("fail", InvokeServerException.class, () -> client.invokeSync(url, new Person("as asked", -1), 5000));
        Peer.step("unknown", InvokeServerException.class, () -> client.invokeSync(url, "no processor", 5000));
        Peer.step("oneway", null, () -> {
            client.oneway(url, new Person("Bob", 5));
            return null;
        });
        Peer.serve();
        client.shutdown();
        System.exit(0);
    }
}
