"""Which state follows which: a hidden Markov model's forward filter over the windows of many watches.

A window tells some states apart badly, such as sitting and standing, while it tells the movement between them well.
The filter weighs what a window says by what the windows before it leave possible:

    p_s  <-  (sum over r of p_r steps[r][s]) x exp(e_s), divided by its sum        `start` at a segment's first window
    e_s  =   v_s - repeated x v_s of the window before         (1 + repeated) x v_s at a segment's first window
    v_s  =   evidence x m + within x (log f_s - m)      m: log of the sum of f over the kin of s
    f_s  =   q_s / prior_s ^ prior_weight               q: the model's output for the window, FLOOR at least

States are the model's outputs, the labels before the passages (movements from one label to another, recognised and
never told), and last of all "none of these", of which q is what the outputs lack of 1.

Sources: forward recursion: Rabiner, A tutorial on hidden Markov models, Proc. IEEE 77(2), 1989, section III-A. A
network's posteriors over priors as likelihoods: Bourlard and Morgan, Connectionist speech recognition, 1994. The two
exponents and `repeated`: neighbouring windows overlap and err alike, so that each is less evidence than independent
ones would be, least of all between kin, and most where it says something else than the one before: v is taken for a
first-order autoregression, of which a first value tells 1 + repeated times what a later one's deviation from `repeated`
of the value before it does.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from streamer.errors import ConfigError

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Share = Annotated[float, Meta(ge=0, le=1)]

#: Least probability of a state by one window: none is ruled out by it.
FLOOR: Final = 1e-6
#: How far from 1 a sum of shares may be.
_SUM_TOLERANCE: Final = 1e-6
#: Rows worked on at once, so that their products stay in the cache.
_ROWS: Final = 256


class Chain(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the filter goes by; fitted on people whom the model that fitted it had not seen.

    Attributes:
        steps: n rows of n shares: by state, which one holds a hop later.
        start: n shares: which state a segment begins in.
        prior: n shares of time, none of them 0, that the model's outputs are divided by.
        prior_weight: exponent of that division.
        evidence: exponent of what a window says between sets of kin.
        within: the same between the states of a set.
        kin: sets of places of states, none in two of them.
        repeated: share of what a window says that the one before it has said already.
    """

    steps: tuple[tuple[Share, ...], ...]
    start: tuple[Share, ...]
    prior: tuple[Annotated[float, Meta(ge=FLOOR, le=1)], ...]
    prior_weight: Share
    evidence: Annotated[float, Meta(gt=0, le=1)]
    within: Share
    kin: tuple[tuple[Annotated[int, Meta(ge=0)], ...], ...] = ()
    repeated: Share = 0.0

    def __post_init__(self) -> None:
        """Refuse what is no chain.

        Raises:
            ConfigError: shares of another number or sum, or kin that are no states or in two sets.
        """
        n = len(self.start)
        rows = {"start": self.start, "prior": self.prior}
        rows |= {f"steps[{number}]": row for number, row in enumerate(self.steps)}
        if len(self.steps) != n:
            raise ConfigError(
                f"chain.steps has {len(self.steps)} rows; expected {n}, as many as chain.start has shares"
            )
        for name, row in rows.items():
            if len(row) != n or not abs(sum(row) - 1.0) <= _SUM_TOLERANCE:
                raise ConfigError(f"chain.{name} is {len(row)} shares of sum {sum(row):.9g}; expected {n} of sum 1")
        places = [place for one in self.kin for place in one]
        if len(set(places)) != len(places) or any(len(one) < 2 for one in self.kin) or max(places, default=0) >= n:
            raise ConfigError(
                f"chain.kin is {[list(one) for one in self.kin]!s:.200}; expected sets of two states or more from 0 to "
                f"{n - 1}, none of them in two"
            )

    @property
    def states(self) -> int:
        """How many there are, "none of these" among them."""
        return len(self.start)


class ForwardFilter:
    """A chain at work; the same bits however many rows there are at once, for no sum depends on their number.

    Attributes:
        kept: how many numbers of what a window said are kept for the next one: none where nothing is repeated.

    >>> stay = ((0.9, 0.1, 0.0), (0.1, 0.9, 0.0), (0.0, 0.0, 1.0))
    >>> chain = Chain(steps=stay, start=(0.5, 0.5, 0.0), prior=(0.4, 0.4, 0.2), prior_weight=0, evidence=1, within=1)
    >>> p, said, held = np.zeros((1, 3)), np.zeros((1, 0), np.float32), ForwardFilter(chain)
    >>> for started, q in ((False, [0.8, 0.2]), (True, [0.5, 0.5]), (True, [0.2, 0.8])):
    ...     p, said = held.update(p, said, np.array([started]), np.array([q]))
    ...     print(p.round(3))
    [[0.8 0.2 0. ]]
    [[0.74 0.26 0.  ]]
    [[0.36 0.64 0.  ]]
    """

    def __init__(self, chain: Chain) -> None:
        """Ready to filter.

        Args:
            chain: what to go by.
        """
        self._repeated = chain.repeated
        self.kept = chain.states if chain.repeated else 0
        self._steps = np.array(chain.steps)
        self._start = np.array(chain.start)
        self._gain = np.array(chain.prior) ** -chain.prior_weight
        # Of each state the column of its set's sum, behind the states' own; outside of sets it is its own.
        self._members = np.array([place for one in chain.kin for place in one], np.int64)
        self._begins = np.cumsum([0, *(len(one) for one in chain.kin[:-1])])
        self._whole = np.arange(chain.states)
        for number, one in enumerate(chain.kin, start=chain.states):
            self._whole[list(one)] = number
        self._own = np.full(chain.states, chain.evidence)
        self._shared = np.zeros(chain.states)
        self._own[self._members] = chain.within
        self._shared[self._members] = chain.evidence - chain.within

    def update(
        self, before: Float64, said: Float32, started: NDArray[np.bool_], probabilities: NDArray[np.floating]
    ) -> tuple[Float64, Float32]:
        """(m, states) float64: probabilities of the states with one more window each; (m, kept) what that said.

        Args:
            before: (m, states) float64, the same up to the window before.
            said: (m, kept) float32, what that window said.
            started: (m,) bool, whether there was one in the segment.
            probabilities: (m, states - 1) of the windows.
        """
        if len(before) <= _ROWS:
            return self._update(before, said, started, probabilities)
        parts = [
            self._update(before[own], said[own], started[own], probabilities[own])
            for own in (slice(i, i + _ROWS) for i in range(0, len(before), _ROWS))
        ]
        return np.concatenate([p for p, _ in parts]), np.concatenate([own for _, own in parts])

    def _update(
        self, before: Float64, said: Float32, started: NDArray[np.bool_], probabilities: NDArray[np.floating]
    ) -> tuple[Float64, Float32]:
        # Not a matrix product: that of BLAS adds in another order for another number of rows.
        expected = (before[:, :, None] * self._steps).sum(axis=1)
        expected = np.where(started[:, None], expected, self._start)
        newest = self._says(probabilities)
        evidence = newest
        if self._repeated:
            evidence = np.where(started[:, None], newest - self._repeated * said, (1.0 + self._repeated) * newest)
        # Within 1e-24 and 1e24 for FLOOR and the bounds of a chain: no need to scale it.
        found = expected * np.exp(evidence)
        share: Float64 = found / found.sum(axis=1, keepdims=True)
        return share, newest[:, : self.kept].astype(np.float32)

    def _says(self, probabilities: NDArray[np.floating]) -> Float64:
        """(m, states) v."""
        rows, outputs = probabilities.shape
        given = np.empty((rows, outputs + 1))
        given[:, :-1] = probabilities
        given[:, -1] = 1.0 - given[:, :-1].sum(axis=1)
        floored = np.maximum(given, FLOOR) * self._gain
        logs = np.log(floored)
        exponents = self._own * logs
        if len(self._members):
            # evidence x m + within x (log f - m), with the terms put together by logarithm.
            sums = np.add.reduceat(np.take(floored, self._members, axis=1), self._begins, axis=1)
            exponents += self._shared * np.take(np.concatenate([logs, np.log(sums)], axis=1), self._whole, axis=1)
        return exponents
