"""The checks in their order; where one fails that others rest on, those are left out."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator

from streamer.addresses import way_to
from streamer.bundle import ModelBundle
from streamer.config import EMBEDDED, Settings
from streamer.doctor import watches
from streamer.doctor.ear import DROPPED_TOPIC, VERSION_TOPIC, Ear, Nearby, listen
from streamer.doctor.entry import check_client_id, log_in
from streamer.doctor.finding import Finding, failed, ok
from streamer.doctor.machine import check_bundle, check_http, check_state
from streamer.doctor.probe import REFUSED, Login, Probe, ProbeError
from streamer.doctor.queues import check_dropped, check_queue
from streamer.doctor.reach import check_address, check_tls
from streamer.doctor.rights import check_publish, judge_subscriptions, subscribe
from streamer.errors import ConfigError
from streamer.mqtt.tls import client_context
from streamer.wire import topics

#: Takes the seconds for which the doctor goes on listening, and the messages so far.
Tell = Callable[[float, int], None]


def examine(
    settings: Settings, *, listen_s: float, queue: bool = True, tell: Tell = lambda _left_s, _messages: None
) -> Iterator[Finding]:
    """The findings, each as it is made.

    Args:
        settings: the service's.
        listen_s: how long to wait for readings.
        queue: measure what the broker keeps for a client that is away, by some thousand short messages.
        tell: told now and then how long it takes yet.
    """
    bundle, finding = check_bundle(settings)
    yield finding
    yield check_state(settings)
    yield check_http(settings)
    if settings.demo:
        yield ok("address", "the demonstration brings its own broker on a free port of this machine")
        return
    try:
        login = login_of(settings)
    except ConfigError as error:
        yield failed("login" if "password" in str(error) else "tls", str(error), "name files that can be read")
        return
    finding = check_address(login)
    if settings.broker == EMBEDDED and finding.status == "failed":
        yield _embedded(settings, login)
        return
    yield finding
    if finding.status == "failed":
        return
    finding = check_tls(login)
    yield finding
    if finding.status != "failed":
        yield from _at_the_broker(settings, login, bundle, listen_s=listen_s, queue=queue, tell=tell)


def login_of(settings: Settings) -> Login:
    """Where the service connects, and as whom.

    Raises:
        ConfigError: the password or a certificate can't be read.
    """
    host, port = settings.broker, settings.port
    if host == EMBEDDED:
        host, port = settings.embedded_address
    context = client_context(settings.tls_ca, settings.tls_cert, settings.tls_key) if settings.uses_tls else None
    return Login(host=way_to(host), port=port, username=settings.username, password=settings.password(), tls=context)


def _embedded(settings: Settings, login: Login) -> Finding:
    try:
        settings.embedded_account()
    except ConfigError as error:
        return failed("address", str(error), "--password-file FILE")
    host, port = settings.embedded_address
    return ok("address", f"har-stream will bring a broker at {host}:{port}, which is free", address=login.host)


def _at_the_broker(
    settings: Settings, login: Login, bundle: ModelBundle | None, *, listen_s: float, queue: bool, tell: Tell
) -> Iterator[Finding]:
    token = uuid.uuid4().hex[:8]
    ear = Ear(settings.topic, token)
    main, finding = log_in(login, f"har-stream-doctor-{token}", ear.receive)
    yield finding
    if main is None:
        return
    with main:
        try:
            yield from _over(main, settings, login, ear, listen_s=listen_s, tell=tell)
            if any(not heard.retained for heard in ear.readings) and bundle is not None:
                yield from _of_watches(ear, settings, bundle, listen_s)
            if queue and settings.broker != EMBEDDED:
                yield check_queue(login, main, ear.token, len(ear.readings) / listen_s)
        except ProbeError as error:
            yield failed("login", str(error), "the broker's log says why; is it being restarted?")
        if settings.broker != EMBEDDED:
            yield check_dropped(ear)


def _over(main: Probe, settings: Settings, login: Login, ear: Ear, *, listen_s: float, tell: Tell) -> Iterator[Finding]:
    """What a connection is needed for: rights, the name, and what arrives.

    Raises:
        ProbeError: it ended.
    """
    for topic in (topics.STATUS_FILTER, DROPPED_TOPIC, VERSION_TOPIC):
        # Refused means only that this can't be told.
        main.subscribe(topic, 0)
    yield check_publish(settings, main, ear)
    asked = subscribe(settings, main, ear)
    nearby = Nearby(ear)
    with Probe(login, f"har-stream-doctor-{ear.token}-nearby", mqtt_5=main.mqtt_5, receive=nearby.receive) as beside:
        allowed = beside.open() == 0 and beside.subscribe("#", 0) < REFUSED
        listen(main, beside, nearby, listen_s, lambda left_s: tell(left_s, len(ear.readings)))
    yield check_client_id(settings, login, mqtt_5=main.mqtt_5, statuses=ear.statuses)
    yield judge_subscriptions(settings, asked, ear, mqtt_5=main.mqtt_5)
    yield watches.check_arrival(ear, nearby, settings, login, listen_s)
    yield watches.check_nearby(nearby, allowed=allowed)


def _of_watches(ear: Ear, settings: Settings, bundle: ModelBundle, listen_s: float) -> Iterator[Finding]:
    """What the recognizer makes of what arrived."""
    heard = watches.recognize(ear, settings, bundle)
    yield watches.check_decoding(heard)
    if heard.watches:
        yield watches.check_units(heard)
        yield watches.check_model(heard, bundle, listen_s)
        yield watches.check_clocks(heard)
