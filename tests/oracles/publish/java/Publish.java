import java.io.ByteArrayOutputStream;
import java.io.DataOutputStream;
import java.io.IOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse.BodyHandlers;
import java.security.SecureRandom;
import java.time.Instant;
import java.time.temporal.ChronoUnit;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.Future;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import org.apache.avro.Schema;
import org.apache.avro.generic.GenericData;
import org.apache.avro.generic.GenericDatumWriter;
import org.apache.avro.generic.GenericRecord;
import org.apache.avro.generic.GenericRecordBuilder;
import org.apache.avro.io.BinaryEncoder;
import org.apache.avro.io.EncoderFactory;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.kafka.common.serialization.StringSerializer;

/**
 * Publishes audit events as an application in Java does: with the schema from a registry, Confluent's framing, and
 * Kafka's own client, whose partitioner is the one that is asked for.
 *
 * <p>Run by {@code java -cp ... Publish BROKERS TOPIC REGISTRY TENANTS COUNT}.
 */
public final class Publish {
    private static final SecureRandom RANDOM = new SecureRandom();

    /** A schema, and the id that values begin with. */
    record Registered(int id, Schema schema) {
        static Registered latest(String registry, String subject) throws IOException, InterruptedException {
            URI address = URI.create(registry + "/subjects/" + subject + "/versions/latest");
            HttpRequest request = HttpRequest.newBuilder(address).build();
            String body = HttpClient.newHttpClient().send(request, BodyHandlers.ofString()).body();
            JsonNode answer = new ObjectMapper().readTree(body);
            return new Registered(answer.get("id").asInt(), new Schema.Parser().parse(answer.get("schema").asText()));
        }

        byte[] encode(GenericRecord event) throws IOException {
            ByteArrayOutputStream value = new ByteArrayOutputStream();
            DataOutputStream frame = new DataOutputStream(value);
            frame.writeByte(0);
            frame.writeInt(id);
            BinaryEncoder encoder = EncoderFactory.get().binaryEncoder(value, null);
            new GenericDatumWriter<GenericRecord>(schema).write(event, encoder);
            encoder.flush();
            return value.toByteArray();
        }

        GenericRecord event(String tenant, String id) {
            return new GenericRecordBuilder(schema)
                    .set("id", id)
                    .set("tenant", tenant)
                    .set("kind", new GenericData.EnumSymbol(type("kind"), "event"))
                    .set("salt", new GenericData.Fixed(type("salt"), salt()))
                    .set("occurred_at", ChronoUnit.MICROS.between(Instant.EPOCH, Instant.now()))
                    .set("actor", party(type("actor"), "service", "billing"))
                    .set("action", "invoice.created")
                    .set("targets", List.of(party(type("targets").getElementType(), "invoice", id)))
                    .set("outcome", new GenericData.EnumSymbol(type("outcome"), "success"))
                    .set("metadata", Map.of("language", "Java"))
                    .build(); // everything else has a default
        }

        private Schema type(String field) {
            return schema.getField(field).schema();
        }

        private static GenericRecord party(Schema schema, String type, String id) {
            return new GenericRecordBuilder(schema).set("type", type).set("id", id).build();
        }

        private static byte[] salt() {
            byte[] salt = new byte[16];
            RANDOM.nextBytes(salt);
            return salt;
        }
    }

    public static void main(String[] arguments) throws Exception {
        String topic = arguments[1];
        Registered registered = Registered.latest(arguments[2], topic + "-value");
        String[] tenants = arguments[3].split(",");
        Properties settings = new Properties();
        settings.put(ProducerConfig.BOOTSTRAP_SERVERS_CONFIG, arguments[0]);
        settings.put(ProducerConfig.ACKS_CONFIG, "all");
        List<Future<RecordMetadata>> sent = new ArrayList<>();
        try (KafkaProducer<String, byte[]> producer =
                new KafkaProducer<>(settings, new StringSerializer(), new ByteArraySerializer())) {
            for (int n = 0; n < Integer.parseInt(arguments[4]); n++) {
                String tenant = tenants[n % tenants.length];
                byte[] value = registered.encode(registered.event(tenant, "java-" + n));
                sent.add(producer.send(new ProducerRecord<>(topic, tenant, value)));
            }
        }
        for (Future<RecordMetadata> one : sent) {
            one.get(); // throws if Kafka did not take it
        }
    }
}
