"""Find Helm and render the chart with it, without a cluster and without a network."""

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import yaml

REPOSITORY = Path(__file__).parents[2]
CHART = REPOSITORY / "deploy" / "helm" / "sealstream"
# The chart's example values: each is a release that somebody could install.
CASES = sorted(CHART.glob("ci/*-values.yaml"))
CASE_NAMES = [case.stem.removesuffix("-values") for case in CASES]
# The roles that a release has unless it is told otherwise.
WORKERS = ("processor", "sink", "verifier")
RELEASE = "audit"
NAMESPACE = "trail"
HELM_TIMEOUT_SECONDS = 60
HELM_MISSING = (
    "Helm is not installed, so the chart cannot be rendered: run .ci/go-tools where Go is installed, put helm on the "
    "PATH, or name it in HELM_BINARY"
)

# A Kubernetes object or a chart's values: untyped by nature.
Mapped = dict[str, Any]


class HelmRefusedError(Exception):
    """Helm ended with an error; the message is what it printed."""


def find_helm() -> Path | None:
    """Look for Helm where a person may have put it.

    Returns:
        The executable named by HELM_BINARY, else the one on the PATH, else the one that `.ci/go-tools` built;
        None if there is none of them.

    Raises:
        FileNotFoundError: HELM_BINARY names something that is not there.

    """
    if named := os.environ.get("HELM_BINARY"):
        if found := shutil.which(named):
            return Path(found)
        raise FileNotFoundError(f"HELM_BINARY names {named}, which is no executable file")
    if on_path := shutil.which("helm"):
        return Path(on_path)
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    built = Path(cache) / "sealstream-tools" / "bin" / "helm"
    return built if built.exists() else None


def load_yaml(path: Path) -> Mapped:
    """Read one YAML document whose top is a mapping."""
    return cast("Mapped", yaml.safe_load(path.read_text(encoding="utf-8")))


def case_values(name: str) -> Mapped:
    """One of the chart's own example values."""
    return load_yaml(CHART / "ci" / f"{name}-values.yaml")


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> Mapped:
    """Lay `changes` over `base` as Helm does: mappings are merged, everything else is replaced."""
    result = dict(base)
    for key, value in changes.items():
        below = result.get(key)
        both_mappings = isinstance(below, Mapping) and isinstance(value, Mapping)
        result[key] = merged(cast("Mapped", below), cast("Mapped", value)) if both_mappings else value
    return result


@dataclass(frozen=True)
class Helm:
    """One Helm executable, with settings and caches of its own."""

    executable: Path
    home: Path

    def run(self, *arguments: str, values: Mapping[str, Any]) -> str:
        """Run Helm with `values` laid over the chart's defaults.

        Returns:
            What it printed.

        Raises:
            HelmRefusedError: It ended with an error.

        """
        environment = {
            "PATH": os.environ.get("PATH", ""),
            "HOME": str(self.home),
            # No cluster can be meant by accident.
            "KUBECONFIG": os.devnull,
        }
        finished = subprocess.run(
            [str(self.executable), *arguments, "--namespace", NAMESPACE, "--values", "-"],
            input=json.dumps(values),
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=HELM_TIMEOUT_SECONDS,
        )
        if finished.returncode:
            raise HelmRefusedError(finished.stderr + finished.stdout)
        return finished.stdout

    def template(self, values: Mapping[str, Any], chart: Path = CHART) -> str:
        """Render the chart to the YAML that Kubernetes would be given."""
        return self.run("template", RELEASE, str(chart), values=values)

    def render(self, values: Mapping[str, Any], chart: Path = CHART) -> "Release":
        """Render the chart to objects."""
        documents = yaml.safe_load_all(self.template(values, chart))
        return Release(tuple(cast("Mapped", document) for document in documents if document))

    def notes(self, values: Mapping[str, Any]) -> str:
        """Render what Helm prints after an installation."""
        printed = self.run("install", RELEASE, str(CHART), "--dry-run=client", values=values)
        return printed.partition("\nNOTES:\n")[2]


@dataclass(frozen=True)
class Release:
    """The rendered objects of one release."""

    objects: tuple[Mapped, ...]

    def of_kind(self, kind: str) -> dict[str, Mapped]:
        """The objects of a kind, by the role they belong to."""
        return {
            found["metadata"]["labels"]["app.kubernetes.io/component"]: found
            for found in self.objects
            if found["kind"] == kind
        }

    def workers(self) -> dict[str, Mapped]:
        """The long-running workloads, by role."""
        return self.of_kind("StatefulSet") | self.of_kind("Deployment")

    def services(self, *, headless: bool) -> dict[str, Mapped]:
        """The Services by role: those that name pods, or those that balance requests between them."""
        return {
            found["metadata"]["labels"]["app.kubernetes.io/component"]: found
            for found in self.objects
            if found["kind"] == "Service" and (found["spec"].get("clusterIP") == "None") is headless
        }

    def claims(self, role: str) -> list[Mapped]:
        """The volume claims that each pod of a role has of its own."""
        spec: Mapped = self.workers().get(role, {"spec": {}})["spec"]
        return list(spec.get("volumeClaimTemplates", []))

    def pods(self) -> dict[str, Mapped]:
        """The pod specs of all workloads, by role."""
        workloads = self.workers() | self.of_kind("Job")
        return {role: workload["spec"]["template"]["spec"] for role, workload in workloads.items()}

    def environment(self, role: str) -> dict[str, str]:
        """The environment variables of a role's container that its pod itself says."""
        return {entry["name"]: entry["value"] for entry in self.pods()[role]["containers"][0]["env"]}

    def files(self, role: str) -> dict[str, tuple[str, str]]:
        """The Secret and key behind every secret file that is mounted into a role's container, by its path."""
        return self._projected(role, "secret")

    def documents(self, role: str) -> dict[str, str]:
        """The texts of the ConfigMap's files that are mounted into a role's container, by their paths."""
        maps = {found["metadata"]["name"]: found["data"] for found in self.of_kind("ConfigMap").values()}
        return {path: maps[name][key] for path, (name, key) in self._projected(role, "configMap").items()}

    def _projected(self, role: str, kind: str) -> dict[str, tuple[str, str]]:
        pod = self.pods()[role]
        mounts = {mount["name"]: mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}
        return {
            f"{mounts[volume['name']]}/{item['path']}": (source[kind]["name"], item["key"])
            for volume in pod["volumes"]
            for source in volume.get("projected", {}).get("sources", [])
            if kind in source
            for item in source[kind]["items"]
        }
