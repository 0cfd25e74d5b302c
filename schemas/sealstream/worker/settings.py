"""Settings of every role: one flat table, read from ``SEALSTREAM_*`` in the environment and checked at start.

Each setting ``NAME`` may be given as ``SEALSTREAM_NAME`` or, so that a secret need not stand in the environment, as
``SEALSTREAM_NAME_FILE`` with the path of a file that holds it. A name that no role knows is an error, not a silence.
"""

from __future__ import annotations

import difflib
import os
import socket
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import parse_qsl, urlencode, urlsplit

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from sealstream.kafka.client import KafkaConnection
from sealstream.kafka.topics import TopicNames, TopicSpec, topic_table
from sealstream.schemas.entry import Genesis
from sealstream.schemas.errors import ConfigError
from sealstream.worker.failpoints import VARIABLE as FAILPOINTS_VARIABLE
from sealstream.worker.key_file import check_access

PREFIX: Final = "SEALSTREAM_"
_FILE_SUFFIX: Final = "_FILE"
_FILE_BYTES_MAX: Final = 1_000_000
_OWN_FILES: Final = frozenset({"gateway_secret", "log_key", "map_secret", "witness_key"})
"""Settings whose file is not read if others may read it too: who has one of them can sign, look behind the map, or make
salts."""
_MIB: Final = 1024 * 1024
REDACTED: Final = "**********"
_SECRET_PARAMETERS: Final = frozenset({"password", "sslpassword", "oauth_client_secret", "scram_client_key"})

_DOCUMENTS: Final = frozenset({"policy", "rotations", "timestamp_roots"})
"""Settings that are whole files: their last newline shows that nothing is cut."""
_DATABASES: Final = frozenset({"database", "notary_database", "outbox_database"})
_URLS: Final = frozenset({"gateway_jwks_url", "lock_storage", "registry", "timestamp_url"})


class Settings(BaseSettings):
    """Every setting of Sealstream. ``sealstream config show`` prints them with their values."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", frozen=True, env_ignore_empty=True)

    kafka: str = Field(default="", description="Bootstrap servers, host:port separated by commas")
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        default="PLAINTEXT", description="How to speak to the brokers"
    )
    kafka_sasl_mechanism: Literal["", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        default="", description="How to log in to the brokers"
    )
    kafka_username: str = Field(default="", description="Who to log in as")
    kafka_password: SecretStr = Field(default=SecretStr(""), description="Its password")
    kafka_ca_file: str = Field(default="", description="File of CA certificates (PEM) that sign the brokers'")
    kafka_certificate_file: str = Field(default="", description="File of the client's certificate (PEM)")
    kafka_key_file: str = Field(default="", description="File of the client's key (PEM)")

    database: SecretStr = Field(default=SecretStr(""), description="PostgreSQL URL of the store")
    registry: str = Field(default="", description="URL of a schema registry with Confluent's API")
    registry_username: str = Field(default="", description="Who to log in to the registry as")
    registry_password: SecretStr = Field(default=SecretStr(""), description="Its password")

    instance: str = Field(
        default="localhost/audit",
        pattern=r"^[a-z0-9./-]{1,120}$",
        description="The instance's name, a schema-less URL; pinned for ever by each chain's genesis",
    )
    topic_prefix: str = Field(default="audit.", description="What all topic names begin with")
    epoch: int = Field(default=1, ge=1, description="The topics' epoch")
    partitions: int = Field(default=4, ge=1, le=100_000, description="Partitions of the source; pinned by genesis")
    replication: int | None = Field(default=None, ge=1, description="Replicas of new topics; default min(3, brokers)")
    window_offsets: int = Field(
        default=65_536, ge=1, le=10_000_000, description="Duplicate window in offsets; pinned by genesis"
    )
    window_seconds: int = Field(
        default=86_400, ge=1, le=31_536_000, description="Duplicate window in seconds; pinned by genesis"
    )
    operators: str = Field(
        default="none",
        pattern=r"^(none|[0-9a-f]{64})$",
        description="The operators' policy (digest); pinned by genesis",
    )

    log_storage: str = Field(
        default="",
        description="Where tiles, rounds and checkpoints are published: a directory, or an s3://, gs:// or az:// URL",
    )
    notary_database: SecretStr = Field(
        default=SecretStr(""),
        description="PostgreSQL URL of the notary's heads; never restored together with the store",
    )
    log_key: SecretStr = Field(default=SecretStr(""), description="The private key that signs the instance's logs")
    map_secret: SecretStr = Field(
        default=SecretStr(""), description="What the nonces of the tenant map are made from: 64 hex digits"
    )
    policy: str = Field(default="", description="Whose signatures count, and how many: C2SP tlog-policy")
    rotations: str = Field(default="", description="Records of rotated keys, as sealstream keys rotate writes them")
    round_seconds: float = Field(default=60.0, ge=0.1, le=3600, description="Time between two rounds of the root log")
    round_age_seconds_max: float = Field(
        default=120.0, ge=1, le=86_400, description="From append to a witnessed checkpoint; beyond it, the alarm"
    )
    timestamp_url: str = Field(default="", description="URL of an RFC 3161 timestamp authority; empty for none")
    timestamp_seconds: float = Field(default=3600.0, ge=1, le=604_800, description="Time between two timestamps")
    timestamp_roots: str = Field(default="", description="Certificates (PEM) that a timestamp must lead to")
    lock_storage: str = Field(default="", description="URL of a bucket with object lock; empty for none")
    lock_days: int = Field(default=2557, ge=1, le=36_500, description="How long they are locked")

    witness_key: SecretStr = Field(default=SecretStr(""), description="The private key that a witness cosigns with")
    witness_path: Path | None = Field(default=None, description="SQLite file of what a witness has seen")
    witness_host: str = Field(default="127.0.0.1", description="Address at which a witness takes checkpoints")
    witness_port: int = Field(default=0, ge=0, le=65_535, description="Its port; 0 takes a free one")

    gateway_host: str = Field(default="127.0.0.1", description="Address at which a gateway takes events")
    gateway_port: int = Field(default=0, ge=0, le=65_535, description="Its port; 0 takes a free one")
    gateway_secret: SecretStr = Field(
        default=SecretStr(""),
        description="What makes a retry the same bytes: 64 hex digits, the same for all gateways of an instance",
    )
    gateway_keys: Path | None = Field(default=None, description="File of API keys, as sealstream gateway-keys keeps it")
    gateway_issuer: str = Field(default="", description="Whose tokens (JWT) a gateway takes: their iss; empty for none")
    gateway_jwks_url: str = Field(default="", description="URL of the issuer's public keys (JWKS)")
    gateway_audience: str = Field(default="", description="What the tokens' aud must name")
    gateway_algorithms: str = Field(
        default="RS256,ES256", description="Which signatures of tokens count, separated by commas; asymmetric ones only"
    )
    gateway_tenant_claim: str = Field(
        default="tenant", min_length=1, description="The claim of a token that names its tenant"
    )
    gateway_scope: str = Field(default="", description="What a token's scope must contain; empty for no demand")
    gateway_events_per_second: float = Field(
        default=1_000.0, gt=0, le=1_000_000, description="Events a second that a credential may send, in each process"
    )
    gateway_burst_events: int = Field(
        default=2_000,
        ge=1_000,
        le=1_000_000,
        description="Events at once that a credential may send; a batch has 1,000",
    )
    gateway_body_bytes_max: int = Field(
        default=4 * _MIB, ge=65_536, le=64 * _MIB, description="Bytes of one request's body"
    )
    gateway_connections_max: int = Field(
        default=1_000, ge=10, le=100_000, description="Connections to a gateway; more are closed at once"
    )
    gateway_request_seconds: float = Field(
        default=10.0, ge=0.5, le=600, description="How long a request's header may take to arrive, and then its body"
    )
    gateway_delivery_seconds: float = Field(
        default=10.0,
        ge=0.5,
        le=120,
        description="After this an event that Kafka has not acknowledged is answered by 503",
    )
    gateway_spool: Path | None = Field(
        default=None, description="Directory in which a gateway keeps events while Kafka is away; none: it answers 503"
    )

    outbox_database: SecretStr = Field(
        default=SecretStr(""), description="PostgreSQL URL of the application's database with the outbox"
    )
    outbox_table: str = Field(
        default="audit_outbox",
        pattern=r"^([a-z_][a-z0-9_]*\.)?[a-z_][a-z0-9_]*$",
        max_length=48,
        description="The outbox's table, with its schema if it needs one; stands in the events' ids",
    )
    outbox_keep: bool = Field(default=False, description="Mark published rows of the outbox instead of deleting them")
    outbox_rows_max: int = Field(default=1_000, ge=1, le=10_000, description="Rows of one transaction of the relay")
    outbox_poll_seconds: float = Field(
        default=1.0, ge=0.05, le=60, description="How often the relay looks for rows of which nothing notified it"
    )

    import_source: SecretStr = Field(
        default=SecretStr(""), description="What is imported: the PostgreSQL URL of an older trail, or a file's path"
    )

    worker_id: str = Field(
        default_factory=socket.gethostname,
        pattern=r"^[A-Za-z0-9._-]{1,100}$",
        description="The worker's name, stable over restarts; the host's name by default",
    )
    web_host: str = Field(default="127.0.0.1", description="Address of the worker's web port")
    web_port: int = Field(default=0, ge=0, le=65_535, description="The worker's web port; 0 takes a free one")
    log_level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="What is logged")
    log_format: Literal["auto", "json", "console"] = Field(
        default="auto", description="How: one JSON object a line, or for people; auto looks for a terminal"
    )
    data_directory: Path | None = Field(default=None, description="Where a worker may keep files")

    batch_records_max: int = Field(default=10_000, ge=1, le=100_000, description="Records of one transaction")
    batch_bytes_max: int = Field(default=16 * _MIB, ge=_MIB, le=256 * _MIB, description="Bytes of one transaction")
    batch_age_seconds: float = Field(
        default=0.0,
        ge=0,
        le=5,
        description="How long a batch waits for more; under load they gather anyway",
    )
    gather_seconds: float = Field(
        default=0.1,
        ge=0,
        le=1,
        description="How long sink and verifier let records gather at the brokers; 0 takes each as it comes",
    )
    native: bool = Field(default=True, description="Chain with sealstream-native where it is installed")
    transaction_timeout_seconds: float = Field(
        default=10.0, ge=1, le=900, description="After this the brokers abort; until then readers may have to wait"
    )
    session_timeout_seconds: float = Field(
        default=10.0, ge=1, le=1800, description="After this the group takes a silent worker's partitions away"
    )
    request_timeout_seconds: float = Field(default=30.0, gt=0, le=600, description="How long an answer may take")

    def connection(self) -> KafkaConnection:
        """Return how to reach Kafka.

        Raises:
            ConfigError: ``SEALSTREAM_KAFKA`` is not set.
        """
        if not self.kafka:
            raise ConfigError("SEALSTREAM_KAFKA is not set", hint="give the bootstrap servers, such as kafka:9092")
        return KafkaConnection(
            bootstrap=self.kafka,
            security_protocol=self.kafka_security_protocol,
            sasl_mechanism=self.kafka_sasl_mechanism,
            username=self.kafka_username,
            password=self.kafka_password.get_secret_value(),
            ca_file=self.kafka_ca_file,
            certificate_file=self.kafka_certificate_file,
            key_file=self.kafka_key_file,
        )

    def database_url(self) -> str:
        """Return the store's URL, secret included.

        Raises:
            ConfigError: ``SEALSTREAM_DATABASE`` is not set.
        """
        url = self.database.get_secret_value()
        if not url:
            raise ConfigError(
                "SEALSTREAM_DATABASE is not set", hint="give a URL such as postgresql://user@host:5432/audit"
            )
        return url

    def topics(self) -> TopicNames:
        """Return the names of the instance's topics."""
        return TopicNames(prefix=self.topic_prefix, epoch=self.epoch)

    def topic_table(self) -> tuple[TopicSpec, ...]:
        """Return what each of the instance's topics must be like."""
        return topic_table(self.topics(), partitions=self.partitions, window_seconds=self.window_seconds)

    def member(self) -> str:
        """Return the worker's name to the brokers; from the second epoch on it names the epoch too.

        A static member that comes back within its session is given what it had before, whatever it subscribes to now:
        a worker that is set to a new epoch would be given partitions of the old one's topics.
        """
        return self.worker_id if self.epoch == 1 else f"{self.worker_id}.e{self.epoch}"

    def genesis(self) -> Genesis:
        """Return what a chain of this instance pins."""
        return Genesis(
            instance=self.instance,
            partitions=self.partitions,
            window_offsets=self.window_offsets,
            window_seconds=self.window_seconds,
            operators=self.operators,
        )

    def redacted(self) -> dict[str, Any]:
        """Return all settings as plain values, without secrets: safe to print."""
        shown: dict[str, Any] = {}
        for name in type(self).model_fields:
            value: object = getattr(self, name)
            if name in _DATABASES and isinstance(value, SecretStr):
                shown[name] = redact_url(value.get_secret_value())
            elif name in _URLS or (name == "log_storage" and "://" in self.log_storage):  # that may be a directory
                shown[name] = redact_url(str(value))
            elif isinstance(value, SecretStr):
                shown[name] = REDACTED if value.get_secret_value() else ""
            else:
                shown[name] = str(value) if isinstance(value, Path) else value
        return shown

    def __repr_args__(self) -> Iterable[tuple[str | None, object]]:
        """Show in tracebacks and debuggers what :meth:`redacted` shows."""
        return self.redacted().items()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read arguments first, then the environment; :func:`load_settings` adds the ``*_FILE`` names."""
        del settings_cls, dotenv_settings, file_secret_settings
        return init_settings, env_settings


class _GivenSettings(Settings):
    """Settings from what is given and nothing else: the process's environment does not show through."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read arguments only."""
        del settings_cls, env_settings, dotenv_settings, file_secret_settings
        return (init_settings,)


NOT_SETTINGS: Final = frozenset({"SEALSTREAM_HOME", "SEALSTREAM_MAVEN_URL", FAILPOINTS_VARIABLE})
"""Names in the environment that others read: the local stack, where its data lies and a mirror to download from; the
tests' failpoints."""


def load_settings(environment: Mapping[str, str] | None = None, **overrides: object) -> Settings:
    """Return the settings that the environment gives.

    Arguments:
        environment: The variables, and no others; the process's by default.
        overrides: Settings given otherwise, such as by command-line options; ``None`` means not given.

    Raises:
        ConfigError: A name is unknown, a file cannot be read, or a value is out of range; says which.
    """
    variables = os.environ if environment is None else environment
    _refuse_unknown(variables)
    values: dict[str, Any] = {}
    for name in Settings.model_fields:
        variable = f"{PREFIX}{name.upper()}"
        path, value = variables.get(f"{variable}{_FILE_SUFFIX}"), variables.get(variable)
        if path and value:
            raise ConfigError(f"{variable} is given twice", hint="give the value or the file, not both")
        if path:
            text = _read_file(f"{variable}{_FILE_SUFFIX}", path, own=name in _OWN_FILES)
            values[name] = text if name in _DOCUMENTS else text.strip()
        elif value and environment is not None:
            values[name] = value
    values.update({name: value for name, value in overrides.items() if value is not None})
    try:
        return Settings(**values) if environment is None else _GivenSettings(**values)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        name = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"{PREFIX}{name.upper()}: {first['msg']}", hint="see sealstream config show") from None


def redact_url(url: str) -> str:
    """Return a URL that is safe to print: without its password, wherever libpq lets one stand.

    What is no URL, or has an ``@`` where none belongs, is not shown at all.
    """
    try:
        parts = urlsplit(url)
        queries = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError:
        return REDACTED
    if url and ("://" not in url or "@" in parts.path + parts.query + parts.fragment):
        return REDACTED
    user, at, place = parts.netloc.rpartition("@")
    name, colon, _ = user.partition(":")
    secret = f":{REDACTED}" if colon else ""
    shown = [(key, REDACTED if key in _SECRET_PARAMETERS else value) for key, value in queries]
    query = f"?{urlencode(shown, safe='*/:,')}" if shown else ""
    return f"{parts.scheme}://{name}{secret}{at}{place}{parts.path}{query}" if url else ""


def known_names() -> frozenset[str]:
    """Return every name that may stand in the environment."""
    names = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields}
    return frozenset(names | {f"{name}{_FILE_SUFFIX}" for name in names} | NOT_SETTINGS)


def _refuse_unknown(variables: Mapping[str, str]) -> None:
    known = known_names()
    for name in sorted(variables):
        if name.upper().startswith(PREFIX) and name not in known:
            words = [other.removeprefix(PREFIX) for other in known]
            close = difflib.get_close_matches(name.upper().removeprefix(PREFIX), words, n=1)
            hint = f"did you mean {PREFIX}{close[0]}?" if close else "sealstream config show lists all of them"
            raise ConfigError(f"the setting {name} does not exist", hint=hint)


def _read_file(name: str, path: str, *, own: bool) -> str:
    try:
        with Path(path).open("rb") as file:
            if own:
                check_access(Path(path), os.fstat(file.fileno()))
            content = file.read(_FILE_BYTES_MAX + 1)
        text = content.decode()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{name}: {path} cannot be read: {error}") from None
    if len(content) > _FILE_BYTES_MAX:
        raise ConfigError(f"{name}: {path} has more than {_FILE_BYTES_MAX} bytes")
    return text
