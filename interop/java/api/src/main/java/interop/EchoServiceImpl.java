package interop;

import java.util.Arrays;
import java.util.Date;
import java.util.List;
import java.util.Map;
import java.util.function.Function;

/** Gives back what it gets. */
public class EchoServiceImpl implements EchoService {
    private final Function<String, String> attachments;

    public EchoServiceImpl(Function<String, String> attachments) {
        this.attachments = attachments;
    }

    @Override
    public String echo(String text) {
        return text;
    }

    @Override
    public byte[] bytes(byte[] data) {
        return data;
    }

    @Override
    public Person person(Person person) {
        return person;
    }

    @Override
    public List<Object> mixed(boolean flag, byte tiny, short small, int number, long large, float real, double precise,
                              char letter, Date date, int[] numbers, String[] words, List<Person> people,
                              Map<String, Person> byName, Object nothing) {
        return Arrays.asList(flag, tiny, small, number, large, real, precise, letter, date, numbers, words, people, byName, nothing);
    }

    @Override
    public void note(String text) {
        System.out.println("NOTED " + text);
    }

    @Override
    public String fail(String text) throws EchoException {
        throw new EchoException(text);
    }

    @Override
    public String slow(String text, int milliseconds) {
        try {
            Thread.sleep(milliseconds);
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
        return text;
    }

    @Override
    public String attachment(String key) {
        return attachments.apply(key);
    }
}
