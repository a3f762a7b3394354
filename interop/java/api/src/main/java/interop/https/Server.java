package interop.https;

import com.sun.net.httpserver.HttpsConfigurator;
import com.sun.net.httpserver.HttpsExchange;
import com.sun.net.httpserver.HttpsParameters;
import com.sun.net.httpserver.HttpsServer;
import interop.Peer;
import java.net.InetSocketAddress;
import java.nio.charset.StandardCharsets;
import java.util.concurrent.Executors;
import javax.net.ssl.SSLParameters;

/** The HTTPS server of the JDK, which demands a client certificate: `Server PORT STORE`. */
public final class Server {
    private Server() {
    }

    public static void main(String[] args) throws Exception {
        HttpsServer server = HttpsServer.create(new InetSocketAddress("127.0.0.1", Integer.parseInt(args[0])), 0);
        server.setHttpsConfigurator(new HttpsConfigurator(Keys.context(args[1], true)) {
            @Override
            public void configure(HttpsParameters parameters) {
                SSLParameters found = getSSLContext().getDefaultSSLParameters();
                found.setNeedClientAuth(true);
                parameters.setSSLParameters(found);
            }
        });
        server.createContext("/", exchange -> {
            int size = exchange.getRequestBody().readAllBytes().length;
            String version = ((HttpsExchange) exchange).getSSLSession().getProtocol();
            byte[] body = (exchange.getRequestURI() + " " + size + " " + version).getBytes(StandardCharsets.UTF_8);
            exchange.sendResponseHeaders(200, body.length);
            exchange.getResponseBody().write(body);
            exchange.close();
        });
        server.setExecutor(Executors.newFixedThreadPool(8));
        server.start();
        Peer.serve();
        System.exit(0);
    }
}
