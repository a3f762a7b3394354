package interop.sofa;

import com.alipay.remoting.BizContext;
import com.alipay.remoting.rpc.RpcServer;
import com.alipay.remoting.rpc.protocol.SyncUserProcessor;
import interop.Peer;
import interop.Person;

/** A plain SOFABolt server, below SOFARPC: it gives back every Person. `BoltServer PORT`. */
public final class BoltServer {
    private BoltServer() {
    }

    public static void main(String[] args) throws Exception {
        RpcServer server = new RpcServer("127.0.0.1", Integer.parseInt(args[0]));
        server.registerUserProcessor(new SyncUserProcessor<Person>() {
            @Override
            public Object handleRequest(BizContext context, Person person) throws Exception {
                if (person.age < 0) {
                    throw new IllegalArgumentException(person.name);
                }
                return person;
            }

            @Override
            public String interest() {
                return Person.class.getName();
            }
        });
        server.startup();
        Peer.serve();
        System.exit(0);
    }
}
