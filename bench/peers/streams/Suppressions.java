import com.fasterxml.jackson.annotation.JsonIgnoreProperties;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.time.Duration;
import java.util.Properties;
import java.util.Set;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.LongAdder;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.processor.api.ContextualFixedKeyProcessor;
import org.apache.kafka.streams.processor.api.FixedKeyProcessorContext;
import org.apache.kafka.streams.processor.api.FixedKeyRecord;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.Stores;
import org.apache.kafka.streams.state.WindowStore;

/**
 * The processor's work with Kafka Streams: drop what was seen within 48 hours, keep the list of suppressed addresses.
 *
 * <p>Duplicates are dropped as in Confluent's tutorial "Find distinct events": a window store by the event's id. Both
 * stores lie on disk and have changelogs; changes of the list go to a topic.
 */
public final class Suppressions {
    private static final Duration WINDOW = Duration.ofHours(48);
    private static final Set<String> SUPPRESSING = Set.of("hard_bounce", "complaint", "unsubscribed");
    private static final ObjectMapper JSON = new ObjectMapper();
    private static final LongAdder PROCESSED = new LongAdder();
    private static final LongAdder UNIQUE = new LongAdder();

    @JsonIgnoreProperties(ignoreUnknown = true)
    record Event(String provider, String type, String id, String email, long received_at) {
        boolean suppresses() {
            return email != null && SUPPRESSING.contains(type);
        }
    }

    record Suppression(String cause, long since, String event) {}

    /** Passes an event on unless one with its id came within the window before it. */
    private static final class Unique extends ContextualFixedKeyProcessor<String, Event, Event> {
        private WindowStore<String, Long> seen;

        @Override
        public void init(FixedKeyProcessorContext<String, Event> context) {
            super.init(context);
            seen = context.getStateStore("seen");
        }

        @Override
        public void process(FixedKeyRecord<String, Event> record) {
            PROCESSED.increment();
            String id = record.value().provider() + ":" + record.value().id();
            long now = record.timestamp();
            try (var found = seen.fetch(id, now - WINDOW.toMillis(), now + WINDOW.toMillis())) {
                if (found.hasNext()) {
                    return;
                }
            }
            seen.put(id, now, now);
            UNIQUE.increment();
            context().forward(record);
        }
    }

    /** Passes a suppression on if its address was not suppressed before. */
    private static final class Listed extends ContextualFixedKeyProcessor<String, Event, Suppression> {
        private KeyValueStore<String, Suppression> list;

        @Override
        public void init(FixedKeyProcessorContext<String, Suppression> context) {
            super.init(context);
            list = context.getStateStore("suppressions");
        }

        @Override
        public void process(FixedKeyRecord<String, Event> record) {
            Event event = record.value();
            Suppression claim = new Suppression(event.type(), event.received_at(), event.id());
            if (list.putIfAbsent(event.email(), claim) == null) {
                context().forward(record.withValue(claim));
            }
        }
    }

    private static <T> Serde<T> json(Class<T> type) {
        return Serdes.serdeFrom(
                (topic, value) -> {
                    try {
                        return value == null ? null : JSON.writeValueAsBytes(value);
                    } catch (IOException error) {
                        throw new UncheckedIOException(error);
                    }
                },
                (topic, bytes) -> {
                    try {
                        return bytes == null ? null : JSON.readValue(bytes, type);
                    } catch (IOException error) {
                        throw new UncheckedIOException(error);
                    }
                });
    }

    private static Properties settings() {
        Properties settings = new Properties();
        settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, System.getenv("KAFKA_BOOTSTRAP_SERVERS"));
        settings.put(StreamsConfig.APPLICATION_ID_CONFIG, System.getenv("APPLICATION"));
        settings.put(StreamsConfig.STATE_DIR_CONFIG, System.getenv("STATE_DIR"));
        settings.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, System.getenv("GUARANTEE"));
        settings.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, System.getenv("THREADS"));
        return settings;
    }

    private static StreamsBuilder topology() {
        StreamsBuilder builder = new StreamsBuilder();
        builder.addStateStore(Stores.windowStoreBuilder(
                Stores.persistentWindowStore("seen", WINDOW, WINDOW, false), Serdes.String(), Serdes.Long()));
        builder.addStateStore(Stores.keyValueStoreBuilder(
                Stores.persistentKeyValueStore("suppressions"), Serdes.String(), json(Suppression.class)));
        builder.stream(System.getenv("EVENTS"), Consumed.with(Serdes.String(), json(Event.class)))
                .processValues(Unique::new, "seen")
                .filter((address, event) -> event.suppresses())
                .processValues(Listed::new, "suppressions")
                .to(System.getenv("SUPPRESSIONS"), Produced.with(Serdes.String(), json(Suppression.class)));
        return builder;
    }

    public static void main(String[] arguments) throws InterruptedException {
        CountDownLatch stopped = new CountDownLatch(1);
        try (KafkaStreams streams = new KafkaStreams(topology().build(), settings())) {
            streams.setUncaughtExceptionHandler(error -> {
                error.printStackTrace();
                stopped.countDown();
                return StreamThreadExceptionResponse.SHUTDOWN_CLIENT;
            });
            Runtime.getRuntime().addShutdownHook(new Thread(() -> {
                streams.close(Duration.ofSeconds(20));
                stopped.countDown();
            }));
            streams.start();
            Thread told = new Thread(Suppressions::tell, "progress");
            told.setDaemon(true);
            told.start();
            stopped.await();
        }
    }

    private static void tell() {
        long last = 0;
        while (true) {
            long processed = PROCESSED.sum();
            if (processed != last) {
                System.out.println("processed " + processed + " unique " + UNIQUE.sum());
                last = processed;
            }
            try {
                Thread.sleep(100);
            } catch (InterruptedException error) {
                return;
            }
        }
    }
}
