"""Which places of a face crop give evidence of a fake: three methods, one scale, and the same in a sentence."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

import cv2
import numpy as np

from detector.evidence.regions import Region, describe_evidence, find_regions, measure_evidence
from detector.models.calibration import sigmoid
from detector.models.engines import Engine, KerasEngine, score_in_batches
from detector.models.heatmaps import MAP_TEMPERATURE, activation_heatmap
from detector.pictures.faces import crop_face
from detector.results import ModelError, PictureDetection

CLASS_MAP = "class_map"
SUPERPIXELS = 50  # approximate: with fewer, one holds both eyes; with more, 500 samples do not separate them
LIME_SAMPLES = 500
LIME_KERNEL_WIDTH = 0.25  # in cosine distance, as in the authors' own program
LIME_RIDGE = 1.0
LIME_SEED = 0
LIME_TEMPERATURE = 3 * MAP_TEMPERATURE  # superpixels are scored one by one, so their logits vary that much more
FILL_BLUR = 1 / 12  # of the crop's side: sigma of the blur that replaces removed places; plain grey would add edges


@dataclass(frozen=True, eq=False)
class Explanation:
    """Which places of a crop give evidence of a fake.

    Attributes:
        method: a name of EXPLANATION_METHODS.
        heatmap: (h, w) float32 in [0, 1] over the crop, 1 = evidence of a fake, .5 = neutral; all pictures share
            one scale.
        regions: the strongest regions, which together hold about half of the evidence, the strongest first; empty
            when there is none.
        sentence: the same in words.
    """

    method: str
    heatmap: np.ndarray = field(repr=False)
    regions: tuple[Region, ...]
    sentence: str


def face_crop(detection: PictureDetection, engine: Engine, *, face: int = 0) -> np.ndarray:
    """Return the network's input for one face, (S, S, 3) uint8 RGB; faces count from 0."""
    found = detection.faces[face]
    if found.crop is not None:
        return found.crop
    # A detection restored from a record carries no crops.
    return crop_face(detection.image, found.crop_box, engine.spec.face.size_px)


def explain_face(detection: PictureDetection, engine: Engine, *, face: int = 0, method: str = CLASS_MAP) -> Explanation:
    """Explain the score of one face; the class map of the detection is reused.

    Args:
        face: counts from 0.
        method: a name of EXPLANATION_METHODS.

    Raises:
        ModelError: the method is unknown, or does not work with this engine or network.
    """
    found, size_px = detection.faces[face], engine.spec.face.size_px
    landmarks = None if found.landmarks is None else landmarks_in_crop(found.landmarks, found.crop_box, size_px)
    if method == CLASS_MAP and found.heatmap is not None:
        return read_heatmap(found.heatmap, size_px, method=method, landmarks=landmarks)
    return explain(face_crop(detection, engine, face=face), engine, method=method, landmarks=landmarks)


def explain(
    crop: np.ndarray, engine: Engine, *, method: str = CLASS_MAP, landmarks: np.ndarray | None = None
) -> Explanation:
    """Explain the score of a crop.

    Args:
        crop: (S, S, 3) uint8 RGB, the network's input.
        engine: the network; "grad_cam" needs a KerasEngine.
        method: "class_map", an output of the same pass as the logit; "grad_cam", which also covers networks without a
            class map; "lime", which uses logits only and runs the network LIME_SAMPLES times.
        landmarks: (5, 2) in pixels of the crop, see `landmarks_in_crop`; with landmarks the sentence names parts of
            the face, without landmarks parts of the picture.

    Raises:
        ModelError: the method is unknown, or does not work with this engine or network.
    """
    if method not in EXPLANATION_METHODS:
        raise ModelError(f"There is no explanation called {method!r}; choose from {', '.join(EXPLANATION_METHODS)}.")
    return read_heatmap(EXPLANATION_METHODS[method](crop, engine), crop.shape[0], method=method, landmarks=landmarks)


def read_heatmap(
    heatmap: np.ndarray, size_px: int, *, method: str = CLASS_MAP, landmarks: np.ndarray | None = None
) -> Explanation:
    """Find and describe the strongest regions of a heat map (h, w) over a crop with sides of `size_px`."""
    evidence = measure_evidence(heatmap, size_px)
    return Explanation(method, heatmap, find_regions(evidence), describe_evidence(heatmap, evidence, landmarks))


def class_map_heatmap(crop: np.ndarray, engine: Engine) -> np.ndarray:
    """Return the heat (h, w) of the class map that comes with the logit.

    Raises:
        ModelError: the network's head has no class map.
    """
    _, class_maps = engine.run(crop[None])
    if class_maps is None:
        raise ModelError("This network has no class activation map; use grad_cam (Keras engine) or lime.")
    return activation_heatmap(class_maps[0], engine.spec.calibration)


def grad_cam_heatmap(crop: np.ndarray, engine: Engine) -> np.ndarray:
    """Return the heat (h, w) of Grad-CAM on the last feature maps, averaged over the members of an ensemble.

    Two things differ from the paper. Negative evidence is kept, since .5 is neutral here. The map is shifted and scaled
    so that its mean is the logit, which puts the map on the class map's scale. For a head of a 1x1 convolution and an
    average, the result equals the class map.

    Raises:
        ModelError: the engine has no gradients, or the network no feature maps.

    Source:
        Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization",
        arXiv 1610.02391.
    """
    if not isinstance(engine, KerasEngine):
        raise ModelError('Grad-CAM needs gradients: load the detector with engine="keras", or use lime.')
    import keras

    network = engine.network
    members = [layer for layer in network.layers if isinstance(layer, keras.Model) and not _has_maps(layer.output)]
    pixels = crop[None].astype(np.float32)
    is_adopted = engine.spec.network == "adopted"  # scripts/adopt.py wraps the foreign network in one of ours
    maps = [_member_grad_cam(member, network, pixels, is_adopted=is_adopted) for member in members or [network]]
    sides = [len(values) for values in maps]
    common, finest = math.lcm(*sides), max(sides)
    mean = np.mean([np.kron(values, np.ones([common // len(values)] * 2)) for values in maps], axis=0)
    mean = mean.reshape(finest, common // finest, finest, common // finest).mean((1, 3))
    logit = engine.run(crop[None])[0][0]  # an offset of the ensemble belongs to it and to no member
    return activation_heatmap(mean + logit - mean.mean(), engine.spec.calibration)


def lime_heatmap(crop: np.ndarray, engine: Engine) -> np.ndarray:
    """Return the heat (S, S) of LIME: what each superpixel adds to the logit in a local linear model.

    Each sample blurs a random half of the superpixels, and the network scores the sample. A ridge regression, weighted
    by nearness to the unchanged crop, estimates what each superpixel adds. Divided by the superpixel's proportion of
    the crop, the value is a logit by place, as in a class map. LIME_TEMPERATURE fixes the scale.

    Source:
        Ribeiro et al., "Why Should I Trust You? Explaining the Predictions of Any Classifier", arXiv 1602.04938;
        Achanta et al., "SLIC Superpixels Compared to State-of-the-art Superpixel Methods", 2012.
    """
    from skimage.segmentation import slic  # takes seconds to import, and few pictures are explained this way

    superpixels = slic(crop, n_segments=SUPERPIXELS, compactness=10, start_label=0)  # (S, S)
    kept = np.random.default_rng(LIME_SEED).random((LIME_SAMPLES, superpixels.max() + 1)) < 0.5
    kept[0] = True
    channels, filled = np.repeat(superpixels[..., None], 3, axis=2), remove_detail(crop)
    logits = score_in_batches(
        engine, lambda rows: np.where(kept[rows].take(channels, axis=1), crop, filled), LIME_SAMPLES
    )
    added = fit_superpixels(kept, logits)
    by_place = (added * superpixels.size / np.bincount(superpixels.ravel()))[superpixels]
    return sigmoid(engine.spec.calibration.slope * by_place / LIME_TEMPERATURE).astype(np.float32)


def fit_superpixels(kept: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """Return what each superpixel adds to the logit, by a ridge regression weighted by nearness to the whole crop.

    Args:
        kept: (N, P) booleans, which of P superpixels each sample keeps.
        logits: (N,) of the samples.

    Returns:
        (P,) logits.
    """
    from sklearn.linear_model import Ridge

    distances = 1 - np.sqrt(kept.mean(axis=1))  # cosine distance of zeros and ones to all ones
    nearness = np.exp(-((distances / LIME_KERNEL_WIDTH) ** 2))
    return np.asarray(Ridge(alpha=LIME_RIDGE).fit(kept, logits, sample_weight=nearness).coef_)


# A new method is one function of a crop (S, S, 3) uint8 RGB and an engine that returns heat (h, w), and an entry here.
EXPLANATION_METHODS: dict[str, Callable[[np.ndarray, Engine], np.ndarray]] = {
    CLASS_MAP: class_map_heatmap,
    "grad_cam": grad_cam_heatmap,
    "lime": lime_heatmap,
}


def landmarks_in_crop(landmarks: np.ndarray, crop_box: tuple[int, int, int, int], size_px: int) -> np.ndarray:
    """Convert landmarks (K, 2) from pixels of the picture to pixels of the crop (size_px, size_px) at `crop_box`."""
    x, y, side, _ = crop_box
    return np.asarray((landmarks - np.array([x, y], np.float32)) * np.float32(size_px / side))


def remove_detail(crop: np.ndarray) -> np.ndarray:
    """Return the blurred crop (S, S, 3) uint8 RGB that replaces removed places."""
    return cv2.GaussianBlur(crop, (0, 0), FILL_BLUR * crop.shape[0])


def _member_grad_cam(member: Any, network: Any, pixels: np.ndarray, *, is_adopted: bool) -> np.ndarray:
    """Return a member's Grad-CAM (h, w) in logits by place, but for a constant."""
    import tensorflow as tf

    graph = _feature_graph(member)
    inputs, is_mirrored = _member_input(member, network, pixels)
    with tf.GradientTape() as tape:
        features, outputs = graph(inputs, training=False)
        logit = network.get_layer("logit")(outputs) if is_adopted else outputs["logit"]
    weights = tf.reduce_mean(tape.gradient(logit, features), axis=(1, 2))  # (1, C)
    cam = tf.einsum("nhwc,nc->hw", features, weights).numpy()
    cam = cam[:, ::-1] if is_mirrored else cam
    # An average in the head divides each place's gradient by the number of places.
    return np.asarray(cam * cam.size)


def _feature_graph(network: Any) -> Any:
    """Return a Keras network with two outputs: the last feature maps before the logit, and the network's own output.

    Raises:
        ModelError: the network has no feature maps.
    """
    import keras

    if isinstance(network, keras.Sequential):  # loaded from a file, its layers belong to more than one graph
        pixels = keras.Input(network.input_shape[1:])
        outputs = list(accumulate(network.layers, lambda values, layer: layer(values), initial=pixels))[1:]
        end = outputs[-1]
    else:
        pixels, end = network.input, network.output
        # What only the class map needs lies after the logit and has no gradient.
        scored = keras.Model(pixels, end["logit"]) if isinstance(end, dict) else network
        outputs = [layer.output for layer in scored.layers]
    maps = [values for values in outputs if _has_maps(values)]
    if not maps:
        raise ModelError(f"The network {network.name} has no feature maps to take gradients of; use lime.")
    return keras.Model(pixels, [maps[-1], end])


def _member_input(member: Any, network: Any, pixels: np.ndarray) -> tuple[Any, bool]:
    """Return the input of a member for these pixels of its network, and whether that input is mirrored."""
    import keras

    if member is network:
        return pixels, False
    view = keras.Model(network.input, member._inbound_nodes[-1].input_tensors[0])  # Keras has no public way there
    ramp = np.broadcast_to(np.arange(pixels.shape[2], dtype=np.float32)[:, None], pixels.shape)
    columns = np.asarray(view(ramp, training=False))[0, 0, :, 0]
    return view(pixels, training=False), bool(columns[0] > columns[-1])


def _has_maps(output: Any) -> bool:
    """Return whether a Keras layer's output is (N, h, w, C) with more than one channel."""
    shape = tuple(getattr(output, "shape", ()))  # a dictionary of outputs has none
    return len(shape) == 4 and shape[-1] > 1
