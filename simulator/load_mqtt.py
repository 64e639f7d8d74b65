"""The load generator's connection: MQTT 3.1.1, whose handshake paho does, and whose packets then go in bursts.

To publish 1.2 kB costs 64 us with aiomqtt and 9 us with paho; as bytes that were laid out beforehand it costs 5 us,
with pacing and all, and 3 us for a single reading. Broker and load share a core, so that counts at 30,000 messages a
second. What is lost by it, and not needed here: reconnecting, redelivery and MQTT 5.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from typing import Final

from paho.mqtt import client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from simulator.load_packets import PUBACK, PUBLISH, packets, published
from simulator.session import Broker, BrokerError
from streamer.mqtt.tls import diagnose

_HANDSHAKE_S: Final = 10.0
_RECEIVE_BYTES: Final = 1 << 18
#: Unacknowledged messages of a connection, at most: identifiers have 16 bits, and one must not meet its own answer.
MAX_UNACKNOWLEDGED: Final = 30_000


#: The kernel, or TLS, has nothing or takes nothing now.
_NOT_NOW: Final = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class _NoAnswerError(BrokerError):
    """The connection stands, or stood, and nothing came."""


class Connection:
    """A connection to the broker, open from the start.

    State: what the kernel has not yet taken (`unsent`), a packet's beginning that has come, messages without an answer.
    """

    def __init__(self, broker: Broker, client_id: str, *, subscribe: str | None = None) -> None:
        """Connect, and subscribe with QoS 0 where there is something to subscribe to.

        Raises:
            BrokerError: there is no broker, or it refuses.
        """
        self._place = broker.place
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id, protocol=mqtt.MQTTv311)
        if broker.username is not None:
            self._client.username_pw_set(broker.username, broker.password)
        if broker.tls is not None:
            self._client.tls_set_context(broker.tls)
        self._answers: list[str | None] = []
        self._client.on_connect = lambda _c, _u, _f, code, _p: self._answers.append(
            str(code) if code.is_failure else None
        )
        self._client.on_subscribe = lambda _c, _u, _m, codes, _p: self._answers.append(
            str(codes[0]) if codes[0].is_failure else None
        )
        try:
            # No keep-alive: a connection that only listens would have to speak up for it.
            self._client.connect(broker.host, broker.port, keepalive=0)
            self._await_answer("the connection")
        except (OSError, _NoAnswerError) as error:
            reason = asyncio.run(diagnose(broker.host, broker.port, broker.tls))
            if reason is not None:
                raise BrokerError(f"MQTT broker at {self._place}: {reason}") from error
            if isinstance(error, _NoAnswerError):
                raise
            raise BrokerError(
                f"no MQTT broker at {self._place} ({error}); start one, or name another with --broker and --port"
            ) from error
        if subscribe is not None:
            self._client.subscribe(subscribe, qos=0)
            self._await_answer(f"the subscription to {subscribe}")
        taken = self._client.socket()
        if not isinstance(taken, socket.socket):
            raise BrokerError(f"MQTT broker at {self._place} closed the connection")
        self._socket = taken
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._arrived = bytearray()
        self._identifier = 0
        self.unsent = bytearray()
        self.unacknowledged = 0

    def fileno(self) -> int:
        """For select."""
        return self._socket.fileno()

    def next_identifier(self) -> bytes:
        """Of a message of QoS 1, two bytes; it counts as unacknowledged from now."""
        self._identifier = self._identifier % 65535 + 1
        self.unacknowledged += 1
        return self._identifier.to_bytes(2, "big")

    def send(self) -> None:
        """Hand the kernel what it takes of `unsent`.

        Raises:
            BrokerError: the connection is lost.
        """
        try:
            del self.unsent[: self._socket.send(self.unsent)]
        except _NOT_NOW:
            pass
        except OSError as error:
            raise self._lost(error) from error

    def receive(self) -> list[bytes]:
        """Payloads that have come; answers to messages of QoS 1 are counted.

        Raises:
            BrokerError: the connection is lost.
        """
        try:
            data = self._socket.recv(_RECEIVE_BYTES)
            # What TLS has deciphered already, select does not see.
            while isinstance(self._socket, ssl.SSLSocket) and self._socket.pending():
                data += self._socket.recv(_RECEIVE_BYTES)
        except _NOT_NOW:
            return []
        except OSError as error:
            raise self._lost(error) from error
        if not data:
            raise self._lost("closed by the broker")
        self._arrived += data
        payloads = []
        for first, body in packets(self._arrived):
            if first >> 4 == PUBLISH:
                payloads.append(published(body))
            elif first >> 4 == PUBACK:
                self.unacknowledged -= 1
        return payloads

    def close(self) -> None:
        """Disconnect; nothing when the connection is lost."""
        self._client.disconnect()

    def _await_answer(self, what: str) -> None:
        deadline_s = time.monotonic() + _HANDSHAKE_S
        while not self._answers:
            failed = self._client.loop(0.1) != mqtt.MQTT_ERR_SUCCESS
            if not self._answers and (failed or time.monotonic() > deadline_s):
                raise _NoAnswerError(f"MQTT broker at {self._place} does not answer {what}")
        refusal = self._answers.pop()
        if refusal is not None:
            raise BrokerError(f"MQTT broker at {self._place} refuses {what}: {refusal}")

    def _lost(self, reason: object) -> BrokerError:
        return BrokerError(f"connection to the MQTT broker at {self._place} is lost ({reason})")
