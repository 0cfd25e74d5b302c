"""Who looks at what an attack on databases has left, each in the way of its own worker or command."""

from __future__ import annotations

import time
from typing import Any, Final

from sealstream.schemas.checkpoint import Checkpoint, root_origin
from sealstream.schemas.errors import SealstreamError
from sealstream.schemas.evidence import ProofLevel, verify_proof
from sealstream.schemas.policy import Policy
from sealstream.schemas.proof_file import ProofFile
from sealstream.schemas.trust import Reader
from sealstream.schemas.violation import ROOT_LOG, Violation
from sealstream.sinks.notary.naming import places_of
from sealstream.sinks.notary.service import assemble
from sealstream.sinks.proofs.opening import open_prover
from sealstream.sinks.witness.judging import Behind
from sealstream.sinks.witness.recomputing.judge import open_judge
from support.attacks.attack import Report, Where
from support.attacks.recorded import Copies

NOT_CHECKED: Final = "not checked"
"""What ``sealstream verify`` says with exit code 2: neither clean nor violated."""
JUDGED_SECONDS: Final = 90.0


def verify_alone(copies: Copies) -> list[Report]:
    """Return what ``sealstream verify`` says of the store by itself; if that is nothing, it must say what it cannot."""
    found, document = _verify(copies, "verify, store alone", policy_file="")
    if not found:
        words = " ".join(document["not_excluded"])
        assert "the end of a chain was cut off" in words
        assert "written anew from its genesis" in words
        assert document["level"] == "chain"
    return found


def verify(copies: Copies, *options: str) -> list[Report]:
    """Return what ``sealstream verify`` says of the store held against what was published and witnessed."""
    found, document = _verify(copies, "verify", *options)
    if not found:
        assert document["level"] == "witnessed"
        assert any("behind the checkpoint" in words for words in document["not_excluded"])
    return found


def _verify(copies: Copies, where: Where, *options: str, **settings: str) -> tuple[list[Report], Any]:
    done = copies.command("verify", "--workers", "1", "--json", *options, **settings)
    document = done.json()
    found = [Report(where, one["type"], one["tenant"], one["seq"]) for one in document["violations"]]
    if done.exit_code == 2:
        assert not found
        assert document["failure"]["message"], "what could not be checked says why"
        found = [Report(where, NOT_CHECKED)]
    assert done.exit_code == (0 if not found else 2 if found[0].type == NOT_CHECKED else 1), done.errors
    return found, document


def notary_and_witness(copies: Copies) -> list[Report]:
    """Let the notary start and make a round, and the verifier's witness judge it; return what they say.

    Nothing becomes public: the witness judges what its cosignature would be asked for, and cosigns nothing.
    """
    notary, parts = assemble(copies.settings())
    try:
        notary.open()
        notary.finish(patience_seconds=0.0)
        notary.turn()
        notary.finish(patience_seconds=0.0)
        assert notary.finishing is not None
        made = notary.finishing.made
    except SealstreamError as error:
        return _errors("notary", error)
    finally:
        parts.database.close()
        parts.store.close()
    return _judge(copies, Checkpoint(root_origin(copies.instance), made.size, made.root))


def _judge(copies: Copies, checkpoint: Checkpoint) -> list[Report]:
    judge = open_judge(copies.settings(), copies.witness_path)
    violations: list[Violation] = []
    judge._reporter = violations.append  # type: ignore[assignment]  # audit.violations is other rows', too
    deadline = time.monotonic() + JUDGED_SECONDS
    try:
        while True:
            try:
                judge.judge(checkpoint)
            except Behind:
                if time.monotonic() > deadline:
                    raise
            except SealstreamError:
                assert violations, "a refusal says why"
                return [Report("witness", one.type.value, one.tenant, one.seq) for one in violations]
            else:
                assert not violations
                return []
    finally:
        judge.close()


def proof(copies: Copies, tenant: str, event_id: str) -> list[Report]:
    """Return what is said where a proof of an event is asked for; a proof that is given is true for any reader."""
    policy = Policy.parse(copies.stage.policy().encode())
    try:
        with open_prover(copies.settings()) as provers:
            proven = provers.prover.get_event_proof(tenant, event_id)
    except SealstreamError as error:
        return _errors("proof", error)
    assert proven
    for one in proven:
        evidence = verify_proof(ProofFile.parse(one.proof.pack()), Reader(policy, int(time.time())), tenant=tenant)
        assert (evidence.entry.event_id, evidence.level) == (event_id, ProofLevel.WITNESSED)
    return []


def notary_ends(copies: Copies) -> list[Report]:
    """Let the notary run as a process: it must end by itself, with an error that says what to do, and sign nothing."""
    unwitnessed = (copies.storage / "root/unwitnessed").read_bytes()
    worker = copies.stage.pipeline.start(
        "notary", database=copies.store_url, notary_database=copies.notary_url, log_storage=copies.storage
    )
    try:
        assert worker.wait(timeout_seconds=JUDGED_SECONDS) == 1, worker.log()
    finally:
        worker.close()
    last = worker.events()[-1]
    assert last["hint"]
    assert (copies.storage / "root/unwitnessed").read_bytes() == unwitnessed
    assert last["error"] in ("StoreDamaged", "TreeDiffers", "RolledBack")
    assert str(last["tenant"]) in str(last["event"])
    return []


def proof_files(copies: Copies, tenant: str, event_id: str, *, exit_code: int) -> list[Report]:
    """Ask for a proof file on the command line, and judge it there if there is one."""
    path = copies.directory / "it.sealproof"
    made = copies.run("proof", tenant, event_id, "-o", str(path))
    assert made.exit_code == exit_code, made.errors
    assert path.exists() == (exit_code == 0)
    if path.exists():
        policy = str(copies.stage.policy_path)
        judged = copies.run("verify-proof", str(path), "--policy", policy, "--require", "witnessed", "--json")
        assert judged.exit_code == 0, judged.errors
        assert judged.json()["event_id"] == event_id
    return []


def _errors(where: Where, error: SealstreamError) -> list[Report]:
    """Return what an error reports of each chain that it names."""
    kind, places = type(error).__name__, places_of(error)
    if not places:
        return [Report(where, kind)]
    # How many rounds there are depends on the time.
    return [Report(where, kind, tenant, None if tenant == ROOT_LOG else seq) for tenant, seq in places]
