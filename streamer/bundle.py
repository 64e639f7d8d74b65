"""A model and everything its numbers mean: model.onnx, bundle.json and golden vectors in one folder.

    <name>/
      bundle.json    the Manifest below
      model.onnx     input "windows" (batch, window_len, channels) float32, output "probabilities" (batch, labels
                     and passages)
      golden.npz     readings, windows and probabilities that this release must reproduce
      CARD.md        the model card, for people

Nothing in a bundle is overridden when serving, and nothing operational stands in one. The digest over the manifest
and the files it names identifies the model in every event and checkpoint.
"""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Annotated, Final

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from streamer.activities import GROUPS, NAME, UNKNOWN, groups_around, groups_of
from streamer.chain import Chain, Share
from streamer.errors import BundleError, ConfigError, nearest, one_line
from streamer.likeness.profile import Profile
from streamer.npz import read_npz
from streamer.preprocessing.spec import PreprocessingSpec

SCHEMA: Final = 1
MODEL_FILE: Final = "model.onnx"
GOLDEN_FILE: Final = "golden.npz"
MANIFEST_FILE: Final = "bundle.json"
FILE_LIMIT_BYTES: Final = 16_000_000
#: Of the golden vectors once decompressed.
GOLDEN_LIMIT_BYTES: Final = 64_000_000
#: Each is a series in several metrics.
MOST_LABELS: Final = 256

Sha256 = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]


class Smoothing(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How probabilities over time become bouts; fitted on held-out training subjects.

    Attributes:
        weight: weight of the newest window in the exponential mean of probabilities; 1 means no smoothing, and beside
            a chain nothing else may stand.
        enter: smoothed probability an activity must reach to start a bout.
        leave: smoothed probability below which the current activity ends as `unknown`.
        dwell: consecutive windows for which a new activity must lead before its bout starts.
        group_enter: what the labels of a group must reach together for the group to be told where none of them is
            sure enough; null to tell no groups. Above a half, so that no two apart from each other reach it.
        group_leave: what they fall below when the group is given up; null for `leave`.
        chain: which state follows which, in place of the exponential mean; null for that.
    """

    weight: Annotated[float, Meta(gt=0, le=1)]
    enter: Share
    leave: Share
    dwell: Annotated[int, Meta(ge=1, le=100)]
    group_enter: Annotated[float, Meta(gt=0.5, le=1)] | None = None
    group_leave: Share | None = None
    chain: Chain | None = None

    def __post_init__(self) -> None:
        """Refuse a weight that would not be used.

        Raises:
            ConfigError: there are a chain and a weight.
        """
        if self.chain is not None and self.weight != 1:
            raise ConfigError(f"smoothing.weight is {self.weight:g} beside a chain, which takes its place; expected 1")


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """bundle.json.

    Attributes:
        schema: version of this layout.
        name: the bundle's name, as in `--model NAME`.
        version: version of the model, for people.
        labels: activities in the order of the model's outputs: of `streamer.activities`, or somebody's own.
        passages: what the model's further outputs stand for, in their order: movements from one label to another, such
            as stand_to_sit, that are recognised and never told.
        preprocessing: what a window is.
        min_feed_rate_hz: slowest feed that the model was shown to take; below it a watch is `unknown`.
        smoothing: what a bout is.
        training: how it was made: recipe, seed, data, terms; for people and for `har-models report`.
        model_sha256, golden_sha256: content of the two files.
        groups: by label the group that it belongs to, where that is not its place in `streamer.activities.GROUPS`.
        profile: what the training recordings were like, for telling what readings are unlike them; None where nobody
            knows.
    """

    schema: int
    name: Annotated[str, Meta(pattern="^[a-z0-9][a-z0-9-]{0,63}$")]
    version: str
    labels: tuple[str, ...]
    preprocessing: PreprocessingSpec
    min_feed_rate_hz: Annotated[float, Meta(gt=0)]
    smoothing: Smoothing
    training: dict[str, str]
    model_sha256: Sha256
    golden_sha256: Sha256
    groups: dict[str, str] = {}  # msgspec copies it
    profile: Profile | None = None
    passages: tuple[str, ...] = ()


class _Schema(msgspec.Struct, frozen=True):
    schema: int


@dataclass(frozen=True, slots=True, eq=False)
class Golden:
    """Vectors that serving must reproduce.

    Attributes:
        t_ns, acc, gyro: readings of a synthetic watch: (n,) int64 ns, (n, 3) float64 m/s², (n, 3) float64 rad/s.
        windows: (m, window_len, channels) float32, what the preprocessing makes of the readings.
        probabilities: (m, labels and passages) float32, what the model makes of the windows.
    """

    t_ns: NDArray[np.int64]
    acc: NDArray[np.float64]
    gyro: NDArray[np.float64]
    windows: NDArray[np.float32]
    probabilities: NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class ModelBundle:
    """A verified bundle.

    Attributes:
        manifest: bundle.json.
        model: bytes of model.onnx.
        golden: the golden vectors.
        digest: SHA-256 over bundle.json's bytes (which name the digests of the files), 16 hex digits.
    """

    manifest: Manifest
    model: bytes
    golden: Golden
    digest: str

    @property
    def labels(self) -> tuple[str, ...]:
        """Activities in the order of the model's outputs; behind them it may have passages."""
        return self.manifest.labels

    @property
    def outputs(self) -> tuple[str, ...]:
        """What the model's outputs stand for: labels, then passages."""
        return (*self.manifest.labels, *self.manifest.passages)

    @property
    def groups(self) -> dict[str, tuple[int, ...]]:
        """Groups that it tells where no label is sure enough, each with the places of its labels; mostly none."""
        manifest = self.manifest
        return {} if manifest.smoothing.group_enter is None else groups_of(manifest.labels, manifest.groups)

    @property
    def activities(self) -> tuple[str, ...]:
        """Whatever its events may tell, in the order of the tracker's numbers: labels, groups, unknown."""
        return (*self.labels, *self.groups, UNKNOWN)

    @property
    def paths(self) -> tuple[tuple[str, ...], ...]:
        """For each of `activities` the groups that it is in, the widest first; of a group itself, that last."""
        around = [groups_around(activity, self.labels, self.manifest.groups) for activity in self.activities]
        own = [(name,) if name in self.groups else () for name in self.activities]
        return tuple((*above, *itself) for above, itself in zip(around, own, strict=True))

    @property
    def spec(self) -> PreprocessingSpec:
        """What a window is."""
        return self.manifest.preprocessing


def shipped_bundles() -> dict[str, Path]:
    """Name and folder of every bundle that came with this installation."""
    # Found without importing `models`, which would bring torch along.
    root = Path(str(resources.files("streamer"))).parent / "models" / "bundles"
    return {path.parent.name: path.parent for path in sorted(root.glob(f"*/{MANIFEST_FILE}"))}


def find_bundle(name_or_path: str) -> Path:
    """Folder of a shipped bundle's name or of a path.

    Raises:
        BundleError: neither a shipped name nor a folder with a bundle.json.
    """
    shipped = shipped_bundles()
    if name_or_path in shipped:
        return shipped[name_or_path]
    path = Path(name_or_path)
    if (path / MANIFEST_FILE).is_file():
        return path
    raise BundleError(
        f"model {name_or_path!r} is neither a shipped bundle ({', '.join(shipped) or 'none installed'}) "
        f"nor a folder with a {MANIFEST_FILE}{nearest(name_or_path, shipped)}"
    )


def load_bundle(folder: Path | str) -> ModelBundle:
    """Read and verify a bundle; nothing in it is executed or unpickled, and nothing outside the folder is read.

    Args:
        folder: where it is; as text also the name of a shipped one.

    Raises:
        BundleError: there is none, or a file is missing, too large, altered, or says something that this release does
            not understand.
    """
    if isinstance(folder, str):
        folder = find_bundle(folder)
    return read_bundle(folder, *(_read(folder, name) for name in (MANIFEST_FILE, MODEL_FILE, GOLDEN_FILE)))


def read_bundle(folder: Path, manifest_bytes: bytes, model: bytes, golden: bytes) -> ModelBundle:
    """A bundle from the content of its files.

    Args:
        folder: for messages.
        manifest_bytes: bundle.json.
        model: model.onnx.
        golden: golden.npz.

    Raises:
        BundleError: as for `load_bundle`.
    """
    manifest = _manifest(folder / MANIFEST_FILE, manifest_bytes)
    for name, content, expected in (
        (MODEL_FILE, model, manifest.model_sha256),
        (GOLDEN_FILE, golden, manifest.golden_sha256),
    ):
        found = hashlib.sha256(content).hexdigest()
        if found != expected:
            raise BundleError(f"{folder / name}: SHA-256 is {found}; {MANIFEST_FILE} expects {expected}")
    digest = hashlib.sha256(manifest_bytes).hexdigest()[:16]
    return ModelBundle(manifest, model, _golden(folder / GOLDEN_FILE, golden, manifest), digest)


def save_bundle(folder: Path, manifest: Manifest, model: bytes, golden: Golden) -> ModelBundle:
    """Write a bundle and read it back; the digests in `manifest` are replaced by those of the content.

    Raises:
        BundleError: what was written does not verify.
    """
    folder.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        t_ns=golden.t_ns,
        acc=golden.acc,
        gyro=golden.gyro,
        windows=golden.windows,
        probabilities=golden.probabilities,
    )
    golden_bytes = buffer.getvalue()
    manifest = msgspec.structs.replace(
        manifest,
        model_sha256=hashlib.sha256(model).hexdigest(),
        golden_sha256=hashlib.sha256(golden_bytes).hexdigest(),
    )
    (folder / MODEL_FILE).write_bytes(model)
    (folder / GOLDEN_FILE).write_bytes(golden_bytes)
    (folder / MANIFEST_FILE).write_bytes(msgspec.json.format(msgspec.json.encode(manifest)) + b"\n")
    return load_bundle(folder)


def _read(folder: Path, name: str) -> bytes:
    path = folder / name
    try:
        # A link may lead about inside the folder, as in a volume of Kubernetes, and not out of it.
        place = path.resolve(strict=True)
        if not place.is_relative_to(folder.resolve(strict=True)):
            raise BundleError(f"{path}: leads out of the bundle to {place}; expected a file in its folder")
        # A pipe would be waited for.
        if not place.is_file():
            raise BundleError(f"{path}: is no file; expected one")
        size = place.stat().st_size
        if size > FILE_LIMIT_BYTES:
            raise BundleError(f"{path}: {size} bytes; expected at most {FILE_LIMIT_BYTES}")
        return place.read_bytes()
    except OSError as error:
        raise BundleError(f"{path}: cannot be read ({error.strerror})") from error
    except RuntimeError as error:
        raise BundleError(f"{path}: is a link to itself; expected a file") from error


def _manifest(path: Path, content: bytes) -> Manifest:
    try:
        # The schema first: another one may have other fields.
        schema = msgspec.json.decode(content, type=_Schema).schema
        manifest = msgspec.json.decode(content, type=Manifest) if schema == SCHEMA else None
    except (msgspec.DecodeError, UnicodeDecodeError, ConfigError) as error:
        raise BundleError(f"{path}: {one_line(error, 300)}") from error
    except RecursionError as error:
        raise BundleError(f"{path}: nested too deeply; expected a manifest") from error
    if manifest is None:
        raise BundleError(f"{path}: schema is {schema}; this release reads {SCHEMA}")
    wrong = [label for label in manifest.labels if not NAME.fullmatch(label)]
    if wrong or not 0 < len(set(manifest.labels)) == len(manifest.labels) <= MOST_LABELS:
        raise BundleError(
            f"{path}: labels {wrong or list(manifest.labels)!s:.200} are not 1 to {MOST_LABELS} distinct names of "
            f"activities; expected names such as walking_upstairs, and not {UNKNOWN}"
        )
    outputs = (*manifest.labels, *manifest.passages)
    wrong = [name for name in manifest.passages if not NAME.fullmatch(name)]
    if wrong or not len(set(outputs)) == len(outputs) <= MOST_LABELS:
        raise BundleError(
            f"{path}: passages {wrong or list(manifest.passages)!s:.200} are not distinct names that no label has, at "
            f"most {MOST_LABELS} with the labels; expected names such as stand_to_sit"
        )
    chain = manifest.smoothing.chain
    if chain is not None and chain.states != len(outputs) + 1:
        raise BundleError(
            f"{path}: smoothing.chain has {chain.states} states; expected {len(outputs) + 1}: {len(manifest.labels)} "
            f"labels, {len(manifest.passages)} passages and none of these"
        )
    misplaced = [
        f"{label} in {group}"
        for label, group in manifest.groups.items()
        if label not in manifest.labels or group not in GROUPS or group in manifest.labels
    ]
    if misplaced:
        raise BundleError(
            f"{path}: groups place {', '.join(misplaced)!s:.200}; expected labels of this model, each in a group that "
            f"is none: {', '.join(GROUPS)}"
        )
    return manifest


def _golden(path: Path, content: bytes, manifest: Manifest) -> Golden:
    names = ("t_ns", "acc", "gyro", "windows", "probabilities")
    try:
        arrays = read_npz(io.BytesIO(content), names, most_bytes=GOLDEN_LIMIT_BYTES)
    except ValueError as error:
        raise BundleError(f"{path}: not golden vectors ({error})") from error
    absent = [name for name in names if name not in arrays]
    if absent:
        raise BundleError(f"{path}: not golden vectors (no array {absent[0]})")
    golden = Golden(**arrays)
    n, m = (len(array) if array.ndim else 0 for array in (golden.t_ns, golden.windows))
    spec = manifest.preprocessing
    shapes: dict[str, tuple[NDArray[np.generic], type[np.generic], tuple[int, ...]]] = {
        "windows": (golden.windows, np.float32, (m, spec.window_len, len(spec.channels))),
        "t_ns": (golden.t_ns, np.int64, (n,)),
        "acc": (golden.acc, np.float64, (n, 3)),
        "gyro": (golden.gyro, np.float64, (n, 3)),
        "probabilities": (golden.probabilities, np.float32, (m, len(manifest.labels) + len(manifest.passages))),
    }
    for name, (array, dtype, shape) in shapes.items():
        if array.dtype != dtype or array.shape != shape or not m:
            raise BundleError(
                f"{path}: {name} is {array.dtype} {array.shape}; expected {np.dtype(dtype)} {shape}, not empty"
            )
    return golden
