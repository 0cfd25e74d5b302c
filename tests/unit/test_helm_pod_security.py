"""The rules by which the chart's pods are judged do catch what the "restricted" profile forbids."""

from typing import Any

import pytest

from support.helm import Mapped, merged
from support.pod_security import restricted_violations

CONTAINER: Mapped = {
    "name": "worker",
    "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
}
POD_SECURITY: Mapped = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}

FORBIDDEN_IN_POD: dict[str, Mapped] = {
    "hostNetwork": {"hostNetwork": True},
    "hostPID": {"hostPID": True},
    "hostIPC": {"hostIPC": True},
    "volume": {"volumes": [{"name": "host", "hostPath": {"path": "/"}}]},
    "sysctl": {"securityContext": {"sysctls": [{"name": "kernel.msgmax", "value": "1"}]}},
    "runAsNonRoot": {"securityContext": {"runAsNonRoot": False}},
    "user 0": {"securityContext": {"runAsUser": 0}},
    "seccomp": {"securityContext": {"seccompProfile": {"type": "Unconfined"}}},
    "AppArmor": {"securityContext": {"appArmorProfile": {"type": "Unconfined"}}},
    "SELinux": {"securityContext": {"seLinuxOptions": {"type": "spc_t"}}},
    "Windows": {"securityContext": {"windowsOptions": {"hostProcess": True}}},
}
FORBIDDEN_IN_CONTAINER: dict[str, Mapped] = {
    "privileged": {"securityContext": {"privileged": True}},
    "allowPrivilegeEscalation": {"securityContext": {"allowPrivilegeEscalation": True}},
    "procMount": {"securityContext": {"procMount": "Unmasked"}},
    "not all dropped": {"securityContext": {"capabilities": {"drop": ["NET_RAW"]}}},
    "are added": {"securityContext": {"capabilities": {"add": ["SYS_ADMIN"]}}},
    "runAsNonRoot": {"securityContext": {"runAsNonRoot": False}},
    "user 0": {"securityContext": {"runAsUser": 0}},
    "seccompProfile": {"securityContext": {"seccompProfile": {"type": "Unconfined"}}},
    "hostPort": {"ports": [{"containerPort": 8080, "hostPort": 8080}]},
    "livenessProbe": {"livenessProbe": {"httpGet": {"host": "127.0.0.1", "port": 1}}},
    "preStop": {"lifecycle": {"preStop": {"tcpSocket": {"host": "127.0.0.1", "port": 1}}}},
}


def pod(
    *,
    changed_spec: Mapped | None = None,
    changed_container: Mapped | None = None,
    annotations: dict[str, str] | None = None,
) -> Mapped:
    """A pod that the profile admits, but for the changes."""
    spec: dict[str, Any] = {"containers": [merged(CONTAINER, changed_container or {})], "securityContext": POD_SECURITY}
    return {"metadata": {"annotations": annotations or {}}, "spec": merged(spec, changed_spec or {})}


def test_a_restricted_pod_is_admitted() -> None:
    """A pod that keeps the profile breaks no rule."""
    assert restricted_violations(pod()) == []


@pytest.mark.parametrize("rule", FORBIDDEN_IN_POD)
def test_what_a_pod_must_not_have_is_named(rule: str) -> None:
    """Each forbidden field of a pod is found."""
    assert rule in " ".join(restricted_violations(pod(changed_spec=FORBIDDEN_IN_POD[rule])))


@pytest.mark.parametrize("rule", FORBIDDEN_IN_CONTAINER)
def test_what_a_container_must_not_have_is_named(rule: str) -> None:
    """Each forbidden field of a container is found."""
    assert rule in " ".join(restricted_violations(pod(changed_container=FORBIDDEN_IN_CONTAINER[rule])))


def test_an_init_container_is_judged_as_well() -> None:
    """A rule cannot be avoided by starting earlier."""
    bare = {"initContainers": [{"name": "early"}]}

    assert "early: capabilities are not all dropped" in restricted_violations(pod(changed_spec=bare))


def test_an_annotation_does_not_switch_apparmor_off() -> None:
    """The annotation that came before the AppArmor field counts like the field."""
    annotation = "container.apparmor.security.beta.kubernetes.io/worker"

    assert restricted_violations(pod(annotations={annotation: "unconfined"})) == [
        f"annotation {annotation} is unconfined"
    ]
