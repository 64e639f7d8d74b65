"""Settings: what wins, what is refused, and what the refusal names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.config import Settings, load_settings
from streamer.errors import ConfigError


def toml(folder: Path, text: str) -> Path:
    file = folder / "settings.toml"
    file.write_text(text, encoding="utf-8")
    return file


def refusal(
    arguments: Mapping[str, Any], *, file: Path | None = None, environment: Mapping[str, str] | None = None
) -> str:
    with pytest.raises(ConfigError) as caught:
        load_settings(arguments, file=file, environment=environment or {})
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_command_line_wins_over_environment_over_file_over_default(tmp_path: Path) -> None:
    file = toml(tmp_path, 'broker = "file"\nport = 1\nqos = 0\n')
    environment = {"HAR_STREAM_BROKER": "environment", "HAR_STREAM_PORT": "2", "PORT": "9", "HAR_DATA_DIR": "/data"}
    settings = load_settings({"broker": "arguments"}, file=file, environment=environment)
    assert (settings.broker, settings.port, settings.qos, settings.http_port) == ("arguments", 2, 0, 9464)
    assert load_settings({}, environment={}) == Settings()


def test_environment_may_name_the_file_and_the_command_line_another(tmp_path: Path) -> None:
    file = toml(tmp_path, "port = 1\n")
    other = tmp_path / "other.toml"
    other.write_text("port = 2\n")
    environment = {"HAR_STREAM_CONFIG": str(file)}
    assert load_settings({}, environment=environment).port == 1
    assert load_settings({}, file=other, environment=environment).port == 2
    assert load_settings({}, environment={"HAR_STREAM_CONFIG": ""}).port == 1883


def another_value(field: msgspec.structs.FieldInfo) -> str | float | list[str]:
    """A value that the setting takes and that is not its default, as TOML would hold it."""
    annotation = field.type
    while get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if get_origin(annotation) is Literal:
        first, second = get_args(annotation)[:2]
        other: str | int = second if field.default == first else first
        return other
    if get_origin(annotation) is tuple:
        return ["a/+/imu", "b/+/imu"]
    if annotation is int:
        return int(field.default) + 1
    inner = [get_args(kind)[0] if get_origin(kind) is Annotated else kind for kind in get_args(annotation)]
    if annotation is bool:
        return True
    return 1.5 if float in (annotation, *inner) else "text"


def test_every_setting_can_be_given_as_text_and_as_toml(tmp_path: Path) -> None:
    # --demo excludes another broker.
    # Nor does a folder for the state go with settings without one, nor an address to listen on with a broker elsewhere.
    apart = {"demo", "state", "broker_listen"}
    fields = [field for field in msgspec.structs.fields(Settings) if field.name not in apart]
    values = {field.name: another_value(field) for field in fields}
    lines = [f"{name} = {msgspec.json.encode(value).decode()}" for name, value in values.items()]
    from_file = load_settings({}, file=toml(tmp_path, "\n".join(lines)), environment={})
    texts = {
        f"HAR_STREAM_{name.upper()}": ",".join(value) if isinstance(value, list) else str(value).lower()
        for name, value in values.items()
    }
    assert load_settings({}, environment=texts) == from_file == load_settings(values, environment={})
    given_back = msgspec.structs.asdict(from_file)
    assert given_back == values | {"topic": ("a/+/imu", "b/+/imu"), "demo": False, "state": None, "broker_listen": None}
    assert not [name for name in values if given_back[name] == getattr(Settings(), name)]


@pytest.mark.parametrize(
    ("listen", "expected"),
    [
        (None, ("127.0.0.1", 1884)),
        ("192.0.2.7", ("192.0.2.7", 1884)),
        ("192.0.2.7:1885", ("192.0.2.7", 1885)),
        ("::", ("::", 1884)),
        ("[::1]", ("::1", 1884)),
        ("[::1]:1885", ("::1", 1885)),
        ("2001:db8::7", ("2001:db8::7", 1884)),
        ("cottage.local:0", ("cottage.local", 0)),
    ],
)
def test_embedded_broker_listens_where_it_is_told(listen: str | None, expected: tuple[str, int]) -> None:
    assert Settings(broker="embedded", port=1884, username="me", broker_listen=listen).embedded_address == expected


@pytest.mark.parametrize(
    "listen", [":1883", "0.0.0.0:", "0.0.0.0:x", "0.0.0.0:65536", "[::1]1", "0.0.0.0:" + "9" * 5000]
)
def test_embedded_broker_is_not_told_half_an_address(listen: str) -> None:
    with pytest.raises(ConfigError, match="expected an address or address:port"):
        Settings(broker="embedded", username="me", broker_listen=listen)


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("port", "70000", "a whole number from 0 up to 65535"),
        ("port", "1883.5", "a whole number from 0 up to 65535"),
        ("qos", "2", "0 or 1"),
        ("publish", "everything", "changes or windows"),
        ("tls", "perhaps", "true or false"),
        ("broker", "", "text, not empty"),
        ("client_id", "a b", "text matching ^[A-Za-z0-9._-]{1,64}$"),
        ("lateness", "-0.1", "a number from 0 up to 60"),
        ("lateness", "nan", "a number from 0 up to 60"),
        ("silence", "0", "a number above 0 up to 1000000000.0"),
        ("silence", "inf", "a number above 0 up to 1000000000.0"),
        ("duration", "soon", "a number above 0 up to 1000000000.0"),
        ("max_watches", "0", "a whole number from 1 up to 1000000"),
        ("queue_bytes", "10", "a whole number from 1000000"),
    ],
)
def test_refusal_names_source_key_value_and_what_is_expected(
    tmp_path: Path, key: str, value: str, expected: str
) -> None:
    upper, option = f"HAR_STREAM_{key.upper()}", f"--{key.replace('_', '-')}"
    assert refusal({}, environment={upper: value}) == f"environment: {upper} is {value!r}; expected {expected}"
    assert refusal({key: value}) == f"command line: {option} is {value!r}; expected {expected}"
    file = toml(tmp_path, f'{key} = "{value}"' if key in {"publish", "client_id", "broker"} else f'{key} = "x{value}"')
    shown = value if key in {"publish", "client_id", "broker"} else f"x{value}"
    assert refusal({}, file=file) == f"{file}: {key} is {shown!r}; expected {expected}"


def test_file_is_taken_at_its_types(tmp_path: Path) -> None:
    # A number in quotes is a mistake where numbers can be written.
    file = toml(tmp_path, 'port = "1883"')
    assert refusal({}, file=file) == f"{file}: port is '1883'; expected a whole number from 0 up to 65535"


@pytest.mark.parametrize("topics", ["", "a/+/imu,"])
def test_topic_list_without_topics_is_refused(topics: str) -> None:
    message = refusal({}, environment={"HAR_STREAM_TOPIC": topics})
    assert message == (
        f"environment: HAR_STREAM_TOPIC is {topics.split(',')!r}; expected a list of at least one topic filter"
    )


def test_unknown_setting_is_refused_wherever_it_stands(tmp_path: Path) -> None:
    known = ", ".join(sorted(field.name for field in msgspec.structs.fields(Settings)))
    file = toml(tmp_path, "prot = 1883")
    assert refusal({}, file=file) == f"{file}: prot is not a setting; expected one of {known}; did you mean port?"
    environment = refusal({}, environment={"HAR_STREAM_PROT": "1883"})
    assert environment == f"environment: HAR_STREAM_PROT is not a setting; expected one of {known}; did you mean port?"
    assert refusal({}, environment={"HAR_STREAM_COLOUR": ""}).endswith(
        f"COLOUR is not a setting; expected one of {known}"
    )


def test_file_that_cannot_be_read_or_is_no_toml_is_refused(tmp_path: Path) -> None:
    absent = tmp_path / "absent.toml"
    assert refusal({}, file=absent) == f"{absent}: cannot be read (No such file or directory)"
    assert refusal({}, file=tmp_path) == f"{tmp_path}: cannot be read (Is a directory)"
    file = toml(tmp_path, "port: 1883")
    assert refusal({}, file=file).startswith(f"{file}: not TOML (")
    file.write_bytes(b'broker = "\xff"')
    assert refusal({}, file=file).startswith(f"{file}: not TOML (")


def test_settings_that_contradict_each_other_are_refused() -> None:
    assert refusal({"tls_key": "k.pem"}) == "tls_key is set without tls_cert; expected both or neither"
    assert refusal({"password_file": "p"}) == "password_file is set without username; expected both or neither"
    message = refusal({"demo": True, "broker": "mqtt.example"})
    assert message == "demo brings its own broker, but broker is 'mqtt.example'; expected one of the two"


def test_any_tls_setting_asks_for_tls() -> None:
    assert not Settings().uses_tls
    assert all(s.uses_tls for s in (Settings(tls=True), Settings(tls_ca="ca"), Settings(tls_cert="c", tls_key="k")))


def test_password_is_the_files_first_line(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_bytes(b"s3cret \r\nnot this")
    assert Settings(username="me", password_file=str(file)).password({}) == "s3cret "
    assert Settings().password({}) is None
    with pytest.raises(ConfigError) as caught:
        Settings(username="me", password_file=str(tmp_path / "absent")).password({})
    assert str(caught.value).startswith(f"password_file {tmp_path / 'absent'}: cannot be read (")


def test_password_may_stand_in_the_environment_and_nowhere_else(tmp_path: Path) -> None:
    secret = {"HAR_STREAM_PASSWORD": "s3cret"}
    settings = load_settings({"username": "me"}, environment=secret)
    assert settings.password(secret) == "s3cret"
    assert "s3cret" not in repr(settings)
    # For another program's broker: a service without a name has no password either.
    assert Settings().password(secret) is None
    assert "password is not a setting" in refusal({}, file=toml(tmp_path, 'password = "s3cret"'))
    with pytest.raises(ConfigError, match="password_file and HAR_STREAM_PASSWORD are both set; expected one of them"):
        Settings(username="me", password_file=str(tmp_path)).password(secret)


def test_every_setting_has_help() -> None:
    for field in msgspec.structs.fields(Settings):
        assert get_origin(field.type) is not None, field.name
        assert [meta.description for meta in field.type.__metadata__ if meta.description], field.name
        assert get_args(field.type), field.name


@given(name=st.sampled_from([field.name for field in msgspec.structs.fields(Settings)]), value=st.text(max_size=20))
def test_no_text_raises_anything_but_a_refusal(name: str, value: str) -> None:
    try:
        taken = getattr(load_settings({}, environment={f"HAR_STREAM_{name.upper()}": value}), name)
    except ConfigError:
        return
    # Text is taken as it is, null and none included.
    assert not isinstance(taken, str) or taken == value
