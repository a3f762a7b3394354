package interop.https;

import java.io.ByteArrayOutputStream;
import java.io.InputStream;
import java.net.URI;
import java.net.URL;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;
import javax.net.ssl.HttpsURLConnection;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLSocket;

/** Requests a URL in the ways that Java has: `Client URL PORT STORE [own]`; `own`: with the client certificate in STORE. */
public final class Client {
    private Client() {
    }

    public static void main(String[] args) throws Exception {
        SSLContext context = Keys.context(args[2], args.length > 3);
        run("connection", () -> connection(context, args[0]));
        run("connection", () -> connection(context, args[0]));
        run("client", () -> client(context, args[0]));
        run("socket-1.2", () -> socket(context, Integer.parseInt(args[1]), "TLSv1.2"));
        run("socket-1.2", () -> socket(context, Integer.parseInt(args[1]), "TLSv1.2"));
        run("socket-1.3", () -> socket(context, Integer.parseInt(args[1]), "TLSv1.3"));
        System.out.println("DONE");
        System.exit(0);
    }

    private interface Request {
        String run() throws Exception;
    }

    private static void run(String name, Request request) {
        try {
            System.out.println("GOT " + name + " " + request.run());
        } catch (Exception e) {
            System.out.println("FAILED " + name + " " + e);
        }
    }

    private static String connection(SSLContext context, String url) throws Exception {
        HttpsURLConnection connection = (HttpsURLConnection) new URL(url).openConnection();
        connection.setSSLSocketFactory(context.getSocketFactory());
        try (InputStream in = connection.getInputStream()) {
            return connection.getResponseCode() + " " + new String(in.readAllBytes(), StandardCharsets.UTF_8);
        }
    }

    /** Offers h2 and http/1.1. */
    private static String client(SSLContext context, String url) throws Exception {
        HttpResponse<String> response = HttpClient.newBuilder().sslContext(context).build()
                .send(HttpRequest.newBuilder(URI.create(url)).build(), HttpResponse.BodyHandlers.ofString());
        return response.statusCode() + " " + response.body();
    }

    private static String socket(SSLContext context, int port, String version) throws Exception {
        try (SSLSocket socket = (SSLSocket) context.getSocketFactory().createSocket("localhost", port)) {
            socket.setEnabledProtocols(new String[] {version});
            socket.getOutputStream().write("GET /java HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".getBytes());
            ByteArrayOutputStream all = new ByteArrayOutputStream();
            socket.getInputStream().transferTo(all);
            String[] parts = all.toString("UTF-8").split("\r\n\r\n");
            return parts[0].split(" ")[1] + " " + parts[1];
        }
    }
}
