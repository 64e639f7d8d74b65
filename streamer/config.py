"""Settings: where and how much. What the numbers mean stands in the bundle.

One class feeds the command line, the environment (HAR_STREAM_<NAME>) and a TOML file; the command line wins over the
environment, that over the file, that over the default.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_args, get_origin

import msgspec
from msgspec import Meta

from streamer.addresses import is_loopback
from streamer.errors import ConfigError, nearest
from streamer.mqtt.connect_packet import Account
from streamer.wire.topics import DEFAULT_FILTERS

DEFAULT_MODEL: Final = "wisdm-watch-cnn"
EMBEDDED: Final = "embedded"
ENVIRONMENT_PREFIX: Final = "HAR_STREAM_"
#: Names the settings file when the command line does not.
CONFIG_VARIABLE: Final = f"{ENVIRONMENT_PREFIX}CONFIG"

#: Holds the broker's password, for whom a file is in the way. It is no setting: an option would show in the process
#: list, and a settings file is no place for a secret.
PASSWORD_VARIABLE: Final = f"{ENVIRONMENT_PREFIX}PASSWORD"
#: Likewise the token of those who push readings over HTTP.
INGEST_TOKEN_VARIABLE: Final = f"{ENVIRONMENT_PREFIX}INGEST_TOKEN"
_SHORTEST_TOKEN: Final = 16

_NO_SETTINGS: Final = frozenset({CONFIG_VARIABLE, PASSWORD_VARIABLE, INGEST_TOKEN_VARIABLE})

_LOOPBACK: Final = "127.0.0.1"
_HIGHEST_PORT: Final = 65535
#: An IPv6 address has colons of its own; with a port it stands in brackets.
_ADDRESS: Final = re.compile(
    r"(?:\[(?P<bracketed>[^]]+)]|(?P<host>[^:[]+|[^[]*:[^[]*:[^[]*))(?::(?P<port>[0-9]{1,5}))?"
)

Text = Annotated[str, Meta(min_length=1)]
HostName = Annotated[str, Meta(pattern="^[A-Za-z0-9][A-Za-z0-9.-]{0,252}$")]
Port = Annotated[int, Meta(ge=0, le=65535)]
#: Up to 30 years: infinity is no number of nanoseconds.
Seconds = Annotated[float, Meta(gt=0, le=1e9)]


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the service is run; each attribute's help is its option's help."""

    broker: Annotated[Text, Meta(description="MQTT broker's host name, or 'embedded' for one inside this process.")] = (
        "localhost"
    )
    port: Annotated[Port, Meta(description="MQTT broker's TCP port.")] = 1883
    broker_listen: Annotated[
        Text | None,
        Meta(
            description="Address, or address:port, on which the embedded broker listens; beyond loopback it lets in "
            "only who gives the user name and the password. [default: 127.0.0.1]"
        ),
    ] = None
    username: Annotated[Text | None, Meta(description="User name at the broker.")] = None
    password_file: Annotated[Text | None, Meta(description="File whose first line is the password.")] = None
    tls: Annotated[bool, Meta(description="Connect by TLS, verifying the broker's certificate.")] = False
    tls_ca: Annotated[Text | None, Meta(description="CA certificates (PEM) to verify with; implies TLS.")] = None
    tls_cert: Annotated[Text | None, Meta(description="Client certificate (PEM); implies TLS.")] = None
    tls_key: Annotated[Text | None, Meta(description="Client certificate's key (PEM).")] = None
    client_id: Annotated[
        str,
        Meta(
            pattern="^[A-Za-z0-9._-]{1,64}$",
            description="MQTT client identifier; also names the status topic har/service/<client-id>/status.",
        ),
    ] = "har-stream"
    qos: Annotated[Literal[0, 1], Meta(description="Quality of service of readings; events always have 1.")] = 1
    mqtt_client: Annotated[
        Literal["gmqtt", "aiomqtt"], Meta(description="Client library; the first costs less per message.")
    ] = "gmqtt"
    topic: Annotated[
        tuple[Annotated[str, Meta(min_length=1, max_length=1000)], ...],
        Meta(
            min_length=1,
            description="Topic filter of readings; the device is the last level but one, or named by the payload. "
            "Repeatable.",
        ),
    ] = DEFAULT_FILTERS
    model: Annotated[Text, Meta(description="Shipped bundle's name or a bundle's folder.")] = DEFAULT_MODEL
    http_host: Annotated[Text, Meta(description="Address for /metrics, /healthz and /readyz.")] = "127.0.0.1"
    http_port: Annotated[Port, Meta(description="Port for them; 0 takes any free one.")] = 9464
    ingest_token_file: Annotated[
        Text | None,
        Meta(description="File whose first line lets senders push readings over HTTP. [default: nobody may]"),
    ] = None
    live_page: Annotated[
        Literal["auto", "on", "off"],
        Meta(description="Serve the live page at that port; auto: where only this machine reaches it."),
    ] = "auto"
    live_host: Annotated[
        HostName | None,
        Meta(description="Host name by which the live page is asked for, besides addresses and this machine's."),
    ] = None
    publish: Annotated[
        Literal["changes", "windows"], Meta(description="Publish changes of activity, or every window too.")
    ] = "changes"
    home_assistant: Annotated[
        bool, Meta(description="Make each watch a device of Home Assistant, by its MQTT discovery.")
    ] = False
    home_assistant_prefix: Annotated[
        str,
        Meta(
            pattern="^[^#+/\\x00]+(/[^#+/\\x00]+)*$",
            max_length=200,
            description="Of the topics of Home Assistant's discovery.",
        ),
    ] = "homeassistant"
    event_format: Annotated[
        Literal["plain", "cloudevents"],
        Meta(description="Events as they are, or as CloudEvents: binary with MQTT 5, structured with 3.1.1."),
    ] = "plain"
    tracing: Annotated[
        bool,
        Meta(description="Send OpenTelemetry traces to where OTEL_EXPORTER_OTLP_ENDPOINT says; needs the extra otel."),
    ] = False
    output: Annotated[
        Literal["text", "lines", "json", "none"],
        Meta(description="What to print on standard output; text: a table that keeps up on a terminal, else lines."),
    ] = "text"
    log_format: Annotated[Literal["text", "json"], Meta(description="Format of the log on standard error.")] = "text"
    lateness: Annotated[
        float,
        Meta(ge=0, le=60, description="Seconds by which readings may arrive out of order; each adds to the delay."),
    ] = 0.1
    silence: Annotated[Seconds, Meta(description="Seconds without a message after which an activity ends.")] = 30.0
    evict_after: Annotated[Seconds, Meta(description="Seconds without a message after which a watch is forgotten.")] = (
        3600.0
    )
    gather: Annotated[
        float,
        Meta(
            ge=0.0,
            le=5.0,
            description="Least seconds from one call of the recognizer to the next; more of them share what a call "
            "costs, and events wait as long.",
        ),
    ] = 0.005
    max_watches: Annotated[
        int, Meta(ge=1, le=1_000_000, description="Watches followed at once; only a silent one makes room.")
    ] = 20_000
    workers: Annotated[
        int,
        Meta(ge=1, le=64, description="Processes that share the watches, each with a client id and HTTP port."),
    ] = 1
    queue_bytes: Annotated[
        int,
        Meta(
            ge=1_000_000,
            description="Bytes of messages that may wait; past it the oldest of QoS 0 is dropped, of QoS 1 left with "
            "the broker.",
        ),
    ] = 64_000_000
    state: Annotated[
        Text | None,
        Meta(
            description="Folder for what survives a restart, one below it per client id. [default: $STATE_DIRECTORY, "
            "or har-stream in $XDG_STATE_HOME or ~/.local/state]",
        ),
    ] = None
    no_state: Annotated[
        bool, Meta(description="Keep nothing: readings under way when the service or the broker stops are lost.")
    ] = False
    demo: Annotated[bool, Meta(description="Try it out: embedded broker and synthetic watches on loopback.")] = False
    duration: Annotated[Seconds | None, Meta(description="Stop after this many seconds.")] = None
    exit_on_failure: Annotated[bool, Meta(description="Give up with status 1 when the broker can't be used.")] = False

    def __post_init__(self) -> None:
        if self.tls_key is not None and self.tls_cert is None:
            raise ConfigError("tls_key is set without tls_cert; expected both or neither")
        if self.password_file is not None and self.username is None:
            raise ConfigError("password_file is set without username; expected both or neither")
        if "/" in self.broker or any(map(str.isspace, self.broker)):
            raise ConfigError(f"broker is {self.broker!r}; expected a host name or address, without scheme or path")
        if self.demo and self.broker not in {"localhost", EMBEDDED}:
            raise ConfigError(f"demo brings its own broker, but broker is {self.broker!r}; expected one of the two")
        if self.broker_listen is not None:
            if self.demo or self.broker != EMBEDDED:
                raise ConfigError(f"broker_listen is {self.broker_listen!r}; expected broker embedded with it")
            host, _ = self.embedded_address
            if not is_loopback(host) and self.username is None:
                raise ConfigError(
                    f"broker_listen is {self.broker_listen!r}: anybody who reaches it could connect; expected "
                    f"username, and password_file or {PASSWORD_VARIABLE}"
                )
        if self.uses_tls and (self.demo or self.broker == EMBEDDED):
            raise ConfigError("the embedded broker speaks no TLS; expected no tls setting, or a broker of its own")
        if self.state is not None and self.why_no_state is not None:
            raise ConfigError(f"state is {self.state!r}, but {self.why_no_state}; expected no folder for the state")

    @property
    def why_no_state(self) -> str | None:
        """What keeps the service from going on where it stopped, None when it can."""
        if self.no_state:
            return "no_state is set"
        if self.demo or self.broker == EMBEDDED:
            return "the embedded broker forgets what was not delivered"
        if self.qos == 0:
            return "qos is 0: the broker doesn't wait for acknowledgements"
        if self.mqtt_client == "aiomqtt":
            return "mqtt_client aiomqtt acknowledges each message as it comes"
        return None

    @property
    def embedded_address(self) -> tuple[str, int]:
        """Where the embedded broker listens.

        Raises:
            ConfigError: that is no address.
        """
        listen = self.broker_listen or _LOOPBACK
        found = _ADDRESS.fullmatch(listen)
        port = self.port if found is None or found["port"] is None else int(found["port"])
        if found is None or port > _HIGHEST_PORT:
            raise ConfigError(f"broker_listen is {listen!r}; expected an address or address:port, such as 0.0.0.0:1883")
        return found["bracketed"] or found["host"], port

    def embedded_account(self, environment: Mapping[str, str] = os.environ) -> Account | None:
        """Who is let in by the embedded broker, None for everybody.

        Raises:
            ConfigError: there is a name without a password, or its file can't be read.
        """
        if self.username is None or self.demo:
            return None
        password = self.password(environment)
        if not password:
            raise ConfigError(
                f"username is {self.username!r} without a password; expected password_file or {PASSWORD_VARIABLE} for "
                "the embedded broker"
            )
        return Account(self.username, password)

    def state_folder(self, environment: Mapping[str, str] = os.environ) -> Path:
        """The folder of this client's state."""
        home = Path(environment.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
        above = self.state or environment.get("STATE_DIRECTORY") or home / "har-stream"
        return Path(above) / self.client_id

    @property
    def uses_tls(self) -> bool:
        """Whether any TLS setting asks for it."""
        return self.tls or self.tls_ca is not None or self.tls_cert is not None

    def password(self, environment: Mapping[str, str] = os.environ) -> str | None:
        """The password, read now: the file's first line, or HAR_STREAM_PASSWORD.

        Raises:
            ConfigError: the file can't be read, or both are there.
        """
        in_environment = environment.get(PASSWORD_VARIABLE)
        if self.password_file is None:
            return in_environment if self.username is not None else None
        if in_environment:
            raise ConfigError(f"password_file and {PASSWORD_VARIABLE} are both set; expected one of them")
        return _first_line("password_file", self.password_file)

    def ingest_token(self, environment: Mapping[str, str] = os.environ) -> str | None:
        """What lets senders push readings over HTTP, read now: the file's first line, or HAR_STREAM_INGEST_TOKEN.

        Raises:
            ConfigError: the file can't be read, both are there, the token is short, or several workers would have it.
        """
        token, source = environment.get(INGEST_TOKEN_VARIABLE), INGEST_TOKEN_VARIABLE
        if self.ingest_token_file is not None:
            if token:
                raise ConfigError(f"ingest_token_file and {INGEST_TOKEN_VARIABLE} are both set; expected one of them")
            source = f"ingest_token_file {self.ingest_token_file}"
            token = _first_line("ingest_token_file", self.ingest_token_file)
        elif not token:
            return None
        if len(token) < _SHORTEST_TOKEN or not token.isprintable() or " " in token:
            raise ConfigError(f"{source}: expected a token of at least {_SHORTEST_TOKEN} characters, without spaces")
        if self.workers > 1:
            raise ConfigError(f"{source}: {self.workers} workers have an HTTP port each; expected workers 1 with it")
        return token


def _first_line(setting: str, file: str) -> str:
    try:
        return Path(file).read_text(encoding="utf-8").partition("\n")[0].rstrip("\r")
    except OSError as error:
        raise ConfigError(f"{setting} {file}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{setting} {file}: is no UTF-8 text") from error


def load_settings(
    arguments: Mapping[str, Any], *, file: Path | None = None, environment: Mapping[str, str] = os.environ
) -> Settings:
    """Settings from the command line's given options, the environment and a TOML file.

    Args:
        arguments: only options that were given, by setting.
        file: TOML file with settings as top-level keys; by default the one that HAR_STREAM_CONFIG names, if it does.
        environment: where HAR_STREAM_* are looked up.

    Raises:
        ConfigError: a name is unknown or a value is not what its setting takes; the message says where it stood.
    """
    names = {field.name: field for field in msgspec.structs.fields(Settings)}
    merged: dict[str, Any] = {}
    if file is None and environment.get(CONFIG_VARIABLE):
        file = Path(environment[CONFIG_VARIABLE])
    if file is not None:
        merged |= _checked(_read_toml(file), names, source=str(file))
    from_environment: dict[str, Any] = {}
    for key, value in environment.items():
        if key.startswith(ENVIRONMENT_PREFIX) and key not in _NO_SETTINGS:
            name = key.removeprefix(ENVIRONMENT_PREFIX).lower()
            from_environment[name] = value.split(",") if name == "topic" else value
    merged |= _checked(from_environment, names, source="environment", prefix=ENVIRONMENT_PREFIX)
    merged |= _checked(dict(arguments), names, source="command line", prefix="--")
    return Settings(**merged)


def _checked(values: Mapping[str, Any], names: Mapping[str, Any], *, source: str, prefix: str = "") -> dict[str, Any]:
    checked: dict[str, Any] = {}
    for name, value in values.items():
        shown = {"": name, "--": f"--{name.replace('_', '-')}"}.get(prefix, f"{prefix}{name.upper()}")
        if name not in names:
            known = ", ".join(sorted(names))
            raise ConfigError(f"{source}: {shown} is not a setting; expected one of {known}{nearest(name, names)}")
        try:
            # Lenient about text only where there is nothing but text.
            checked[name] = msgspec.convert(value, names[name].type, strict=not prefix)
        except msgspec.ValidationError:
            meant = nearest(str(value), choices(names[name].type))
            raise ConfigError(f"{source}: {shown} is {value!r}; expected {expected(names[name].type)}{meant}") from None
    return checked


def choices(annotation: Any) -> tuple[str, ...]:
    """The values that a setting takes, where it takes only some; empty where it takes any."""
    while get_origin(annotation) is Annotated:
        annotation = annotation.__origin__
    return tuple(map(str, get_args(annotation))) if get_origin(annotation) is Literal else ()


def expected(annotation: Any) -> str:
    """What a setting takes, for people."""
    base, bounds = annotation, ""
    while get_origin(base) is Annotated:
        meta: Meta = base.__metadata__[0]
        bounds += "".join(
            f" {word} {limit}"
            for word, limit in (("from", meta.ge), ("above", meta.gt), ("up to", meta.le), ("matching", meta.pattern))
            if limit is not None
        )
        base = base.__origin__
    members = [member for member in get_args(base) if member is not type(None)]
    if get_origin(base) is Literal:
        return " or ".join(map(str, members))
    if get_origin(base) is tuple:
        return "a list of at least one topic filter"
    if type(None) in get_args(base):
        return expected(members[0])
    if base is str and not bounds:
        return "text, not empty"
    return _TYPE_NAMES[base] + bounds


_TYPE_NAMES: Final = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}


def _read_toml(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read ({error.strerror})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: not TOML ({error})") from error
