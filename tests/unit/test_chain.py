"""Which state follows which: the forward filter, what a passage does to a bout, and how both are served.

In the timelines `S` and `T` are windows of which sitting or standing is sure, `?` one that says nothing about which of
the two, `d` one of getting up and `-` one that is none of these. A line of bouts names the activity after each window:
s, t, u (unknown) or `.` (none yet).
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from streamer.bundle import MANIFEST_FILE, ModelBundle, Smoothing, load_bundle
from streamer.chain import FLOOR, Chain, ForwardFilter
from streamer.errors import BundleError, ConfigError
from streamer.live.board import Board
from streamer.recognizer import Recognizer
from streamer.tracking import NONE, ActivityTracker
from tests.bundles import POSTURE_SPEC, make_bundle
from tests.motion import joined, rows, still

Float64 = NDArray[np.float64]

ONE: Final = np.array([0])
#: Sitting, standing, getting up, none of these: one changes into the other by getting up alone.
STEPS: Final = (
    (0.95, 0.0, 0.04, 0.01),
    (0.04, 0.95, 0.0, 0.01),
    (0.1, 0.4, 0.5, 0.0),
    (0.05, 0.05, 0.0, 0.9),
)
RISING: Final = Chain(
    steps=STEPS, start=(0.25,) * 4, prior=(0.4, 0.4, 0.1, 0.1), prior_weight=0, evidence=0.8, within=0.2, kin=((0, 1),)
)
WINDOWS: Final = {
    "S": (0.97, 0.01, 0.01),
    "T": (0.01, 0.97, 0.01),
    "?": (0.38, 0.61, 0.01),
    "d": (0.02, 0.02, 0.95),
    "-": (0.05, 0.05, 0.0),
}


def fitted(chain: Chain | None = RISING, *, enter: float = 0.6, leave: float = 0.4, dwell: int = 1) -> Smoothing:
    return Smoothing(weight=1.0, enter=enter, leave=leave, dwell=dwell, chain=chain)


def bouts(windows: str, smoothing: Smoothing) -> str:
    tracker = ActivityTracker(2, smoothing, capacity=1, passages=1)
    told = (tracker.update(ONE, np.array([WINDOWS[w]]), np.array([i])) for i, w in enumerate(windows))
    return "".join("stu."[int(tracked.activity[0])] for tracked in told)


# --- the filter -----------------------------------------------------------------------------------------------------


@st.composite
def chains(draw: st.DrawFn) -> Chain:
    n = draw(st.integers(3, 19))
    rng = np.random.default_rng(draw(st.integers(0, 1 << 32)))
    order = rng.permutation(n)
    sets = [order[:2], order[2 : 2 + draw(st.integers(2, 4))]][: draw(st.integers(0, 2))]
    steps = 0.9 * np.eye(n) + 0.1 * rng.dirichlet(np.full(n, 0.3), n)
    return Chain(
        steps=tuple(tuple(row) for row in steps.tolist()),
        start=tuple(rng.dirichlet(np.ones(n)).tolist()),
        prior=tuple(((rng.dirichlet(np.ones(n)) + 0.01) / (1 + 0.01 * n)).tolist()),
        prior_weight=draw(st.sampled_from([0.0, 0.5, 1.0])),
        evidence=draw(st.sampled_from([0.1, 0.5, 1.0])),
        within=draw(st.sampled_from([0.0, 0.1, 0.5])),
        kin=tuple(tuple(one.tolist()) for one in sets if len(one) > 1),
        repeated=draw(st.sampled_from([0.0, 0.3, 1.0])),
    )


def windows_of_states(
    chain: Chain, m: int, seed: int
) -> tuple[Float64, NDArray[np.float32], NDArray[np.bool_], NDArray[np.float32]]:
    """Probabilities before, what was said then, whether there was anything, and m windows, sharp as a network's."""
    rng, n, held = np.random.default_rng(seed), chain.states, ForwardFilter(chain)
    earlier, newest = (rng.dirichlet(np.full(n, 0.1), m)[:, :-1].astype(np.float32) for _ in range(2))
    nothing = np.zeros((m, n)), np.zeros((m, held.kept), np.float32), np.zeros(m, np.bool_)
    _, told = held.update(*nothing, earlier)
    return rng.dirichlet(np.full(n, 0.1), m), told, rng.uniform(size=m) < 0.9, newest


def said(chain: Chain, window: list[float]) -> list[float]:
    """V of one window by the definition, in plain Python."""
    q = [max(p, FLOOR) for p in [*window, 1.0 - sum(window)]]
    logs = [np.log(p) - chain.prior_weight * np.log(own) for p, own in zip(q, chain.prior, strict=True)]
    found = [chain.evidence * value for value in logs]
    for one in chain.kin:
        m = np.logaddexp.reduce([logs[s] for s in one])
        for s in one:
            found[s] = chain.evidence * m + chain.within * (logs[s] - m)
    return [float(value) for value in found]


def naive(expected: list[float], e: list[float]) -> list[float]:
    powers = [p * np.exp(own - max(e)) for p, own in zip(expected, e, strict=True)]
    return [float(power / sum(powers)) for power in powers]


@settings(max_examples=40)
@given(chain=chains(), seed=st.integers(0, 1 << 32))
def test_filter_computes_the_forward_recursion(chain: Chain, seed: int) -> None:
    before, earlier, started, newest = windows_of_states(chain, 4, seed)
    found, kept = ForwardFilter(chain).update(before, earlier, started, newest)
    steps = np.array(chain.steps)
    for row in range(4):
        expected = before[row] @ steps if started[row] else np.array(chain.start)
        v = said(chain, newest[row].astype(np.float64).tolist())
        e = (1 + chain.repeated) * np.array(v)
        if started[row] and chain.repeated:
            e = np.array(v) - chain.repeated * earlier[row]
        wanted = naive(expected.tolist(), e.tolist())
        np.testing.assert_allclose(found[row], wanted, rtol=1e-6, atol=1e-12)
        np.testing.assert_allclose(kept[row], v if chain.repeated else [], rtol=1e-6)


@settings(max_examples=25)
@given(chain=chains(), seed=st.integers(0, 1 << 32), sizes=st.sampled_from([(1,), (2, 7), (1, 3, 8, 64), (255, 257)]))
def test_filter_gives_the_same_bits_for_any_number_of_rows(chain: Chain, seed: int, sizes: tuple[int, ...]) -> None:
    held = ForwardFilter(chain)
    before, earlier, started, newest = windows_of_states(chain, 1000, seed)
    together = held.update(before, earlier, started, newest)
    first = 0
    while first < 1000:
        for size in sizes:
            own = slice(first, first + size)
            apart = held.update(before[own], earlier[own], started[own], newest[own])
            assert [part.tobytes() for part in apart] == [part[own].tobytes() for part in together]
            first += size


def test_what_the_chain_does_not_lead_to_is_not_believed_and_what_follows_a_passage_is() -> None:
    # `?` looks a little more like standing, whatever it is; only getting up tells the two apart.
    assert bouts("SSS?????", fitted()) == "ssssssss"
    assert bouts("SSS??ddd???", fitted()) == "ssssssssttt"
    assert bouts("SSS??ddd???", fitted(None)) == "ssstttttttt", "by windows alone"


def test_a_window_counts_for_what_it_says_anew() -> None:
    free = msgspec.structs.replace(RISING, steps=((0.9, 0.1, 0, 0), (0.1, 0.9, 0, 0), *STEPS[2:]), kin=(), evidence=0.3)

    def sitting(windows: str, *, repeated: float) -> float:
        """Probability of sitting behind the windows."""
        chain = msgspec.structs.replace(free, repeated=repeated)
        tracker = ActivityTracker(2, fitted(chain), capacity=1, passages=1)
        for start, window in enumerate(windows):
            tracker.update(ONE, np.array([WINDOWS[window]]), np.array([start]))
        return float(tracker.smoothed[0, 0])

    assert sitting("S", repeated=0.8) > sitting("S", repeated=0) + 0.1, "a first one repeats nothing"
    # All windows of a bout may be wrong together: many that repeat one another make the filter less sure.
    assert sitting("SSSSSSSS", repeated=0.8) < sitting("SSSSSSSS", repeated=0) - 0.05
    # One that says something else than the one before it counts for more.
    assert sitting("SSSST", repeated=0.8) < sitting("SSSST", repeated=0) - 0.2


def test_a_first_window_is_weighed_by_the_start_and_so_is_one_behind_a_reset() -> None:
    chain = msgspec.structs.replace(RISING, start=(0.0, 1.0, 0.0, 0.0))
    tracker = ActivityTracker(2, fitted(chain), capacity=1, passages=1)
    for _ in range(2):
        tracked = tracker.update(ONE, np.array([WINDOWS["S"]]), np.array([0]))
        assert (tracked.leader[0], tracked.confidence[0]) == (1, 1.0)
        tracker.update(ONE, np.array([WINDOWS["d"]]), np.array([1]))
        tracker.reset(0)


# --- bouts ----------------------------------------------------------------------------------------------------------


def test_a_passage_in_progress_is_neither_told_nor_unknown() -> None:
    assert bouts("SSSdddTTT", fitted(None)) == "ssssssttt"
    assert bouts("SSS---TTT", fitted(None)) == "sssuuuttt"
    assert bouts("dddTTT---ddd", fitted(None)) == "...tttuuuuuu"
    assert bouts("SSSdddTTT", fitted()) == "ssssssttt"


def test_passages_hold_a_bout_of_a_group_too() -> None:
    grouped = msgspec.structs.replace(fitted(None), group_enter=0.7, enter=0.8)
    tracker = ActivityTracker(3, grouped, capacity=1, passages=1, groups=((0, 1),))
    found = []
    for start, row in enumerate([(0.5, 0.5, 0, 0), (0.1, 0.1, 0, 0.8), (0.1, 0.1, 0.3, 0.1), (0.1, 0.1, 0.1, 0)]):
        found.append(int(tracker.update(ONE, np.array([row]), np.array([start])).activity[0]))
    assert found == [3, 3, tracker.unknown, tracker.unknown]
    tracker.reset(0)
    assert tracker.update(ONE, np.array([(0.1, 0.0, 0.0, 0.9)]), np.array([0])).activity[0] == NONE


def test_onset_behind_a_passage_is_the_first_window_that_tells_what_follows() -> None:
    # window      0 1 2 3 4 5 6 7
    # sure of     S S S d d T T T
    # dwell = 2   . s s s s 1 2 t     none but the windows of T lead: the passage counts for what was before
    tracker = ActivityTracker(2, fitted(dwell=2), capacity=1, passages=1)
    switched = []
    for start, window in enumerate("SSSddTTT"):
        tracked = tracker.update(ONE, np.array([WINDOWS[window]]), np.array([start]))
        if tracked.switched[0]:
            switched.append((start, int(tracked.activity[0]), int(tracked.onset_ns[0])))
    assert switched == [(1, 0, 0), (6, 1, 5)]


def test_none_of_these_ends_a_bout_as_unknown() -> None:
    assert bouts("SSSS-------", fitted()).endswith("uuuu")


@given(feeds=st.lists(st.text("ST?d-", min_size=1, max_size=12), min_size=2, max_size=4), dwell=st.integers(1, 3))
def test_watches_do_not_touch_each_other(feeds: list[str], dwell: int) -> None:
    together = ActivityTracker(2, fitted(dwell=dwell), capacity=len(feeds), passages=1)
    found = [""] * len(feeds)
    for start in range(max(map(len, feeds))):
        going = [slot for slot, feed in enumerate(feeds) if start < len(feed)]
        newest = np.array([WINDOWS[feeds[slot][start]] for slot in going])
        tracked = together.update(np.array(going), newest, np.full(len(going), start))
        for slot, activity in zip(going, tracked.activity.tolist(), strict=True):
            found[slot] += "stu."[activity]
    assert found == [bouts(feed, fitted(dwell=dwell)) for feed in feeds]


# --- served -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def rising(tmp_path_factory: pytest.TempPathFactory) -> ModelBundle:
    """Gravity along x is sitting, along y standing, along z getting up."""
    folder = tmp_path_factory.mktemp("rising")
    return make_bundle(folder, labels=("sitting", "standing"), passages=("sit_to_stand",), smoothing=fitted())


def test_a_bundle_with_passages_tells_its_labels_alone(rising: ModelBundle) -> None:
    readings = joined(still("standing", 5), still("lying", 2, start_s=5), still("sitting", 5, start_s=7))
    recognizer = Recognizer(rising, every_window=True)
    result = recognizer.recognize([readings], 0)
    told = [(e.type, e.activity) for e in result.events if e.type in {"start", "end"}]
    assert told == [("start", "sitting"), ("end", "sitting"), ("start", "standing")]
    starts = [e for e in result.events if e.type == "start"]
    assert [(e.onset_ns - int(readings.t_ns[0])) / 1e9 for e in starts] == [0, 7], "getting up took from 5 s to 7 s"
    windows = [e for e in result.events if e.type == "window"]
    assert {tuple(e.probabilities or {}) for e in windows} == {("sitting", "standing")}
    least = min(sum((e.probabilities or {}).values()) for e in windows)
    assert least < 0.01, "what getting up has is lacking"
    assert {e.activity for e in windows} == {"sitting", "standing"}
    assert result.windows[0].probabilities.shape[1] == 2
    assert recognizer.standing(["wrist"]).smoothed.shape == (1, 2)
    assert set(recognizer.activities()) == {"sitting", "standing", "unknown"}
    acc = readings.acc
    assert acc is not None
    assert recognizer.windows(readings.t_ns, acc).probabilities.shape[1] == 2
    assert [bout.activity for bout in recognizer.classify(readings.t_ns, acc)] == ["sitting", "standing"]


def test_an_exported_watch_goes_on_to_the_last_bit(rising: ModelBundle) -> None:
    readings = joined(still("standing", 5), still("lying", 2, start_s=5), still("sitting", 5, start_s=7))
    whole = Recognizer(rising, every_window=True)
    expected = whole.recognize([readings], 0).events
    for cut in (20, 63, 110, 145):
        one, other = Recognizer(rising, every_window=True), Recognizer(rising, every_window=True)
        events = one.recognize([rows(readings, np.arange(cut))], 0).events
        state = one.export_watch("wrist")
        assert state is not None
        other.import_watch(state, 0)
        assert events + other.recognize([rows(readings, np.arange(cut, len(readings)))], 0).events == expected
        assert other.export_watch("wrist") == (whole.export_watch("wrist"))


def test_a_passage_in_progress_is_named_on_the_live_page(rising: ModelBundle) -> None:
    recognizer = Recognizer(rising)
    board = Board(recognizer)
    recognizer.recognize([joined(still("standing", 5), still("lying", 2, start_s=5))], 0)
    (first, *_) = board.detail("wrist", 0, windows_from=0, with_bouts=False).reasons
    assert first.code == "passing"
    assert first.text.startswith("Between two activities: sit to stand (")


# --- refused ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"steps": STEPS[:3]}, "chain.steps has 3 rows; expected 4, as many as chain.start has shares"),
        ({"steps": (*STEPS[:3], STEPS[3][:3])}, "chain.steps[3] is 3 shares of sum 0.1; expected 4 of sum 1"),
        ({"start": (0.25, 0.25, 0.25, 0.2)}, "chain.start is 4 shares of sum 0.95; expected 4 of sum 1"),
        ({"prior": (0.5, 0.5)}, "chain.prior is 2 shares of sum 1; expected 4 of sum 1"),
        ({"kin": ((0, 1), (1, 2))}, "chain.kin is [[0, 1], [1, 2]]; expected sets of two states or more from 0 to 3,"),
        ({"kin": ((0,),)}, "chain.kin is [[0]]; expected sets"),
        ({"kin": ((0, 4),)}, "chain.kin is [[0, 4]]; expected sets"),
        ({"prior": (0.5, 0.5, 0.0, 0.0)}, "Expected `float` >= 1e-06 - at `$.smoothing.chain.prior[2]`"),
        ({"evidence": 0}, "Expected `float` > 0.0 - at `$.smoothing.chain.evidence`"),
        ({"repeated": 1.5}, "Expected `float` <= 1.0 - at `$.smoothing.chain.repeated`"),
        ({"within": -1}, "Expected `float` >= 0.0 - at `$.smoothing.chain.within`"),
        ({"surprise": 1}, "Object contains unknown field `surprise` - at `$.smoothing.chain`"),
    ],
)
def test_a_chain_that_is_none_is_refused_in_one_line(
    rising: ModelBundle, tmp_path: Path, changes: dict[str, object], expected: str
) -> None:
    document = msgspec.to_builtins(rising.manifest)
    document["smoothing"]["chain"] |= changes
    (tmp_path / MANIFEST_FILE).write_bytes(msgspec.json.encode(document))
    for name, content in (("model.onnx", rising.model), ("golden.npz", b"")):
        (tmp_path / name).write_bytes(content)
    with pytest.raises(BundleError) as caught:
        load_bundle(tmp_path)
    assert str(caught.value).removeprefix(f"{tmp_path}/{MANIFEST_FILE}: ").startswith(expected)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("passages", "chain", "expected"),
    [
        (("standing",), RISING, "passages ['standing'] are not distinct names that no label has, at most 256"),
        (("Getting up",), RISING, "passages ['Getting up'] are not distinct names"),
        ((), RISING, "smoothing.chain has 4 states; expected 3: 2 labels, 0 passages and none of these"),
    ],
)
def test_passages_that_do_not_fit_are_refused(
    tmp_path: Path, passages: tuple[str, ...], chain: Chain, expected: str
) -> None:
    with pytest.raises(BundleError) as caught:
        make_bundle(tmp_path, labels=("sitting", "standing"), passages=passages, smoothing=fitted(chain))
    assert str(caught.value).removeprefix(f"{tmp_path}/{MANIFEST_FILE}: ").startswith(expected)


def test_a_weight_beside_a_chain_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"smoothing.weight is 0.5 beside a chain, which takes its place; expected 1"):
        Smoothing(weight=0.5, enter=0.5, leave=0.3, dwell=1, chain=RISING)


def test_a_bundle_without_passages_keeps_its_layout(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path)
    assert (bundle.manifest.passages, bundle.manifest.smoothing.chain) == ((), None)
    assert bundle.outputs == bundle.labels
    assert len(POSTURE_SPEC.channels) == 3
