"""Settings: read once, checked at start, and never shown with a secret in them."""

from __future__ import annotations

import json
import re
import socket
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from sealstream.schemas.entry import Genesis
from sealstream.schemas.errors import ConfigError
from sealstream.worker.settings import (
    NOT_SETTINGS,
    PREFIX,
    REDACTED,
    Settings,
    known_names,
    load_settings,
    redact_url,
)

SECRET = "s3cr3t-of-the-house"  # a secret of the tests' own
URL = f"postgresql://writer:{SECRET}@db.example:5432/audit"


def given(**variables: str) -> dict[str, str]:
    """Return an environment of Sealstream's variables."""
    return {f"{PREFIX}{name.upper()}": value for name, value in variables.items()}


def refused(environment: dict[str, str], **overrides: object) -> ConfigError:
    """Return the error that an environment is refused with."""
    with pytest.raises(ConfigError) as caught:
        load_settings(environment, **overrides)
    return caught.value


class TestReading:
    """Where settings come from."""

    def test_defaults(self) -> None:
        """Without any variable everything has a default, and a worker has its host's name."""
        settings = load_settings({})
        assert (settings.partitions, settings.window_offsets, settings.window_seconds) == (4, 65_536, 86_400)
        assert (settings.web_host, settings.web_port, settings.log_level) == ("127.0.0.1", 0, "info")
        assert settings.worker_id == socket.gethostname()

    def test_environment(self) -> None:
        """Variables are read by their names, and turned into what they mean."""
        settings = load_settings(given(kafka="a:1,b:2", partitions="12", batch_age_seconds="0.5", data_directory="/d"))
        assert (settings.kafka, settings.partitions, settings.batch_age_seconds) == ("a:1,b:2", 12, 0.5)
        assert settings.data_directory == Path("/d")

    def test_process_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without an argument it is the process's environment that is read."""
        monkeypatch.setenv("SEALSTREAM_PARTITIONS", "7")
        assert load_settings().partitions == 7

    def test_given_environment_alone(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A given environment is all there is: nothing of the process's own shows through."""
        monkeypatch.setenv("SEALSTREAM_PARTITIONS", "7")
        monkeypatch.setenv("SEALSTREAM_KAFKA_PASSWORD", SECRET)
        settings = load_settings({})
        assert (settings.partitions, settings.kafka_password.get_secret_value()) == (4, "")

    def test_empty_is_not_given(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """An empty variable is as good as none, as templates of manifests leave them."""
        assert load_settings(given(partitions="", replication="")).partitions == 4
        monkeypatch.setenv("SEALSTREAM_PARTITIONS", "")
        assert load_settings().partitions == 4

    def test_overrides_win(self) -> None:
        """What is given as an argument wins over the environment; None means not given."""
        assert load_settings(given(partitions="7"), partitions=9).partitions == 9
        assert load_settings(given(partitions="7"), partitions=None).partitions == 7

    def test_other_variables_are_others(self) -> None:
        """Variables of other programs, and those that the command line reads itself, are left alone."""
        environment = {"PATH": "/bin", "SEALSTREAMX": "1"} | dict.fromkeys(NOT_SETTINGS, "x")
        assert load_settings(environment).partitions == 4

    def test_immutable(self) -> None:
        """Settings do not change once a worker has started."""
        settings = load_settings({})
        with pytest.raises(ValidationError):
            settings.partitions = 5
        assert settings.partitions == 4

    def test_every_setting_is_described(self) -> None:
        """Each setting says what it is, for those who print them."""
        assert [name for name, field in Settings.model_fields.items() if not field.description] == []


class TestFiles:
    """Secrets come from files, so that they need not stand in the environment."""

    def test_file(self, tmp_path: Path) -> None:
        """The content of the file is the value, without the line break that editors leave."""
        path = tmp_path / "password"
        path.write_text(f"{SECRET}\n")
        settings = load_settings(given(kafka_password_file=str(path)))
        assert settings.kafka_password.get_secret_value() == SECRET

    @pytest.mark.parametrize("name", sorted(Settings.model_fields))
    def test_every_setting_may_be_a_file(self, name: str) -> None:
        """There is a file form of each setting, so nobody has to know which ones are secrets."""
        assert f"{PREFIX}{name.upper()}_FILE" in known_names()

    def test_number_from_a_file(self, tmp_path: Path) -> None:
        """A setting from a file is checked as any other."""
        path = tmp_path / "partitions"
        path.write_text("none")
        assert "SEALSTREAM_PARTITIONS" in refused(given(partitions_file=str(path))).message

    def test_given_twice(self, tmp_path: Path) -> None:
        """A value and a file at once is a mistake, not a matter of precedence."""
        path = tmp_path / "database"
        path.write_text(URL)
        error = refused(given(database=URL, database_file=str(path)))
        assert "SEALSTREAM_DATABASE is given twice" in str(error)
        assert SECRET not in str(error)

    def test_missing(self, tmp_path: Path) -> None:
        """A file that is not there is named, with the variable that named it."""
        error = refused(given(database_file=str(tmp_path / "nothing")))
        assert "SEALSTREAM_DATABASE_FILE" in str(error)
        assert "nothing" in str(error)

    def test_directory(self, tmp_path: Path) -> None:
        """A directory is no file."""
        assert "SEALSTREAM_DATABASE_FILE" in str(refused(given(database_file=str(tmp_path))))

    def test_not_text(self, tmp_path: Path) -> None:
        """A file that holds no text is refused without showing what it holds."""
        path = tmp_path / "password"
        path.write_bytes(SECRET.encode() + b"\xff")
        error = refused(given(kafka_password_file=str(path)))
        assert "SEALSTREAM_KAFKA_PASSWORD_FILE" in str(error)
        assert SECRET not in str(error)

    def test_too_large(self, tmp_path: Path) -> None:
        """A file that is no secret's size is refused, not read whole."""
        path = tmp_path / "password"
        path.write_bytes(b"x" * 1_000_001)
        assert "1000000 bytes" in str(refused(given(kafka_password_file=str(path))))

    def test_private_key_that_others_may_read(self, tmp_path: Path) -> None:
        """A private key is not taken from a file that others have access to, however it is named."""
        path = tmp_path / "log.key"
        path.write_text("whatever", encoding="utf-8")
        path.chmod(0o644)
        assert "others have access" in str(refused(given(log_key_file=str(path))))

    def test_policy_keeps_its_last_newline(self, tmp_path: Path) -> None:
        """A policy is taken as the file has it: that its last line is whole is what its reader looks at."""
        path = tmp_path / "policy"
        path.write_text("quorum none\n", encoding="utf-8")
        assert load_settings(given(policy_file=str(path))).policy == "quorum none\n"


class TestRefused:
    """What is wrong is named at start."""

    @pytest.mark.parametrize(
        ("name", "meant"),
        [
            ("SEALSTREAM_KAFKKA", "SEALSTREAM_KAFKA"),
            ("SEALSTREAM_PARTITION", "SEALSTREAM_PARTITIONS"),
            ("SEALSTREAM_DATABASE_FIEL", "SEALSTREAM_DATABASE_FILE"),
            ("sealstream_kafka", "SEALSTREAM_KAFKA"),
        ],
    )
    def test_unknown_name(self, name: str, meant: str) -> None:
        """A name that no role knows is an error that says which one was meant."""
        error = refused({name: "x"})
        assert (name in error.message, error.hint) == (True, f"did you mean {meant}?")

    def test_unknown_name_like_no_other(self) -> None:
        """A name like no other is refused as well, and says where all names are listed."""
        assert "config show" in refused({"SEALSTREAM_ZZZZZZZZZZ": "x"}).hint

    def test_unknown_override(self) -> None:
        """An unknown argument is refused as an unknown name is."""
        assert "SEALSTREAM_KAFKKA" in refused({}, kafkka="x").message

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("partitions", "0"),
            ("partitions", "100001"),
            ("partitions", "four"),
            ("partitions", "4.5"),
            ("window_offsets", "0"),
            ("window_seconds", "-1"),
            ("epoch", "0"),
            ("replication", "0"),
            ("instance", "Demo"),
            ("instance", "demo example"),
            ("instance", "a" * 121),
            ("instance", "demo\n"),
            ("operators", "None"),
            ("operators", "ab"),
            ("worker_id", "a/b"),
            ("worker_id", "a" * 101),
            ("web_port", "65536"),
            ("web_port", "-1"),
            ("log_level", "loud"),
            ("log_format", "xml"),
            ("kafka_security_protocol", "TLS"),
            ("kafka_sasl_mechanism", "GSSAPI"),
            ("batch_records_max", "0"),
            ("batch_bytes_max", "1"),
            ("batch_age_seconds", "nan"),
            ("batch_age_seconds", "inf"),
            ("batch_age_seconds", "-0.1"),
            ("gather_seconds", "-0.1"),
            ("gather_seconds", "1.1"),
            ("transaction_timeout_seconds", "0"),
            ("session_timeout_seconds", "1e9"),
            ("request_timeout_seconds", "0"),
        ],
    )
    def test_out_of_range(self, name: str, value: str) -> None:
        """A value out of range is refused by the name of its variable."""
        assert f"SEALSTREAM_{name.upper()}" in refused(given(**{name: value})).message

    def test_wrong_secret_is_not_shown(self) -> None:
        """What is refused is not repeated: it may be a secret in the wrong place."""
        error = refused(given(web_port=SECRET))
        assert SECRET not in str(error)
        assert error.__cause__ is None
        assert error.__suppress_context__

    @pytest.mark.parametrize(("method", "name"), [("connection", "KAFKA"), ("database_url", "DATABASE")])
    def test_needed_but_not_set(self, method: str, name: str) -> None:
        """A role that needs an address says which variable gives it."""
        with pytest.raises(ConfigError, match=f"SEALSTREAM_{name} is not set") as caught:
            getattr(load_settings({}), method)()
        assert caught.value.hint

    @pytest.mark.parametrize("prefix", ["", " ", "a b.", ".audit", "ä."])
    def test_topic_prefix(self, prefix: str) -> None:
        """A prefix that no topic can have is refused before a topic is asked for."""
        settings = load_settings({}, topic_prefix=prefix)
        with pytest.raises(ConfigError, match="topic prefix"):
            settings.topics()


class TestMeaning:
    """What settings are for."""

    def test_connection(self) -> None:
        """The connection has everything that a client needs to reach the brokers."""
        settings = load_settings(
            given(
                kafka="kafka:9093",
                kafka_security_protocol="SASL_SSL",
                kafka_sasl_mechanism="SCRAM-SHA-512",
                kafka_username="writer",
                kafka_password=SECRET,
                kafka_ca_file="/ca.pem",
            )
        )
        config = settings.connection().config("test")
        assert config["bootstrap.servers"] == "kafka:9093"
        assert (config["security.protocol"], config["sasl.mechanism"]) == ("SASL_SSL", "SCRAM-SHA-512")
        assert (config["sasl.username"], config["sasl.password"]) == ("writer", SECRET)
        assert config["ssl.ca.location"] == "/ca.pem"
        assert "ssl.key.location" not in config

    def test_genesis(self) -> None:
        """What a chain pins comes from the settings, and can be pinned."""
        settings = load_settings(given(instance="demo.example/audit", partitions="8", window_offsets="10"))
        assert settings.genesis() == Genesis("demo.example/audit", 8, 10, 86_400, "none")
        assert Genesis.parse(settings.genesis().payload()) == settings.genesis()

    def test_topics(self) -> None:
        """Topic names carry the prefix and the epoch, and the table has the settings' partitions."""
        settings = load_settings(given(topic_prefix="x.", epoch="2", partitions="3"))
        assert settings.topics().events == "x.events.e2"
        assert settings.topic_table()[0].partitions == 3


class TestSecrets:
    """Secrets do not show."""

    def everything(self) -> Settings:
        """Return settings with a secret wherever one can stand."""
        registry = f"https://reader:{SECRET}@registry.example"
        return load_settings(
            given(kafka="k:1", kafka_password=SECRET, database=URL, registry=registry, registry_password=SECRET)
        )

    def test_never_in_text(self) -> None:
        """No way of printing settings or a connection shows a secret, not even a traceback or a debugger."""
        settings = self.everything()
        connection = settings.connection()
        shown = f"{connection!r} {connection} {settings!r} {settings} {json.dumps(settings.redacted())}"
        assert SECRET not in shown
        assert REDACTED in shown

    def test_redacted_shows_the_rest(self) -> None:
        """What is no secret is shown, so that a person can check it."""
        shown = self.everything().redacted()
        assert shown["database"] == f"postgresql://writer:{REDACTED}@db.example:5432/audit"
        assert shown["registry"] == f"https://reader:{REDACTED}@registry.example"
        assert (shown["kafka"], shown["kafka_password"]) == ("k:1", REDACTED)
        assert set(shown) == set(Settings.model_fields)

    def test_nothing_to_redact(self) -> None:
        """A secret that is not set is shown as not set."""
        shown = load_settings({}).redacted()
        assert (shown["kafka_password"], shown["database"], shown["registry"]) == ("", "", "")

    def test_usable(self) -> None:
        """The store's URL is given whole to whoever connects."""
        assert self.everything().database_url() == URL

    @pytest.mark.parametrize("name", [name for name in Settings.model_fields if re.search("password|database", name)])
    def test_secrets_are_secret_types(self, name: str) -> None:
        """Every setting that may hold a password has a type that does not print it."""
        assert Settings.model_fields[name].annotation is SecretStr

    @pytest.mark.parametrize(
        ("url", "shown"),
        [
            ("", ""),
            ("postgresql://h/db", "postgresql://h/db"),
            ("postgresql://u@h:5/db?sslmode=require", "postgresql://u@h:5/db?sslmode=require"),
            ("postgresql://u:p@h:5/db", f"postgresql://u:{REDACTED}@h:5/db"),
            ("postgresql://u:p%40q@h/db", f"postgresql://u:{REDACTED}@h/db"),
            ("postgresql://u:p@q@h/db", f"postgresql://u:{REDACTED}@h/db"),
            ("postgresql://:p@h/db", f"postgresql://:{REDACTED}@h/db"),
            ("postgresql://h/db?password=p&user=u", f"postgresql://h/db?password={REDACTED}&user=u"),
            ("postgresql://h/db?sslpassword=p", f"postgresql://h/db?sslpassword={REDACTED}"),
            ("postgresql:///db?host=/run/postgresql", "postgresql:///db?host=/run/postgresql"),
            ("postgresql://u:p@h1:1,h2:2/db", f"postgresql://u:{REDACTED}@h1:1,h2:2/db"),
            ("host=h password=p", REDACTED),
            ("postgresql://u:p/q@h/db", REDACTED),
            ("postgresql://u:p?q@h/db", REDACTED),
            ("postgresql://u:p#q@h/db", REDACTED),
            ("postgresql://[::1/db", REDACTED),
        ],
    )
    def test_urls(self, url: str, shown: str) -> None:
        """A URL is shown without its password, and not at all if it is not clear where that stands."""
        assert redact_url(url) == shown


def test_types_of_a_given_environment() -> None:
    """Settings of a given environment are settings like any other."""
    values: dict[str, Any] = load_settings({}).model_dump()
    assert isinstance(load_settings({}), Settings)
    assert set(values) == set(Settings.model_fields)
