"""The doctor's connections to the broker: what the broker answers, to the last reason code.

paho is used by itself here, as it passes on what the service's own clients keep to themselves: the properties of
CONNACK, the reason code of each publication, and why a connection ended.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Self

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from streamer.clock import now_ns
from streamer.errors import HarError

#: How long the broker may take for an answer.
ANSWER_S: Final = 5.0
_KEEPALIVE_S: Final = 30
_LOOK_EVERY_S: Final = 0.05
#: Publications under way at once, where the broker takes that many.
_AT_A_TIME: Final = 100
#: From here on a reason code says no.
REFUSED: Final = 128
#: No connection came about, and nobody said why.
NO_ANSWER: Final = -1
#: MQTT 5's code for a broker that speaks another version, and MQTT 3.1.1's.
WRONG_VERSION: Final = frozenset({132, 1})


class ProbeError(HarError):
    """The broker does not answer, or closed the connection."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """Where to connect, and as whom."""

    host: str
    port: int
    username: str | None
    password: str | None = field(repr=False)
    tls: ssl.SSLContext | None = None

    @property
    def place(self) -> str:
        """Host and port, for people."""
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Heard:
    """A message as it came.

    Attributes:
        retained: the broker had kept it; when it was sent is not known.
        arrived_ns: this machine's clock, ns since the UTC epoch.
    """

    topic: str
    payload: bytes
    content_type: str | None
    retained: bool
    arrived_ns: int


class Probe:
    """One connection.

    State: the answers to what was asked, and what the messages go to.

    Attributes:
        mqtt_5: the version in use.
        limits: what the broker says of itself in CONNACK, by the names of MQTT 5's properties.
        resumed: the broker still had the session.
        ended: why the connection ended, as far as anybody said; None while it lasts.
        ended_code: the broker's reason code for that.
    """

    def __init__(
        self,
        login: Login,
        client_id: str,
        *,
        mqtt_5: bool,
        clean: bool = True,
        keep_s: int = 0,
        at_a_time: int | None = None,
        acknowledge: bool = True,
        receive: Callable[[Heard], None] = lambda _: None,
    ) -> None:
        """Nothing is connected yet.

        Args:
            login: where and as whom.
            client_id: the name of the session.
            mqtt_5: the version to speak; else 3.1.1.
            clean: begin a new session instead of going on with an old one.
            keep_s: how long the broker is to keep the session; MQTT 3.1.1 knows for ever only.
            at_a_time: messages that the broker may have under way to here; MQTT 5 only.
            acknowledge: messages as they come; else the broker keeps them for the next connection.
            receive: takes each message.
        """
        self.mqtt_5 = mqtt_5
        self.limits: dict[str, int | str] = {}
        self.resumed = False
        self.ended: str | None = None
        self.ended_code: int | None = None
        self._login = login
        self._clean, self._keep_s, self._at_a_time = clean, keep_s, at_a_time
        self._receive = receive
        self._connack: int | None = None
        self._subacks: dict[int, int] = {}
        self._pubacks: dict[int, int] = {}
        version = MQTTProtocolVersion.MQTTv5 if mqtt_5 else MQTTProtocolVersion.MQTTv311
        self._client = client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id,
            clean_session=None if mqtt_5 else clean,
            protocol=version,
            reconnect_on_failure=False,
            manual_ack=not acknowledge,
        )
        client.connect_timeout = ANSWER_S
        client.max_inflight_messages_set(_AT_A_TIME)
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_publish = self._on_publish
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        if login.username is not None:
            client.username_pw_set(login.username, login.password)
        if login.tls is not None:
            client.tls_set_context(login.tls)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # An interrupt may have come while paho held a lock, which a goodbye would wait for without end.
        if kind is not KeyboardInterrupt:
            self.close()

    def open(self) -> int:
        """Connect; the broker's answer, 0 for yes, NO_ANSWER where it hangs up without one.

        Raises:
            ProbeError: there is nobody, or nothing is said in time.
        """
        properties = None
        if self.mqtt_5:
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call] # paho's is
            properties.SessionExpiryInterval = self._keep_s
            if self._at_a_time is not None:
                properties.ReceiveMaximum = self._at_a_time
        login = self._login
        try:
            self._client.connect(
                login.host,
                login.port,
                _KEEPALIVE_S,
                clean_start=self._clean if self.mqtt_5 else paho.MQTT_CLEAN_START_FIRST_ONLY,
                properties=properties,
            )
            # Nagle's algorithm would hold an answer back until the one before is acknowledged.
            if isinstance(opened := self._client.socket(), socket.socket):
                opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except (OSError, ssl.SSLError) as error:
            raise ProbeError(str(error)) from error
        self.wait(lambda: self._connack is not None or self.ended is not None)
        if self._connack is None and self.ended is None:
            raise ProbeError(f"no answer to CONNECT within {ANSWER_S:g} s")
        return NO_ANSWER if self._connack is None else self._connack

    def close(self) -> None:
        """Say goodbye, as far as anybody listens."""
        if self.ended is None and self._client.is_connected():
            self._client.disconnect()
            self._client.loop(_LOOK_EVERY_S)

    def wait(self, condition: Callable[[], bool], within_s: float | None = None) -> bool:
        """Do what there is to do until something holds, the time is up or the connection ends; whether it holds."""
        deadline = time.monotonic() + (ANSWER_S if within_s is None else within_s)
        while not condition():
            left_s = deadline - time.monotonic()
            if left_s <= 0 or self.ended is not None:
                return False
            code = self._client.loop(min(left_s, _LOOK_EVERY_S))
            if code is not MQTTErrorCode.MQTT_ERR_SUCCESS and self.ended is None:
                self.ended = paho.error_string(code).rstrip(".").lower()
        return True

    def listen(self, seconds: float) -> None:
        """Receive for a time.

        Raises:
            ProbeError: the connection ended.
        """
        self.wait(lambda: False, seconds)
        self._still_open()

    def subscribe(self, topic: str, qos: int) -> int:
        """The broker's answer: the quality of service granted, or from 128 on a no.

        Raises:
            ProbeError: there is none.
        """
        code, number = self._client.subscribe(topic, qos)
        if code is not MQTTErrorCode.MQTT_ERR_SUCCESS or number is None:
            raise ProbeError(f"cannot ask for {topic}: {self.ended or paho.error_string(code)}")
        self.wait(lambda: number in self._subacks)
        self._still_open()
        if number not in self._subacks:
            raise ProbeError(f"no answer to the subscription to {topic} within {ANSWER_S:g} s")
        return self._subacks.pop(number)

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> int:
        """Publish at QoS 1; the broker's answer, which in MQTT 3.1.1 is 0 whether it took the message or not.

        Raises:
            ProbeError: there is none.
        """
        return self.publish_all(topic, [payload], retain=retain)[0]

    def publish_all(self, topic: str, payloads: list[bytes], *, retain: bool = False) -> list[int]:
        """Publish many at QoS 1; the broker's answer to each.

        Raises:
            ProbeError: they do not come.
        """
        numbers: list[int] = []
        for payload in payloads:
            numbers.append(self._client.publish(topic, payload, 1, retain).mid)
            # Answers free places for more; the library would queue without end instead.
            self.wait(lambda: len(numbers) - len(self._pubacks) < _AT_A_TIME)
        self.wait(lambda: all(number in self._pubacks for number in numbers))
        self._still_open()
        if missing := sum(number not in self._pubacks for number in numbers):
            raise ProbeError(f"{missing} of {len(numbers)} publications were not answered within {ANSWER_S:g} s")
        return [self._pubacks.pop(number) for number in numbers]

    def _still_open(self) -> None:
        if self.ended is not None:
            raise ProbeError(f"the connection ended: {self.ended}")

    # --- what paho calls --------------------------------------------------------------------------------------------

    def _on_connect(
        self,
        _client: paho.Client,
        _data: object,
        flags: paho.ConnectFlags,
        reason: ReasonCode,
        properties: Properties | None,
    ) -> None:
        self._connack = reason.value
        self.resumed = flags.session_present
        if properties is not None:
            self.limits = dict(properties.json())  # type: ignore[no-untyped-call] # paho's is

    def _on_subscribe(
        self, _client: paho.Client, _data: object, number: int, reasons: list[ReasonCode], _properties: object
    ) -> None:
        self._subacks[number] = reasons[0].value

    def _on_publish(
        self, _client: paho.Client, _data: object, number: int, reason: ReasonCode, _properties: object
    ) -> None:
        self._pubacks[number] = reason.value

    def _on_disconnect(
        self,
        _client: paho.Client,
        _data: object,
        flags: paho.DisconnectFlags,
        reason: ReasonCode,
        _properties: object,
    ) -> None:
        if flags.is_disconnect_packet_from_server:
            self.ended_code = reason.value
        self.ended = str(reason).lower() if flags.is_disconnect_packet_from_server else "the broker hung up"

    def _on_message(self, _client: paho.Client, _data: object, message: paho.MQTTMessage) -> None:
        content_type = getattr(message.properties, "ContentType", None)
        self._receive(Heard(message.topic, bytes(message.payload), content_type, message.retain, now_ns()))
