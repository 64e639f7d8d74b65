"""Whether something answers where the broker should be, and whether it proves who it is."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from contextlib import suppress
from typing import Final

from streamer.addresses import is_loopback
from streamer.config import EMBEDDED
from streamer.doctor.finding import Finding, failed, ok, warning
from streamer.doctor.probe import ANSWER_S, Login
from streamer.errors import nearest
from streamer.mqtt.tls import diagnose, explain

_DAY_S: Final = 86_400.0
#: Of a certificate: time enough to notice, and to renew it.
_SOON_DAYS: Final = 14
#: OpenSSL's verification results, X509_V_ERR_* in its x509_vfy.h, and what to do about each.
_NEXT: Final = {
    9: "set this machine's clock, or the one on which the certificate was made",
    10: "renew the broker's certificate: deploy/mosquitto/certificates.sh",
    18: "--tls-ca FILE, with the broker's own certificate in it",
    19: "--tls-ca FILE, with the CA that signed the broker's certificate",
    20: "--tls-ca FILE, with the CA that signed the broker's certificate",
    21: "--tls-ca FILE, with the CA that signed the broker's certificate",
}
_NAME_MISMATCH: Final = (62, 64)


def check_address(login: Login) -> Finding:
    """Whether the name leads somewhere, and something listens there."""
    began_s = time.perf_counter()
    try:
        with socket.create_connection((login.host, login.port), timeout=ANSWER_S) as opened:
            took_ms = (time.perf_counter() - began_s) * 1000
            address = str(opened.getpeername()[0])
    except socket.gaierror as error:
        return failed(
            "address",
            f"the name {login.host} leads nowhere ({error.strerror})",
            f"mend the name, or give the broker's address: --broker 192.168.1.20{nearest(login.host, [EMBEDDED])}",
        )
    except ConnectionRefusedError:
        hint = "" if is_loopback(login.host) else "; Mosquitto without a `listener` line answers its own machine only"
        return failed(
            "address",
            f"nothing listens at {login.place}",
            "start the broker there, or name another by --broker and --port; `har-stream --broker embedded` brings "
            f"one{hint}",
        )
    except TimeoutError:
        return failed(
            "address",
            f"{login.place} does not answer within {ANSWER_S:g} s",
            "is the address right, does the machine run, does a firewall let the port through?",
        )
    except OSError as error:
        return failed("address", f"{login.place}: {error.strerror or error}", "is the address right?")
    named = "" if address == login.host else f", which is {address},"
    return ok("address", f"{login.place}{named} answers within {took_ms:.1f} ms", address=address, took_ms=took_ms)


def check_tls(login: Login) -> Finding:
    """Whether the connection is private, and the certificate good for a while yet."""
    if login.tls is None:
        if is_loopback(login.host):
            return ok("tls", "none, and none is needed: the broker is on this machine", tls=False)
        shown = "readings" if login.username is None else "the password and all readings"
        return warning(
            "tls",
            f"none: who listens in on the network reads {shown}",
            "--tls, or --tls-ca FILE, with the port at which the broker speaks TLS (by convention 8883)",
            tls=False,
        )
    try:
        certificate, version = _shake_hands(login, login.tls)
    except ssl.SSLError as error:
        return _tls_failed(login, error)
    except OSError as error:
        return why_no_connection(login) or failed(
            "tls", f"the handshake broke off ({error.strerror or error})", "is it an MQTT broker's port?"
        )
    ends_s = ssl.cert_time_to_seconds(str(certificate["notAfter"]))
    days = (ends_s - time.time()) / _DAY_S
    names = _names(certificate)
    says = f"{version}, certificate for {', '.join(names)}, good for {days:.0f} days"
    figures: dict[str, float | str | bool | None] = {"tls": True, "version": version, "expires_days": round(days, 1)}
    if days < _SOON_DAYS:
        return warning("tls", says, "renew it soon: deploy/mosquitto/certificates.sh", **figures)
    return ok("tls", says, **figures)


def why_no_connection(login: Login) -> Finding | None:
    """What TLS has to do with a connection that did not come about, None where it has nothing to."""
    reason = asyncio.run(diagnose(login.host, login.port, login.tls))
    if reason is None:
        return None
    return failed("tls", reason, _next_of(reason))


def _shake_hands(login: Login, context: ssl.SSLContext) -> tuple[dict[str, object], str]:
    """The broker's certificate, and the version of TLS."""
    with (
        socket.create_connection((login.host, login.port), timeout=ANSWER_S) as plain,
        context.wrap_socket(plain, server_hostname=login.host) as private,
    ):
        return dict(private.getpeercert() or {}), str(private.version())


def _tls_failed(login: Login, error: ssl.SSLError) -> Finding:
    if isinstance(error, ssl.SSLCertVerificationError):
        if error.verify_code not in _NAME_MISMATCH:
            return failed("tls", explain(error), _NEXT.get(error.verify_code, "a certificate that can be verified"))
        next_step = "name the broker as its certificate does"
        if names := _names_whatever_the_host(login):
            next_step = f"--broker with a name of its certificate: {', '.join(names)}"
        return failed("tls", explain(error), next_step)
    return why_no_connection(login) or failed("tls", explain(error), _next_of(explain(error)))


def _next_of(reason: str) -> str:
    if "speaks TLS" in reason:
        return "--tls-ca FILE with the broker's CA, or --tls where a public one signed its certificate"
    if "without TLS" in reason:
        return "--port 8883, or whichever the broker speaks TLS on; or leave the tls settings out"
    if "client certificate" in reason:
        return "--tls-cert FILE and --tls-key FILE, signed by a CA that the broker trusts"
    return "look into the broker's log: what does it say about this connection?"


def _names_whatever_the_host(login: Login) -> list[str]:
    """What a certificate of a trusted CA is for, though not for this host; nothing is sent over the connection."""
    if login.tls is None:
        return []
    login.tls.check_hostname = False
    try:
        with suppress(OSError):
            return _names(_shake_hands(login, login.tls)[0])
    finally:
        login.tls.check_hostname = True
    return []


def _names(certificate: dict[str, object]) -> list[str]:
    alternatives = certificate.get("subjectAltName", ())
    return [str(name) for _, name in alternatives] if isinstance(alternatives, tuple) else []
