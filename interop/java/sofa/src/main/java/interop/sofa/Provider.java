package interop.sofa;

import com.alipay.sofa.rpc.config.ProviderConfig;
import com.alipay.sofa.rpc.config.ServerConfig;
import com.alipay.sofa.rpc.context.RpcInvokeContext;
import interop.EchoService;
import interop.EchoServiceImpl;
import interop.Peer;

/** Serves EchoService over Bolt without a registry: `Provider PORT`. */
public final class Provider {
    private Provider() {
    }

    public static void main(String[] args) throws Exception {
        ServerConfig server = new ServerConfig().setProtocol("bolt").setHost("127.0.0.1").setPort(Integer.parseInt(args[0]));
        ProviderConfig<EchoService> provider = new ProviderConfig<EchoService>()
                .setInterfaceId(EchoService.class.getName())
                .setRef(new EchoServiceImpl(key -> RpcInvokeContext.getContext().getRequestBaggage(key)))
                .setServer(server)
                .setRegister(false);
        provider.export();
        Peer.serve();
        System.exit(0);
    }
}
