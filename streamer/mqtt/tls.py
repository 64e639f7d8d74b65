"""TLS to a broker: what is trusted, and what is wrong when it fails, in one line.

The client libraries pass on OpenSSL's words at best: where a broker turns a client's certificate down after the
handshake, as TLS 1.3 has it, they see a connection that ended or an answer that never came. So a connection that
failed is looked into by a handshake of its own.
"""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from typing import Final

from streamer.errors import ConfigError

#: Longest time for looking into a failure. A broker that accepted the handshake says nothing more by itself.
_DIAGNOSIS_S: Final = 2.0
#: MQTT 3.1.1 without a name: a broker's answer of any kind begins with CONNACK.
_CONNECT: Final = b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x05\x00\x00"
_CONNACK: Final = b"\x20"

#: OpenSSL's verification results, X509_V_ERR_* in its x509_vfy.h.
_UNTRUSTED: Final = "is not signed by a CA that is trusted; expected one of tls_ca, or without it of the system's"
_CERTIFICATE: Final = {
    9: "is not yet valid; is this machine's clock right?",
    10: "has expired; expected a renewed one",
    18: _UNTRUSTED,
    19: _UNTRUSTED,
    20: _UNTRUSTED,
    21: _UNTRUSTED,
}
_NAME_MISMATCH: Final = (62, 64)

#: The broker's alerts (RFC 8446, section 6.2), under OpenSSL's names for them.
_ALERTS: Final = {
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "the broker wants a client certificate; expected tls_cert and tls_key",
    "SSLV3_ALERT_HANDSHAKE_FAILURE": "the broker turns the handshake down; it may want a client certificate (tls_cert)",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "the broker says that the client certificate has expired",
    "SSLV3_ALERT_CERTIFICATE_REVOKED": "the broker says that the client certificate was revoked",
    "SSLV3_ALERT_BAD_CERTIFICATE": "the broker says that the client certificate is not valid, or not yet",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "the broker does not accept the client certificate",
    "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE": "the broker does not accept a client certificate of this kind",
    "TLSV1_ALERT_UNKNOWN_CA": "the broker does not trust the CA of the client certificate",
    "TLSV1_ALERT_DECRYPT_ERROR": "the broker cannot verify the client certificate",
    "TLSV1_ALERT_PROTOCOL_VERSION": "the broker speaks no version of TLS from 1.2 on",
    "UNSUPPORTED_PROTOCOL": "the broker speaks no version of TLS from 1.2 on",
}
#: What an answer that is no TLS is taken for, or hanging up.
_NO_TLS: Final = frozenset({"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "UNEXPECTED_EOF_WHILE_READING"})


def tls_context(
    *, tls: bool, ca: str | None = None, certificate: str | None = None, key: str | None = None
) -> ssl.SSLContext | None:
    """A context where one of the options asks for TLS, None where none does.

    Raises:
        ConfigError: a file can't be used.
    """
    if key is not None and certificate is None:
        raise ConfigError(f"tls_key is {key!r} without tls_cert; expected both or neither")
    return client_context(ca, certificate, key) if tls or ca is not None or certificate is not None else None


def client_context(ca: str | None, certificate: str | None, key: str | None) -> ssl.SSLContext:
    """A context that verifies the broker's certificate and host name, and speaks TLS 1.2 or newer.

    Args:
        ca: PEM file with the CAs to trust; None for the system's.
        certificate: PEM file with the client's certificate, None without one.
        key: PEM file with its key; None where the certificate's file holds it.

    Raises:
        ConfigError: a file can't be used; the message says which and why.
    """
    if ca is not None and "-----BEGIN CERTIFICATE-----" not in _text("tls_ca", ca):
        raise ConfigError(f"tls_ca {ca}: holds no certificate; expected PEM")
    try:
        context = ssl.create_default_context(cafile=ca)
    except ssl.SSLError as error:
        raise ConfigError(f"tls_ca {ca}: cannot be used ({_words(error)}); expected certificates as PEM") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if certificate is not None:
        _load_certificate(context, certificate, key)
    return context


def _load_certificate(context: ssl.SSLContext, certificate: str, key: str | None) -> None:
    if "-----BEGIN CERTIFICATE-----" not in _text("tls_cert", certificate):
        raise ConfigError(f"tls_cert {certificate}: holds no certificate; expected PEM")
    name, file = ("tls_cert", certificate) if key is None else ("tls_key", key)
    if "PRIVATE KEY-----" not in _text(name, file):
        raise ConfigError(f"{name} {file}: holds no private key; expected one as PEM")

    def refuse_to_ask() -> str:
        # OpenSSL would ask on the terminal, and a service waits there for ever.
        raise ConfigError(f"{name} {file}: the key is encrypted; expected one without a pass phrase")

    try:
        context.load_cert_chain(certificate, key, password=refuse_to_ask)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise ConfigError(f"{name} {file}: is not the key of tls_cert {certificate}") from error
        raise ConfigError(
            f"tls_cert {certificate}, tls_key {key or 'in it'}: cannot be used ({_words(error)})"
        ) from error


def _text(name: str, file: str) -> str:
    try:
        return Path(file).read_text(encoding="ascii", errors="replace")
    except OSError as error:
        raise ConfigError(f"{name} {file}: cannot be read ({error.strerror})") from error


def explain(error: ssl.SSLError) -> str:
    """What a handshake's failure means, for people."""
    if isinstance(error, ssl.SSLCertVerificationError):
        if error.verify_code in _NAME_MISMATCH:
            # Names the host, and what it is: a name or an address.
            return f"the broker's certificate is for another host: {error.verify_message.rstrip('.')}"
        meaning = _CERTIFICATE.get(error.verify_code)
        return f"the broker's certificate {meaning or f'cannot be verified ({error.verify_message})'}"
    return _ALERTS.get(error.reason or "", f"TLS failed ({_words(error)})")


async def diagnose(host: str, port: int, context: ssl.SSLContext | None) -> str | None:
    """Why a connection that did not come about could not, as far as TLS is the reason; else None.

    Nothing secret is sent: a handshake, and where that is not answered in kind, an MQTT CONNECT without a name.

    Args:
        host: the broker's.
        port: the broker's.
        context: what was connected with; None for plain TCP.
    """
    found = await _shake_hands(host, port, context or ssl.create_default_context())
    is_tls = found is None or (isinstance(found, ssl.SSLError) and found.reason not in _NO_TLS)
    if context is None:
        return f"port {port} speaks TLS; expected tls, or tls_ca with the broker's CA" if is_tls else None
    if is_tls:
        return explain(found) if isinstance(found, ssl.SSLError) else None
    if await _speaks_plainly(host, port):
        return f"port {port} speaks MQTT without TLS; expected the broker's TLS port, by convention 8883"
    return None


async def _shake_hands(host: str, port: int, context: ssl.SSLContext) -> OSError | None:
    """What goes wrong in a handshake or right behind it, None when nothing does."""
    try:
        async with asyncio.timeout(_DIAGNOSIS_S):
            reader, writer = await asyncio.open_connection(host, port, ssl=context)
    except OSError as error:  # TLS's errors and that of the deadline included
        return error
    try:
        # In TLS 1.3 the broker judges the client's certificate after the handshake. Writing could lose its verdict:
        # a connection that is closed with something unread is reset.
        async with asyncio.timeout(_DIAGNOSIS_S):
            await reader.read(1)
    except TimeoutError:
        return None
    except OSError as error:
        return error
    finally:
        writer.transport.abort()
    return None


async def _speaks_plainly(host: str, port: int) -> bool:
    """Whether a CONNECT without TLS is answered."""
    try:
        async with asyncio.timeout(_DIAGNOSIS_S):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                writer.write(_CONNECT)
                return await reader.read(1) == _CONNACK
            finally:
                writer.transport.abort()
    except OSError:
        return False


def _words(error: ssl.SSLError) -> str:
    """OpenSSL's reason without its file and line."""
    return (error.reason or str(error)).lower().replace("_", " ")
