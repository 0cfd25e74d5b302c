"""The local stack: real servers from packages alone, that start, stop and come back, and leave nothing behind."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path

import psutil
import psycopg
import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from sealstream.deploy.stack import LocalStack, StackError, erase, read_state, stop_left_running
from support.providers import database_answers, kafka_answers, private_stack
from support.workers import wait_for

TOPIC = "stack-test"
WAIT_SECONDS = 20.0


@pytest.fixture(scope="module")
def stack() -> Generator[LocalStack]:
    """One stack for the tests that only look at it, or that leave it as it was."""
    with private_stack() as running:
        yield running


def test_kafka_takes_a_transaction_and_a_reader_sees_it(stack: LocalStack) -> None:
    """The broker is Kafka itself: it commits a transaction and hides an aborted one from read_committed readers."""
    _create_topic(stack.kafka)
    producer = Producer({"bootstrap.servers": stack.kafka, "transactional.id": "stack-test"})
    producer.init_transactions(WAIT_SECONDS)
    for value, commit in ((b"aborted", False), (b"committed", True)):
        producer.begin_transaction()
        producer.produce(TOPIC, value)
        producer.flush(WAIT_SECONDS)
        if commit:
            producer.commit_transaction(WAIT_SECONDS)
        else:
            producer.abort_transaction(WAIT_SECONDS)

    assert _first_value(stack.kafka) == b"committed"


def test_postgresql_answers_only_to_its_password(stack: LocalStack) -> None:
    """The database is PostgreSQL 18; without its password, a user of the same machine does not get in."""
    with psycopg.connect(stack.database) as connection:
        row = connection.execute("SELECT version()").fetchone()
    assert row is not None
    assert row[0].startswith("PostgreSQL 18.")

    password = stack.database.split(":")[2].partition("@")[0]
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(stack.database.replace(password, "guessed")).close()


def test_servers_listen_on_loopback_only(stack: LocalStack) -> None:
    """Nothing of the stack can be reached from another machine."""
    state = read_state(stack.directory)
    assert state is not None
    assert set(state.servers) == {"kafka", "database"}
    addresses = {
        connection.laddr.ip
        for identity in state.servers.values()
        for connection in psutil.Process(identity.pid).net_connections(kind="inet")
        if connection.status == psutil.CONN_LISTEN
    }

    assert addresses <= {"127.0.0.1", "::ffff:127.0.0.1"}
    assert addresses


def test_secrets_of_the_stack_are_private(stack: LocalStack) -> None:
    """The files that hold the database's password can be read by their user alone."""
    password = stack.database.split(":")[2].partition("@")[0]
    holding = [path for path in stack.directory.glob("**/*") if path.is_file() and _contains(path, password)]

    assert {path.name for path in holding} == {"stack.json", "password"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in holding} == {0o600}


def test_a_second_stack_is_kept_out_of_the_directory(stack: LocalStack) -> None:
    """Two stacks cannot share a directory: the second one says who has it, and touches nothing."""
    with pytest.raises(StackError, match=rf"in use by another stack \(process {os.getpid()}\)") as caught:
        LocalStack(stack.directory).start()

    assert "sealstream down" in caught.value.hint
    assert kafka_answers(stack.kafka)
    with pytest.raises(StackError, match="in use"):
        erase(stack.directory)


def test_kafka_and_postgresql_come_back_on_the_same_address(stack: LocalStack) -> None:
    """Stopping, killing and starting each server keeps its address and its data, as fault tests need."""
    kafka, database = stack.kafka, stack.database
    _create_topic(kafka)
    _write_row(database)
    stack.kafka_stop()
    assert not _listens(kafka)
    stack.kafka_start()
    stack.kafka_kill()
    stack.kafka_kill()  # one that does not run needs nothing
    assert not _listens(kafka)
    stack.kafka_start()
    stack.database_stop()
    assert not database_answers(database)
    stack.database_start()

    assert (stack.kafka, stack.database) == (kafka, database)
    assert _has_topic(kafka)
    assert _rows(database) == 1


def test_a_failing_server_is_reported_with_its_log(stack: LocalStack) -> None:
    """A server that cannot start is named, with the end of its own log, and what was started before is ended."""
    configuration = _data_directory(stack) / "postgresql.conf"
    stack.database_stop()
    original = configuration.read_text()
    configuration.write_text(f"{original}\nshared_buffers = nonsense\n")
    with pytest.raises(StackError, match="PostgreSQL ended with code 1") as caught:
        stack.database_start()
    configuration.write_text(original)
    stack.database_start()

    assert "nonsense" in caught.value.log_tail
    assert database_answers(stack.database)


def test_what_a_killed_run_left_is_ended_and_its_data_kept(tmp_path: Path) -> None:
    """After SIGKILL of the process that started a stack, `stop_left_running` ends the servers; the data is kept."""
    directory = tmp_path / "stack"
    with _erased(directory):
        addresses = _start_in_child_and_kill_it(directory)
        left = _server_pids(directory)
        assert all(psutil.pid_exists(pid) for pid in left)

        assert stop_left_running(directory) == ("kafka", "database")

        assert not any(_runs(pid) for pid in left)
        assert stop_left_running(directory) == ()
        with LocalStack(directory) as again:
            assert [again.kafka, again.database] == addresses
            assert _has_topic(again.kafka)
            assert _rows(again.database) == 1
            pids = _server_pids(directory)
        assert not any(_runs(pid) for pid in pids)


def test_a_living_owner_is_asked_to_stop(tmp_path: Path) -> None:
    """`stop_left_running` does not pull the servers from under a living process: it asks that process to stop them."""
    directory = tmp_path / "stack"
    with _erased(directory), _child(directory, kafka=False) as child:
        assert child.stdout is not None
        child.stdout.readline()

        assert stop_left_running(directory) == ("owner",)

        assert child.wait(WAIT_SECONDS) == 0
        assert read_state(directory) is None


def test_another_process_with_the_same_pid_is_left_alone(tmp_path: Path) -> None:
    """A pid that was given to another process since is not signalled: the start time has to match."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as bystander:
        started = psutil.Process(bystander.pid).create_time() - 3600.0
        identity = {"pid": bystander.pid, "started_seconds": started}
        state = {"format": 1, "owner": identity, "servers": {"kafka": identity}, "addresses": {}}
        (tmp_path / "stack.json").write_text(json.dumps(state))

        assert stop_left_running(tmp_path) == ()

        assert bystander.poll() is None
        bystander.kill()


def test_a_directory_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    """A directory below a file, and a read-only one, are refused with the name and what to do."""
    file = tmp_path / "file"
    file.write_text("in the way")
    with pytest.raises(StackError, match=f"cannot use {file / 'stack'}: Not a directory") as caught:
        LocalStack(file / "stack").start()
    assert "SEALSTREAM_HOME" in caught.value.hint

    read_only = tmp_path / "read-only"
    read_only.mkdir()
    read_only.chmod(0o555)
    with _as_ordinary_user(tmp_path), pytest.raises(StackError, match=f"cannot use {read_only}: Permission denied"):
        LocalStack(read_only).start()


def test_a_damaged_state_file_is_not_guessed_about(tmp_path: Path) -> None:
    """A state file that is not ours stops everything that would act on it."""
    (tmp_path / "stack.json").write_text("{")
    for act in (stop_left_running, erase, read_state):
        with pytest.raises(StackError, match=r"stack\.json is damaged"):
            act(tmp_path)


def _listens(address: str) -> bool:
    host, _, port = address.partition(":")
    try:
        socket.create_connection((host, int(port)), timeout=1).close()
    except OSError:
        return False
    return True


def _create_topic(bootstrap: str) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap})
    if TOPIC not in admin.list_topics(timeout=WAIT_SECONDS).topics:
        admin.create_topics([NewTopic(TOPIC, 1, 1)])[TOPIC].result(WAIT_SECONDS)


def _has_topic(bootstrap: str) -> bool:
    return TOPIC in AdminClient({"bootstrap.servers": bootstrap}).list_topics(timeout=WAIT_SECONDS).topics


def _first_value(bootstrap: str) -> bytes | None:
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "stack-test",
            "auto.offset.reset": "earliest",
            "isolation.level": "read_committed",
        }
    )
    consumer.subscribe([TOPIC])
    try:
        messages = consumer.consume(1, WAIT_SECONDS)
        assert messages, "nothing arrived"
        assert messages[0].error() is None
        return messages[0].value()
    finally:
        consumer.close()


def _write_row(url: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS kept AS SELECT 1 AS n")


def _rows(url: str) -> int:
    with psycopg.connect(url) as connection:
        return len(connection.execute("SELECT n FROM kept").fetchall())


def _contains(path: Path, text: str) -> bool:
    return text.encode() in path.read_bytes()


def _data_directory(stack: LocalStack) -> Path:
    with psycopg.connect(stack.database) as connection:
        row = connection.execute("SHOW data_directory").fetchone()
    assert row is not None
    return Path(row[0])


def _server_pids(directory: Path) -> list[int]:
    state = read_state(directory)
    assert state is not None
    return [identity.pid for identity in state.servers.values()]


def _runs(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


_CHILD = """
import signal, sys
from pathlib import Path
from sealstream.deploy.stack import LocalStack

with LocalStack(Path(sys.argv[1]), kafka=sys.argv[2] == "True") as stack:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    print(stack.kafka if sys.argv[2] == "True" else "-", stack.database, flush=True)
    signal.pause()
"""


@contextlib.contextmanager
def _child(directory: Path, *, kafka: bool = True) -> Generator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", _CHILD, str(directory), str(kafka)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        try:
            yield child
        finally:
            child.terminate()


def _start_in_child_and_kill_it(directory: Path) -> list[str]:
    with _child(directory) as child:
        assert child.stdout is not None
        addresses = child.stdout.readline().split()
        _create_topic(addresses[0])
        _write_row(addresses[1])
        child.send_signal(signal.SIGKILL)
        wait_for(lambda: child.poll() is not None, timeout_seconds=WAIT_SECONDS, what="the killed process to end")
    return addresses


@contextlib.contextmanager
def _erased(directory: Path) -> Generator[None]:
    try:
        yield
    finally:
        stop_left_running(directory)
        erase(directory)


@contextlib.contextmanager
def _as_ordinary_user(directory: Path) -> Generator[None]:
    """Let go of root's rights for a while: root may write to read-only directories."""
    if os.geteuid() != 0:
        yield
        return
    for folder in (directory, *directory.parents):
        if folder.stat().st_uid == 0 and folder != folder.parent and folder.name.startswith(("pytest", "test_")):
            folder.chmod(0o755)
    os.seteuid(pwd.getpwnam("nobody").pw_uid)
    try:
        yield
    finally:
        os.seteuid(0)
