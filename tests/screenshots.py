"""The documentation's pictures of the live page: twelve synthetic watches after a quarter of an hour.

    python -m tests.screenshots              writes docs/images/live-*.png
    python -m tests.screenshots --out DIR

Needs Chromium and Mosquitto, and takes about a minute.
"""

from __future__ import annotations

import argparse
import io
import subprocess
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from PIL import Image
from playwright.sync_api import Page

from tests.browser import chromium, open_page
from tests.programs import BIN, HarStream
from tests.servers import Mosquitto, find_program, wait_until

IMAGES: Final = Path(__file__).resolve().parents[1] / "docs" / "images"
#: Of one picture; the repository carries them.
MOST_BYTES: Final = 200_000
_WATCHES: Final = 12
_PREROLL_S: Final = 900
_SEED: Final = 11
_RATE_HZ: Final = 50
_WITHIN_S: Final = 300.0
_WIDTH, _HEIGHT = 1440, 1000
#: Until the traces, which begin when somebody looks, reach across.
_SETTLE_MS: Final = 11_000
_OPEN_MS: Final = 1500
#: One of twelve is torn every few seconds.
_TORN_MS: Final = 60_000


def main() -> None:
    """Write the pictures."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.screenshots", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=IMAGES, help="folder to write to")
    take_pictures(parser.parse_args().out)


def take_pictures(folder: Path) -> list[Path]:
    """Run broker, service and watches, and write what the page shows.

    Raises:
        FileNotFoundError: a program is not installed.
    """
    program = find_program("mosquitto")
    if program is None:
        raise FileNotFoundError("mosquitto")
    with tempfile.TemporaryDirectory() as name, chromium() as browser, ExitStack() as stack:
        broker = Mosquitto(program, Path(name))
        broker.start()
        stack.callback(broker.stop)
        address = ("--broker", broker.host, "--port", str(broker.port))
        service = HarStream(Path(name), *address, output="none")
        stack.callback(service.kill)
        service.wait_ready()
        # Somebody must look on while the readings come, or no probabilities are kept.
        dark = stack.enter_context(open_page(browser, width=_WIDTH, height=_HEIGHT, scheme="dark"))
        dark.goto(f"{service.url}/")
        watches = (
            f"--devices {_WATCHES} --seed {_SEED} --rate {_RATE_HZ} --start now --preroll {_PREROLL_S} --format cbor"
        )
        sender = subprocess.Popen(
            [str(BIN / "simulator"), "replay", "synthetic", *watches.split(), *address], stderr=subprocess.DEVNULL
        )
        stack.callback(sender.wait, timeout=20)
        stack.callback(sender.terminate)
        readings = _WATCHES * _RATE_HZ * _PREROLL_S
        wait_until(lambda: service.metric("har_readings_total") > readings, "readings", within_s=_WITHIN_S)
        light = stack.enter_context(open_page(browser, width=_WIDTH, height=_HEIGHT, scheme="light"))
        light.goto(f"{service.url}/")
        light.wait_for_timeout(_SETTLE_MS)
        pictures = [_picture(dark, folder / "live-dark.png"), _picture(light, folder / "live-light.png")]
        # One that is torn: the page says between what.
        torn = dark.locator("#watches .card").filter(has=dark.locator(".why", has_text="?"))
        torn.first.click(timeout=_TORN_MS)
        dark.wait_for_timeout(_OPEN_MS)
        return [*pictures, _picture(dark, folder / "live-detail.png")]


def _picture(page: Page, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    # A palette takes a third of the bytes, and shows the same.
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    picture.quantize(256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.FLOYDSTEINBERG).save(path, optimize=True)
    size = path.stat().st_size
    if size > MOST_BYTES:
        raise RuntimeError(f"{path}: {size} bytes; expected at most {MOST_BYTES}")
    print(f"{path}: {size} bytes")  # noqa: T201 - a command line prints
    return path


if __name__ == "__main__":
    main()
