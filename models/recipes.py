"""Recipes: everything that decides how a shipped model is made, one frozen value each."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import msgspec

from models.nets.networks import CnnConfig, ConvLstmConfig, LstmConfig, NetworkConfig
from models.nets.worn import COST_OF_DOUBT
from models.windows.augment import StreamVariety, WindowVariety
from models.windows.data import DatasetName
from simulator.datasets import fitbit, uci_har, wisdm
from streamer.errors import ConfigError, nearest
from streamer.preprocessing.spec import UCI_HAR, Channel, LowPass, PreprocessingSpec


@dataclass(frozen=True, slots=True)
class Pass:
    """One run of the streaming code over the training recordings; a model's training windows are those of all passes.

    Attributes:
        hop_len: samples between windows.
        variety: how the streams are varied first.
    """

    hop_len: int
    variety: StreamVariety = field(default=StreamVariety())


@dataclass(frozen=True, slots=True)
class Schedule:
    """How a network is fitted: AdamW under a one-cycle learning rate.

    Attributes:
        epochs: chosen by cross-validation on training groups.
        windows_per_epoch: windows drawn without replacement each epoch, at most all of them.
        batch_size: windows per step.
        learning_rate: the cycle's peak.
        weight_decay: decoupled weight decay.
        label_smoothing: share of the target spread over all labels.
    """

    epochs: int
    windows_per_epoch: int
    batch_size: int = 128
    learning_rate: float = 2e-3
    weight_decay: float = 0.02
    label_smoothing: float = 0.1


@dataclass(frozen=True, slots=True)
class Recipe:
    """A model in the making.

    Attributes:
        name: of the recipe and of its bundle.
        summary: one line for people.
        dataset: recordings to train on.
        official_split: train on the publisher's training subjects only; its test split is read once, at the end.
        labels: activities in the order of the outputs.
        spec: what a window is.
        network: sizes.
        passes: training windows.
        schedule: fitting.
        variety: of windows, drawn afresh each epoch.
        folds: cross-validation folds by group.
        evaluate_on: data sets whose figures stand on the card.
        stream_on: data sets of which whole recordings are streamed for the card.
        stress_on: data sets whose recordings are varied for the card, and given a dead axis.
        calibrated: whether temperature and smoothing are fitted on held-out groups; not where all groups are one
            person, whom the model knows too well to be told how sure it may be of others.
        min_feed_rate_hz: slowest feed that the model is meant to take.
        version: of the model.
        limits: what the card says about where the model stops being good.
        passages: movements between activities that the network is to know, too; labelled in the data set.
        chained: whether a chain is fitted in place of the exponential mean; needs `calibrated`, and as many fits to
            calibrate as there are folds, so that what windows say of everybody comes from a fit without them.
        kin: labels that windows tell apart badly, for the chain.
        unworn_s: length of the generated streams of watches that nobody wears (`models.windows.unworn`), some of each
            kind for each recording, by which these are told (`models.nets.worn`); 0 for a model that knows none.
        cost_of_doubt: of taking a wearer for nobody, where to take nobody for a wearer costs 1.
    """

    name: str
    summary: str
    dataset: DatasetName
    official_split: bool
    labels: tuple[str, ...]
    spec: PreprocessingSpec
    network: NetworkConfig
    passes: tuple[Pass, ...]
    schedule: Schedule
    variety: WindowVariety
    folds: int
    evaluate_on: tuple[str, ...]
    stream_on: tuple[str, ...]
    min_feed_rate_hz: float
    calibrated: bool = True
    version: str = "1"
    # No part of what decides a fit, whose digest is of this value's text.
    stress_on: tuple[str, ...] = field(default=(), repr=False)
    limits: tuple[str, ...] = field(default=())
    # Of what decides a fit where they are set (`held_out.recipe_digest`).
    passages: tuple[str, ...] = field(default=(), repr=False)
    chained: bool = field(default=False, repr=False)
    kin: tuple[tuple[str, ...], ...] = field(default=(), repr=False)
    unworn_s: float = field(default=0.0, repr=False)
    cost_of_doubt: float = field(default=COST_OF_DOUBT, repr=False)


#: The published chain, for streams that start mid-motion.
_UCI_LIVE: Final = msgspec.structs.replace(UCI_HAR, initial_state="primed")

#: The same, for phones that may lack a gyroscope or have it switched off.
_UCI_EITHER: Final = msgspec.structs.replace(_UCI_LIVE, optional_sensors=("gyro",))

#: What phones, sensors and networks do to recordings.
_UCI_VARIETY: Final = StreamVariety(
    section_s=(15.0, 45.0),
    stretch=0.1,
    loss=0.15,
    holes=0.15,
    resampled=0.7,
    rates_hz=(9.5, 50.0),
    other_sensor=0.3,
)
#: Whole recordings, and three times sections of them that are varied otherwise each time.
_UCI_VARIED: Final = (Pass(hop_len=16), *(Pass(hop_len=16, variety=_UCI_VARIETY) for _ in range(3)))

#: Whole recordings, and sections whose filters have just started.
_UCI_PASSES: Final = (Pass(hop_len=8), Pass(hop_len=16, variety=StreamVariety(section_s=(15.0, 45.0))))

_NINE: Final[tuple[Channel, ...]] = (
    *("body_acc_x", "body_acc_y", "body_acc_z"),
    *("gravity_x", "gravity_y", "gravity_z"),
    *("gyro_x", "gyro_y", "gyro_z"),
)

_WRIST: Final = PreprocessingSpec(
    rate_hz=20,
    window_len=100,
    hop_len=50,
    max_gap_ns=1_000_000_000,
    acc_unit="g",
    median_len=1,
    noise=None,
    gravity=LowPass(order=3, cutoff_hz=0.3),
    gyro_drift=None,
    initial_state="primed",
    channels=_NINE,
    optional_sensors=("gyro",),
)

#: What other watches, wearers and networks do to recordings.
_WRIST_VARIETY: Final = StreamVariety(
    section_s=(20.0, 90.0),
    stretch=0.15,
    loss=0.1,
    holes=0.1,
    resampled=0.5,
    rates_hz=(9.5, 50.0),
    other_sensor=0.3,
)

_FITBIT: Final = PreprocessingSpec(
    rate_hz=10,
    window_len=32,
    hop_len=16,
    max_gap_ns=1_000_000_000,
    acc_unit="g",
    median_len=1,
    noise=None,
    gravity=LowPass(order=3, cutoff_hz=0.3),
    gyro_drift=None,
    initial_state="primed",
    channels=_NINE,
)


def _waist(
    *, name: str, summary: str, network: NetworkConfig, epochs: int, without_gyro: float, version: str
) -> Recipe:
    """A model of HAPT's phones at the waist, for phones, sensors and networks as they come."""
    return Recipe(
        name=name,
        summary=summary,
        dataset="hapt",
        official_split=True,
        labels=uci_har.LABELS,
        spec=_UCI_EITHER,
        network=network,
        passes=_UCI_VARIED,
        schedule=Schedule(epochs=epochs, windows_per_epoch=10_000, batch_size=64, learning_rate=3e-3),
        variety=WindowVariety(rotation_deg=35.0, scale=0.1, without_gyro=without_gyro),
        folds=5,
        evaluate_on=("uci-har", "hapt"),
        stream_on=("hapt",),
        stress_on=("hapt",),
        min_feed_rate_hz=10.0,
        version=version,
        passages=("stand_to_sit", "sit_to_stand", "sit_to_lie", "lie_to_sit", "stand_to_lie", "lie_to_stand"),
        chained=True,
        kin=(("sitting", "standing"),),
        unworn_s=20.0,
        limits=(
            "A phone fixed at the waist; a watch at the wrist is another matter.",
            "Turned by more than some 35 degrees it fails; in any orientation it is wrong three times in four.",
            "Sitting and standing differ by little more than the trunk's tilt and make up most of the errors.",
            "Who is seen to sit down is told to sit; what a stream begins with is told less well.",
            "Without the gyroscope, sitting and standing are told apart less well than with it.",
            "Without the gyroscope, a vibrating machine is told as an activity a quarter of the time.",
        ),
    )


_RECIPES: Final = (
    Recipe(
        name="wisdm-watch-cnn",
        summary="18 activities from a watch at the wrist, 10 Hz or more, with gyroscope or without; the default one",
        dataset="wisdm-watch",
        official_split=False,
        labels=tuple(wisdm.LABELS.values()),
        spec=_WRIST,
        network=CnnConfig(widths=(32, 64, 128), block_dropout=0.0),
        passes=(Pass(hop_len=50), *(Pass(hop_len=50, variety=_WRIST_VARIETY) for _ in range(3))),
        schedule=Schedule(epochs=50, windows_per_epoch=45_000),
        variety=WindowVariety(rotation_deg=45.0, scale=0.1, without_gyro=0.5, worn_otherwise=0.4),
        folds=5,
        evaluate_on=("wisdm-watch", "fitbit"),
        stream_on=("fitbit",),
        stress_on=("fitbit",),
        min_feed_rate_hz=10.0,
        version="5",
        chained=True,
        unworn_s=20.0,
        # A wrist at rest looks like a table to an accelerometer: at a cost of 10 a twentieth of held-out people's
        # sitting was refused, at 20 a fortieth.
        cost_of_doubt=20.0,
        limits=(
            "One model of watch (LG G Watch) on the wrist of students.",
            "Axes are taken to be those of Android and iOS, at either wrist and with the crown to either side.",
            "A car may pass for a hand at rest or at a meal, without a gyroscope mostly.",
            "Without a gyroscope, what vibrates is at times told as an activity.",
            "Each activity was recorded for three minutes on request; daily life holds much that is none of the 18.",
            "The five kinds of eating and drinking are often taken for one another.",
        ),
    ),
    _waist(
        name="uci-har-cnn",
        summary="6 activities from a phone at the waist, 10 to 50 Hz, with or without gyroscope; residual CNN, chain",
        network=CnnConfig(widths=(24, 48, 80)),
        epochs=90,
        without_gyro=0.5,
        version="4",
    ),
    _waist(
        name="uci-har-convlstm",
        summary="6 activities from a phone at the waist, 10 to 50 Hz, with or without gyroscope; conv-LSTM, chain",
        network=ConvLstmConfig(stem=(48, 64), hidden=96),
        # More were tried of the CNN alone.
        epochs=30,
        without_gyro=0.3,
        version="2",
    ),
    Recipe(
        name="uci-har-lstm",
        summary="6 activities from a phone at the waist, 50 Hz; the published two-layer LSTM",
        dataset="hapt",
        official_split=True,
        labels=uci_har.LABELS,
        spec=_UCI_LIVE,
        network=LstmConfig(),
        passes=_UCI_PASSES,
        schedule=Schedule(epochs=30, windows_per_epoch=10_000, batch_size=64, learning_rate=5e-3, label_smoothing=0.05),
        variety=WindowVariety(rotation_deg=8.0, scale=0.1),
        folds=3,
        evaluate_on=("uci-har", "hapt"),
        stream_on=("hapt",),
        min_feed_rate_hz=40.0,
        limits=(
            "A phone fixed at the waist in one orientation; a watch at the wrist is another matter.",
            "`uci-har-cnn` is the better model; this one stands for the published architecture.",
        ),
    ),
    Recipe(
        name="fitbit-cnn",
        summary="10 activities from a Fitbit at the wrist, 10 Hz, one person",
        dataset="fitbit",
        official_split=False,
        labels=fitbit.LABELS,
        spec=_FITBIT,
        network=CnnConfig(widths=(32, 64, 96), stem_kernel=5, stem_stride=1),
        passes=(
            Pass(hop_len=2),
            *(Pass(hop_len=2, variety=StreamVariety(stretch=0.1, loss=0.03)) for _ in range(3)),
        ),
        schedule=Schedule(epochs=20, windows_per_epoch=6_000, batch_size=64),
        variety=WindowVariety(rotation_deg=15.0, scale=0.1),
        folds=5,
        evaluate_on=("fitbit",),
        stream_on=(),
        min_feed_rate_hz=8.0,
        calibrated=False,
        limits=(
            "One person and about a minute per activity: nothing here says how it does on anybody else.",
            "Blocks in time of the same minute resemble one another, so even the blocked figures flatter it.",
        ),
    ),
)

RECIPES: Final[dict[str, Recipe]] = {recipe.name: recipe for recipe in _RECIPES}


def find_recipe(name: str) -> Recipe:
    """The recipe of that name.

    Raises:
        ConfigError: there is none.
    """
    if name not in RECIPES:
        raise ConfigError(f"recipe {name!r} is unknown; expected one of {', '.join(RECIPES)}{nearest(name, RECIPES)}")
    return RECIPES[name]
