import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.Arrays;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.Map;
import java.util.Properties;

import org.apache.kafka.common.header.internals.RecordHeaders;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.common.utils.Utils;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.processor.api.RecordMetadata;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.Stores;

/**
 * The processor's work as a Kafka Streams application with exactly-once v2, for sound events only: the same entries,
 * digests, headers and duplicate window; the ends of the chains in a state store with its changelog. What is wrong with
 * a record ends it.
 *
 * <p>Run by {@code java -cp ... ChainStreams.java name=value ...}; names that begin with {@code streams.} are settings
 * of Kafka Streams.
 */
public final class ChainStreams {
    private static final byte[] LABEL = "sealstream1\n".getBytes(StandardCharsets.US_ASCII);
    private static final byte[] PAYLOAD_PREFIX = "sealstream/payload1\n".getBytes(StandardCharsets.US_ASCII);
    private static final byte[] EMPTY = {};
    private static final String HEADS = "heads";
    private static final String SETTING = "streams.";
    private static final int FRAME_BYTES = 10;

    /** What every entry depends on besides the records. */
    record Task(byte[] topicId, byte[] genesis, int partitions, long windowOffsets, long windowMicroseconds) {}

    /** A tenant's id of an event, as a key of the window. */
    record Name(Bytes tenant, Bytes id) {}

    /** A record that later ones can repeat. */
    record Seen(long offset, long received, long seq, byte[] digest) {}

    /** The end of a chain. */
    static final class End {
        final byte[] name;
        long seq;
        byte[] hash = new byte[32];

        End(byte[] name) {
            this.name = name;
        }

        static End unpack(byte[] name, byte[] packed) {
            End end = new End(name);
            ByteBuffer buffer = ByteBuffer.wrap(packed);
            buffer.get();
            end.seq = buffer.getLong();
            buffer.get(end.hash);
            return end;
        }

        byte[] pack() {
            return ByteBuffer.allocate(41).put((byte) 1).putLong(seq).put(hash).array();
        }
    }

    /** Chains the records of one partition. */
    static final class Chain implements Processor<byte[], byte[], byte[], byte[]> {
        private final Task task;
        private final MessageDigest sha256 = newSha256();
        // The ends as objects, in front of the store: reading them back from it for every record is slower.
        private final Map<Bytes, End> ends = new HashMap<>();
        private Map<Name, Seen> current = new HashMap<>();
        private Map<Name, Seen> previous = new HashMap<>();
        private long turn;
        private ProcessorContext<byte[], byte[]> context;
        private KeyValueStore<Bytes, byte[]> heads;

        Chain(Task task) {
            this.task = task;
        }

        @Override
        public void init(ProcessorContext<byte[], byte[]> context) {
            this.context = context;
            this.heads = context.getStateStore(HEADS);
        }

        @Override
        public void process(Record<byte[], byte[]> record) {
            RecordMetadata place = context.recordMetadata().orElseThrow();
            byte[] key = record.key();
            byte[] value = record.value();
            long offset = place.offset();
            long received = record.timestamp() * 1000;
            byte[] id = soundId(key, value);
            Bytes tenant = Bytes.wrap(key);
            End end = ends.get(tenant);
            if (end == null) {
                end = enter(tenant, key, place.partition());
            }
            if (end.seq == 0) {
                byte[] digest = digest(task.genesis);
                byte[] entry = pack(0, end, received, place, 0, EMPTY, task.genesis.length, digest);
                seal(end, entry, task.genesis, record.timestamp());
            }
            byte[] payload = digest(value);
            Seen repeated = judge(new Name(tenant, Bytes.wrap(id)), offset, received, end.seq, payload);
            int kind = repeated == null ? 1 : Arrays.equals(repeated.digest, payload) ? 3 : 5;
            long ref = repeated == null ? 0 : repeated.seq;
            byte[] entry = pack(kind, end, received, place, ref, id, value.length, payload);
            seal(end, entry, kind == 3 ? EMPTY : value, record.timestamp());
            heads.put(tenant, end.pack());
        }

        private End enter(Bytes tenant, byte[] key, int partition) {
            if (Utils.toPositive(Utils.murmur2(key)) % task.partitions != partition) {
                throw new IllegalStateException("a record stands in the wrong partition");
            }
            byte[] packed = heads.get(tenant);
            End end = packed == null ? new End(key) : End.unpack(key, packed);
            ends.put(tenant, end);
            return end;
        }

        private Seen judge(Name name, long offset, long received, long seq, byte[] payload) {
            if (offset >= turn) {
                previous = current;
                current = new HashMap<>((int) (task.windowOffsets * 4 / 3) + 1);
                turn = offset + task.windowOffsets;
            }
            Seen known = current.get(name);
            if (known == null) {
                known = previous.get(name);
            }
            boolean repeats = known != null
                    && offset - known.offset <= task.windowOffsets
                    && received - known.received <= task.windowMicroseconds;
            if (!repeats || !Arrays.equals(known.digest, payload)) {
                current.put(name, new Seen(offset, received, seq, payload));
            }
            return repeats ? known : null;
        }

        private byte[] pack(
                int kind, End end, long received, RecordMetadata place, long ref, byte[] id, int length, byte[] digest) {
            return ByteBuffer.allocate(LABEL.length + 4 + end.name.length + 85 + id.length + 36)
                    .put(LABEL).put((byte) 1).put((byte) kind).put((byte) 0)
                    .put((byte) end.name.length).put(end.name)
                    .putLong(end.seq).put(end.hash).putLong(received)
                    .put(task.topicId).putInt(place.partition()).putLong(place.offset())
                    .putLong(ref).put((byte) id.length).put(id)
                    .putInt(length).put(digest)
                    .array();
        }

        private void seal(End end, byte[] entry, byte[] value, long timestamp) {
            sha256.update((byte) 0);
            end.hash = sha256.digest(entry);
            end.seq++;
            RecordHeaders headers = new RecordHeaders();
            headers.add("seal-entry", entry);
            context.forward(new Record<>(end.name, value, timestamp, headers));
        }

        private byte[] digest(byte[] payload) {
            sha256.update(PAYLOAD_PREFIX);
            return sha256.digest(payload);
        }

        /** Returns the event's id, after the checks that a record must pass. */
        private static byte[] soundId(byte[] key, byte[] value) {
            int idEnd = FRAME_BYTES + 1 + (value[FRAME_BYTES] >> 1);
            byte[] id = Arrays.copyOfRange(value, FRAME_BYTES + 1, idEnd);
            int tenantEnd = idEnd + 1 + (value[idEnd] >> 1);
            if (!Arrays.equals(value, idEnd + 1, tenantEnd, key, 0, key.length)) {
                throw new IllegalStateException("a record's tenant is not its key");
            }
            for (byte letter : id) {
                if (!isIdLetter(letter)) {
                    throw new IllegalStateException("a record's id is not valid");
                }
            }
            return id;
        }

        private static boolean isIdLetter(byte letter) {
            return letter >= 'a' && letter <= 'z' || letter >= '0' && letter <= ':' || letter >= 'A' && letter <= 'Z'
                    || letter == '-' || letter == '.' || letter == '_';
        }
    }

    private static MessageDigest newSha256() {
        try {
            return MessageDigest.getInstance("SHA-256");
        } catch (NoSuchAlgorithmException error) {
            throw new AssertionError(error);
        }
    }

    public static void main(String[] arguments) {
        Map<String, String> given = new HashMap<>();
        for (String argument : arguments) {
            String[] parts = argument.split("=", 2);
            given.put(parts[0], parts[1]);
        }
        Task task = new Task(
                HexFormat.of().parseHex(given.get("topic_id")),
                given.get("genesis").getBytes(StandardCharsets.US_ASCII),
                Integer.parseInt(given.get("partitions")),
                Long.parseLong(given.get("window_offsets")),
                Long.parseLong(given.get("window_seconds")) * 1_000_000);
        Properties settings = new Properties();
        settings.put(StreamsConfig.APPLICATION_ID_CONFIG, given.get("group"));
        settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, given.get("bootstrap"));
        settings.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.EXACTLY_ONCE_V2);
        given.forEach((name, value) -> {
            if (name.startsWith(SETTING)) {
                settings.put(name.substring(SETTING.length()), value);
            }
        });
        KafkaStreams streams = new KafkaStreams(topology(task, given), settings);
        streams.setUncaughtExceptionHandler(error -> {
            error.printStackTrace();
            Runtime.getRuntime().halt(1);
            return StreamThreadExceptionResponse.SHUTDOWN_CLIENT;
        });
        Runtime.getRuntime().addShutdownHook(new Thread(streams::close));
        streams.start();
    }

    private static Topology topology(Task task, Map<String, String> given) {
        ByteArrayDeserializer reader = new ByteArrayDeserializer();
        ByteArraySerializer writer = new ByteArraySerializer();
        return new Topology()
                .addSource("source", reader, reader, given.get("source"))
                .addProcessor("chain", () -> new Chain(task), "source")
                .addStateStore(
                        Stores.keyValueStoreBuilder(
                                        Stores.inMemoryKeyValueStore(HEADS), Serdes.Bytes(), Serdes.ByteArray())
                                .withCachingEnabled(),
                        "chain")
                .addSink("sink", given.get("chained"), writer, writer, "chain");
    }
}
