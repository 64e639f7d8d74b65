"""The live page in a real browser: what people see of real recordings, and that they can use it whoever they are."""

from __future__ import annotations

import re
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import replace
from datetime import datetime
from importlib import resources
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
from playwright.sync_api import Browser, CDPSession, Page, expect

from simulator.datasets import hapt
from simulator.datasets.location import data_root
from streamer import clock
from streamer.activities import UNKNOWN
from streamer.bundle import ModelBundle, Smoothing
from streamer.live.survey import MOST_SHOWN
from streamer.recording import Recording
from streamer.watches import Limits
from tests.browser import PACKAGE, SHOWN_MS, Scheme, chromium, open_page
from tests.bundles import POSTURES, make_bundle
from tests.conftest import missing
from tests.live import LiveService, Loop, in_thread
from tests.motion import SECOND, still
from tests.programs import BIN, HarStream, simulator
from tests.servers import Mosquitto, wait_until

expect.set_options(timeout=SHOWN_MS)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    try:
        with chromium() as started:
            yield started
    except FileNotFoundError:
        missing(f"chromium is not installed: apt-get install {PACKAGE}")


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page in which nothing goes wrong; to be asked for behind the service, so that it is closed before that."""
    troubles: list[str] = []
    with open_page(browser, troubles=troubles) as opened:
        yield opened
    assert troubles == []


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> ModelBundle:
    return make_bundle(tmp_path_factory.mktemp("bundle") / "posture")


def few_watches(bundle: ModelBundle, **options: Any) -> LiveService:  # noqa: ANN401 - passed on
    """A sitting, a standing and a lying watch, one that is torn, and one that has only begun."""
    service = LiveService(bundle, **options)
    torn = still("sitting", 3, device="torn")
    assert torn.acc is not None
    torn.acc[:] = (6.0, 6.1, 0.0)
    watches = [still(posture, 3, device=f"watch-{i}") for i, posture in enumerate((*POSTURES, *POSTURES), start=1)]
    service.process([*watches, torn, still("lying", 0.9, device="new")])
    for i in range(6):
        service.process([still(POSTURES[i % 3], 4, start_s=3 + 4 * i, device="watch-1")])
    return service


@pytest.fixture
def service(bundle: ModelBundle) -> Iterator[LiveService]:
    live = few_watches(bundle)
    with in_thread(live):
        yield live


@contextmanager
def shown(page: Page, service: LiveService, **options: int) -> Iterator[Loop]:
    """A service's page, which is closed before the service: that this is gone would be an error on the page."""
    with in_thread(service, **options) as loop:
        page.goto(service.url())
        try:
            yield loop
        finally:
            page.context.close()


def card(page: Page, name: str) -> Any:  # noqa: ANN401 - Playwright's Locator
    return page.locator("#watches .card").filter(has=page.locator(".card-name", has_text=re.compile(rf"^{name}$")))


# --- real recordings, through the real service ------------------------------------------------------------------------


@pytest.fixture
def start_service(tmp_path: Path, mosquitto: Mosquitto) -> Iterator[Callable[..., HarStream]]:
    started: list[HarStream] = []

    def start(*arguments: str) -> HarStream:
        address = ("--broker", mosquitto.host, "--port", str(mosquitto.port))
        started.append(HarStream(tmp_path, *address, *arguments))
        started[-1].wait_ready()
        return started[-1]

    yield start
    for service in started:
        service.kill()


@pytest.mark.usefixtures("data_dir")
def test_page_shows_what_people_of_real_recordings_did(
    page: Page, mosquitto: Mosquitto, start_service: Callable[..., HarStream]
) -> None:
    service = start_service("--model", "uci-har-cnn", "--silence", "600")
    page.goto(f"{service.url}/")
    expect(page.locator("#empty-text")).to_contain_text("No watch has sent readings yet")
    broker = ("--broker", mosquitto.host, "--port", str(mosquitto.port))
    assert simulator("hapt", "--subject", "2", *broker, "--speed", "max", "--format", "cbor")["processed"]
    expect(page.get_by_role("heading", name="2 watches")).to_be_visible()
    recordings = {r.device_id: r for r in hapt.read_recordings(data_root()) if r.subject == "2"}
    for name, recording in recordings.items():
        bouts = [e for e in service.events if e.type == "start" and e.device == name]
        # Now: on the overview.
        expect(card(page, name).locator(".card-activity")).to_have_text(spoken(bouts[-1].activity))
        # In time: in detail.
        card(page, name).click()
        expect(page.locator("#d-bouts tr")).to_have_count(len(bouts))
        shown = [
            (row.locator("td").first.inner_text(), row.locator("time").get_attribute("datetime"))
            for row in page.locator("#d-bouts tr").all()
        ]
        assert [activity for activity, _ in reversed(shown)] == [spoken(e.activity) for e in bouts]
        onsets_ms = [round(datetime.fromisoformat(str(onset)).timestamp() * 1000) for _, onset in reversed(shown)]
        assert onsets_ms == [e.onset_ns // 1_000_000 for e in bouts]
        assert share_right([spoken(e.activity) for e in bouts], onsets_ms, recording) > 0.85
        page.keyboard.press("Escape")
    # Before the service goes: that it is gone is worth an error.
    page.goto("about:blank")


def spoken(activity: str) -> str:
    return activity.replace("_", " ").capitalize()


def share_right(activities: list[str], onsets_ms: list[int], recording: Recording) -> float:
    """Share of the labelled time over which the page's bouts name what the person did, where they name anything."""
    right_ns = named_ns = 0
    ends_ns = [onset * 1_000_000 for onset in onsets_ms[1:]] + [2**62]
    for span in recording.spans:
        for activity, onset_ms, end_ns in zip(activities, onsets_ms, ends_ns, strict=True):
            overlap_ns = min(span.end_ns, end_ns) - max(span.start_ns, onset_ms * 1_000_000)
            if overlap_ns > 0 and activity != spoken(UNKNOWN) and spoken(span.activity) in MODEL_KNOWS:
                named_ns += overlap_ns
                right_ns += overlap_ns * (activity == spoken(span.activity))
    return right_ns / named_ns


MODEL_KNOWS: Final = {"Walking", "Walking upstairs", "Walking downstairs", "Sitting", "Standing", "Lying"}

_MEASURE: Final = """(seconds) => new Promise((resolve) => {
  let frames = 0, long = 0, worst = 0, before = performance.now();
  new PerformanceObserver((list) => list.getEntries().forEach((entry) => { long += entry.duration; }))
    .observe({ entryTypes: ["longtask"] });
  const began = performance.now();
  const places = () => [...document.querySelectorAll("#watches .lanes canvas")].map((canvas) => canvas.style.transform);
  const from = places(), moved = new Set();
  let looked = 0;
  const step = (now) => {
    frames += 1;
    if (now - began > 500 * (looked + 1)) {
      looked += 1;
      places().forEach((place, i) => { if (place !== from[i]) moved.add(i); });
    }
    worst = Math.max(worst, now - before);
    before = now;
    if (now - began < 1000 * seconds) requestAnimationFrame(step);
    else resolve({
      frames, per_s: frames / seconds, long_share: long / 1000 / seconds, worst_ms: worst,
      moved: moved.size,
    });
  };
  requestAnimationFrame(step);
})"""


def test_fifty_watches_keep_moving(
    browser: Browser, mosquitto: Mosquitto, start_service: Callable[..., HarStream]
) -> None:
    service = start_service()
    command = [str(BIN / "simulator"), "replay", "synthetic", "--devices", "50", "--start", "now", "--preroll", "20"]
    command += ["--broker", mosquitto.host, "--port", str(mosquitto.port), "--format", "cbor", "--qos", "0"]
    sender = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    troubles: list[str] = []
    try:
        # So large that all fifty are in sight at once.
        with open_page(browser, width=2560, height=2700, troubles=troubles) as page:
            page.goto(f"{service.url}/")
            expect(page.locator("#watches .card")).to_have_count(50, timeout=60_000)
            expect(card(page, "synthetic-050").locator(".numbers")).to_have_text(re.compile(r"50 Hz · 100%"))
            session = page.context.new_cdp_session(page)
            session.send("Performance.enable", {"timeDomain": "threadTicks"})
            began_s = cpu_seconds(session)
            measured = page.evaluate(_MEASURE, 3)
            measured["cpu_ms_a_frame"] = 1000 * (cpu_seconds(session) - began_s) / measured["frames"]
    finally:
        sender.terminate()
        sender.wait(timeout=20)
    print(measured)  # noqa: T201 - a figure for whoever asks
    assert troubles == []
    # Looked at every half second: a tape that was drawn anew may by chance stand where it stood at first.
    assert measured["moved"] == 50
    # In CPU time, whatever else the machine does: thirty frames a second would leave it time, without a graphics card
    # and on a page four times as large as a screen.
    assert measured["cpu_ms_a_frame"] < 33


def cpu_seconds(session: CDPSession) -> float:
    """CPU time that the page's main thread has taken since the session began to look."""
    metrics = session.send("Performance.getMetrics")["metrics"]
    return float(next(metric["value"] for metric in metrics if metric["name"] == "TaskDuration"))


# --- many -------------------------------------------------------------------------------------------------------------


def test_a_group_stands_above_the_activities_in_it(page: Page, tmp_path: Path) -> None:
    smoothing = Smoothing(weight=1.0, enter=0.6, leave=0.4, dwell=1, group_enter=0.9)
    bundle = make_bundle(tmp_path / "torn", labels=("walking", "stairs", "sitting"), smoothing=smoothing)
    service = LiveService(bundle)
    torn = still("sitting", 3, device="torn")
    assert torn.acc is not None
    torn.acc[:] = (6.0, 6.1, 0.0)
    service.process([torn])
    with shown(page, service):
        expect(card(page, "torn").locator(".card-activity")).to_have_text("On foot")
        expect(page.locator("#chips .chip:visible")).to_have_text(["On foot1"])
        card(page, "torn").click()
        expect(page.locator("#d-bars .bar-row:visible b")).to_have_text(["On foot", "Stairs", "Walking", "Sitting"])
        expect(page.locator("#d-bars .bar-row span").first).to_have_text("100%")
        expect(page.locator("#d-thresholds")).to_contain_text("a group of them is told from 90% on")
        expect(page.locator("#d-bouts td").first).to_have_text("On foot")


def test_ten_thousand_watches_are_searched_filtered_and_paged(page: Page, bundle: ModelBundle) -> None:
    service = LiveService(bundle)
    for first in range(0, 10_000, 500):
        service.process([still(POSTURES[i % 3], 2, device=f"watch-{i}") for i in range(first, first + 500)])
    with shown(page, service):
        expect(page.get_by_role("heading", name="10,000 watches")).to_be_visible()
        expect(page.locator("#watches .card")).to_have_count(MOST_SHOWN)
        page.keyboard.press("/")
        page.keyboard.type("WATCH-4242")
        expect(page.locator(".card-name")).to_have_text(["watch-4242"])
        page.get_by_label("Name contains").fill("9")
        # Numbers with a nine among 0 to 9999.
        expect(page.locator("#fleet-sub")).to_contain_text("3,439 match")
        page.get_by_label("Name contains").fill("")
        page.get_by_role("button", name="Lying 3,333").click()
        expect(page.locator("#pager-text")).to_have_text("1 to 60 of 3,333")
        page.get_by_role("button", name="Next").click()
        expect(page.locator("#pager-text")).to_have_text("61 to 120 of 3,333")
        expect(page.locator(".card-name").first).to_have_text("watch-182")
        page.get_by_label("Name contains").fill("nobody")
        expect(page.get_by_text("No watch matches.")).to_be_visible()
        expect(page.locator("#watches .card")).to_have_count(0)


# --- without a mouse, without eyes, without motion --------------------------------------------------------------------


def test_everything_is_done_by_keyboard(service: LiveService, page: Page) -> None:
    page.goto(service.url())
    expect(page.locator("#watches .card")).to_have_count(8)
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the watches")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#main")).to_be_focused()
    page.keyboard.press("/")
    expect(page.get_by_label("Name contains")).to_be_focused()
    page.keyboard.type("watch")
    expect(page.locator("#watches .card")).to_have_count(6)
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.classList.contains('card')"):
            break
    expect(card(page, "watch-1")).to_be_focused()
    page.keyboard.press("ArrowRight")
    expect(card(page, "watch-2")).to_be_focused()
    page.keyboard.press("End")
    expect(card(page, "watch-6")).to_be_focused()
    page.keyboard.press("Home")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="watch-1")).to_be_focused()
    expect(page).to_have_url(re.compile(r"#/watch/watch-1$"))
    # Along the chart of probabilities; what stands there is said.
    chart = page.get_by_role("slider", name="Look at a moment")
    chart.focus()
    expect(page.locator("#d-bouts tr")).not_to_have_count(0)
    with_moment = chart.get_attribute("aria-valuenow")
    page.keyboard.press("ArrowLeft")
    assert chart.get_attribute("aria-valuenow") != with_moment
    page.keyboard.press("Escape")
    expect(card(page, "watch-1")).to_be_focused()


def axe(page: Page) -> list[str]:
    """What axe-core finds against WCAG 2.2 AA and its own best practices."""
    script = (resources.files("axe_playwright_python") / "axe.min.js").read_text()
    page.evaluate(script)
    result = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{found['id']}: {node['html'][:120]} {node['failureSummary'][:200]}"
        for found in result["violations"]
        for node in found["nodes"]
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_stands_in_the_way_of_people_who_see_little_or_nothing(
    browser: Browser, service: LiveService, scheme: Scheme
) -> None:
    with open_page(browser, scheme=scheme, still=True) as page:
        page.goto(service.url())
        expect(card(page, "torn").locator(".why")).to_have_text("Sitting or standing?")
        assert axe(page) == []
        # What the canvases show is said in words, too.
        described = card(page, "watch-1").get_attribute("aria-describedby")
        expect(page.locator(f"#{described}")).to_have_text(re.compile(r"^Last \d+ s: Standing \d+%, "))
        card(page, "torn").click()
        expect(page.locator("#d-reasons")).to_contain_text("Between sitting (52%) and standing (47%).")
        assert axe(page) == []
        expect(page.locator("#d-activity")).to_have_attribute("aria-live", "polite")


def test_with_reduced_motion_the_traces_stand_still_between_their_steps(browser: Browser, bundle: ModelBundle) -> None:
    service = few_watches(bundle)
    with in_thread(service) as loop, open_page(browser, still=True) as page:
        page.goto(service.url())
        expect(page.locator("#watches .card")).to_have_count(8)
        with feeding(loop, service, from_s=27):
            lane = card(page, "watch-1").locator(".lanes canvas").first
            expect(lane).to_have_attribute("style", re.compile("translate3d"))
            places = page.evaluate(
                """(lane) => new Promise((resolve) => {
                  const seen = new Set(), began = performance.now();
                  const step = (now) => {
                    seen.add(lane.style.transform);
                    if (now - began < 1600) requestAnimationFrame(step); else resolve(seen.size);
                  };
                  requestAnimationFrame(step);
                })""",
                lane.element_handle(),
            )
    assert places <= 3


class feeding:  # noqa: N801 - reads as what it is
    """Readings of watch-1 every tenth of a second, from another thread."""

    def __init__(self, loop: Loop, service: LiveService, *, from_s: float) -> None:
        self._loop, self._service, self._from_s = loop, service, from_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._feed)

    def _feed(self) -> None:
        start_s = self._from_s
        while not self._stop.wait(0.1):
            batch = still("lying", 0.1, start_s=start_s, device="watch-1")
            start_s += 0.1
            self._loop.call(lambda batch=batch: self._service.process([batch]))  # type: ignore[misc]

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


# --- hostile text -----------------------------------------------------------------------------------------------------


def test_hostile_names_and_labels_are_text_and_nothing_else(page: Page, bundle: ModelBundle) -> None:
    hostile = "<img src=x onerror=alert(1)>"
    manifest = msgspec.structs.replace(bundle.manifest, labels=("</script><b>", hostile, "constructor"))
    service = LiveService(replace(bundle, manifest=manifest))
    names = ["javascript:alert", "constructor", "hasOwnProperty", "toString", "x" * 64, "a@b:c.d_e-f", "0"]
    service.process([still(POSTURES[i % 3], 3, device=name) for i, name in enumerate(names)])
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("dialog", lambda dialog: pytest.fail(dialog.message))
    with shown(page, service):
        expect(page.locator("#watches .card")).to_have_count(len(names))
        for i, name in enumerate(names):
            expect(card(page, re.escape(name)).locator(".card-activity")).to_contain_text(
                ("</script><b>", hostile, "Constructor")[i % 3], ignore_case=True
            )
        for name in names:
            card(page, re.escape(name)).click()
            expect(page.get_by_role("heading", name=name, exact=True)).to_be_visible()
            expect(page.locator("#d-bouts tr")).to_have_count(1)
            page.keyboard.press("Escape")
        # A name that no watch may have, from whoever made the link.
        page.goto(service.url("#/watch/" + "%3Cimg%20src%3Dx%3E"))
        expect(page.locator("#d-name")).to_have_text("<img src=x>")
        expect(page.locator("#d-reasons")).to_contain_text("No watch of this name is followed")
        page.goto(service.url("#/watch/%"))
        expect(page.locator("#overview")).to_be_visible()
        assert page.locator("main img, main b:has(*), main script").count() == 0
    assert {url.partition("?")[0].partition("#")[0] for url in asked} <= {
        service.url(path) for path in ("", "live/feed", *(f"live/{file.name}" for file in PAGE_FILES))
    }


PAGE_FILES: Final = list((Path(__file__).parents[2] / "streamer" / "live" / "page").iterdir())


# --- when things go wrong ---------------------------------------------------------------------------------------------


def test_page_finds_the_service_again_and_keeps_what_it_shows(browser: Browser, bundle: ModelBundle) -> None:
    service, loop = few_watches(bundle), Loop()
    stack = AsyncExitStack()
    try:
        loop.run(service.serve(stack))
        with open_page(browser) as page:
            page.goto(service.url())
            expect(page.locator("#status")).to_have_text("Live")
            page.evaluate("document.querySelector('#watches .card').marked = true")
            loop.run(stack.aclose())
            expect(page.locator("#status")).to_have_text("Connection lost, trying again")
            expect(page.locator("#watches .card")).to_have_count(8)
            loop.run(service.serve(stack))
            expect(page.locator("#status")).to_have_text("Live")
            loop.call(lambda: service.process([still("lying", 4, start_s=27, device="watch-1")]))
            expect(card(page, "watch-1").locator(".card-activity")).to_have_text("Lying")
            # The same cards: nothing flickered.
            assert page.evaluate("document.querySelector('#watches .card').marked") is True
    finally:
        loop.run(stack.aclose())
        loop.stop()


def test_page_that_is_one_too_many_says_so_and_gets_in_when_there_is_room(
    browser: Browser, service: LiveService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamer.live.feed.MOST_VIEWERS", 0)
    with open_page(browser) as page:
        page.goto(service.url())
        expect(page.locator("#status")).to_have_text("Trying again: 0 viewers already")
        monkeypatch.undo()
        expect(page.locator("#status")).to_have_text("Live")
        expect(page.locator("#watches .card")).to_have_count(8)


def test_stream_that_comes_of_age_is_followed_by_another_without_a_word(page: Page, bundle: ModelBundle) -> None:
    service = few_watches(bundle, stream_s=0.6)
    with shown(page, service):
        expect(page.locator("#status")).to_have_text("Live")
        page.evaluate(
            """() => {
              const status = document.querySelector("#status");
              window.said = [];
              new MutationObserver(() => window.said.push(status.textContent))
                .observe(status, { subtree: true, childList: true, characterData: true });
            }"""
        )
        with page.expect_response(re.compile("live/feed")), page.expect_response(re.compile("live/feed")):
            pass
        assert page.evaluate("window.said") == []


def test_page_says_what_keeps_the_service_from_recognising_and_which_worker_it_is(
    page: Page, bundle: ModelBundle
) -> None:
    service = few_watches(bundle, limits=Limits(silence_ns=30 * SECOND))
    service.unready = "no session at broker:1883: refused"
    with shown(page, service, worker=1, workers=3) as loop:
        expect(page.locator("#status")).to_have_text("Not recognising: no session at broker:1883: refused")
        expect(page.locator("#foot")).to_contain_text("Worker 2 of 3: each follows its own share of the watches.")
        expect(page.get_by_role("link", name="Worker 3")).to_have_attribute("href", "http://127.0.0.1:7002/")
        later_ns = clock.now_ns() + 60 * SECOND
        loop.call(lambda: service.process([], now_ns=later_ns))
        expect(card(page, "watch-2").locator(".card-activity")).to_have_text("Silent")
        expect(page.locator("#fleet-sub")).to_contain_text("8 silent")


def test_theme_is_chosen_and_kept(service: LiveService, page: Page) -> None:
    page.goto(service.url())
    ground = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(ground)
    button = page.get_by_role("button", name="Theme")
    button.click()
    button.click()
    expect(button).to_have_accessible_name("Theme: dark")
    assert page.evaluate(ground) != light
    page.reload()
    expect(button).to_have_accessible_name("Theme: dark")
    wait_until(lambda: page.evaluate(ground) != light, "dark again")
