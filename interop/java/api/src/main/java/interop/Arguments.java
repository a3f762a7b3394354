package interop;

import java.util.Arrays;
import java.util.Collections;
import java.util.Date;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** The calls whose frames are recorded, with arguments of every kind. */
public final class Arguments {
    private Arguments() {
    }

    /** A string longer than one chunk of hessian 2 (32768). */
    public static String chunked() {
        char[] letters = new char[33000];
        Arrays.fill(letters, 'x');
        return new String(letters);
    }

    public static Person circle() {
        Person person = new Person("Ada", 36);
        person.friend = person;
        return person;
    }

    public static List<Object> mixed(EchoService service) {
        Map<String, Person> byName = new LinkedHashMap<>();
        byName.put("Ada", new Person("Ada", 36));
        byName.put("\u00c9mile", new Person("\u00c9mile", 300000));
        return service.mixed(true, (byte) -7, (short) 300, -70000, 1L << 40, 1.5f, 0.1, '\u20ac', new Date(1700000000123L),
                new int[] {1, -1, 65536}, new String[] {"a", "\ud83d\ude00"}, Collections.singletonList(new Person("Bob", 5)),
                byName, null);
    }
}
