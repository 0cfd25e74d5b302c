"""What the chart hands to the workers: settings that Sealstream knows, and Secrets that only their role sees."""

import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from sealstream.kafka.client import KafkaConnection
from sealstream.producers.gateway.tokens import parse_algorithms
from sealstream.producers.relay.worker import outbox_url
from sealstream.schemas.entry import Genesis
from sealstream.schemas.keys import pack_key
from sealstream.sinks.notary.service import anchors_of, assemble
from sealstream.sinks.witness.protocol import AddCheckpoint
from sealstream.sinks.witness.service import known_logs
from sealstream.worker.evidence_settings import key_history_of, policy_of
from sealstream.worker.settings import PREFIX, Settings, known_names, load_settings
from support.helm import NAMESPACE, Helm, Release, case_values, merged
from support.notes import signer

pytest_plugins = ("support.helm_fixtures",)

DATA = "/var/lib/sealstream"
WITHOUT_KAFKA = {"migrate", "migrate-notary"}
WITH_THE_STORE = {"sink", "migrate", "notary"}
SECRETS = "/run/secrets/sealstream"
DATABASE_URL = "postgresql://writer:secret@store.example.org/audit"
# Variables whose value is the path of a file, although their name does not end in _FILE.
FILES = {"PGSSLROOTCERT", "SEALSTREAM_GATEWAY_KEYS"}
# Settings that a release leaves to their defaults, each for a reason.
LEFT_OUT = {
    "import_source": "an import is run by a person, once, and is no worker",
    "worker_id": "the host name of a StatefulSet's pod is what identifies it",
    "native": "the image has no native module",
}


def test_no_service_becomes_an_unknown_setting(helm: Helm, releases: dict[str, Release]) -> None:
    """Kubernetes adds no SEALSTREAM_..._SERVICE_HOST, which Sealstream would refuse, even in a release of its name."""
    renamed = helm.render(merged(case_values("minimal"), {"fullnameOverride": "sealstream"}))

    assert "sealstream-processor" in {found["metadata"]["name"] for found in renamed.of_kind("Service").values()}
    for release in (renamed, *releases.values()):
        assert [pod["enableServiceLinks"] for pod in release.pods().values()] == [False] * len(release.pods())


def test_the_chart_creates_no_secret(release: Release) -> None:
    """Only Secrets that exist are used: the release's own record in the cluster contains none."""
    assert "Secret" not in {found["kind"] for found in release.objects}


def test_every_file_setting_names_a_file_that_is_mounted(release: Release) -> None:
    """Each *_FILE setting points at a file that is there, and none is mounted that nothing asks for."""
    for role in release.pods():
        asked = {value for name, value in release.environment(role).items() if name.endswith("_FILE") or name in FILES}
        asked |= {word for word in release.pods()[role]["containers"][0]["args"] if word.startswith(SECRETS)}
        assert asked == {*release.files(role), *release.documents(role)}


def test_the_secrets_cannot_be_read_by_others(releases: dict[str, Release]) -> None:
    """Mounted Secrets are for root and the process's group, and read-only."""
    for pod in releases["password"].pods().values():
        (volume,) = [volume for volume in pod["volumes"] if volume["name"] == "secrets"]
        (mount,) = [mount for mount in pod["containers"][0]["volumeMounts"] if mount["name"] == "secrets"]
        assert volume["projected"]["defaultMode"] == 0o440
        assert mount["readOnly"] is True


def test_each_role_sees_only_the_secrets_it_needs(releases: dict[str, Release]) -> None:
    """The owner's URL is for the migration alone, the writer's for the sink alone; the migration gets no Kafka."""
    release = releases["password"]
    ca = ("kafka-cluster-ca-cert", "ca.crt")
    shared = ("kafka-sealstream", "password")

    assert {role: set(release.files(role).values()) for role in release.pods()} == {
        "processor": {ca, shared},
        "sink": {ca, shared, ("store-writer", "url"), ("store-ca", "ca.crt"), ("registry-sealstream", "password")},
        "verifier": {ca, ("kafka-sealstream-verifier", "password")},
        "topics": {ca, ("kafka-sealstream-topics", "secret")},
        "migrate": {("store-owner", "url"), ("store-ca", "ca.crt")},
    }
    assert release.environment("verifier")["SEALSTREAM_KAFKA_USERNAME"] == "sealstream-verifier"
    assert not [name for name in release.environment("migrate") if name.startswith("SEALSTREAM_KAFKA")]


def test_a_password_reaches_kafka_over_tls(releases: dict[str, Release]) -> None:
    """SASL over TLS becomes protocol, mechanism, user name, and two files."""
    environment = releases["password"].environment("processor")

    assert {name: value for name, value in environment.items() if name.startswith("SEALSTREAM_KAFKA")} == {
        "SEALSTREAM_KAFKA": "kafka-0.example.org:9093,kafka-1.example.org:9093",
        "SEALSTREAM_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "SEALSTREAM_KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
        "SEALSTREAM_KAFKA_USERNAME": "sealstream",
        "SEALSTREAM_KAFKA_PASSWORD_FILE": f"{SECRETS}/kafka-password",
        "SEALSTREAM_KAFKA_CA_FILE": f"{SECRETS}/kafka-ca.crt",
    }


def test_a_certificate_reaches_kafka(releases: dict[str, Release]) -> None:
    """Mutual TLS becomes a certificate and a key from the Secret's own key names, and nothing of SASL."""
    release = releases["certificate"]

    assert release.files("sink") == {
        f"{SECRETS}/kafka-ca.crt": ("kafka-ca", "ca.crt"),
        f"{SECRETS}/kafka-client.crt": ("kafka-client", "tls.crt"),
        f"{SECRETS}/kafka-client.key": ("kafka-client", "tls.key"),
        f"{SECRETS}/database-url": ("store-writer", "uri"),
    }
    assert not [name for name in release.environment("sink") if "SASL" in name or "PASSWORD" in name]


def test_a_database_authority_makes_verification_strict(releases: dict[str, Release]) -> None:
    """With an authority, PostgreSQL's certificate and host name are checked; without, the URL alone decides."""
    assert releases["password"].environment("sink")["PGSSLMODE"] == "verify-full"
    assert "PGSSLMODE" not in releases["minimal"].environment("sink")


def test_what_genesis_pins_is_the_same_for_every_role(releases: dict[str, Release]) -> None:
    """Instance, partitions and window reach every container alike, and large numbers as digits."""
    release = releases["password"]
    pinned = {
        "SEALSTREAM_INSTANCE": "audit.example.org/password",
        "SEALSTREAM_PARTITIONS": "48",
        "SEALSTREAM_WINDOW_OFFSETS": "1000000",
        "SEALSTREAM_WINDOW_SECONDS": "604800",
        "SEALSTREAM_TOPIC_PREFIX": "trail.",
        "SEALSTREAM_EPOCH": "2",
    }

    for role in release.pods():
        assert pinned.items() <= release.environment(role).items()


def test_every_setting_is_one_that_sealstream_knows(release: Release) -> None:
    """No worker stops at start because the chart invented a name."""
    for role in release.pods():
        settings = {name for name in release.environment(role) if name.startswith(PREFIX)}
        assert settings <= known_names()


def test_every_setting_can_be_set_by_values(releases: dict[str, Release]) -> None:
    """Whatever Sealstream can be told, the chart can tell it, but for what is left out on purpose."""
    handed_over = {
        name.removeprefix(PREFIX).lower()
        for release in releases.values()
        for role in release.pods()
        for name in release.environment(role)
    }
    can_be_set = {field for field in Settings.model_fields if {field, f"{field}_file"} & handed_over}

    assert set(Settings.model_fields) - can_be_set == set(LEFT_OUT)


def worker_settings(release: Release, role: str, directory: Path, secrets: Mapping[str, str] | None = None) -> Settings:
    """What a role's container would read, with the files of its Secrets and its ConfigMap written below `directory`.

    Each file of a Secret holds what `secrets` says of its name; else a database's URL, or just its name.
    """
    contents = release.documents(role)
    for path in release.files(role):
        name = Path(path).name
        contents[path] = (secrets or {}).get(name, f"{DATABASE_URL if name.endswith('database-url') else name}\n")
    for path, content in contents.items():
        file = directory / Path(path).name
        file.write_text(content, encoding="utf-8")
        file.chmod(0o600)
    environment = release.environment(role)
    return load_settings(
        {
            name: value.replace(SECRETS, str(directory)).replace(DATA, str(directory))
            for name, value in environment.items()
        }
    )


def test_sealstream_accepts_what_each_container_is_given(release: Release, tmp_path: Path) -> None:
    """Sealstream's own reader takes every container's environment, and finds Kafka and database where it needs them."""
    for role in release.pods():
        settings = worker_settings(release, role, tmp_path)
        assert settings.genesis().instance.startswith("audit.example.org/")
        is_plain = role == "witness" and "--recompute" not in release.pods()[role]["containers"][0]["args"]
        assert bool(settings.kafka) == (role not in WITHOUT_KAFKA and not is_plain)
        assert bool(settings.database.get_secret_value()) == (role in WITH_THE_STORE)
        assert bool(settings.notary_database.get_secret_value()) == ("notary" in role)


def test_settings_mean_what_the_values_say(releases: dict[str, Release], tmp_path: Path) -> None:
    """Read by Sealstream, the values of the example are what somebody wrote there."""
    settings = worker_settings(releases["password"], "sink", tmp_path)

    assert settings.connection() == KafkaConnection(
        bootstrap="kafka-0.example.org:9093,kafka-1.example.org:9093",
        security_protocol="SASL_SSL",
        sasl_mechanism="SCRAM-SHA-512",
        username="sealstream",
        password="kafka-password",
        ca_file=str(tmp_path / "kafka-ca.crt"),
    )
    assert settings.database_url() == DATABASE_URL
    assert settings.registry == "https://registry.example.org/apis/ccompat/v7"
    assert (settings.registry_username, settings.registry_password.get_secret_value()) == (
        "sealstream",
        "registry-password",
    )
    assert settings.genesis() == Genesis(
        instance="audit.example.org/password",
        partitions=48,
        window_offsets=1_000_000,
        window_seconds=604_800,
        operators="e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    )
    assert (settings.topic_prefix, settings.epoch, settings.replication) == ("trail.", 2, 3)
    assert (settings.batch_bytes_max, settings.batch_age_seconds) == (33_554_432, 0.05)
    assert settings.gather_seconds == 0.25
    assert (settings.log_format, settings.web_host, settings.web_port) == ("json", "0.0.0.0", 8080)


def test_the_gateway_is_set_as_the_values_say(releases: dict[str, Release], tmp_path: Path) -> None:
    """Addresses, tokens and limits of a gateway reach it, and its own readers of keys and secret take the files."""
    settings = worker_settings(releases["gateway"], "gateway", tmp_path)

    assert (settings.gateway_host, settings.gateway_port, settings.web_port) == ("0.0.0.0", 8000, 8080)
    assert settings.gateway_secret.get_secret_value() == "gateway-secret"
    assert settings.gateway_keys == tmp_path / "gateway-keys.json"
    assert (settings.gateway_issuer, settings.gateway_audience) == ("https://login.example.org/", "audit")
    assert settings.gateway_jwks_url == "https://login.example.org/.well-known/jwks.json"
    assert parse_algorithms(settings.gateway_algorithms) == {"ES256"}
    assert (settings.gateway_tenant_claim, settings.gateway_scope) == ("org_id", "audit.write")
    assert (settings.gateway_events_per_second, settings.gateway_burst_events) == (5_000, 10_000)
    assert (settings.gateway_body_bytes_max, settings.gateway_connections_max) == (1_048_576, 2_000)
    assert (settings.gateway_request_seconds, settings.gateway_delivery_seconds) == (5, 7.5)
    assert settings.gateway_spool is None


def test_the_relay_sees_the_applications_database_and_no_other(releases: dict[str, Release], tmp_path: Path) -> None:
    """The relay has the application's URL and authority, which nobody else has, and none of the store's."""
    release = releases["complete"]
    own = {("application-relay", "uri"), ("application-ca", "ca.crt")}
    settings = worker_settings(release, "relay", tmp_path)

    assert set(release.files("relay").values()) == own | {
        ("kafka-cluster-ca-cert", "ca.crt"),
        ("kafka-relay", "password"),
    }
    assert not [role for role in release.pods() if role != "relay" and own & set(release.files(role).values())]
    assert outbox_url(settings) == DATABASE_URL
    assert (settings.outbox_table, settings.outbox_keep) == ("billing.audit_outbox", True)
    assert (settings.outbox_rows_max, settings.outbox_poll_seconds) == (500, 0.5)
    assert release.environment("relay")["PGSSLMODE"] == "verify-full"


@pytest.mark.parametrize("case", ["complete", "witness"])
def test_the_witness_takes_key_policy_and_records(releases: dict[str, Release], tmp_path: Path, case: str) -> None:
    """What stands in the values reaches the witness byte for byte: it knows the log, and its keys in their order."""
    values = case_values(case)["witness"]
    settings = worker_settings(releases[case], "witness", tmp_path)
    (origin,) = known_logs(settings).origins

    assert origin == settings.instance
    assert (settings.policy, settings.rotations) == (values["policy"], values.get("rotations", ""))
    assert len(key_history_of(settings).lineage(policy_of(settings).logs[0].key)) == (2 if case == "complete" else 1)
    assert settings.witness_key.get_secret_value() == "witness.key"
    assert (settings.witness_host, settings.web_port) == ("0.0.0.0", 8080)
    assert settings.witness_port == values.get("port", 8000)


def test_the_witness_remembers_on_a_volume_of_its_own(releases: dict[str, Release]) -> None:
    """The witness's file is on a volume that comes back with its pod, and two pods cannot have two of them."""
    for case in ("complete", "witness"):
        workload = releases[case].of_kind("StatefulSet")["witness"]["spec"]
        (claim,) = workload["volumeClaimTemplates"]
        (container,) = workload["template"]["spec"]["containers"]
        (mount,) = [mount for mount in container["volumeMounts"] if mount["name"] == claim["metadata"]["name"]]
        file = releases[case].environment("witness")["SEALSTREAM_WITNESS_PATH"]
        assert Path(file).parent == Path(mount["mountPath"])
        assert workload["replicas"] == 1


def test_the_witness_begins_with_the_checkpoint_of_the_values(releases: dict[str, Release], tmp_path: Path) -> None:
    """The checkpoint that the operator believes is handed over whole: its signature is by a log of the policy."""
    release = releases["complete"]
    text = release.documents("witness")[f"{SECRETS}/checkpoint"]
    logs = known_logs(worker_settings(release, "witness", tmp_path))

    given = logs.check_signed(AddCheckpoint.parse(b"old 0\n\n" + text.encode()), now_seconds=int(time.time()))

    assert (given.checkpoint.origin, given.checkpoint.size) == ("audit.example.org/complete", 7)


def test_the_bucket_is_read_with_what_its_own_tools_take(releases: dict[str, Release], tmp_path: Path) -> None:
    """Object stores' credentials are the variables of one Secret, in the role's own process, and in no other."""
    release = releases["complete"]
    settings = worker_settings(release, "witness", tmp_path)
    from_secrets = {
        role: [source["secretRef"]["name"] for source in pod["containers"][0].get("envFrom", [])]
        for role, pod in release.pods().items()
    }

    assert settings.log_storage == "s3://audit-log/complete"
    assert release.environment("witness")["AWS_REGION"] == "eu-central-1"
    assert {role: names for role, names in from_secrets.items() if names} == {
        "notary": ["bucket-writer"],
        "witness": ["bucket-reader"],
    }
    assert settings.map_secret.get_secret_value() == "map-secret"


@pytest.mark.parametrize("case", ["complete", "notary"])
def test_a_notary_puts_itself_together(
    releases: dict[str, Release], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    """With real keys in the Secrets the notary itself finds all that it needs: key, map, policy, storage, anchors."""
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    (tmp_path / "log").mkdir()
    key = signer(case_values(case)["instance"])
    secrets = {"log.key": pack_key(key).decode(), "map-secret": "5a" * 32}
    settings = worker_settings(releases[case], "notary", tmp_path, secrets)

    notary, parts = assemble(settings)

    assert parts.signer.verifiers == (key.verifier,)
    assert policy_of(settings).logs[0].key == key.verifier
    assert not notary.is_open
    assert [anchor.name for anchor in anchors_of(settings)] == (
        ["timestamp", "lock"] if case == "complete" else ["lock"]
    )


def test_the_notary_is_set_as_the_values_say(releases: dict[str, Release], tmp_path: Path) -> None:
    """Rounds, anchors and witnesses are those of the values."""
    settings = worker_settings(releases["complete"], "notary", tmp_path)
    (witness,) = policy_of(settings).witnesses

    assert (settings.round_seconds, settings.round_age_seconds_max) == (30, 90.5)
    assert (settings.timestamp_url, settings.timestamp_seconds) == ("https://timestamps.example.org", 86_400)
    assert (settings.lock_storage, settings.lock_days) == ("s3://audit-log-locked/complete", 3_653)
    assert settings.log_storage == "s3://audit-log/complete"
    service = releases["complete"].services(headless=False)["witness"]
    (port,) = service["spec"]["ports"]
    assert witness.url == f"http://{service['metadata']['name']}.{NAMESPACE}.svc:{port['port']}"


def test_the_notarys_secrets_are_the_notarys(releases: dict[str, Release]) -> None:
    """Who signs is alone with its key; its database's owner is for its migration alone, which sees nothing else."""
    release = releases["complete"]
    shared = {("kafka-cluster-ca-cert", "ca.crt"), ("databases-ca", "ca.crt"), ("map-secret", "map.secret")}
    own = {
        ("notary", "log.key"),
        ("store-notary", "uri"),
        ("notary-database", "uri"),
        ("kafka-notary", "password"),
    }

    assert set(release.files("notary").values()) == own | shared
    assert set(release.files("migrate-notary").values()) == {
        ("notary-database-owner", "uri"),
        ("databases-ca", "ca.crt"),
    }
    assert not [role for role in release.pods() if role != "notary" and own & set(release.files(role).values())]
    # Where the notary names no authority of its own, that of the store is both servers'.
    assert ("store-ca", "ca.crt") in releases["notary"].files("notary").values()


def test_each_gateway_has_a_spool_of_its_own(releases: dict[str, Release]) -> None:
    """A gateway that spools keeps it on a volume that comes back with its pod; without a spool it has no volume."""
    spooling = releases["complete"].of_kind("StatefulSet")["gateway"]["spec"]
    (claim,) = spooling["volumeClaimTemplates"]
    (container,) = spooling["template"]["spec"]["containers"]
    (mount,) = [mount for mount in container["volumeMounts"] if mount["name"] == claim["metadata"]["name"]]

    assert claim["spec"] == {
        "accessModes": ["ReadWriteOncePod"],
        "storageClassName": "local-nvme",
        "resources": {"requests": {"storage": "4Gi"}},
    }
    assert releases["complete"].environment("gateway")["SEALSTREAM_GATEWAY_SPOOL"] == mount["mountPath"]
    assert set(releases["gateway"].workers()) == set(releases["gateway"].of_kind("Deployment")) == {"gateway"}
    assert "SEALSTREAM_GATEWAY_SPOOL" not in releases["gateway"].environment("gateway")


def test_the_gateways_secrets_are_the_gateways(releases: dict[str, Release]) -> None:
    """Who may send, and what salts are derived from, is known to the gateway alone; it has no database's password."""
    release = releases["complete"]
    own = {("gateway", "digits"), ("gateway-api-keys", "keys.json")}

    assert set(release.files("gateway").values()) == own | {
        ("kafka-cluster-ca-cert", "ca.crt"),
        ("kafka-gateway", "password"),
    }
    assert not [role for role in release.pods() if role != "gateway" and own & set(release.files(role).values())]
