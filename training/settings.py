"""Settings of a training run: one dataclass for the command line, the notebook and the tests."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, TypeVar

import tyro
from tyro.constructors import PrimitiveConstructorSpec

from detector.models.spec import ModelSpec, file_sha256, read_spec
from detector.results import ModelError
from training.manifests import ROOT
from training.networks import NETWORKS, PUBLISHED

MODEL = ROOT / "model.h5"
MODELS = ROOT / "models"
DEFAULT_MANIFEST = ROOT / "data" / "synthetic_data" / "manifest.csv"
LEARNING_RATE = 1e-3  # default peak, AdamW
SELF_BLEND = 0.35  # default proportion of the fakes
RECONSTRUCT = 0.08  # default proportion of the fakes

Command = TypeVar("Command")


def at_least(least: int) -> PrimitiveConstructorSpec[int]:
    """Return the command-line type of whole numbers from `least` up."""

    def parse(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise ValueError(f"{text!r} is not a whole number from {least} up")
        return int(text)

    return _one_word("N", parse)


def one_of(names: Sequence[str]) -> PrimitiveConstructorSpec[str]:
    """Return the command-line type of one name out of several."""

    def parse(text: str) -> str:
        if text not in names:
            raise ValueError(f"{text!r} is not one of {', '.join(names)}")
        return text

    return _one_word("{" + ",".join(names) + "}", parse)


def _one_word(metavar: str, parse: Callable[[str], Any]) -> PrimitiveConstructorSpec[Any]:
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar=metavar,
        instance_from_str=lambda words: parse(words[0]),
        is_instance=lambda value: isinstance(value, int | float | str),
        str_from_instance=lambda value: [str(value)],
    )


def _parse_proportion(text: str) -> float:
    try:
        if 0 <= float(text) <= 1:
            return float(text)
    except ValueError:
        pass
    raise ValueError(f"{text!r} is not a proportion from 0 to 1")


def _parse_even(text: str) -> int:
    if not text.isdecimal() or int(text) < 2 or int(text) % 2:
        raise ValueError(f"{text!r} is not an even number from 2 up; half of a batch is real, half is fake")
    return int(text)


def _parse_emphasis(words: list[str]) -> dict[str, float]:
    factors = {}
    for word in words:
        source, _, factor = word.rpartition("=")
        try:
            factors[source] = float(factor)
        except ValueError:
            factors[source] = 0.0
        if not source or not factors[source] > 0:
            raise ValueError(f"{word!r} is not of the form SOURCE=FACTOR with a factor above 0")
    return factors


WholeNumber = Annotated[int, at_least(0)]
PositiveNumber = Annotated[int, at_least(1)]
EvenNumber = Annotated[int, _one_word("N", _parse_even)]
Proportion = Annotated[float, _one_word("0..1", _parse_proportion)]
NetworkName = Annotated[str, one_of(NETWORKS)]
HeadName = Annotated[str, one_of(("kinds",))]
Emphasis = Annotated[
    dict[str, float],
    PrimitiveConstructorSpec(
        nargs="*",
        metavar="SOURCE=FACTOR",
        instance_from_str=_parse_emphasis,
        is_instance=lambda value: isinstance(value, dict),
        str_from_instance=lambda value: [f"{source}={factor:g}" for source, factor in value.items()],
    ),
]


@dataclass(frozen=True)
class TrainingSettings:
    """Everything that, with the constants of `training`, decides what a run computes.

    The names and the order of the fields are the keys of a run folder's settings.json and of a model's training
    account. Renaming or moving one would stop earlier runs from resuming.

    Raises:
        ValueError: two settings contradict each other.
    """

    manifest: str
    """CSV file of labelled pictures."""
    manifest_sha256: tyro.conf.Suppress[str]
    network: NetworkName
    """Architecture of the network."""
    weights: str
    """imagenet (downloads), clip, none, a .weights.h5 file of the body, or a model.h5. Left empty: the project's own
    model.h5 if it has this network and nothing is left out, else none."""
    weights_sha256: tyro.conf.Suppress[str]
    input_size_px: Annotated[int, tyro.conf.arg(name="size")]
    """Side of the network's input in pixels."""
    epochs: PositiveNumber
    """Number of epochs."""
    epoch_samples: PositiveNumber
    """Pictures per epoch."""
    batch: EvenNumber
    """Pictures per batch, half real, half fake."""
    self_blend: Proportion
    """Proportion of the fakes that are self-blends of reals, made during training."""
    seed: int
    """Seed of all random draws."""
    reconstruct: Proportion = 0.0
    """Proportion of the fakes that are reals rebuilt by autoencoders."""
    autoencoders_sha256: tyro.conf.Suppress[str] = ""
    damaged: tyro.conf.Suppress[bool] = True
    """Whether crops are degraded: recompression, scaling, blur, noise and light."""
    balanced: tyro.conf.Suppress[bool] = True
    """Whether sources are balanced; otherwise every picture has the same chance."""
    leave_out: Annotated[tuple[str, ...], tyro.conf.arg(metavar="GENERATOR")] = ()
    """Exclude the fakes whose generator begins with one of these."""
    emphasis: Emphasis = field(default_factory=dict)
    """Show the pictures of a source more often by a factor."""
    learning_rate: float = LEARNING_RATE
    """Peak learning rate."""
    weight_decay: float = 1e-4
    """Weight decay of AdamW; 0 makes it Adam."""
    label_smoothing: Proportion = 0.05
    """Label smoothing of the loss."""
    dropout: Proportion = 0.2
    """Dropout before the last layer."""
    last_frozen: Annotated[str | None, tyro.conf.arg(metavar="LAYER")] = None
    """Keep the weights of the body up to this layer, and learn from features that are computed once."""
    views: WholeNumber | None = None
    """Augmented views of each picture whose features are computed, with --last-frozen; 2 by default. 0 makes no
    fakes either."""
    leave_out_fold: WholeNumber | None = None
    """Exclude the pictures of this fold of the manifest: none is learned from, none selects anything."""
    head: HeadName | None = None
    """kinds: learn nothing but linear heads for kinds of fakes, in one step, from the blocks up to --last-frozen. They
    learn from all pictures, so that calibrate.py needs --scores. Left out: one head after the last layer."""

    def __post_init__(self) -> None:
        if self.self_blend + self.reconstruct > 1:
            raise ValueError("--self-blend and --reconstruct are proportions of the same fakes; their sum is at most 1")
        if self.head and not self.last_frozen:
            raise ValueError("--head kinds needs --last-frozen: the last layer that the heads read")
        if self.views == 0 and not self.head:
            raise ValueError("--views 0 needs --head kinds, which also learns from crops as the detector cuts them")
        if self.leave_out and is_whole_model(self.weights):
            raise ValueError("--leave-out needs weights that have not learned from what is left out: not a model.h5")
        if self.leave_out_fold is not None and is_whole_model(self.weights):
            raise ValueError("--leave-out-fold needs weights that have not learned from the fold: not a model.h5")


# What `python scripts/train.py` runs without options; `complete_settings` fills in the empty values.
DEFAULT_SETTINGS = TrainingSettings(
    manifest=str(DEFAULT_MANIFEST),
    manifest_sha256="",
    network="mobilenet",
    weights="",
    weights_sha256="",
    input_size_px=192,
    epochs=8,
    epoch_samples=640,
    batch=32,
    self_blend=SELF_BLEND,
    seed=1,
    reconstruct=RECONSTRUCT,
)


@dataclass(frozen=True)
class SettingsOptions:
    """Options of the commands that train."""

    settings: TrainingSettings
    """What a run computes."""
    undamaged: bool = False
    """Leave out the degradations: recompression, scaling, blur, noise and light."""
    unbalanced: bool = False
    """Show every picture equally often instead of balancing the sources."""

    def complete(self) -> TrainingSettings:
        """Return the settings with these options, full paths and hashes."""
        return complete_settings(replace(self.settings, damaged=not self.undamaged, balanced=not self.unbalanced))


def parse_command(
    command: type[Command], argv: Sequence[str] | None, description: str | None, *, default: Command | None = None
) -> Command:
    """Parse a command line into its dataclass; wrong options end the program with a message and exit code 2.

    Args:
        command: dataclass of the options. Fields of nested dataclasses become options without a prefix.
        argv: the arguments, or None for those of the process.
        description: text of `--help`.
        default: instance with the default values, or None for those of the class.
    """
    markers = (tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff, tyro.conf.HelptextFromCommentsOff)
    options: dict[str, Any] = {} if default is None else {"default": default}
    parsed: Command = tyro.cli(command, args=argv, description=description, config=markers, **options)
    return parsed


def complete_settings(settings: TrainingSettings) -> TrainingSettings:
    """Return settings with full paths, the start of the weights, and the hashes of the files they name."""
    leaves_out = settings.leave_out or settings.leave_out_fold is not None
    weights = settings.weights or ("none" if leaves_out else _own_weights(settings.network))
    return replace(
        settings,
        manifest=str(Path(settings.manifest).resolve()),
        manifest_sha256=_sha256(settings.manifest),
        **weights_settings(weights),
        autoencoders_sha256=autoencoders_sha256() if settings.reconstruct else "",
    )


def describe_settings(settings: TrainingSettings) -> dict[str, Any]:
    """Return settings for a file that is published: files are named without their folders."""
    return asdict(settings) | {"manifest": Path(settings.manifest).name, "weights": Path(settings.weights).name}


def weights_settings(weights: str) -> dict[str, Any]:
    """Return the settings that name where a network starts: "none", published ones or a file, and the file's hash."""
    where = weights if weights in ("none", *PUBLISHED) else str(Path(weights).resolve())
    return {"weights": where, "weights_sha256": _sha256(weights)}


def autoencoders_sha256() -> str:
    """Return one hash over the autoencoders' files."""
    hashes = "".join(file_sha256(path) for path in sorted(MODELS.glob("reconstruct_*.onnx")))
    return hashlib.sha256(hashes.encode()).hexdigest()


def is_whole_model(weights: str) -> bool:
    """Return whether weights name a model.h5 instead of the weights of a body."""
    return weights.endswith(".h5") and not weights.endswith(".weights.h5")


def trained_network(spec: ModelSpec) -> str:
    """Return the architecture a run can continue from: the last member of a combined model that has a whole body."""
    members = [member for member in spec.training.get("members", ()) if not member["settings"].get("head")]
    return str(members[-1]["settings"]["network"]) if members else spec.network


def _own_weights(network: str) -> str:
    """Return the project's own model if it has this network: a few pictures cannot train one from nothing."""
    try:
        return str(MODEL) if trained_network(read_spec(MODEL)) == network else "none"
    except ModelError:
        return "none"


def _sha256(path: str | Path) -> str:
    """Return a file's SHA-256, or nothing for a missing file, which is refused or downloaded later."""
    return file_sha256(path) if Path(path).is_file() else ""
