"""What one check found, for people and for programs."""

from __future__ import annotations

from typing import Final, Literal, get_args

import msgspec

#: The checks, in their order; docs/how-to/doctor.md says what each of them means.
Check = Literal[
    "bundle",  # does the model load and do here what it did where it was made
    "state",  # can what survives a restart be written
    "http",  # is the port for /metrics and the live page free
    "address",  # does something listen where the broker should be
    "tls",  # certificate, name and expiry
    "login",  # which version of MQTT, and is the account let in
    "publish",  # may events be published
    "client-id",  # does nobody else use the name
    "subscribe",  # may readings be subscribed to, and do they then come
    "readings",  # does anything arrive
    "nearby",  # what else is sent at this broker
    "decoding",  # can it be read
    "units",  # is it in m/s² and rad/s, with all axes
    "model",  # would the model take it: sensors, rate
    "clocks",  # do the watches' clocks go with this machine's
    "queue",  # does the broker keep messages for a client that is away
    "dropped",  # has it dropped any
]
CHECKS: Final[tuple[Check, ...]] = get_args(Check)

Status = Literal["ok", "warning", "failed", "skipped"]


class Finding(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line of the report.

    Attributes:
        check: what was looked at.
        status: ok; warning: works, but not as well as it could; failed: events will not come; skipped: can't be told.
        says: what was found, with the values.
        next: what to do; empty where there is nothing to do.
        figures: the same for programs, under names with their units.
    """

    check: Check
    status: Status
    says: str
    next: str = ""
    figures: dict[str, float | int | str | bool | None] = {}


def ok(check: Check, says: str, **figures: float | str | bool | None) -> Finding:
    """Nothing to do."""
    return Finding(check=check, status="ok", says=says, figures=figures)


def warning(check: Check, says: str, next_step: str, **figures: float | str | bool | None) -> Finding:
    """It works, but not as well as it could."""
    return Finding(check=check, status="warning", says=says, next=next_step, figures=figures)


def failed(check: Check, says: str, next_step: str, **figures: float | str | bool | None) -> Finding:
    """Events will not come."""
    return Finding(check=check, status="failed", says=says, next=next_step, figures=figures)


def skipped(check: Check, says: str, next_step: str = "") -> Finding:
    """It cannot be told."""
    return Finding(check=check, status="skipped", says=says, next=next_step)
