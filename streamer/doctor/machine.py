"""What the service needs on its own machine: its model, a folder for its state, a port for HTTP."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import socket
import tempfile
import urllib.error
import urllib.request
from pathlib import Path
from typing import Final

from streamer.addresses import way_to
from streamer.bundle import ModelBundle, find_bundle, load_bundle
from streamer.classifier import Classifier
from streamer.config import Settings
from streamer.doctor.finding import Finding, failed, ok, warning
from streamer.errors import BundleError
from streamer.workers import settings_of

_GB: Final = 1e9
#: The journal may take 2 GB before the service stops acknowledging; it takes some 16 MB where all is well.
_LITTLE_BYTES: Final = 2_500_000_000
_TOO_LITTLE_BYTES: Final = 100_000_000
_TIMEOUT_S: Final = 2.0


def check_bundle(settings: Settings) -> tuple[ModelBundle | None, Finding]:
    """Whether the model loads, and does here what it did where it was made."""
    try:
        bundle = load_bundle(find_bundle(settings.model))
        Classifier(bundle)
    except BundleError as error:
        return None, failed("bundle", str(error), "`har-models list` shows what is there; docs/errors.md each mistake")
    spec = bundle.spec
    return bundle, ok(
        "bundle",
        f"{bundle.manifest.name}: {len(bundle.labels)} activities from {spec.sensors_in_words}, "
        f"windows of {spec.window_ns / 1e9:g} s, feeds from {bundle.manifest.min_feed_rate_hz:g} Hz on",
        model=bundle.manifest.name,
        digest=bundle.digest,
    )


def check_state(settings: Settings) -> Finding:
    """Whether what survives a restart can be written, and has room."""
    if settings.why_no_state is not None:
        return ok("state", f"none is kept, as {settings.why_no_state}: at most once", kept=False)
    # All workers' folders lie beside each other.
    folder = (settings if settings.workers == 1 else settings_of(settings, 0)).state_folder()
    there = folder
    while not there.exists():
        there = there.parent
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
        free = shutil.disk_usage(there).free
    except OSError as error:
        return failed(
            "state",
            f"{folder}: {there} cannot be written ({error.strerror})",
            "--state with a folder that this user may write (in a container: mount a volume), or --no-state",
        )
    says = f"{folder}: can be written, {free / _GB:.1f} GB free"
    user = _user_of(folder)
    if user is not None:
        says += f"; in use by process {user}"
    if free < _TOO_LITTLE_BYTES:
        return failed("state", says, "make room: without it nothing is acknowledged, and the broker fills up")
    if free < _LITTLE_BYTES:
        return warning("state", says, "make room: up to 2.5 GB may be needed where the disk is slow", free_bytes=free)
    return ok("state", says, free_bytes=free)


def check_http(settings: Settings) -> Finding:
    """Whether the ports for /metrics and the live page are free."""
    ports = [settings.http_port + number if settings.http_port else 0 for number in range(settings.workers)]
    for port in ports:
        place = f"{settings.http_host}:{port}"
        try:
            family = socket.getaddrinfo(settings.http_host, port, type=socket.SOCK_STREAM)[0][0]
            with socket.socket(family, socket.SOCK_STREAM) as taken:
                taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                taken.bind((settings.http_host, port))
        except OSError as error:
            answer = _ready(settings.http_host, port)
            if answer is None:
                return failed(
                    "http", f"{place} is not to be had ({error.strerror or error})", "--http-port with a free one, or 0"
                )
            if answer["ready"]:
                return ok("http", f"a har-stream answers at {place} already, and is ready", running=True)
            return warning(
                "http",
                f"a har-stream answers at {place} already, and is not ready: {answer.get('reason')}",
                "read its log",
                running=True,
            )
    shown = ", ".join(f"{settings.http_host}:{port}" if port else "any port" for port in ports)
    return ok("http", f"{shown}: free", running=False)


def _ready(host: str, port: int) -> dict[str, object] | None:
    """What a har-stream says of itself at a port, None where none is there."""
    try:
        with urllib.request.urlopen(f"http://{way_to(host)}:{port}/readyz", timeout=_TIMEOUT_S) as answer:
            said = answer.read(1000)
    except urllib.error.HTTPError as error:
        with error:
            said = error.read(1000)
    except (OSError, ValueError):
        return None
    try:
        found = json.loads(said)
    except ValueError:
        return None
    return found if isinstance(found, dict) and "ready" in found else None


def _user_of(folder: Path) -> str | None:
    """The process that holds a state folder's lock, None where none does."""
    try:
        lock = os.open(folder / "lock", os.O_RDWR)
    except OSError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return os.read(lock, 20).decode(errors="replace").strip() or "?"
    finally:
        os.close(lock)
    return None
