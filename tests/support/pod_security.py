"""The "restricted" profile of the Kubernetes Pod Security Standards, rule by rule, for a pod.

Source: https://kubernetes.io/docs/concepts/security/pod-security-standards/, as of Kubernetes 1.37, for Linux. The
profile contains the baseline one. Everything a pod leaves out counts as Kubernetes counts it. Of the safe sysctls only
those that every release since 1.31 knows are let through.
"""

from collections.abc import Iterator
from typing import Any

Mapped = dict[str, Any]

VOLUME_TYPES = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "image",
    "persistentVolumeClaim",
    "projected",
    "secret",
}
APPARMOR_ANNOTATION = "container.apparmor.security.beta.kubernetes.io/"
SECCOMP_TYPES = {"RuntimeDefault", "Localhost"}
APPARMOR_TYPES = {"RuntimeDefault", "Localhost"}
SELINUX_TYPES = {"", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"}
SAFE_SYSCTLS = {
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_wmem",
}


def restricted_violations(pod: Mapped) -> list[str]:
    """Name every rule of the profile that a pod breaks.

    Args:
        pod: A pod, or a workload's template of one: its `metadata` may be missing.

    Returns:
        One sentence for each broken rule, none if the API server would admit the pod.

    """
    spec = pod["spec"]
    found = list(_pod_rules(spec))
    for annotation, value in pod.get("metadata", {}).get("annotations", {}).items():
        if annotation.startswith(APPARMOR_ANNOTATION) and value == "unconfined":
            found.append(f"annotation {annotation} is unconfined")
    for field in ("initContainers", "containers", "ephemeralContainers"):
        for container in spec.get(field, []):
            found += [f"{container['name']}: {broken}" for broken in _container_rules(spec, container)]
    return found


def _pod_rules(spec: Mapped) -> Iterator[str]:
    """The rules about the pod as a whole."""
    for field in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(field):
            yield f"{field} is set"
    for volume in spec.get("volumes", []):
        types = set(volume) - {"name"}
        if not types <= VOLUME_TYPES:
            yield f"volume {volume['name']} is of type {', '.join(sorted(types))}"
    security = spec.get("securityContext", {})
    for sysctl in security.get("sysctls", []):
        if sysctl["name"] not in SAFE_SYSCTLS:
            yield f"sysctl {sysctl['name']} is not safe"
    yield from _shared_rules("pod", security)


def _container_rules(spec: Mapped, container: Mapped) -> Iterator[str]:
    """The rules about one container, with what it inherits from its pod."""
    security = container.get("securityContext", {})
    inherited = spec.get("securityContext", {}) | security
    yield from _shared_rules("container", security)
    yield from _privilege_rules(security)
    if inherited.get("runAsNonRoot") is not True:
        yield "runAsNonRoot is not true"
    if inherited.get("seccompProfile", {}).get("type") not in SECCOMP_TYPES:
        yield "seccompProfile is neither RuntimeDefault nor Localhost"
    for port in container.get("ports", []):
        if port.get("hostPort"):
            yield f"hostPort {port['hostPort']} is taken"
    hooks: Mapped = container.get("lifecycle", {})
    probes = {name: container.get(name, {}) for name in ("startupProbe", "livenessProbe", "readinessProbe")}
    for name, handlers in (probes | hooks).items():
        if any(handlers.get(handler, {}).get("host") for handler in ("httpGet", "tcpSocket")):
            yield f"{name} names a host"


def _privilege_rules(security: Mapped) -> Iterator[str]:
    """The rules about what a container may gain beyond its user's rights."""
    if security.get("privileged"):
        yield "privileged is set"
    if security.get("allowPrivilegeEscalation") is not False:
        yield "allowPrivilegeEscalation is not false"
    if security.get("procMount", "Default") != "Default":
        yield "procMount is not Default"
    capabilities = security.get("capabilities", {})
    if "ALL" not in capabilities.get("drop", []):
        yield "capabilities are not all dropped"
    if not set(capabilities.get("add", [])) <= {"NET_BIND_SERVICE"}:
        yield "capabilities are added"


def _shared_rules(where: str, security: Mapped) -> Iterator[str]:
    """The rules about fields that a pod's and a container's security context share."""
    if security.get("runAsNonRoot") is False:
        yield f"{where} allows root"
    if security.get("runAsUser") == 0:
        yield f"{where} runs as user 0"
    if security.get("seccompProfile", {"type": "RuntimeDefault"})["type"] not in SECCOMP_TYPES:
        yield f"{where} is not confined by seccomp"
    if security.get("windowsOptions", {}).get("hostProcess"):
        yield f"{where} is a Windows host process"
    if security.get("appArmorProfile", {"type": "RuntimeDefault"})["type"] not in APPARMOR_TYPES:
        yield f"{where} is not confined by AppArmor"
    selinux = security.get("seLinuxOptions", {})
    if selinux.get("type", "") not in SELINUX_TYPES or selinux.get("user") or selinux.get("role"):
        yield f"{where} changes its SELinux context"
