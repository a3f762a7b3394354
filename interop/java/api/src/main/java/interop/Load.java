package interop;

import java.util.Arrays;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.LongAdder;
import java.util.function.Function;

/** Many calls from many threads, each with text of its own: a reply that belongs to another call is seen. */
public final class Load {
    private Load() {
    }

    /** Prints `RESULT ok wrong failed kind=count ...`. `kind` names an exception for the report. */
    public static void run(EchoService service, int calls, int threads, Function<Exception, String> kind) throws InterruptedException {
        char[] padding = new char[200];
        Arrays.fill(padding, '.');
        String tail = new String(padding);
        AtomicInteger next = new AtomicInteger();
        LongAdder ok = new LongAdder();
        LongAdder wrong = new LongAdder();
        Map<String, LongAdder> failures = new ConcurrentHashMap<>();
        Thread[] running = new Thread[threads];
        for (int i = 0; i < threads; i++) {
            running[i] = new Thread(() -> {
                int call;
                while ((call = next.getAndIncrement()) < calls) {
                    String text = call + tail.substring(call % 200);
                    try {
                        if (text.equals(service.echo(text))) {
                            ok.increment();
                        } else {
                            wrong.increment();
                        }
                    } catch (Exception e) {
                        failures.computeIfAbsent(kind.apply(e), name -> new LongAdder()).increment();
                    }
                    if (call % 1000 == 999) {
                        System.out.println("CALLS " + (call + 1));
                    }
                }
            });
            running[i].start();
        }
        for (Thread thread : running) {
            thread.join();
        }
        long failed = failures.values().stream().mapToLong(LongAdder::sum).sum();
        StringBuilder line = new StringBuilder("RESULT " + ok.sum() + " " + wrong.sum() + " " + failed);
        new TreeMap<>(failures).forEach((name, count) -> line.append(' ').append(name).append('=').append(count.sum()));
        System.out.println(line);
    }
}
