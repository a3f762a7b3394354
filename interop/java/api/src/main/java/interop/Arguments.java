package interop;

import java.util.Arrays;
import java.util.Collections;
import java.util.Date;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;

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

    /** Bytes of every value. */
    public static byte[] bytes(int size) {
        byte[] data = new byte[size];
        new Random(size).nextBytes(data);
        return data;
    }

    private static Map<String, Person> byName() {
        Map<String, Person> byName = new LinkedHashMap<>();
        byName.put("Ada", new Person("Ada", 36));
        byName.put("\u00c9mile", new Person("\u00c9mile", 300000));
        return byName;
    }

    /** Whether `mixed` gives back each argument. */
    public static boolean isMixed(EchoService service) {
        Object[] expected = {true, (byte) -7, (short) 300, -70000, 1L << 40, 1.5f, 0.1, '\u20ac', new Date(1700000000123L),
            new int[] {1, -1, 65536}, new String[] {"a", "\ud83d\ude00"}, Collections.singletonList(new Person("Bob", 5)),
            byName(), null};
        Object[] got = mixed(service).toArray();
        // Hessian has one type for the integers up to 32 bits, one for the floats, and strings for characters and their arrays.
        for (int i = 0; i < got.length && i < expected.length; i++) {
            if (expected[i] instanceof Number && got[i] instanceof Number) {
                boolean same = ((Number) expected[i]).doubleValue() == ((Number) got[i]).doubleValue();
                got[i] = same ? expected[i] : got[i];
            } else if (expected[i] instanceof Character) {
                got[i] = String.valueOf(got[i]).equals(String.valueOf(expected[i])) ? expected[i] : got[i];
            } else if (expected[i] instanceof Object[] && got[i] instanceof List) {
                got[i] = ((List<?>) got[i]).toArray(new String[0]);
            }
        }
        return Arrays.deepEquals(expected, got);
    }

    public static List<Object> mixed(EchoService service) {
        return service.mixed(true, (byte) -7, (short) 300, -70000, 1L << 40, 1.5f, 0.1, '\u20ac', new Date(1700000000123L),
                new int[] {1, -1, 65536}, new String[] {"a", "\ud83d\ude00"}, Collections.singletonList(new Person("Bob", 5)),
                byName(), null);
    }
}
