package interop.dubbo;

import interop.EchoService;
import org.apache.dubbo.config.ApplicationConfig;
import org.apache.dubbo.config.MethodConfig;
import org.apache.dubbo.config.ReferenceConfig;
import org.apache.dubbo.config.SslConfig;
import org.apache.dubbo.config.bootstrap.DubboBootstrap;

import java.util.Collections;

/** The configuration objects that both sides need. */
final class Setup {
    private Setup() {
    }

    /** Switches TLS on if the property `interop.tls` is a folder with ca.pem, own.pem and own.key; both sides demand a certificate. */
    static boolean secured() {
        String folder = System.getProperty("interop.tls");
        if (folder == null) {
            return false;
        }
        SslConfig ssl = new SslConfig();
        ssl.setServerKeyCertChainPath(folder + "/own.pem");
        ssl.setServerPrivateKeyPath(folder + "/own.key");
        ssl.setServerTrustCertCollectionPath(folder + "/ca.pem");
        ssl.setClientKeyCertChainPath(folder + "/own.pem");
        ssl.setClientPrivateKeyPath(folder + "/own.key");
        ssl.setClientTrustCertCollectionPath(folder + "/ca.pem");
        DubboBootstrap.getInstance().ssl(ssl);
        return true;
    }

    static ApplicationConfig application(String name) {
        ApplicationConfig application = new ApplicationConfig(name);
        application.setQosEnable(false);
        return application;
    }

    /** A reference to whoever listens at `url`; it does not retry, so that each call is one request. */
    static <T> ReferenceConfig<T> reference(Class<T> type, String url) {
        ReferenceConfig<T> reference = new ReferenceConfig<>();
        reference.setApplication(application("consumer"));
        reference.setInterface(type);
        reference.setUrl(url);
        reference.setCheck(false);
        reference.setRetries(0);
        reference.setTimeout(10000);
        MethodConfig note = new MethodConfig();
        note.setName("note");
        note.setReturn(false);
        reference.setMethods(Collections.singletonList(note));
        return reference;
    }

    /** EchoService at `url`, which may say group and version. */
    static ReferenceConfig<EchoService> echo(String url, String group, String version) {
        ReferenceConfig<EchoService> reference = reference(EchoService.class, url);
        if (!group.isEmpty()) {
            reference.setGroup(group);
        }
        if (!version.isEmpty()) {
            reference.setVersion(version);
        }
        return reference;
    }
}
