"""What turns readings into a model's windows, as one value that travels inside the bundle."""

from __future__ import annotations

from typing import Final, Literal, get_args

import msgspec

from streamer.errors import ConfigError

Channel = Literal[
    "body_acc_x",
    "body_acc_y",
    "body_acc_z",
    "gravity_x",
    "gravity_y",
    "gravity_z",
    "total_acc_x",
    "total_acc_y",
    "total_acc_z",
    "gyro_x",
    "gyro_y",
    "gyro_z",
]
CHANNELS: Final[tuple[Channel, ...]] = get_args(Channel)
Sensor = Literal["acc", "gyro"]


class LowPass(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A causal Butterworth low-pass.

    Attributes:
        order: filter order.
        cutoff_hz: -3 dB frequency, below half the grid's rate.
    """

    order: int
    cutoff_hz: float


class PreprocessingSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that decides the numbers in a window; immutable, part of the bundle and of its digest.

    Attributes:
        rate_hz: rate of the grid, samples per second; divides 10^9.
        window_len: samples per window.
        hop_len: samples between the starts of consecutive windows.
        max_gap_ns: a hole longer than this restarts filters, window and tracker; shorter ones are interpolated.
        acc_unit: unit of acceleration inside the windows ("g" or "m/s2"); readings are always m/s².
        median_len: 3 for a centred median of three before the filters (one sample of delay), 1 for none.
        noise: low-pass on acceleration and angular rate, None for none.
        gravity: low-pass whose output is the gravity acceleration; body = total - gravity.
        gyro_drift: low-pass whose output is subtracted from the angular rate, None for none.
        initial_state: "zero": filters start at rest, as the published data sets did; "primed": as if the first
            sample had always been there (gyro_drift excepted: the expected angular rate is zero).
        channels: the columns of a window, in order.
        optional_sensors: sensors that a window may lack; their channels are 0 then, exactly. Never "acc": gravity is
            made of it.
    """

    rate_hz: int
    window_len: int
    hop_len: int
    max_gap_ns: int
    acc_unit: Literal["g", "m/s2"]
    median_len: Literal[1, 3]
    noise: LowPass | None
    gravity: LowPass
    gyro_drift: LowPass | None
    initial_state: Literal["zero", "primed"]
    channels: tuple[Channel, ...]
    optional_sensors: tuple[Sensor, ...] = ()

    def __post_init__(self) -> None:
        if not (0 < self.rate_hz <= 1000 and 1_000_000_000 % self.rate_hz == 0):
            raise ConfigError(f"preprocessing.rate_hz is {self.rate_hz}; expected a divisor of 10^9 from 1 to 1000")
        if not 2 <= self.window_len <= 4096:
            raise ConfigError(f"preprocessing.window_len is {self.window_len}; expected 2 to 4096 samples")
        if not 1 <= self.hop_len <= self.window_len:
            raise ConfigError(f"preprocessing.hop_len is {self.hop_len}; expected 1 to window_len={self.window_len}")
        if not self.period_ns <= self.max_gap_ns <= 60_000_000_000:
            raise ConfigError(f"preprocessing.max_gap_ns is {self.max_gap_ns}; expected one grid period to 60 s")
        if not self.channels or len(set(self.channels)) != len(self.channels):
            raise ConfigError(f"preprocessing.channels is {self.channels}; expected distinct channel names")
        if self.optional_sensors and not (self.optional_sensors == ("gyro",) and self.uses_gyro):
            raise ConfigError(
                f"preprocessing.optional_sensors is {self.optional_sensors}; "
                f"expected none, or ('gyro',) where channels are made of it"
            )
        for name in ("noise", "gravity", "gyro_drift"):
            low_pass: LowPass | None = getattr(self, name)
            if low_pass is None:
                continue
            if not (1 <= low_pass.order <= 16 and 0 < low_pass.cutoff_hz < self.rate_hz / 2):
                raise ConfigError(
                    f"preprocessing.{name} is order {low_pass.order} at {low_pass.cutoff_hz} Hz; "
                    f"expected order 1 to 16 and a cutoff below {self.rate_hz / 2} Hz"
                )

    @property
    def period_ns(self) -> int:
        """Grid period, ns."""
        return 1_000_000_000 // self.rate_hz

    @property
    def window_ns(self) -> int:
        """Length of a window, ns: window_len grid periods."""
        return self.window_len * self.period_ns

    @property
    def sensors(self) -> tuple[Sensor, ...]:
        """The sensors that the windows are made of, optional ones included."""
        return ("acc", "gyro") if self.uses_gyro else ("acc",)

    @property
    def required_sensors(self) -> tuple[Sensor, ...]:
        """Those without which there is no window."""
        return tuple(sensor for sensor in self.sensors if sensor not in self.optional_sensors)

    @property
    def sensors_in_words(self) -> str:
        """The sensors for people: "acc", "acc and gyro", or "acc, and gyro where there is one"."""
        if self.optional_sensors:
            return (
                f"{' and '.join(self.required_sensors)}, and {' and '.join(self.optional_sensors)} where there is one"
            )
        return " and ".join(self.sensors)

    @property
    def uses_gyro(self) -> bool:
        """Whether any channel needs the gyroscope."""
        return any(channel.startswith("gyro") for channel in self.channels)


#: The chain behind the published UCI HAR windows: it rebuilds them bit for bit from the raw HAPT recordings.
#: Source: recovered from the recordings of both data sets; the data set's description gives order 3 and omits
#: the gyroscope's high-pass. tests/unit/test_uci_har_parity.py is the proof.
UCI_HAR: Final = PreprocessingSpec(
    rate_hz=50,
    window_len=128,
    hop_len=64,
    max_gap_ns=1_000_000_000,
    acc_unit="g",
    median_len=3,
    noise=LowPass(order=10, cutoff_hz=20.0),
    gravity=LowPass(order=3, cutoff_hz=0.3),
    gyro_drift=LowPass(order=2, cutoff_hz=0.1),
    initial_state="zero",
    channels=(
        "body_acc_x",
        "body_acc_y",
        "body_acc_z",
        "gyro_x",
        "gyro_y",
        "gyro_z",
        "total_acc_x",
        "total_acc_y",
        "total_acc_z",
    ),
)
