"""Whether the broker's limits lose messages, measured: a session of the doctor's own goes away, messages are sent, it
comes back and counts.

A stock Mosquitto keeps 1000 messages for a client that is away or slow, and drops the others without a word.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from streamer.doctor.ear import DROPPED_TOPIC, VERSION_TOPIC, Ear
from streamer.doctor.finding import Finding, ok, skipped, warning
from streamer.doctor.probe import REFUSED, Heard, Login, Probe, ProbeError

#: Half as many again as a stock Mosquitto keeps.
MESSAGES: Final = 1500
#: The session goes by itself after this, should the doctor be killed; MQTT 5 only.
_KEEP_S: Final = 120
_QUIET_S: Final = 1.0
_BACK_S: Final = 2.0
_LONGEST_S: Final = 20.0
_NEXT: Final = (
    "in Mosquitto: max_queued_messages 1000000000 and max_queued_bytes 536870912, as in deploy/mosquitto/mosquitto.conf"
)


def topic_of(token: str) -> str:
    """The doctor's own topic: nobody else asks for it."""
    return f"har/doctor/{token}"


def check_queue(login: Login, main: Probe, token: str, messages_per_s: float) -> Finding:
    """How many messages the broker keeps for a client that is away.

    Args:
        login: where.
        main: sends them.
        token: for names of the doctor's own.
        messages_per_s: what the watches send, to tell what a limit means.

    Raises:
        ProbeError: the broker does not answer the sender.
    """
    topic, name = topic_of(token), f"har-stream-doctor-{token}-queue"
    denied = skipped(
        "queue",
        f"not measured: the account may not use {topic}",
        "give it the right to read and write har/doctor/# (Mosquitto: `topic readwrite har/doctor/#`)",
    )
    kept: set[bytes] = set()

    def session(receive: Callable[[Heard], None] = lambda _: None, *, clean: bool = False) -> Probe:
        return Probe(login, name, mqtt_5=main.mqtt_5, clean=clean, keep_s=0 if clean else _KEEP_S, receive=receive)

    def receive(heard: Heard) -> None:
        kept.add(heard.payload)

    try:
        with session(receive) as away:
            if away.open() != 0 or away.subscribe(topic, 1) >= REFUSED or main.publish(topic, b"first") >= REFUSED:
                return denied
            if not away.wait(lambda: bool(kept), _BACK_S):
                return denied
        sent = [b"%d" % number for number in range(MESSAGES)]
        answers = main.publish_all(topic, sent)
        with session(receive) as back:
            if back.open() != 0 or not back.resumed:
                return warning(
                    "queue",
                    "the broker forgets a client's session as soon as it is away: what comes meanwhile is lost",
                    "a broker, or an account, with persistent sessions",
                    kept=0,
                )
            _take_all(back, kept)
    except ProbeError as error:
        return skipped("queue", f"not measured: {error}")
    finally:
        _remove(session(clean=True))
    kept -= {b"first"}
    return _judge(len(kept), sum(code >= REFUSED for code in answers), messages_per_s)


def check_dropped(ear: Ear) -> Finding:
    """What the broker says that it dropped, where it counts."""
    version = ear.broker_says.get(VERSION_TOPIC, "the broker")
    said = ear.broker_says.get(DROPPED_TOPIC)
    if said is None or not said.isdecimal():
        return skipped(
            "dropped", "the broker does not say whether it dropped messages (or the account may not read $SYS)"
        )
    if int(said):
        return warning(
            "dropped",
            f"{version} has dropped {said} messages from full queues since it was started, over all its clients, those "
            "with which a doctor measured before included",
            _NEXT,
            dropped=int(said),
        )
    return ok("dropped", f"{version} has dropped no message since it was started", dropped=0)


def _take_all(back: Probe, kept: set[bytes]) -> None:
    waited_s, before = 0.0, -1
    while len(kept) <= MESSAGES and len(kept) != before and waited_s < _LONGEST_S:
        before = len(kept)
        back.wait(lambda: len(kept) > MESSAGES, _QUIET_S)
        waited_s += _QUIET_S


def _remove(session: Probe) -> None:
    """Have the broker forget the session, whatever went wrong before."""
    try:
        with session:
            session.open()
    except ProbeError:
        return


def _judge(kept: int, refused: int, messages_per_s: float) -> Finding:
    if kept == MESSAGES:
        return ok("queue", f"all of {MESSAGES} messages for a client that was away were kept", kept=kept, sent=MESSAGES)
    means = ""
    if messages_per_s > 0 and kept:
        means = f"; at the {messages_per_s:.3g} messages a second seen here that is {kept / messages_per_s:.0f} s"
    told = f", {refused} of them with a word" if refused else ", without a word"
    return warning(
        "queue",
        f"the broker keeps {kept} of {MESSAGES} messages for a client that is away and drops the others{told}{means}",
        _NEXT,
        kept=kept,
        sent=MESSAGES,
    )
