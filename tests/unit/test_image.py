"""The Dockerfile keeps the rules that a built image could be judged by; each rule is shown to catch its breach."""

import json
import re
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.helm import REPOSITORY

DOCKERFILE = REPOSITORY / "deploy" / "image" / "Dockerfile"
IGNORE_FILE = REPOSITORY / "deploy" / "image" / "Dockerfile.dockerignore"
NON_ROOT = "65532:65532"
LABELS = {"title", "description", "licenses", "source", "version", "revision"}
# What only a local stack, a test or a repair needs.
NOT_IN_THE_IMAGE = {"local", "deploy"}
VERSION_TAG = re.compile(r":v?\d+(\.\d+)+[a-z0-9.-]*(@sha256:[0-9a-f]{64})?$")


@dataclass(frozen=True)
class Instruction:
    """One instruction, its continuation lines joined."""

    name: str
    text: str

    def words(self) -> list[str]:
        """The arguments: a JSON array's elements, else what stands between blanks."""
        return [str(word) for word in json.loads(self.text)] if self.text.startswith("[") else self.text.split()


def instructions(dockerfile: str) -> list[Instruction]:
    """Read a Dockerfile, without comments and blank lines."""
    lines = [line for line in dockerfile.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [Instruction(*line.split(maxsplit=1)) for line in joined.splitlines()]


def arguments_before_from(read: list[Instruction]) -> dict[str, str]:
    """The ARGs that base images are taken from."""
    first = next(index for index, found in enumerate(read) if found.name == "FROM")
    return dict(found.text.split("=", maxsplit=1) for found in read[:first])


def last_stage(read: list[Instruction]) -> list[Instruction]:
    """The instructions that the image itself is made of."""
    last = max(index for index, found in enumerate(read) if found.name == "FROM")
    return read[last + 1 :]


def bases(read: list[Instruction]) -> Iterator[str]:
    """The base images, with the arguments' defaults filled in; stages of the file itself are none."""
    stages: set[str] = set()
    defaults = arguments_before_from(read)
    for found in (found for found in read if found.name == "FROM"):
        base, *named = found.words()
        if base not in stages:
            yield re.sub(r"\$\{(\w+)\}", lambda match: defaults[match[1]], base)
        stages.update(named[1:])


def not_pinned(read: list[Instruction]) -> Iterator[str]:
    """Base images without a version, or that a builder cannot pin by digest."""
    for base in bases(read):
        if not VERSION_TAG.search(base):
            yield f"base image {base} has no version"
    for found in read:
        if found.name == "FROM" and not found.text.startswith("${"):
            yield f"base image {found.text} is no argument"
        if found.name == "COPY" and re.match(r"--from=\S*[/:]", found.text):
            yield f"COPY {found.text} takes from an image that is no stage"


def not_locked(read: list[Instruction]) -> Iterator[str]:
    """Installations that do not follow uv.lock, or bring what production does not need."""
    commands = [found.words() for found in read if found.name == "RUN"]
    installs = [words for words in commands if words[:2] == ["uv", "sync"]]
    if not installs:
        yield "nothing is installed from the lock"
    for words in installs:
        if not {"--frozen", "--no-dev"} <= set(words):
            yield f"{' '.join(words)} is not frozen, or installs development tools"
        if NOT_IN_THE_IMAGE & set(words) or "--all-extras" in words:
            yield f"{' '.join(words)} installs the local stack"
    if installs and "--no-editable" not in installs[-1]:
        yield "the package is left in the build directory"
    for words in commands:
        if set(words) & {"pip", "curl", "wget", "apt", "apt-get"}:
            yield f"{' '.join(words)} installs past the lock"


def not_least_privileged(read: list[Instruction]) -> Iterator[str]:
    """What gives the process more than it needs."""
    users = [found.text for found in last_stage(read) if found.name == "USER"]
    if users[-1:] != [NON_ROOT]:
        yield f"the last USER is not {NON_ROOT}"
    for found in read:
        if found.name == "ADD":
            yield f"ADD {found.text} fetches or unpacks"
        if found.name == "COPY" and "--chown" in found.text:
            yield f"COPY {found.text} lets the process change its own code"
        if found.name in {"ARG", "ENV"} and re.search(r"password|secret|token|key", found.text, re.IGNORECASE):
            yield f"{found.name} {found.text} would stay readable in the image"


def not_plain(read: list[Instruction]) -> Iterator[str]:
    """What needs a shell, or belongs to whoever runs the image."""
    for found in read:
        if found.name in {"RUN", "CMD", "ENTRYPOINT", "SHELL"} and not found.text.startswith("["):
            yield f"{found.name} {found.text} needs a shell"
        if found.name == "HEALTHCHECK":
            yield "HEALTHCHECK: health is asked for over the web port"
        if found.name in {"MAINTAINER", "ONBUILD", "VOLUME"}:
            yield f"{found.name} is not wanted"
    entrypoints = [found.words() for found in last_stage(read) if found.name == "ENTRYPOINT"]
    if entrypoints != [["sealstream"]]:
        yield "the entry point is not sealstream"


def not_labelled(read: list[Instruction]) -> Iterator[str]:
    """The OCI labels that are missing."""
    text = " ".join(found.text for found in last_stage(read) if found.name == "LABEL")
    for label in sorted(LABELS):
        if not re.search(rf'org\.opencontainers\.image\.{label}="[^"]+"', text):
            yield f"label {label} is missing"


RULES: list[Callable[[list[Instruction]], Iterator[str]]] = [
    not_pinned,
    not_locked,
    not_least_privileged,
    not_plain,
    not_labelled,
]

BREACHES = [
    ("ARG PYTHON_IMAGE=docker.io/library/python:3.12-slim-bookworm", "ARG PYTHON_IMAGE=python:latest", "no version"),
    ("ARG PYTHON_IMAGE=docker.io/library/python:3.12-slim-bookworm", "ARG PYTHON_IMAGE=python", "no version"),
    ("FROM ${UV_IMAGE} AS uv", "FROM ghcr.io/astral-sh/uv:0.13.9 AS uv", "is no argument"),
    ("COPY --from=uv /uv", "COPY --from=ghcr.io/astral-sh/uv:0.13.9 /uv", "no stage"),
    ('"--frozen", ', "", "is not frozen"),
    ('"--no-dev", ', "", "development tools"),
    ('"cli"]', '"cli", "--extra", "local"]', "installs the local stack"),
    ('"--no-editable", ', "", "left in the build directory"),
    ("WORKDIR /build\n", 'WORKDIR /build\nRUN ["pip", "install", "x"]\n', "past the lock"),
    ("USER 65532:65532", "USER root", "the last USER"),
    ("USER 65532:65532\n", "", "the last USER"),
    ("COPY schemas schemas", "ADD schemas schemas", "fetches or unpacks"),
    ("COPY --from=build /opt", "COPY --chown=65532 --from=build /opt", "its own code"),
    ("ARG REVISION=unknown", "ARG REVISION=unknown\nARG KAFKA_PASSWORD=x", "readable in the image"),
    ('ENTRYPOINT ["sealstream"]', "ENTRYPOINT sealstream", "needs a shell"),
    ('ENTRYPOINT ["sealstream"]', 'ENTRYPOINT ["python"]', "the entry point"),
    ("EXPOSE 8080", 'EXPOSE 8080\nHEALTHCHECK CMD ["true"]', "HEALTHCHECK"),
    ("org.opencontainers.image.revision", "org.opencontainers.image.ref", "label revision"),
]


def breaches(dockerfile: str) -> list[str]:
    """What any rule has against a Dockerfile."""
    read = instructions(dockerfile)
    return [breach for rule in RULES for breach in rule(read)]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_dockerfile_keeps_the_rule(rule: Callable[[list[Instruction]], Iterator[str]]) -> None:
    """The image is pinned, locked, unprivileged, free of a shell, and says what it is."""
    assert list(rule(instructions(DOCKERFILE.read_text(encoding="utf-8")))) == []


@pytest.mark.parametrize(("was", "becomes", "breach"), BREACHES, ids=[row[2] for row in BREACHES])
def test_a_breach_is_noticed(was: str, becomes: str, breach: str) -> None:
    """The rules are no decoration: a Dockerfile with this one change is refused."""
    dockerfile = DOCKERFILE.read_text(encoding="utf-8")
    assert was in dockerfile

    assert breach in " ".join(breaches(dockerfile.replace(was, becomes)))


def test_the_extras_exist() -> None:
    """What the image installs is what the project offers."""
    offered = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = re.findall(r'"--extra", "([a-z]+)"', DOCKERFILE.read_text(encoding="utf-8"))

    assert set(asked) <= set(offered["optional-dependencies"])
    assert set(asked) == {"processor", "sink", "gateway", "outbox", "notary", "witness", "registry", "cli"}


def test_everything_that_is_copied_exists_and_is_not_ignored() -> None:
    """The build finds each file it copies: it is in the repository, and the ignore file lets it through."""
    let_through = {
        line.removeprefix("!") for line in IGNORE_FILE.read_text(encoding="utf-8").splitlines() if line.startswith("!")
    }
    copied = {
        source
        for found in instructions(DOCKERFILE.read_text(encoding="utf-8"))
        if found.name == "COPY" and "--from" not in found.text
        for source in found.words()[:-1]
    }

    assert copied == let_through
    assert [source for source in copied if not (REPOSITORY / source).exists()] == []


def test_the_build_sees_nothing_else() -> None:
    """Everything is ignored that is not named: no repository history, no environment file, no key reaches a layer."""
    rules = [line for line in IGNORE_FILE.read_text(encoding="utf-8").splitlines() if line and line[0] != "#"]

    assert rules[0] == "*"
    assert all(Path(rule.removeprefix("!")).name not in {".git", ".env", "tests"} for rule in rules if rule[0] == "!")


def test_the_sources_of_the_wheel_are_copied() -> None:
    """Each source root that the wheel is built from is in the image's build, so no role is missing in it."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    included = project["tool"]["hatch"]["build"]["targets"]["wheel"]["only-include"]
    copied = [
        found.words()[0]
        for found in instructions(DOCKERFILE.read_text(encoding="utf-8"))
        if found.name == "COPY" and "--from" not in found.text
    ]

    assert [root for root in included if root not in copied and str(Path(root).parent) not in copied] == []
