package interop;

import java.util.Date;
import java.util.List;
import java.util.Map;

/** The service that every peer of the suite offers and calls. */
public interface EchoService {
    String echo(String text);

    byte[] bytes(byte[] data);

    Person person(Person person);

    List<Object> mixed(boolean flag, byte tiny, short small, int number, long large, float real, double precise, char letter,
                       Date date, int[] numbers, String[] words, List<Person> people, Map<String, Person> byName, Object nothing);

    /** Called one-way. */
    void note(String text);

    String fail(String text) throws EchoException;

    String slow(String text, int milliseconds);

    /** What this provider received as the attachment `key`. */
    String attachment(String key);
}
