"""Who judges what he is given with nothing but files: the product's command, and the auditor's one file beside it."""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from sealstream.deploy.cli import main
from sealstream.schemas.policy import Policy
from sealstream.schemas.proof_file import ProofFile
from support.attacks.attack import Report, Where

STANDALONE: Final = Path(__file__).parents[3] / "deploy" / "standalone" / "sealstream_verify.py"
COMMAND_SECONDS: Final = 60.0


@dataclass(frozen=True)
class Judgement:
    """What an auditor reads.

    Arguments:
        reports: What was reported to him; nothing if all of it holds.
        shown: What the command printed, as JSON.
    """

    reports: list[Report]
    shown: Any


class Auditor:
    """A reader with a policy of his own, and no server.

    Arguments:
        folder: Where his files lie.
        policy: Whom he believes.
        now_seconds: What time it is for him.
    """

    def __init__(self, folder: Path, policy: Policy, now_seconds: int) -> None:
        folder.mkdir(exist_ok=True)
        self._folder = folder
        self._now_seconds = now_seconds
        self.write("policy", policy.pack())

    def write(self, name: str, data: bytes) -> Path:
        """Write a file of his."""
        path = self._folder / name
        path.write_bytes(data)
        return path

    def proof(
        self,
        proof: ProofFile | bytes,
        *options: str | Path,
        policy: Policy | None = None,
        rotations: bytes = b"",
        alone: bool = True,
    ) -> Judgement:
        """Judge a proof file with ``sealstream verify-proof``.

        Arguments:
            proof: The file.
            options: More options.
            policy: Another policy than his usual one.
            rotations: The records of keys that he has taken in.
            alone: Whether the auditor's one file must come to the same exit code; it judges no timestamps, knows no
                ML-DSA, and asks for no level.
        """
        path = self.write("it.sealproof", proof if isinstance(proof, bytes) else proof.pack())
        judged_by = ["--policy", str(self._folder / "policy" if policy is None else self.write("other", policy.pack()))]
        if rotations:
            judged_by += ["--rotations", str(self.write("rotations", rotations))]
        code, shown = self._run("verify-proof", str(path), *judged_by, *map(str, options))
        if alone:
            self._alone(code, str(path), *judged_by)
        return self._judgement("verify-proof", code, shown)

    def bundle(self, bundle: bytes, *options: str) -> Judgement:
        """Judge a bundle with ``sealstream verify BUNDLE``."""
        path = self.write("it.sealbundle.jsonl", bundle)
        code, shown = self._run("verify", str(path), "--policy", str(self._folder / "policy"), *options)
        found = [Report("verify-bundle", one["type"], one["tenant"], one["seq"]) for one in shown.get("violations", ())]
        if found:
            assert code == 1, shown
            return Judgement(found, shown)
        return self._judgement("verify-bundle", code, shown | (shown.get("failure") or {}))

    def _run(self, *arguments: str) -> tuple[int, Any]:
        out, err = io.StringIO(), io.StringIO()
        at = ("--at", _iso(self._now_seconds))
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main([*arguments, *at, "--json"])
        assert "Traceback" not in err.getvalue(), err.getvalue()
        return code, json.loads(out.getvalue())

    def _alone(self, code: int, *arguments: str) -> None:
        done = subprocess.run(
            [sys.executable, str(STANDALONE), *arguments, "--at", str(self._now_seconds)],
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )
        assert "Traceback" not in done.stderr, done.stderr
        assert done.returncode == code, f"the auditor's one file says: {done.stdout}"

    @staticmethod
    def _judgement(where: Where, code: int, shown: Any) -> Judgement:
        if code == 0:
            return Judgement([], shown)
        assert "type" in shown, shown
        return Judgement([Report(where, shown["type"])], shown)


def _iso(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()
