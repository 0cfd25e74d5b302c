// Command go publishes audit events as an application in Go does: with the schema from a registry, Confluent's framing,
// and the partitioner of Kafka's own clients, which is this library's default.
//
// Usage: go BROKERS TOPIC REGISTRY TENANTS COUNT
package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"log"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/hamba/avro/v2"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sr"
)

const latest = -1

func main() {
	log.SetFlags(0)
	if len(os.Args) != 6 {
		log.Fatal("usage: go BROKERS TOPIC REGISTRY TENANTS COUNT")
	}
	count, err := strconv.Atoi(os.Args[5])
	if err != nil {
		log.Fatal(err)
	}
	if err := publish(os.Args[1], os.Args[2], os.Args[3], strings.Split(os.Args[4], ","), count); err != nil {
		log.Fatal(err)
	}
}

func publish(brokers, topic, registry string, tenants []string, count int) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	serde, err := newSerde(ctx, registry, topic+"-value")
	if err != nil {
		return err
	}
	client, err := kgo.NewClient(
		kgo.SeedBrokers(strings.Split(brokers, ",")...),
		kgo.DefaultProduceTopic(topic),
		kgo.RequiredAcks(kgo.AllISRAcks()),
	)
	if err != nil {
		return err
	}
	defer client.Close()
	var records []*kgo.Record
	for n := range count {
		tenant := tenants[n%len(tenants)]
		value, err := serde.Encode(event(tenant, fmt.Sprintf("go-%d", n)))
		if err != nil {
			return err
		}
		records = append(records, &kgo.Record{Key: []byte(tenant), Value: value})
	}
	return client.ProduceSync(ctx, records...).FirstErr()
}

// newSerde frames what is encoded with the id of the subject's latest version.
func newSerde(ctx context.Context, registry, subject string) (*sr.Serde, error) {
	client, err := sr.NewClient(sr.URLs(registry))
	if err != nil {
		return nil, err
	}
	found, err := client.SchemaByVersion(ctx, subject, latest)
	if err != nil {
		return nil, err
	}
	schema, err := avro.Parse(found.Schema.Schema)
	if err != nil {
		return nil, err
	}
	serde := sr.NewSerde()
	serde.Register(found.ID, map[string]any{}, sr.EncodeFn(func(value any) ([]byte, error) {
		return avro.Marshal(schema, value)
	}))
	return serde, nil
}

func event(tenant, id string) map[string]any {
	var salt [16]byte
	_, _ = rand.Read(salt[:]) // which never fails
	return map[string]any{
		"id":          id,
		"tenant":      tenant,
		"kind":        "event",
		"salt":        salt,
		"occurred_at": time.Now().UTC(),
		"actor":       map[string]any{"type": "service", "id": "billing", "name": map[string]any{"string": "Billing"}},
		"action":      "invoice.created",
		"targets":     []any{map[string]any{"type": "invoice", "id": id, "name": nil}},
		"outcome":     "success",
		"context": map[string]any{
			"ip": map[string]any{"string": "192.0.2.1"}, "user_agent": nil, "location": nil, "session": nil,
			"request_id": nil, "traceparent": nil,
		},
		"metadata": map[string]any{"language": "Go"},
		"personal": nil,
		"producer": nil,
		"control":  nil,
	}
}
