"""The Helm chart, rendered by Helm and judged offline: what Kubernetes would be given is right for every example."""

import re
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml

from sealstream.worker.stop import END_SECONDS
from support.helm import (
    CASE_NAMES,
    CHART,
    HELM_TIMEOUT_SECONDS,
    NAMESPACE,
    RELEASE,
    WORKERS,
    Helm,
    Release,
    case_values,
    load_yaml,
    merged,
)
from support.pod_security import restricted_violations

pytest_plugins = ("support.helm_fixtures",)

# The oldest release that Chart.yaml admits, one in between, and the newest that kubernetes-validate has schemas of.
OLDEST = load_yaml(CHART / "Chart.yaml")["kubeVersion"].removeprefix(">=").removesuffix(".0-0")
KUBERNETES_VERSIONS = (OLDEST, "1.34", version("kubernetes-validate").rpartition(".")[0])
README = CHART.parent / "README.md"
NON_ROOT_ID = 65532
# Kubernetes appends a hash of 11 characters to a StatefulSet's name, for a label of at most 63.
NAME_LENGTH_MAX = 52
WRITABLE_PATHS = {"/tmp", "/var/lib/sealstream"}
# The roles that others send requests to, in some of the examples.
SERVERS = {"minimal": set[str](), "gateway": {"gateway"}, "complete": {"gateway", "witness"}}
# The roles whose processes are all alike: they may be Deployments.
NAMELESS = {"gateway", "relay"}


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
    workloads = release.workers() | release.of_kind("Job")

    assert workloads
    assert {role: restricted_violations(found["spec"]["template"]) for role, found in workloads.items()} == {
        role: [] for role in workloads
    }


def test_every_pod_goes_beyond_the_profile(release: Release) -> None:
    """The process has a fixed id that is not root's, writes to bounded places only, and has no API token."""
    for role, pod in release.pods().items():
        security, (container,) = pod["securityContext"], pod["containers"]
        assert [security[field] for field in ("runAsUser", "runAsGroup", "fsGroup")] == [NON_ROOT_ID] * 3
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert pod["automountServiceAccountToken"] is False
        bounded = {volume["name"] for volume in pod["volumes"] if volume.get("emptyDir", {}).get("sizeLimit")}
        writable = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"] if "readOnly" not in mount}
        claims = {claim["metadata"]["name"]: claim for claim in release.claims(role)}
        assert set(writable) == bounded | set(claims)
        assert {writable[name] for name in bounded} == WRITABLE_PATHS
        assert {writable[name] for name in claims} == {f"/var/lib/sealstream/{name}" for name in claims}
        assert all(claim["spec"]["resources"]["requests"]["storage"] for claim in claims.values())
        assert container["workingDir"] in WRITABLE_PATHS


def test_a_worker_may_end_in_order(release: Release) -> None:
    """Nobody is killed before it has ended by itself, what it does before it hears of its end included."""
    for pod in release.pods().values():
        before_seconds = pod["containers"][0].get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        assert pod["terminationGracePeriodSeconds"] > before_seconds + END_SECONDS


def test_every_container_says_what_it_needs(release: Release) -> None:
    """Requests and a memory limit are set; a CPU limit is not, because it stalls transactions."""
    for pod in release.pods().values():
        resources = pod["containers"][0]["resources"]
        assert set(resources["requests"]) == {"cpu", "memory"}
        assert set(resources["limits"]) == {"memory"}


def test_each_role_has_an_account_of_its_own(release: Release) -> None:
    """No two roles share a ServiceAccount, each one exists, and none hands out a token."""
    accounts = {found["metadata"]["name"]: found for found in release.of_kind("ServiceAccount").values()}

    assert sorted(pod["serviceAccountName"] for pod in release.pods().values()) == sorted(accounts)
    assert all(account["automountServiceAccountToken"] is False for account in accounts.values())


def test_the_jobs_run_before_the_workers_and_in_order(releases: dict[str, Release]) -> None:
    """Accounts, topics, migrations: hooks before installation and upgrade, so that workers start on what is ready."""
    release = releases["complete"]
    weights = {
        (kind, role): int(found["metadata"]["annotations"]["helm.sh/hook-weight"])
        for kind in ("ServiceAccount", "Job")
        for role, found in release.of_kind(kind).items()
        if "annotations" in found["metadata"]
    }

    assert sorted(weights, key=lambda key: (weights[key], key)) == [
        ("ServiceAccount", "migrate"),
        ("ServiceAccount", "migrate-notary"),
        ("ServiceAccount", "topics"),
        ("Job", "topics"),
        ("Job", "migrate"),
        ("Job", "migrate-notary"),
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
        for role, pod in releases["complete"].pods().items()
    }

    assert commands == {
        "gateway": ["sealstream", "gateway"],
        "relay": ["sealstream", "outbox", "relay"],
        "notary": ["sealstream", "notary"],
        "migrate-notary": ["sealstream", "migrate-notary"],
        "witness": ["sealstream", "witness", "--recompute", "--from-checkpoint", "/run/secrets/sealstream/checkpoint"],
        "processor": ["sealstream", "processor"],
        "sink": ["sealstream", "sink"],
        "verifier": ["sealstream", "verifier"],
        "topics": ["sealstream", "topics", "create"],
        "migrate": ["sealstream", "migrate"],
    }


def test_a_worker_keeps_its_id_over_a_restart(release: Release) -> None:
    """Workers that Kafka fences are StatefulSets whose host name nobody overrides: it is the worker id."""
    assert set(release.of_kind("Deployment")) <= NAMELESS
    for role, workload in release.of_kind("StatefulSet").items():
        spec = workload["spec"]
        pod = spec["template"]["spec"]
        service = release.services(headless=True)[role]
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
    for role in release.workers():
        (container,) = release.pods()[role]["containers"]
        port = container["ports"][0]
        paths = {
            probe: container[probe]["httpGet"]["path"] for probe in ("startupProbe", "livenessProbe", "readinessProbe")
        }
        assert paths == {"startupProbe": "/healthz", "livenessProbe": "/healthz", "readinessProbe": "/readyz"}
        assert {container[probe]["httpGet"]["port"] for probe in paths} == {port["name"]}
        assert release.environment(role)["SEALSTREAM_WEB_PORT"] == str(port["containerPort"])


def test_requests_reach_the_pods_that_are_ready(releases: dict[str, Release]) -> None:
    """Who sends to a role talks to a Service that balances over its ready pods, on the port that the role serves."""
    for name, roles in SERVERS.items():
        release = releases[name]
        assert set(release.services(headless=False)) == roles
        for role, service in release.services(headless=False).items():
            (port,) = service["spec"]["ports"]
            container = release.pods()[role]["containers"][0]
            served = {found["name"]: found["containerPort"] for found in container["ports"]}
            assert service["metadata"]["name"].endswith(f"-{role}")
            assert "publishNotReadyAddresses" not in service["spec"]
            assert service["spec"]["selector"] == release.workers()[role]["spec"]["selector"]["matchLabels"]
            assert str(served[port["targetPort"]]) == release.environment(role)[f"SEALSTREAM_{role.upper()}_PORT"]
            assert served[port["targetPort"]] != served["web"]


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
    assert set(releases["complete"].of_kind("ServiceMonitor")) == set(releases["complete"].workers())
    for role, monitor in release.of_kind("ServiceMonitor").items():
        service = release.services(headless=True)[role]
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
    images = {
        name: releases[name].pods()["verifier"]["containers"][0]["image"]
        for name in ("minimal", "password", "certificate")
    }
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


def test_the_chart_can_be_a_part_of_another(helm: Helm, tmp_path: Path) -> None:
    """As a subchart it takes what Helm hands to every subchart, and is as strict as alone."""
    parent = tmp_path / "parent"
    shutil.copytree(CHART, parent / "charts" / "sealstream")
    (parent / "Chart.yaml").write_text("apiVersion: v2\nname: parent\nversion: 1.0.0\n", encoding="utf-8")

    rendered = helm.render({"global": {"region": "eu"}, "sealstream": case_values("minimal")}, parent)

    assert set(rendered.of_kind("StatefulSet")) == set(WORKERS)


def test_the_values_in_the_readme_are_a_release(helm: Helm) -> None:
    """Who copies the values from the chart's README gets all workers and both Jobs."""
    (block,) = re.findall(r"```yaml\n# values\.yaml\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)

    assert set(helm.render(yaml.safe_load(block)).pods()) == {*WORKERS, "topics", "migrate"}
