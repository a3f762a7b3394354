package interop.dubbo;

import interop.EchoService;
import interop.EchoServiceImpl;
import interop.Peer;
import org.apache.dubbo.config.ProtocolConfig;
import org.apache.dubbo.config.RegistryConfig;
import org.apache.dubbo.config.ServiceConfig;
import org.apache.dubbo.rpc.RpcContext;

/** Serves EchoService without a registry: `Provider PORT GROUP VERSION [SERIALIZATION]`. */
public final class Provider {
    private Provider() {
    }

    public static void main(String[] args) throws Exception {
        ProtocolConfig protocol = new ProtocolConfig("dubbo", Integer.parseInt(args[0]));
        protocol.setHost("127.0.0.1");
        protocol.setThreads(100);
        protocol.setSslEnabled(Setup.secured());
        if (args.length > 3) {
            protocol.setSerialization(args[3]);
        }
        ServiceConfig<EchoService> service = new ServiceConfig<>();
        service.setApplication(Setup.application("provider"));
        service.setRegistry(new RegistryConfig("N/A"));
        service.setProtocol(protocol);
        service.setInterface(EchoService.class);
        service.setRef(new EchoServiceImpl(key -> RpcContext.getContext().getAttachment(key)));
        service.setGroup(args[1]);
        service.setVersion(args[2]);
        service.export();
        Peer.serve();
        System.exit(0); // the shutdown hook closes the server, which tells its clients so: the readonly event
    }
}
