"""The script that builds Helm does no harm where Go is missing, and nothing at all where Helm is there."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from support.helm import REPOSITORY

SCRIPT = REPOSITORY / ".ci" / "go-tools"
SCRIPT_TIMEOUT_SECONDS = 30
# What the script itself calls, without the directories where Go may be.
COMMANDS = ("bash", "env", "ln", "mkdir", "mktemp", "mv", "rm", "nice")


def run(cache: Path, commands: Path) -> subprocess.CompletedProcess[str]:
    """Run the script with a cache of its own, and with only the commands in one directory."""
    return subprocess.run(
        [str(SCRIPT)],
        env={"PATH": str(commands), "XDG_CACHE_HOME": str(cache), "HOME": str(cache)},
        capture_output=True,
        text=True,
        check=False,
        timeout=SCRIPT_TIMEOUT_SECONDS,
    )


def commands_without_go(directory: Path) -> Path:
    """A directory to be the PATH, in which there is no Go."""
    directory.mkdir()
    for command in COMMANDS:
        found = shutil.which(command)
        if found is None:
            pytest.skip(f"the script is for machines with a POSIX shell's usual commands; {command} is missing here")
        (directory / command).symlink_to(found)
    return directory


def pinned_version() -> str:
    """The Helm that the script builds."""
    (version,) = re.findall(r"^helm_version=(v4\.\d+\.\d+)$", SCRIPT.read_text(encoding="utf-8"), re.MULTILINE)
    return str(version)


def test_without_go_it_says_so_and_succeeds(tmp_path: Path) -> None:
    """A machine without Go is told what is missing, and nothing else fails for it."""
    finished = run(tmp_path / "cache", commands_without_go(tmp_path / "bin"))

    assert finished.returncode == 0
    assert "Go is not installed" in finished.stderr
    assert not (tmp_path / "cache").exists()


def test_what_is_built_is_not_built_again(tmp_path: Path) -> None:
    """A warm cache needs no Go and no network, and the place is printed for scripts."""
    built = tmp_path / "cache" / "sealstream-tools" / f"helm-{pinned_version()}" / "helm"
    built.parent.mkdir(parents=True)
    built.write_text("#!/bin/sh\n", encoding="utf-8")
    built.chmod(0o755)

    finished = run(tmp_path / "cache", commands_without_go(tmp_path / "bin"))

    directory = Path(finished.stdout.strip())
    assert finished.returncode == 0, finished.stderr
    assert directory == tmp_path / "cache" / "sealstream-tools" / "bin"
    assert (directory / "helm").resolve() == built


def test_a_failed_build_leaves_nothing_behind(tmp_path: Path) -> None:
    """When the build fails, so does the script, and the next run does not take the ruin for Helm."""
    commands = commands_without_go(tmp_path / "bin")
    (commands / "go").write_text('#!/bin/sh\necho "no network" >&2\nexit 1\n', encoding="utf-8")
    (commands / "go").chmod(0o755)

    finished = run(tmp_path / "cache", commands)

    assert finished.returncode != 0
    assert "no network" in finished.stderr
    assert list((tmp_path / "cache" / "sealstream-tools").iterdir()) == []


def test_the_script_can_be_run() -> None:
    """It is executable, so `.ci/go-tools` is all that has to be typed."""
    assert os.access(SCRIPT, os.X_OK)
