package interop.dubbo;

import interop.EchoService;
import org.apache.dubbo.config.ApplicationConfig;
import org.apache.dubbo.config.MethodConfig;
import org.apache.dubbo.config.ReferenceConfig;

import java.util.Collections;

/** The configuration objects that both sides need. */
final class Setup {
    private Setup() {
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
