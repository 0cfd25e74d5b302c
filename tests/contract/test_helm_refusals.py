"""What the chart refuses, what it warns of, and how it says so."""

from typing import Any

import pytest

from support.helm import NAMESPACE, RELEASE, WORKERS, Helm, HelmRefusedError, Mapped, case_values, merged

pytest_plugins = ("support.helm_fixtures",)


def test_what_is_missing_is_said_at_once(helm: Helm) -> None:
    """An installation without values names every one that is needed, in one message."""
    with pytest.raises(HelmRefusedError) as refused:
        helm.template({})

    for key in (
        "image.repository",
        "instance",
        "kafka.bootstrapServers",
        "database.owner.existingSecret",
        "database.writer.existingSecret",
    ):
        assert f"- {key} is empty" in str(refused.value)


PASSWORD = {"username": "u", "password": {"existingSecret": "s"}}
CERTIFICATE = {"certificate": {"existingSecret": "s"}}
GATEWAY: Mapped = {"enabled": True, "secret": {"existingSecret": "s"}, "apiKeys": {"existingSecret": "k"}}
WITNESS: Mapped = {"enabled": True, "key": {"existingSecret": "k"}, "policy": "log x\nquorum none\n"}
BEGUN = {"trustFirstUse": False}
TOKENS = {"issuer": "https://login.example.org/"}
REFUSED: list[tuple[str, Mapped, str]] = [
    ("unknown key", {"procesor": {"replicas": 2}}, "'procesor' not allowed"),
    ("unknown key below", {"processor": {"replica": 2}}, "'replica' not allowed"),
    ("negative replicas", {"sink": {"replicas": -1}}, "/sink/replicas"),
    ("no partitions", {"chain": {"partitions": 0}}, "/chain/partitions"),
    ("password as a value", {"kafka": {"credentials": {"password": "x"}}}, "/kafka/credentials/password"),
    ("SASL without a mechanism", {"kafka": {"securityProtocol": "SASL_SSL"}}, "kafka.saslMechanism is empty"),
    (
        "SASL without credentials",
        {"kafka": {"securityProtocol": "SASL_SSL", "saslMechanism": "PLAIN"}},
        "kafka.credentials needs username and password.existingSecret",
    ),
    (
        "half of a role's own credentials",
        {
            "kafka": {"securityProtocol": "SASL_SSL", "saslMechanism": "PLAIN", "credentials": PASSWORD},
            "verifier": {"kafkaCredentials": {"username": "verifier"}},
        },
        "verifier.kafkaCredentials needs username and password.existingSecret",
    ),
    ("a registry's user without a password", {"registry": {"username": "u"}}, "needs both or neither"),
    (
        "a registry's user without a registry",
        {"registry": {"username": "u", "password": {"existingSecret": "s"}}},
        "registry.url is empty",
    ),
    ("a mechanism without SASL", {"kafka": {"saslMechanism": "PLAIN"}}, "kafka.saslMechanism is set"),
    ("a password without SASL", {"kafka": {"credentials": PASSWORD}}, "would not use"),
    (
        "a certificate without TLS",
        {"kafka": {"securityProtocol": "PLAINTEXT", "credentials": CERTIFICATE}},
        "has a certificate that kafka.securityProtocol PLAINTEXT would not use",
    ),
    (
        "an authority without TLS",
        {"kafka": {"securityProtocol": "PLAINTEXT", "ca": {"existingSecret": "s"}}},
        "kafka.ca.existingSecret is set",
    ),
    ("a gateway without a secret", {"gateway": {"enabled": True}}, "gateway.secret.existingSecret is empty"),
    ("a gateway that knows nobody", {"gateway": {"enabled": True}}, "gateway knows nobody"),
    *(
        (f"a notary without {key}", {"notary": {"enabled": True}}, f"notary.{key} is empty")
        for key in (
            "key.existingSecret",
            "mapSecret.existingSecret",
            "policy",
            "database.reader.existingSecret",
            "database.notary.existingSecret",
            "database.owner.existingSecret",
        )
    ),
    (
        "timestamps by whomever",
        {"notary": {"enabled": True, "anchors": {"timestamps": {"url": "https://timestamps.example.org"}}}},
        "notary.anchors.timestamps.roots is empty",
    ),
    ("a witness without a key", {"witness": {"enabled": True}}, "witness.key.existingSecret is empty"),
    ("a witness of no log", {"witness": {"enabled": True}}, "witness.policy is empty"),
    ("checkpoints on the port for health", {"witness": WITNESS | {"port": 8080}}, "witness.port is 8080, and so is"),
    (
        "two beginnings",
        {"witness": WITNESS | {"begin": {"checkpoint": "x", "trustFirstUse": True}}},
        "witness.begin has a checkpoint, and trusts what comes first",
    ),
    (
        "nothing to recompute",
        {"witness": WITNESS | {"recompute": {"enabled": True}}},
        "witness.recompute.storage.url is empty",
    ),
    (
        "a map without names",
        {"witness": WITNESS | {"recompute": {"enabled": True}}},
        "witness.recompute.mapSecret.existingSecret is empty",
    ),
    ("a relay without a database", {"relay": {"enabled": True}}, "relay.database.url.existingSecret is empty"),
    ("tokens for whoever", {"gateway": GATEWAY | {"tokens": TOKENS}}, "gateway.tokens.audience is empty"),
    ("tokens by unknown keys", {"gateway": GATEWAY | {"tokens": TOKENS}}, "gateway.tokens.jwksUrl is empty"),
    ("an audience of nobody", {"gateway": GATEWAY | {"tokens": {"audience": "a"}}}, "gateway.tokens.issuer is empty"),
    (
        "events on the port for health",
        {"gateway": GATEWAY | {"port": 8080}},
        "gateway.port is 8080, and so is",
    ),
    (
        "a gateway without Kafka's password",
        {
            "kafka": {"securityProtocol": "SASL_SSL", "saslMechanism": "PLAIN", "credentials": PASSWORD},
            "gateway": GATEWAY | {"kafkaCredentials": {"username": "gateway"}},
        },
        "gateway.kafkaCredentials needs username and password.existingSecret",
    ),
]


@pytest.mark.parametrize(("changes", "message"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_values_that_cannot_be_meant_are_refused(helm: Helm, changes: Mapped, message: str) -> None:
    """Helm stops before anything is installed, and says which value is wrong."""
    with pytest.raises(HelmRefusedError) as refused:
        helm.template(merged(case_values("minimal"), changes))

    assert message in str(refused.value)


def test_the_notes_say_how_to_look(helm: Helm) -> None:
    """After an installation a person reads the commands that show what runs, for the names of this release."""
    notes = helm.notes(case_values("minimal"))

    assert 'keeps the audit trail "audit.example.org/minimal"' in notes
    assert f"kubectl --namespace {NAMESPACE} get pods" in notes
    for role in WORKERS:
        assert f"logs statefulset/{RELEASE}-sealstream-{role}" in notes
    assert "/readyz" in notes


def test_the_notes_say_where_events_are_taken(helm: Helm) -> None:
    """Who has installed a gateway reads the address that applications send to, and how to look at its Deployment."""
    notes = helm.notes(case_values("gateway"))

    assert f"http://{RELEASE}-sealstream-gateway.{NAMESPACE}.svc:8000/v1/events" in notes
    assert f"logs deployment/{RELEASE}-sealstream-gateway" in notes
    assert f"logs deployment/{RELEASE}-sealstream-relay" in helm.notes(case_values("complete"))
    assert f"logs statefulset/{RELEASE}-sealstream-gateway" in helm.notes(case_values("complete"))


def test_the_notes_say_where_checkpoints_are_cosigned(helm: Helm) -> None:
    """Who has installed a witness reads its address, and that its beginning is to be emptied."""
    notes = helm.notes(case_values("witness"))

    assert f"http://{RELEASE}-sealstream-witness.{NAMESPACE}.svc:8000" in notes
    assert "witness.begin is set" in notes
    assert "witness.begin" not in helm.notes(merged(case_values("witness"), {"witness": {"begin": BEGUN}}))


def test_the_notes_say_what_a_notary_lacks(helm: Helm) -> None:
    """A log that nobody else watches is pointed out, and so is the volume on which nobody reads yet."""
    notes = helm.notes(case_values("notary"))

    assert "notary.policy asks for no witness" in notes
    assert f"get persistentvolumeclaim log-{RELEASE}-sealstream-notary-0" in notes
    assert "asks for no witness" not in helm.notes(case_values("complete"))
    assert "persistentvolumeclaim" not in helm.notes(case_values("complete"))


def test_kafka_is_asked_for_where_somebody_speaks_to_it(helm: Helm) -> None:
    """A plain witness needs no Kafka; one that recomputes is told that it does."""
    recompute = {"enabled": True, "storage": {"url": "https://log.example.org"}, "mapSecret": {"existingSecret": "m"}}

    assert helm.render(case_values("witness")).workers()
    with pytest.raises(HelmRefusedError, match=r"kafka\.bootstrapServers is empty"):
        helm.template(merged(case_values("witness"), {"witness": {"recompute": recompute}}))


@pytest.mark.parametrize(
    ("changes", "remark"),
    [
        ({"processor": {"replicas": 13}}, "13 processors share 12 partitions"),
        ({"kafka": {"securityProtocol": "PLAINTEXT"}}, "crosses the network unencrypted"),
        ({"verifier": {"enabled": False}}, "no verifier runs in this release"),
    ],
    ids=["idle processors", "plain text", "no verifier"],
)
def test_the_notes_warn_of_what_is_allowed_but_unwise(helm: Helm, changes: dict[str, Any], remark: str) -> None:
    """What is not wrong enough to refuse is said, and only where it applies."""
    assert remark not in helm.notes(case_values("minimal"))
    assert remark in helm.notes(merged(case_values("minimal"), changes))
