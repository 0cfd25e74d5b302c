"""The Helm chart, rendered by Helm and judged offline: what Kubernetes would be given is right for every example."""

import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from support.helm import (
    CASES,
    CHART,
    HELM_MISSING,
    HELM_TIMEOUT_SECONDS,
    NAMESPACE,
    RELEASE,
    Helm,
    HelmRefusedError,
    Mapped,
    Release,
    find_helm,
    load_yaml,
    merged,
)
from support.pod_security import restricted_violations

# The oldest release that Chart.yaml admits, one in between, and the newest that kubernetes-validate has schemas of.
OLDEST = load_yaml(CHART / "Chart.yaml")["kubeVersion"].removeprefix(">=").removesuffix(".0-0")
KUBERNETES_VERSIONS = (OLDEST, "1.34", version("kubernetes-validate").rpartition(".")[0])
CASE_NAMES = [case.stem.removesuffix("-values") for case in CASES]
WORKERS = ("processor", "sink", "verifier")
SECRETS = "/run/secrets/sealstream"
NON_ROOT_ID = 65532
# Kubernetes appends a hash of 11 characters to a StatefulSet's name, for a label of at most 63.
NAME_LENGTH_MAX = 52
WRITABLE_PATHS = {"/tmp", "/var/lib/sealstream"}


@pytest.fixture(scope="session")
def helm(tmp_path_factory: pytest.TempPathFactory) -> Helm:
    """Helm, or a reason to skip that says how to get it."""
    executable = find_helm()
    if executable is None:
        pytest.skip(HELM_MISSING)
    return Helm(executable, tmp_path_factory.mktemp("helm"))


def case_values(name: str) -> Mapped:
    """One of the chart's own example values."""
    return load_yaml(CHART / "ci" / f"{name}-values.yaml")


@pytest.fixture(scope="session")
def releases(helm: Helm) -> dict[str, Release]:
    """Every example, rendered once."""
    return {name: helm.render(case_values(name)) for name in CASE_NAMES}


@pytest.fixture(params=CASE_NAMES)
def release(request: pytest.FixtureRequest, releases: dict[str, Release]) -> Release:
    """Each example in turn."""
    return releases[request.param]


@pytest.mark.parametrize("case", [None, *CASE_NAMES])
def test_helm_finds_nothing_to_criticise(helm: Helm, case: str | None) -> None:
    """`helm lint --strict` passes for the defaults and for every example."""
    printed = helm.run("lint", "--strict", str(CHART), values=case_values(case) if case else {})

    assert "1 chart(s) linted, 0 chart(s) failed" in printed


@pytest.mark.parametrize("kubernetes", KUBERNETES_VERSIONS)
@pytest.mark.parametrize("case", CASE_NAMES)
def test_kubernetes_takes_every_object(helm: Helm, tmp_path: Path, case: str, kubernetes: str) -> None:
    """Every rendered object has the fields and types that Kubernetes knows, and no others."""
    rendered = tmp_path / "rendered.yaml"
    rendered.write_text(helm.template(case_values(case)), encoding="utf-8")

    checked = subprocess.run(
        [sys.executable, "-m", "kubernetes_validate", "--strict", "--kubernetes-version", kubernetes, str(rendered)],
        capture_output=True,
        text=True,
        check=False,
        timeout=HELM_TIMEOUT_SECONDS,
    )

    assert checked.returncode == 0, checked.stdout + checked.stderr
    # A kind without a schema is only warned about, and passes unseen: a monitor is the one that may.
    warnings = [line for line in checked.stdout.splitlines() if line.startswith("WARN")]
    assert all("ServiceMonitor" in line for line in warnings)


def test_rendering_twice_gives_the_same(helm: Helm) -> None:
    """Nothing random is rendered, so an upgrade without a change restarts nothing."""
    values = case_values("password")

    assert helm.template(values) == helm.template(values)


def test_every_pod_keeps_the_restricted_profile(release: Release) -> None:
    """A namespace that enforces the "restricted" Pod Security Standard admits every pod."""
    workloads = release.of_kind("StatefulSet") | release.of_kind("Job")

    assert workloads
    assert {role: restricted_violations(found["spec"]["template"]) for role, found in workloads.items()} == {
        role: [] for role in workloads
    }


def test_every_pod_goes_beyond_the_profile(release: Release) -> None:
    """The process has a fixed id that is not root's, writes to two bounded places only, and has no API token."""
    for pod in release.pods().values():
        security, (container,) = pod["securityContext"], pod["containers"]
        assert [security[field] for field in ("runAsUser", "runAsGroup", "fsGroup")] == [NON_ROOT_ID] * 3
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert pod["automountServiceAccountToken"] is False
        assert pod["terminationGracePeriodSeconds"] == 30
        bounded = {volume["name"] for volume in pod["volumes"] if volume.get("emptyDir", {}).get("sizeLimit")}
        writable = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"] if "readOnly" not in mount}
        assert set(writable) == bounded
        assert set(writable.values()) == WRITABLE_PATHS
        assert container["workingDir"] in WRITABLE_PATHS


def test_every_container_says_what_it_needs(release: Release) -> None:
    """Requests and a memory limit are set; a CPU limit is not, because it stalls transactions."""
    for pod in release.pods().values():
        resources = pod["containers"][0]["resources"]
        assert set(resources["requests"]) == {"cpu", "memory"}
        assert set(resources["limits"]) == {"memory"}


def test_no_service_becomes_an_unknown_setting(helm: Helm, releases: dict[str, Release]) -> None:
    """Kubernetes adds no SEALSTREAM_..._SERVICE_HOST, which Sealstream would refuse, even in a release of its name."""
    renamed = helm.render(merged(case_values("minimal"), {"fullnameOverride": "sealstream"}))

    assert "sealstream-processor" in {found["metadata"]["name"] for found in renamed.of_kind("Service").values()}
    for release in (renamed, *releases.values()):
        assert [pod["enableServiceLinks"] for pod in release.pods().values()] == [False] * len(release.pods())


def test_each_role_has_an_account_of_its_own(release: Release) -> None:
    """No two roles share a ServiceAccount, each one exists, and none hands out a token."""
    accounts = {found["metadata"]["name"]: found for found in release.of_kind("ServiceAccount").values()}

    assert sorted(pod["serviceAccountName"] for pod in release.pods().values()) == sorted(accounts)
    assert all(account["automountServiceAccountToken"] is False for account in accounts.values())


def test_the_jobs_run_before_the_workers_and_in_order(releases: dict[str, Release]) -> None:
    """Accounts, topics, migration: hooks before installation and upgrade, so that workers start on what is ready."""
    release = releases["minimal"]
    weights = {
        (kind, role): int(found["metadata"]["annotations"]["helm.sh/hook-weight"])
        for kind in ("ServiceAccount", "Job")
        for role, found in release.of_kind(kind).items()
        if "annotations" in found["metadata"]
    }

    assert sorted(weights, key=lambda key: (weights[key], key)) == [
        ("ServiceAccount", "migrate"),
        ("ServiceAccount", "topics"),
        ("Job", "topics"),
        ("Job", "migrate"),
    ]
    assert weights["ServiceAccount", "topics"] < weights["Job", "topics"] < weights["Job", "migrate"]
    for job in release.of_kind("Job").values():
        assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
        assert "hook-succeeded" in job["metadata"]["annotations"]["helm.sh/hook-delete-policy"]
        assert job["spec"]["activeDeadlineSeconds"] < 300, "Helm itself gives up after 300 s"


def test_each_container_runs_the_command_of_its_role(releases: dict[str, Release]) -> None:
    """The roles are Sealstream's own commands, started without a shell."""
    commands = {
        role: [*pod["containers"][0]["command"], *pod["containers"][0]["args"]]
        for role, pod in releases["minimal"].pods().items()
    }

    assert commands == {
        "processor": ["sealstream", "processor"],
        "sink": ["sealstream", "sink"],
        "verifier": ["sealstream", "verifier"],
        "topics": ["sealstream", "topics", "create"],
        "migrate": ["sealstream", "migrate"],
    }


def test_a_worker_keeps_its_id_over_a_restart(release: Release) -> None:
    """Workers are StatefulSets whose host name nobody overrides: it is the worker id that Kafka fences by."""
    for role, workload in release.of_kind("StatefulSet").items():
        spec = workload["spec"]
        pod = spec["template"]["spec"]
        service = release.of_kind("Service")[role]
        assert "hostname" not in pod
        assert "SEALSTREAM_WORKER_ID" not in release.environment(role)
        assert spec["serviceName"] == service["metadata"]["name"]
        assert service["spec"]["clusterIP"] == "None"
        assert service["spec"]["selector"] == spec["selector"]["matchLabels"]
        assert spec["selector"]["matchLabels"].items() <= spec["template"]["metadata"]["labels"].items()
        assert len(workload["metadata"]["name"]) <= NAME_LENGTH_MAX


def test_labels_follow_the_recommendation(release: Release) -> None:
    """Every object carries the app.kubernetes.io labels that tools group by, and the release's namespace."""
    for found in release.objects:
        labels = found["metadata"]["labels"]
        assert labels["app.kubernetes.io/name"] == "sealstream"
        assert labels["app.kubernetes.io/instance"] == RELEASE
        assert labels["app.kubernetes.io/managed-by"] == "Helm"
        assert {"app.kubernetes.io/version", "app.kubernetes.io/component", "helm.sh/chart"} <= set(labels)
        assert found["metadata"]["namespace"] == NAMESPACE


def test_probes_ask_the_port_that_is_served(release: Release) -> None:
    """Liveness asks /healthz and readiness /readyz, on the port that the settings name."""
    for role in release.of_kind("StatefulSet"):
        (container,) = release.pods()[role]["containers"]
        (port,) = container["ports"]
        paths = {
            probe: container[probe]["httpGet"]["path"] for probe in ("startupProbe", "livenessProbe", "readinessProbe")
        }
        assert paths == {"startupProbe": "/healthz", "livenessProbe": "/healthz", "readinessProbe": "/readyz"}
        assert {container[probe]["httpGet"]["port"] for probe in paths} == {port["name"]}
        assert release.environment(role)["SEALSTREAM_WEB_PORT"] == str(port["containerPort"])


def test_the_chart_creates_no_secret(release: Release) -> None:
    """Only Secrets that exist are used: the release's own record in the cluster contains none."""
    assert "Secret" not in {found["kind"] for found in release.objects}


def test_every_file_setting_names_a_file_that_is_mounted(release: Release) -> None:
    """Each *_FILE setting points at a key of a Secret, and no key is mounted that no setting asks for."""
    for role in release.pods():
        asked = {
            value
            for name, value in release.environment(role).items()
            if name.endswith("_FILE") or name == "PGSSLROOTCERT"
        }
        assert asked == set(release.files(role))


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
        "sink": {ca, shared, ("store-writer", "url"), ("store-ca", "ca.crt")},
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


def test_replicas_are_what_was_asked_for(releases: dict[str, Release], helm: Helm) -> None:
    """Each role scales by itself, down to none."""
    replicas = {role: found["spec"]["replicas"] for role, found in releases["password"].of_kind("StatefulSet").items()}
    stopped = helm.render(merged(case_values("minimal"), {"sink": {"replicas": 0}}))

    assert replicas == {"processor": 12, "sink": 2, "verifier": 2}
    assert stopped.of_kind("StatefulSet")["sink"]["spec"]["replicas"] == 0


def test_one_worker_of_a_role_is_drained_at_a_time(releases: dict[str, Release]) -> None:
    """A disruption budget covers exactly the pods of each role, and a worker that is not ready holds up no drain."""
    release = releases["minimal"]

    assert set(release.of_kind("PodDisruptionBudget")) == set(WORKERS)
    for role, budget in release.of_kind("PodDisruptionBudget").items():
        assert budget["spec"]["maxUnavailable"] == 1
        assert budget["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow"
        assert budget["spec"]["selector"] == release.of_kind("StatefulSet")[role]["spec"]["selector"]


def test_monitors_are_asked_for(releases: dict[str, Release]) -> None:
    """Without the flag nothing needs the Prometheus operator; with it each role's Service is scraped."""
    release = releases["certificate"]

    assert releases["minimal"].of_kind("ServiceMonitor") == {}
    assert set(release.of_kind("ServiceMonitor")) == set(WORKERS)
    for role, monitor in release.of_kind("ServiceMonitor").items():
        service = release.of_kind("Service")[role]
        (endpoint,) = monitor["spec"]["endpoints"]
        assert endpoint["path"] == "/metrics"
        assert endpoint["port"] in {port["name"] for port in service["spec"]["ports"]}
        assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
        assert monitor["metadata"]["labels"]["release"] == "prometheus"


def test_a_verifier_can_be_a_release_of_its_own(releases: dict[str, Release]) -> None:
    """Everything else can be switched off, and then no database is needed."""
    release = releases["verifier"]

    assert set(release.pods()) == {"verifier"}
    assert {found["kind"] for found in release.objects} == {"StatefulSet", "Service", "ServiceAccount"}


def test_the_image_is_pinned_as_far_as_the_values_go(releases: dict[str, Release]) -> None:
    """A digest wins over a tag, and without either the chart's own version is used."""
    images = {name: release.pods()["verifier"]["containers"][0]["image"] for name, release in releases.items()}
    chart_version = load_yaml(CHART / "Chart.yaml")["appVersion"]

    assert images["minimal"] == f"registry.example.org/sealstream:{chart_version}"
    assert images["password"] == f"registry.example.org/sealstream@sha256:{'0' * 64}"
    assert images["certificate"] == "registry.example.org:5000/audit/sealstream:0.1.0"


def test_a_pod_can_be_placed(releases: dict[str, Release]) -> None:
    """Selector, tolerations, priority and annotations reach the pods of their role, and no others."""
    release = releases["certificate"]
    template = release.of_kind("StatefulSet")["processor"]["spec"]["template"]

    assert template["metadata"]["annotations"] == {"example.org/team": "audit"}
    assert template["spec"]["nodeSelector"] == {"kubernetes.io/arch": "amd64"}
    assert template["spec"]["tolerations"][0]["tolerationSeconds"] == 60
    assert template["spec"]["priorityClassName"] == "audit"
    assert "nodeSelector" not in release.pods()["sink"]


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


def test_the_chart_can_be_a_part_of_another(helm: Helm, tmp_path: Path) -> None:
    """As a subchart it takes what Helm hands to every subchart, and is as strict as alone."""
    parent = tmp_path / "parent"
    shutil.copytree(CHART, parent / "charts" / "sealstream")
    (parent / "Chart.yaml").write_text("apiVersion: v2\nname: parent\nversion: 1.0.0\n", encoding="utf-8")

    rendered = helm.render({"global": {"region": "eu"}, "sealstream": case_values("minimal")}, parent)

    assert set(rendered.of_kind("StatefulSet")) == set(WORKERS)
