"""Whether the broker lets the service in, in which version of MQTT, and whether nobody else has its name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from streamer.config import EMBEDDED, Settings
from streamer.doctor.finding import Finding, failed, ok, skipped, warning
from streamer.doctor.probe import NO_ANSWER, WRONG_VERSION, Heard, Login, Probe, ProbeError
from streamer.doctor.reach import why_no_connection
from streamer.workers import settings_of

#: Answers to CONNECT, under MQTT 5's codes (3.2.2.2); paho gives those of 3.1.1 as these.
_REFUSALS: Final = {
    133: ("the broker does not accept the client id", "another --client-id: the broker may want it to begin like this"),
    134: ("user name or password are wrong", "check --username, and the first line of --password-file"),
    136: ("the broker is not available", "look into the broker's log"),
    137: ("the broker is busy", "try again later; does it have enough memory and descriptors?"),
    138: ("this client or address is banned", "lift the ban at the broker"),
    140: ("the broker wants another way of authentication", "an account with a user name and a password"),
    151: ("the broker's quota is exceeded", "raise the account's limits at the broker"),
    159: ("too many connections came at once", "try again later; raise the broker's limit of connections"),
}
_NOT_AUTHORIZED: Final = 135
#: How long another client of the same name may take to come back: clients try again within a second or two.
_TAKEOVER_S: Final = 2.5
#: Times that a service comes online while the doctor listens, from which on it is no restart.
_COMEBACKS: Final = 2
#: MQTT 5's code for a session that another client took over.
_TAKEN_OVER: Final = 142
#: What the service asks the broker to keep its session for, see streamer/mqtt/by_gmqtt.py.
_KEEP_S: Final = 86_400


def log_in(login: Login, name: str, receive: Callable[[Heard], None]) -> tuple[Probe | None, Finding]:
    """An open connection in the newest version that the broker speaks, or None, and what to tell of it."""
    code, ended = NO_ANSWER, ""
    for mqtt_5 in (True, False):
        probe = Probe(login, name, mqtt_5=mqtt_5, receive=receive)
        try:
            code = probe.open()
        except ProbeError as error:
            return None, why_no_connection(login) or failed(
                "login", f"{login.place} takes the connection, but {error}", "is it an MQTT broker that listens there?"
            )
        if code == 0:
            return probe, _welcome(probe)
        probe.close()
        ended = probe.ended or ""
        if code not in WRONG_VERSION and code != NO_ANSWER:
            break
    if code == NO_ANSWER:
        return None, why_no_connection(login) or failed(
            "login",
            f"{login.place} hangs up on an MQTT client" + (f" ({ended})" if ended else ""),
            "is it an MQTT broker's port? If so, its log says why: too many connections, or a listener for websockets",
        )
    return None, _refused(login, code)


def _refused(login: Login, code: int) -> Finding:
    if code == _NOT_AUTHORIZED or (code == 134 and login.username is None):
        if login.username is None:
            return failed(
                "login",
                f"the broker lets nobody in without an account (reason code {code})",
                "--username NAME with --password-file FILE, or HAR_STREAM_PASSWORD in the environment",
                code=code,
            )
        return failed(
            "login",
            f"the broker does not let {login.username} in: the user name or the password is wrong (reason code {code})",
            "check --username, and the first line of --password-file; does the broker know the account, and was it "
            "told to read its accounts again?",
            code=code,
        )
    says, next_step = _REFUSALS.get(code, ("the broker refuses the connection", "look into the broker's log"))
    return failed("login", f"{says} (reason code {code})", next_step, code=code)


def _welcome(probe: Probe) -> Finding:
    version = "MQTT 5" if probe.mqtt_5 else "MQTT 3.1.1"
    figures: dict[str, float | str | bool | None] = {"mqtt": "5" if probe.mqtt_5 else "3.1.1", **probe.limits}
    if not probe.mqtt_5:
        return ok(
            "login",
            f"{version}, as this broker does not speak 5: it does not say when it drops what may not be published",
            **figures,
        )
    # Absent properties stand for no limit (MQTT 5, 3.2.2.3).
    for name, least, says in (
        ("MaximumQoS", 1, "the broker takes QoS 0 only, but events are published with 1"),
        ("RetainAvailable", 1, "the broker keeps no retained messages: current activities are lost on subscribers"),
        ("WildcardSubscriptionAvailable", 1, "the broker takes no wildcards, but the topic has one"),
    ):
        if int(probe.limits.get(name, least)) < least:
            return failed("login", f"{version}; {says}", "change the broker's configuration, or the broker", **figures)
    size = int(probe.limits.get("MaximumPacketSize", 1 << 28))
    if size < 65_536:
        return warning(
            "login",
            f"{version}; the broker drops messages over {size} bytes",
            "let watches send shorter messages, or raise the broker's limit (Mosquitto: max_packet_size)",
            **figures,
        )
    return ok("login", version, **figures)


def client_ids(settings: Settings) -> list[str]:
    """The names under which the service connects: one for each worker."""
    if settings.workers == 1:
        return [settings.client_id]
    return [settings_of(settings, number).client_id for number in range(settings.workers)]


def check_client_id(settings: Settings, login: Login, *, mqtt_5: bool, statuses: dict[str, list[str]]) -> Finding:
    """Whether somebody else uses the service's name: two of one name throw each other out for ever.

    A service that is online is never thrown out to find that out, nor is the session touched that the broker may keep
    for one that is not running.

    Args:
        settings: whose name.
        login: where.
        mqtt_5: what the broker speaks.
        statuses: what each service said of itself, by client id: first what the broker had kept, then what came.
    """
    for name in client_ids(settings):
        said = statuses.get(name, [])
        if said[1:].count("online") >= _COMEBACKS:
            return failed(
                "client-id",
                f"services of the name {name} come and go: {', '.join(said[:6])}",
                "two har-streams use the name and throw each other out: give one another --client-id, or stop it",
            )
        if said and said[-1] == "online":
            return ok(
                "client-id",
                f"a har-stream named {name} is online; if it is not yours, take another --client-id",
                online=True,
            )
    embedded = settings.demo or settings.broker == EMBEDDED
    untouched = [name for name in client_ids(settings) if not embedded and _may_be_kept(settings, name)]
    if untouched:
        return ok(
            "client-id",
            f"no har-stream named {untouched[0]} is online. Not tried further: the broker may keep messages for it",
            online=False,
        )
    for name in client_ids(settings):
        try:
            taken = not embedded and _is_taken_back(login, name, mqtt_5=mqtt_5)
        except ProbeError as error:
            return skipped("client-id", f"{name} cannot connect: {error}")
        if taken:
            return failed(
                "client-id",
                f"another client named {name} is connected: it came back at once when this one took its place",
                "another --client-id; two of one name throw each other out for ever",
            )
    return ok("client-id", f"nobody else is named {settings.client_id}", online=False)


def _may_be_kept(settings: Settings, name: str) -> bool:
    """Whether the service has run here under a name, and the broker may hold messages for it."""
    own = msgspec.structs.replace(settings, client_id=name)
    return settings.why_no_state is None and own.state_folder().exists()


def _is_taken_back(login: Login, name: str, *, mqtt_5: bool) -> bool:
    """Whether a client of this name comes back when another takes its place.

    What the broker may keep under the name stays: the session is gone on with, nothing is acknowledged, and only a
    session that was not there before is removed.

    Raises:
        ProbeError: the broker does not answer, or does not let this name in.
    """
    with Probe(login, name, mqtt_5=mqtt_5, clean=False, keep_s=_KEEP_S, at_a_time=1, acknowledge=False) as probe:
        code = probe.open()
        if code != 0:
            raise ProbeError(f"the broker refuses it (reason code {code})")
        probe.wait(lambda: False, _TAKEOVER_S)
        taken = probe.ended is not None and probe.ended_code in {None, _TAKEN_OVER}
        leave = taken or probe.resumed
    if not leave:
        with Probe(login, name, mqtt_5=mqtt_5) as cleaner:
            cleaner.open()
    return taken
