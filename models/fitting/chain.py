"""Fitting which state follows which, on what cross-fitted models say of people whom they had not seen.

What windows say of people that the network learned from is surer than it will ever be again, and a chain fitted to that
would trust it too much: courses are to come from fits without their people.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from itertools import product
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.fitting.smoothing import Course, fit_smoothing
from streamer.activities import groups_around
from streamer.bundle import Smoothing
from streamer.chain import FLOOR, Chain, ForwardFilter

Float64 = NDArray[np.float64]

EVIDENCES: Final = (0.35, 0.5, 0.7, 1.0)
WITHINS: Final = (0.06, 0.12, 0.2, 0.35, 0.5, 0.7)
REPEATED: Final = (0.0, 0.3, 0.5, 0.7)
#: Share of steps to any state at all, beside those that were counted.
EPSILONS: Final = (1e-5, 1e-3)
PRIOR_WEIGHTS: Final = (0.0, 0.5)
#: Mean length of a bout where recordings say nothing about it, s.
BOUTS_S: Final = (15.0, 30.0, 60.0, 120.0)
#: Share of steps that lead into "none of these"; a judgement, for no data set says how often it comes.
STRANGE: Final = 1e-3
#: Of what was seen to leave a state, for a state to count as following it: not where a label is a hop late.
_LEAST_SHARE: Final = 0.05


def fit_chain(
    courses: Sequence[Course],
    labels: Sequence[str],
    *,
    kin: Sequence[Sequence[str]] = (),
    hop_s: float | None = None,
) -> Chain:
    """The chain of the grids above with the least `log_loss`; the first one where several are equal.

    Not that with the highest `gain`: chosen on four fifths of HAPT's training people and scored on the last, it was
    less right about how sure it was, and told windows without gyroscope worse.

    A segment may begin in any state: that all recordings of a data set begin with standing is its script and no
    knowledge of people. So is the order of what is done on the feet (`unscripted`).

    Args:
        courses: of people whom the model has not seen, with states.
        labels: activities; the courses' further columns are passages.
        kin: sets of labels that windows tell apart badly.
        hop_s: seconds from window to window, where each recording is of one activity and says nothing about which one
            follows: then all are taken to last as long and to be followed by any other. None to count.
    """
    n = courses[0].probabilities.shape[1] + 1
    counts, shares = unscripted(count_steps(courses, n), on_the_feet(labels)), state_shares(courses, n)
    if hop_s is None:
        candidates = [counted_steps(counts, epsilon) for epsilon in EPSILONS]
    else:
        candidates = [uniform_steps(n, stay=1.0 - hop_s / max(bout_s, 2.0 * hop_s)) for bout_s in BOUTS_S]
    exponents = [(e, w) for e, w in product(EVIDENCES, WITHINS) if w <= e] if kin else [(e, e) for e in EVIDENCES]
    chains = (
        Chain(
            steps=_rows(steps),
            start=_row(np.full(n, 1.0 / n)),
            prior=_row(shares),
            prior_weight=prior_weight,
            evidence=evidence,
            within=within,
            kin=tuple(tuple(labels.index(label) for label in one) for one in kin),
            repeated=repeated,
        )
        for steps, (evidence, within), prior_weight, repeated in product(candidates, exponents, PRIOR_WEIGHTS, REPEATED)
    )
    return min(chains, key=lambda chain: log_loss(courses, chain))


def log_loss(courses: Sequence[Course], chain: Chain) -> float:
    """Mean over windows of known state of what the chain says of that state, by the windows up to each."""
    losses = []
    for course, found in zip(courses, forward([one.probabilities for one in courses], chain), strict=True):
        known = np.flatnonzero(_states(course) >= 0)
        losses.append(-np.log(np.maximum(found[known, _states(course)[known]], FLOOR)))
    return float(np.concatenate(losses).mean())


def fit_chained(courses: Sequence[Course], labels: int, chain: Chain, groups: Sequence[Collection[int]]) -> Smoothing:
    """The smoothing with a chain whose thresholds have the highest `gain`, with arguments as of that."""
    fitted = fit_smoothing(filtered(courses, chain), labels, groups, weights=(1.0,))
    return msgspec.structs.replace(fitted, chain=chain)


def forward(windows: Sequence[NDArray[np.floating]], chain: Chain) -> list[Float64]:
    """(m, states) float64 for each stretch of windows: filtered probabilities, the stretch taken for a segment.

    Args:
        windows: (m, outputs) probabilities of each stretch.
        chain: what to go by.
    """
    order = sorted(range(len(windows)), key=lambda i: -len(windows[i]))
    lengths = np.array([len(windows[i]) for i in order])
    held, found = ForwardFilter(chain), [np.empty((len(own), chain.states)) for own in windows]
    before, said = np.zeros((len(windows), chain.states)), np.zeros((len(windows), held.kept), np.float32)
    for step in range(int(lengths.max(initial=0))):
        going = order[: int((lengths > step).sum())]
        newest = np.stack([windows[i][step] for i in going])
        before, said = held.update(before[: len(going)], said[: len(going)], np.full(len(going), step > 0), newest)
        for i, row in zip(going, before, strict=True):
            found[i][step] = row
    return found


def filtered(courses: Sequence[Course], chain: Chain) -> list[Course]:
    """Courses with the filtered probabilities of labels and passages, as a tracker with the chain would hold them."""
    found = forward([course.probabilities for course in courses], chain)
    return [replace(course, probabilities=own[:, :-1]) for course, own in zip(courses, found, strict=True)]


def count_steps(courses: Sequence[Course], n: int) -> Float64:
    """(n, n) float64: how often each state follows each, window by window; what is not labelled is left out between."""
    counts = np.zeros((n, n))
    for course in courses:
        known = _states(course)
        known = known[known >= 0]
        np.add.at(counts, (known[:-1], known[1:]), 1.0)
    return counts


def state_shares(courses: Sequence[Course], n: int) -> Float64:
    """(n,) float64 of sum 1: shares of windows by state; "none of these", the last, is given that of a mean state."""
    counts = np.bincount(np.concatenate([own[own >= 0] for own in map(_states, courses)]), minlength=n) + 1.0
    counts[-1] = counts[:-1].mean()
    shares: Float64 = np.maximum(counts / counts.sum(), FLOOR)
    return shares


def unscripted(counts: Float64, upright: Sequence[int]) -> Float64:
    """(n, n) float64 counts of which only how long each state lasts is kept, and which may follow which.

    People who are told what to do next walk before they climb stairs, go down because they have come up, and sit down
    once they stand; a chain that has counted them mistrusts everybody else: on HAPT's training subjects, their bouts in
    another order, it did worse than windows alone. So what leaves a state is spread evenly over all that was seen to
    follow it, and any activity on the feet may follow any other and whatever leads to one of them, and be left for
    whatever follows one of them. What remains is what a body can do: from lying to sitting through lie_to_sit alone.

    Args:
        counts: of steps.
        upright: places of the activities on the feet.
    """
    own = np.array(upright, np.int64)
    changes = counts.copy()
    np.fill_diagonal(changes, 0.0)
    changes[own] = changes[own].sum(axis=0)
    follows = changes >= np.maximum(_LEAST_SHARE * changes.sum(axis=1, keepdims=True), 1.0)
    if len(own):
        follows[np.ix_(follows[:, own].any(axis=1), own)] = True
    follows[np.ix_(own, own)] = True
    np.fill_diagonal(follows, val=False)
    leaves = counts.sum(axis=1) - np.diag(counts)
    found: Float64 = follows * (leaves / np.maximum(follows.sum(axis=1), 1))[:, None]
    np.fill_diagonal(found, np.diag(counts))
    return found


def on_the_feet(labels: Sequence[str]) -> list[int]:
    """Places of the activities among which no passage lies: standing, and those of the group on_foot."""
    return [
        place for place, label in enumerate(labels) if label == "standing" or "on_foot" in groups_around(label, (), {})
    ]


def counted_steps(counts: Float64, epsilon: float) -> Float64:
    """(n, n) float64 rows of sum 1: what was counted, with a share of steps to any state.

    A state that never occurs lasts as long as the others do in the mean; so does "none of these", into which a share
    STRANGE of all steps leads.
    """
    n = len(counts)
    total = counts.sum(axis=1)
    seen = total > 0
    steps = counts / np.maximum(total, 1.0)[:, None]
    stay = float(np.mean(np.diag(steps)[seen])) if seen.any() else 0.5
    steps[~seen] = uniform_steps(n, stay=stay)[~seen]
    found: Float64 = (1.0 - epsilon) * steps + epsilon / n
    found[:-1] = (1.0 - STRANGE) * found[:-1]
    found[:-1, -1] += STRANGE
    return found


def uniform_steps(n: int, *, stay: float) -> Float64:
    """(n, n) float64: every state lasts as long, and any other may follow."""
    steps: Float64 = np.full((n, n), (1.0 - stay) / (n - 1))
    np.fill_diagonal(steps, stay)
    return steps


def widened(chain: Chain, place: int, new: int) -> Chain:
    """The chain with states of which nothing is known: they last as long as others, and follow and lead to any.

    Args:
        chain: of a bundle.
        place: of the first new one.
        new: how many.
    """
    if not new:
        return chain
    n = chain.states
    old = np.array([*range(place), *range(place + new, n + new)])
    known = np.array(chain.steps)
    leaves = 1.0 - np.diag(known)
    steps = uniform_steps(n + new, stay=1.0 - float(leaves.mean()))
    # To each new one as often as to any other in the mean.
    within = known * ((n - 1) / (n - 1 + new))
    np.fill_diagonal(within, np.diag(known))
    steps[old[:, None], old] = within
    steps[old[:, None], np.arange(place, place + new)] = (leaves / (n - 1 + new))[:, None]
    start, prior = np.full(n + new, 1.0 / n), np.full(n + new, 1.0 / n)
    start[old], prior[old] = chain.start, chain.prior
    return msgspec.structs.replace(
        chain,
        steps=_rows(steps),
        start=_row(start),
        prior=_row(np.maximum(prior, FLOOR * (1 + new))),
        kin=tuple(tuple(old[list(one)].tolist()) for one in chain.kin),
    )


def _states(course: Course) -> NDArray[np.int64]:
    if course.states is None:
        raise ValueError("a course has no states; expected those of its windows")
    return course.states


def _row(values: Float64) -> tuple[float, ...]:
    # Eight digits: shares are no more exact, and a manifest is read by people.
    rounded = [round(value, 8) for value in (values / values.sum()).tolist()]
    return tuple(rounded)


def _rows(values: Float64) -> tuple[tuple[float, ...], ...]:
    return tuple(_row(row) for row in values)
