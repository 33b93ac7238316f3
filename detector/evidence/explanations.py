"""Where in a face the network sees signs of a fake, said in three ways, and whether that matters to the score."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from itertools import accumulate
from typing import Any

import cv2
import numpy as np

from detector.models.calibration import sigmoid
from detector.models.engines import Engine, KerasEngine
from detector.models.heatmaps import MAP_TEMPERATURE, NEUTRAL, activation_heatmap
from detector.results import ModelError

SUPERPIXELS = 50  # about: fewer, and one holds both eyes; more, and 500 samples no longer tell them apart
LIME_SAMPLES = 500
LIME_KERNEL_WIDTH = 0.25  # in cosine distance, as in the authors' own program
LIME_RIDGE = 1.0
LIME_SEED = 0
LIME_TEMPERATURE = 3 * MAP_TEMPERATURE  # superpixels are judged apart, and their logits lie that much further apart
CROPS_PER_BATCH = 4  # crops at once: what a core's cache holds; 20 take a tenth longer each
FILL_BLUR = 1 / 12  # of the crop's side: sigma of what stands in for a removed place; a plain grey one has edges

FAINT_HEAT = 0.55  # an overlay weaker than this is hardly seen, so no place is named for it
HELD = 0.5  # the strongest places are those that together hold this share of the evidence
SPREAD = 0.3  # when they take more than this share of the crop, no place is the strongest
MAX_REGIONS = 3
MAX_NAMES = 3
MIN_REGION_SHARE = 0.05  # of the evidence: smaller islands are left unmarked

DELETION_GRID = 12  # places a side
DELETION_SHARES = (0.05, 0.1, 0.2, 0.3, 0.5)  # of the crop; beyond half no face is left
RANDOM_DELETIONS = 19  # a map that has nothing to do with the score comes out lowest of 20 once in 20 times
DELETION_SEED = 0


@dataclass(frozen=True)
class Region:
    """A place that stands out: `box` (x, y, w, h) in pixels of the crop, `share` of all that speaks for a fake."""

    box: tuple[int, int, int, int]
    share: float


@dataclass(frozen=True, eq=False)
class Explanation:
    """Where a crop speaks for a fake.

    Attributes:
        method: a name of METHODS.
        heatmap: (h, w) float32 in [0, 1] over the crop, 1 = speaks for a fake, .5 = neutral, on a scale that is the
            same for all pictures.
        regions: the strongest places, which together hold about half of what speaks for a fake, the strongest first;
            empty when nothing does.
        sentence: the same in words.
    """

    method: str
    heatmap: np.ndarray = field(repr=False)
    regions: tuple[Region, ...]
    sentence: str

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON, without the heat map."""
        return {
            "method": self.method,
            "regions": [{"box": list(region.box), "share": region.share} for region in self.regions],
            "sentence": self.sentence,
        }


@dataclass(frozen=True)
class DeletionCheck:
    """What becomes of the score when the places a map marks are removed, the strongest first.

    Attributes:
        shares: of the crop that is removed, beginning with 0.
        logits: with the strongest places removed.
        random_logits: mean over RANDOM_DELETIONS of as much removed elsewhere.
        area, random_area: under the two curves, over `shares` and divided by their range, in logits.
        matters: whether `area` is smaller than that of every single one of the other deletions.
    """

    shares: tuple[float, ...]
    logits: tuple[float, ...]
    random_logits: tuple[float, ...]
    area: float
    random_area: float
    matters: bool

    @property
    def sentence(self) -> str:
        """What it means, for the person."""
        if self.matters:
            return (
                f"Removing the marked places lowers the score more than removing as much elsewhere, in all "
                f"{RANDOM_DELETIONS} tries."
            )
        return (
            "Removing the marked places does not lower the score more than removing as much elsewhere, so the map does "
            "not show what this score rests on."
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {**asdict(self), "sentence": self.sentence}


def explain(
    crop: np.ndarray, engine: Engine, *, method: str = "class_map", landmarks: np.ndarray | None = None
) -> Explanation:
    """Show where a crop speaks for a fake.

    Args:
        crop: (S, S, 3) uint8 RGB, what the network is shown.
        engine: the network; "grad_cam" needs a KerasEngine.
        method: "class_map", free with the logit; "grad_cam", for networks without a class map as well; "lime", which
            knows nothing of the network and runs it LIME_SAMPLES times.
        landmarks: (5, 2) in pixels of the crop, see `landmarks_in_crop`; with them the sentence names parts of the
            face, without them parts of the picture.

    Raises:
        ModelError: there is no such method, or it does not go with this engine or network.
    """
    if method not in EXPLANATION_METHODS:
        raise ModelError(f"There is no explanation called {method!r}; choose from {', '.join(EXPLANATION_METHODS)}.")
    return read_heatmap(EXPLANATION_METHODS[method](crop, engine), crop.shape[0], method=method, landmarks=landmarks)


def read_heatmap(
    heatmap: np.ndarray, size_px: int, *, method: str = "class_map", landmarks: np.ndarray | None = None
) -> Explanation:
    """Say what a heat map (h, w) over a crop of a side of `size_px` shows; the rest as in `explain`."""
    evidence = _evidence(heatmap, size_px)
    return Explanation(method, heatmap, _regions(evidence), _describe(heatmap, evidence, landmarks))


def class_map_heatmap(crop: np.ndarray, engine: Engine) -> np.ndarray:
    """Return the heat (h, w) of the class map that comes with the logit.

    Raises:
        ModelError: the network's head has no class map.
    """
    _, class_maps = engine.run(crop[None])
    if class_maps is None:
        raise ModelError("This network has no class activation map; ask for grad_cam (Keras engine) or lime.")
    return activation_heatmap(class_maps[0], engine.spec.calibration)


def grad_cam_heatmap(crop: np.ndarray, engine: Engine) -> np.ndarray:
    """Return the heat (h, w) of Grad-CAM on the last feature maps, averaged over the members of an ensemble.

    It departs from the paper in two things: what speaks against a fake is kept, since .5 is neutral here; and the map
    is shifted and scaled so that its mean is the logit, which puts it on the class map's scale. For a head of a 1x1
    convolution and an average it is then the class map itself.

    Raises:
        ModelError: the engine has no gradients, or the network no feature maps.

    Source:
        Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization",
        arXiv 1610.02391.
    """
    if not isinstance(engine, KerasEngine):
        raise ModelError('Grad-CAM needs gradients: load the detector with engine="keras", or ask for lime.')
    import keras
    import tensorflow as tf

    network, pixels = engine.network, crop[None].astype(np.float32)
    is_adopted = engine.spec.network == "adopted"  # scripts/adopt.py: the foreign network lies inside ours
    members = [layer for layer in network.layers if isinstance(layer, keras.Model) and not _gives_maps(layer.output)]
    maps, logits = [], []
    for member in members or [network]:
        graph = _feature_graph(member)
        inputs, is_mirrored = _shown_to(member, network, pixels)
        with tf.GradientTape() as tape:
            features, outputs = graph(inputs, training=False)
            logit = network.get_layer("logit")(outputs) if is_adopted else outputs["logit"]
        weights = tf.reduce_mean(tape.gradient(logit, features), axis=(1, 2))  # (1, C)
        cam = tf.einsum("nhwc,nc->hw", features, weights).numpy()
        cam = cam[:, ::-1] if is_mirrored else cam
        maps.append(cam * cam.size)  # an average in the head divides each place's gradient by their number
        logits.append(np.ravel(logit)[0])
    side = math.lcm(*(values.shape[0] for values in maps))
    mean = np.mean([np.kron(values, np.ones([side // values.shape[0]] * 2)) for values in maps], axis=0)
    return activation_heatmap(mean + np.mean(logits) - mean.mean(), engine.spec.calibration)


def lime_heatmap(crop: np.ndarray, engine: Engine) -> np.ndarray:
    """Return the heat (S, S) of LIME: what each superpixel adds to the logit in a linear model around the crop.

    Random halves of the superpixels are blurred away, the network scores each such crop, and a ridge regression,
    which heeds those nearest to the whole crop most, tells what each superpixel adds. Divided by the superpixel's
    share of the crop that is a logit by place, as in a class map; its scale is as fixed, by LIME_TEMPERATURE.

    Source:
        Ribeiro et al., "Why Should I Trust You? Explaining the Predictions of Any Classifier", arXiv 1602.04938;
        Achanta et al., "SLIC Superpixels Compared to State-of-the-art Superpixel Methods", 2012.
    """
    from skimage.segmentation import slic  # seconds to import, and most pictures are never explained this way
    from sklearn.linear_model import Ridge

    places = slic(crop, n_segments=SUPERPIXELS, compactness=10, start_label=0)  # (S, S)
    kept = np.random.default_rng(LIME_SEED).random((LIME_SAMPLES, places.max() + 1)) < 0.5
    kept[0] = True
    channels, filled = np.repeat(places[..., None], 3, axis=2), _fill(crop)
    logits = _run(engine, lambda rows: np.where(kept[rows].take(channels, axis=1), crop, filled), LIME_SAMPLES)
    distances = 1 - np.sqrt(kept.mean(axis=1))  # cosine distance of zeros and ones to all ones
    nearness = np.exp(-((distances / LIME_KERNEL_WIDTH) ** 2))
    added = Ridge(alpha=LIME_RIDGE).fit(kept, logits, sample_weight=nearness).coef_  # logits, one a superpixel
    by_place = (added * places.size / np.bincount(places.ravel()))[places]
    return sigmoid(engine.spec.calibration.slope * by_place / LIME_TEMPERATURE).astype(np.float32)


EXPLANATION_METHODS: dict[str, Callable[[np.ndarray, Engine], np.ndarray]] = {
    "class_map": class_map_heatmap,
    "grad_cam": grad_cam_heatmap,
    "lime": lime_heatmap,
}


def landmarks_in_crop(landmarks: np.ndarray, crop_box: tuple[int, int, int, int], size_px: int) -> np.ndarray:
    """Bring landmarks (K, 2) of a picture into the crop (size_px, size_px) that was cut from `crop_box`."""
    x, y, side, _ = crop_box
    return (landmarks - np.array([x, y], np.float32)) * np.float32(size_px / side)


def run_deletion_check(crop: np.ndarray, heatmap: np.ndarray, engine: Engine) -> DeletionCheck:
    """Remove the places a map marks, the strongest first, and see whether that lowers the score more than chance would.

    Chance is the same map shifted and mirrored at random: as much is removed, in pieces of the same shape, but
    elsewhere. The map matters when its own curve lies lower, by the area under it, than every one of those.

    Args:
        crop: (S, S, 3) uint8 RGB.
        heatmap: (h, w) of any method.

    Source:
        Petsiuk et al., "RISE: Randomized Input Sampling for Explanation of Black-box Models", arXiv 1806.07421, for the
        deletion curve; the rule is a permutation test at 1 in 20.
    """
    size_px = crop.shape[0]
    rng = np.random.default_rng(DELETION_SEED)
    heat = _resize_map(heatmap, DELETION_GRID)
    orders = [_strongest_first(heat)] + [_strongest_first(_moved(heat, rng)) for _ in range(RANDOM_DELETIONS)]
    counts = [round(share * heat.size) for share in DELETION_SHARES]
    removed = np.zeros((len(orders), len(counts), heat.size), np.float32)
    for row, order in zip(removed, orders, strict=True):
        for step, count in enumerate(counts):
            row[step, order[:count]] = 1
    masks = removed.reshape(-1, DELETION_GRID, DELETION_GRID)
    filled = _fill(crop).astype(np.float32)

    def delete(rows: slice) -> np.ndarray:
        # Enlarged linearly: a hard edge could be taken for the seam of a forgery.
        weights = np.stack([cv2.resize(mask, (size_px, size_px)) for mask in masks[rows]])[..., None]
        return np.rint(crop + (filled - crop) * weights).astype(np.uint8)

    whole = float(engine.run(crop[None])[0][0])
    deleted = _run(engine, delete, len(masks)).reshape(len(orders), len(counts))
    curves = np.concatenate([np.full((len(orders), 1), whole), deleted], axis=1)
    shares = (0.0, *DELETION_SHARES)
    areas = np.trapezoid(curves, shares, axis=1) / shares[-1]
    return DeletionCheck(
        shares=shares,
        logits=tuple(curves[0].tolist()),
        random_logits=tuple(curves[1:].mean(axis=0).tolist()),
        area=float(areas[0]),
        random_area=float(areas[1:].mean()),
        matters=bool(areas[0] < areas[1:].min()),
    )


def _run(engine: Engine, make: Callable[[slice], np.ndarray], count: int) -> np.ndarray:
    """Score `count` crops, made a batch at a time so that they never lie in memory together; returns (count,)."""
    starts = range(0, count, CROPS_PER_BATCH)
    return np.concatenate([engine.run(make(slice(start, min(start + CROPS_PER_BATCH, count))))[0] for start in starts])


def _fill(crop: np.ndarray) -> np.ndarray:
    """Return what stands in for removed places: the crop without any detail."""
    return cv2.GaussianBlur(crop, (0, 0), FILL_BLUR * crop.shape[0])


def _resize_map(heatmap: np.ndarray, side: int) -> np.ndarray:
    shrinks = side < heatmap.shape[0]
    return cv2.resize(heatmap, (side, side), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)


def _strongest_first(heat: np.ndarray) -> np.ndarray:
    return np.argsort(-heat.ravel(), kind="stable")


def _moved(heat: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return a map with the same pieces elsewhere: mirrored or not, and shifted around the edges."""
    flips = [axis for axis in (0, 1) if rng.random() < 0.5]
    shift = rng.integers(1, DELETION_GRID, 2)
    return np.roll(np.flip(heat, flips), shift, axis=(0, 1))


def _feature_graph(network: Any) -> Any:
    """Return a Keras network with two outputs: the last feature maps, and what the network gives.

    Raises:
        ModelError: it has no feature maps.
    """
    import keras

    if isinstance(network, keras.Sequential):  # read from a file, its layers belong to more than one graph
        pixels = keras.Input(network.input_shape[1:])
        outputs = list(accumulate(network.layers, lambda values, layer: layer(values), initial=pixels))[1:]
        end = outputs[-1]
    else:
        pixels, end, outputs = network.input, network.output, [layer.output for layer in network.layers]
    maps = [values for values in outputs if _gives_maps(values)]
    if not maps:
        raise ModelError(f"The network {network.name} has no feature maps to take gradients of; ask for lime.")
    return keras.Model(pixels, [maps[-1], end])


def _shown_to(member: Any, network: Any, pixels: np.ndarray) -> tuple[Any, bool]:
    """Return what a member is shown when its network is given these pixels, and whether that is mirrored."""
    import keras

    if member is network:
        return pixels, False
    view = keras.Model(network.input, member._inbound_nodes[-1].input_tensors[0])  # Keras has no public way there
    ramp = np.broadcast_to(np.arange(pixels.shape[2], dtype=np.float32)[:, None], pixels.shape)
    first, *_, last = np.asarray(view(ramp, training=False))[0, 0, :, 0]
    return view(pixels, training=False), bool(first > last)


def _gives_maps(output: Any) -> bool:
    """Tell whether a Keras layer's output is (N, h, w, C) with more than one channel."""
    shape = getattr(output, "shape", ())  # a dictionary of outputs has none
    return len(shape) == 4 and shape[-1] > 1


def _evidence(heatmap: np.ndarray, size_px: int) -> np.ndarray:
    """Return what speaks for a fake, (size_px, size_px) that sums to 1; all 0 when nothing does visibly."""
    heat = np.clip(_resize_map(heatmap, size_px) - NEUTRAL, 0, None)
    if heat.max() < FAINT_HEAT - NEUTRAL:
        return np.zeros_like(heat)
    return heat / heat.sum()


def _strongest(evidence: np.ndarray) -> np.ndarray:
    """Return (S, S) booleans: the fewest places that together hold HELD of the evidence."""
    ordered = np.sort(evidence, axis=None)[::-1]
    enough = int(np.searchsorted(np.cumsum(ordered), HELD * ordered.sum()))
    return evidence >= max(ordered[enough], np.finfo(np.float32).tiny)


def _regions(evidence: np.ndarray) -> tuple[Region, ...]:
    count, numbers, boxes, _ = cv2.connectedComponentsWithStats(_strongest(evidence).astype(np.uint8))
    regions = [
        Region(tuple(int(value) for value in boxes[number, :4]), float(evidence[numbers == number].sum()))
        for number in range(1, count)
    ]
    regions = [region for region in regions if region.share >= MIN_REGION_SHARE]
    return tuple(sorted(regions, key=lambda region: -region.share)[:MAX_REGIONS])


def _describe(heatmap: np.ndarray, evidence: np.ndarray, landmarks: np.ndarray | None) -> str:
    if not evidence.any():
        return "No part of the face speaks for a fake."
    names = _strongest_names(evidence, landmarks)
    where = "the whole picture" if landmarks is None else "the whole face"
    if float(heatmap.mean()) < NEUTRAL:
        return (
            f"What little speaks for a fake lies mostly in {_list_words(names)}."
            if names
            else (f"What little speaks for a fake is spread over {where}.")
        )
    if not names:
        return f"The signs of a fake are spread over {where}."
    return f"Mostly {_list_words(names)} {'speaks' if len(names) == 1 else 'speak'} for a fake."


def _strongest_names(evidence: np.ndarray, landmarks: np.ndarray | None) -> list[str]:
    """Return the parts that hold HELD of the evidence, the strongest first; none when it is spread over many."""
    if _strongest(evidence).mean() > SPREAD:
        return []
    parts = _parts_of_picture(evidence.shape[0]) if landmarks is None else _parts_of_face(landmarks)
    rows, columns = np.mgrid[: evidence.shape[0], : evidence.shape[1]]
    places = np.stack([columns, rows], axis=-1)[..., None, :]  # (S, S, 1, 2)
    nearest = np.linalg.norm(places - np.array([point for _, point in parts]), axis=-1).argmin(axis=-1)
    shares: Counter[str] = Counter()
    for (name, _), share in zip(parts, np.bincount(nearest.ravel(), evidence.ravel(), len(parts)), strict=True):
        shares[name] += share
    names, held = zip(*shares.most_common(), strict=True)
    count = int(np.searchsorted(np.cumsum(held), HELD)) + 1
    return list(names[:count]) if count <= MAX_NAMES else []


def _parts_of_picture(size_px: int) -> list[tuple[str, np.ndarray]]:
    """Return nine parts and their middles, x and y."""
    names = (
        *("the upper left", "the top", "the upper right"),
        *("the left", "the middle", "the right"),
        *("the lower left", "the bottom", "the lower right"),
    )
    return [(name, (np.array([i % 3, i // 3]) + 0.5) * size_px / 3) for i, name in enumerate(names)]


def _parts_of_face(landmarks: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """Return parts of a face and their middles, x and y, told from five points; left and right are the picture's."""
    left_eye, right_eye, nose, left_mouth, right_mouth = landmarks
    eyes, mouth = (left_eye + right_eye) / 2, (left_mouth + right_mouth) / 2
    down = mouth - eyes
    # A face seen from the side has its eyes close together, but is about as wide.
    width = max(np.linalg.norm(right_eye - left_eye), 0.8 * np.linalg.norm(down))
    across = np.array([down[1], -down[0]]) / max(np.linalg.norm(down), 1e-3) * width
    around = [eyes - 1.6 * across, eyes + 1.6 * across, mouth - 1.6 * across, mouth + 1.6 * across]
    around += [eyes - 1.6 * down, mouth + 0.9 * down]
    return [
        ("the eye on the left", left_eye),
        ("the eye on the right", right_eye),
        ("the nose", nose),
        ("the mouth", mouth),
        ("the forehead", eyes - 0.6 * down),
        ("the chin", mouth + 0.4 * down),
        ("the cheek on the left", (eyes + mouth) / 2 - 0.8 * across),
        ("the cheek on the right", (eyes + mouth) / 2 + 0.8 * across),
        *(("what surrounds the face", point) for point in around),
    ]


def _list_words(names: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
