"""The roles that a release has only if it is told so: gateway, relay, notary and witness, each with what is its own."""

import time
from pathlib import Path

import pytest

from sealstream.producers.gateway.tokens import parse_algorithms
from sealstream.producers.relay.worker import outbox_url
from sealstream.schemas.keys import pack_key
from sealstream.sinks.notary.service import anchors_of, assemble
from sealstream.sinks.witness.protocol import AddCheckpoint
from sealstream.sinks.witness.service import known_logs
from sealstream.worker.evidence_settings import key_history_of, policy_of
from support.helm import NAMESPACE, Helm, Release, case_values, merged
from support.helm_settings import DATABASE_URL, SECRETS, worker_settings
from support.notes import signer

pytest_plugins = ("support.helm_fixtures",)


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


def test_no_log_has_two_notaries(releases: dict[str, Release]) -> None:
    """A notary is one pod, which ends before its successor starts; where it publishes on a volume, that is its own."""
    for case in ("complete", "notary"):
        assert releases[case].of_kind("StatefulSet")["notary"]["spec"]["replicas"] == 1
    (claim,) = releases["notary"].claims("notary")

    assert releases["complete"].claims("notary") == []
    assert claim["spec"] == {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "100Gi"}}}
    assert releases["notary"].environment("notary")["SEALSTREAM_LOG_STORAGE"] == "/var/lib/sealstream/log"


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


def test_an_identity_is_that_of_its_role(releases: dict[str, Release]) -> None:
    """Annotations for a cloud's identity are on the account of the role that they were given to, and on no other."""
    accounts = releases["notary"].of_kind("ServiceAccount")

    assert accounts["notary"]["metadata"]["annotations"] == {
        "eks.amazonaws.com/role-arn": "arn:aws:iam::000000000000:role/audit-notary"
    }
    assert "annotations" not in releases["complete"].of_kind("ServiceAccount")["notary"]["metadata"]


def test_a_witness_can_be_in_other_hands(releases: dict[str, Release]) -> None:
    """A witness as a release of its own has one process at most, its key and its memory: no Kafka, and no database."""
    release = releases["witness"]
    (container,) = release.pods()["witness"]["containers"]

    assert set(release.pods()) == {"witness"}
    assert release.workers()["witness"]["spec"]["replicas"] == 1
    assert container["args"] == ["witness", "--trust-first-use"]
    assert "envFrom" not in container
    assert set(release.files("witness").values()) == {("witness", "witness.key")}
    assert not [name for name in release.environment("witness") if "KAFKA" in name or "DATABASE" in name]


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


def test_the_witness_begins_with_the_checkpoint_of_the_values(releases: dict[str, Release], tmp_path: Path) -> None:
    """The checkpoint that the operator believes is handed over whole: its signature is by a log of the policy."""
    release = releases["complete"]
    text = release.documents("witness")[f"{SECRETS}/checkpoint"]
    logs = known_logs(worker_settings(release, "witness", tmp_path))

    given = logs.check_signed(AddCheckpoint.parse(b"old 0\n\n" + text.encode()), now_seconds=int(time.time()))

    assert (given.checkpoint.origin, given.checkpoint.size) == ("audit.example.org/complete", 7)


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


def test_what_is_read_at_start_starts_anew_when_it_changes(helm: Helm, releases: dict[str, Release]) -> None:
    """Another policy is another pod: no worker goes on with documents that the release no longer has."""
    changed = helm.render(merged(case_values("witness"), {"witness": {"rotations": "sealstream/rotation1"}}))
    templates = [found.workers()["witness"]["spec"]["template"] for found in (releases["witness"], changed)]

    assert templates[0]["metadata"]["annotations"] != templates[1]["metadata"]["annotations"]


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
