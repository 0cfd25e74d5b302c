"""What the chart hands to the workers: settings that Sealstream knows, and Secrets that only their role sees."""

from pathlib import Path

from sealstream.kafka.client import KafkaConnection
from sealstream.schemas.entry import Genesis
from sealstream.worker.settings import PREFIX, Settings, known_names
from support.helm import Helm, Release, case_values, merged
from support.helm_settings import DATABASE_URL, SECRETS, worker_settings

pytest_plugins = ("support.helm_fixtures",)

WITHOUT_KAFKA = {"migrate", "migrate-notary"}
WITH_THE_STORE = {"sink", "migrate", "notary"}
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
