"""Fakes made for training, and random degradations of pictures; the same random generator gives the same pixels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from detector.media.degradations import INTERPOLATIONS, adjust_light, blur, recompress, rescale
from detector.models.sessions import Session
from detector.pictures.faces import FaceFinder
from detector.results import ModelError, UnreadableMedia

BLEND_RATIOS = (0.25, 0.5, 0.75, 1.0, 1.0, 1.0)  # opacity of the source, from the paper
JPEG_QUALITIES = (40, 100)
OUTLINE_POINTS = 48
GRADIENT_CHANCE = 0.08  # of blending gradients instead of pixels
RECONSTRUCTION_PX = 224  # side of the autoencoders' input
SPECTRUM_RINGS = 64  # rings of frequencies, from the mean to the finest
MAX_RING_GAIN = 4.0  # frequencies that an autoencoder lost completely are not restored


@dataclass(frozen=True)
class Area:
    """A part of a face that a fake replaces.

    Attributes:
        x, y: its centre, relative to the midpoint of eyes and mouth, in half widths and half heights of the face.
        width, height: its size relative to the face.
        chance: its probability.
    """

    x: float
    y: float
    width: float
    height: float
    chance: float


FACE = Area(0, 0, 1, 1, 0.64)
AREAS = (
    FACE,
    Area(0, 0.5, 0.85, 0.55, 0.1),  # mouth and chin
    Area(0, 0.42, 0.5, 0.28, 0.06),  # mouth
    Area(0, -0.4, 0.85, 0.28, 0.08),  # both eyes
    Area(-0.46, -0.4, 0.36, 0.26, 0.02),  # one eye
    Area(0.46, -0.4, 0.36, 0.26, 0.02),
    Area(0, 0.05, 0.34, 0.4, 0.04),  # nose
    Area(-0.5, 0, 0.55, 0.95, 0.02),  # one side
    Area(0.5, 0, 0.55, 0.95, 0.02),
)


def self_blend(image: np.ndarray, landmarks: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Make a deepfake out of one real face: two altered views of it, blended inside a deformed outline.

    Args:
        image: (H, W, 3) uint8 RGB.
        landmarks: (5, 2) pixels: eyes, nose tip, mouth corners.
        rng: source of all randomness.

    Returns:
        The blend (H, W, 3) uint8 RGB and its mask (H, W) float32 in [0, 1]; outside the mask the blend equals one of
        the views.

    Source:
        Shiohara and Yamasaki, "Detecting Deepfakes with Self-Blended Images", arXiv 2204.08376: the altered views,
        the small displacement, the deformed and softened mask and the blend ratios. Not from the paper: the outline,
        from five landmarks instead of 81, and the smaller areas, for mouths driven by sound and retouched eyes.
    """
    altered = _alter(image, rng)
    source, target = (altered, image) if rng.random() < 0.5 else (image, altered)
    area = _choose_area(rng)
    # A small area needs a larger motion to leave a trace.
    zoom, turn_deg, shift = (0.05, 2.0, 0.03) if area is FACE else (0.12, 6.0, 0.05)
    face_px = max(1.0, float(np.linalg.norm(landmarks[0] - landmarks[1])) * 2.5)
    centre = landmarks.mean(axis=0)
    motion = cv2.getRotationMatrix2D(centre.tolist(), rng.uniform(-turn_deg, turn_deg), 1 + rng.uniform(-zoom, zoom))
    motion[:, 2] += rng.uniform(-1, 1, 2) * face_px * np.array([shift, shift / 2])
    source = cv2.warpAffine(source, motion, image.shape[1::-1], borderMode=cv2.BORDER_REFLECT_101)
    return _blend(source, target, _area_mask(image.shape[:2], landmarks, area, rng), rng)


def graft(
    image: np.ndarray, landmarks: np.ndarray, donor: np.ndarray, donor_landmarks: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Make a composite: another person's face, or a part of it, laid over a real face and matched to it in colour.

    Args:
        image, landmarks: the face to cover, as in `self_blend`.
        donor, donor_landmarks: the face to lay over it.
        rng: source of all randomness.

    Returns:
        The composite (H, W, 3) uint8 RGB and its mask (H, W) float32 in [0, 1].

    Source:
        Li et al., "Face X-ray", arXiv 1912.13458: blends of two real faces as training fakes. Not from the paper: the
        areas.
    """
    motion = _motion_between(donor_landmarks, landmarks)
    if motion is None:  # all landmarks at one point
        return self_blend(image, landmarks, rng)
    # The warp reads single pixels; a larger donor would leave jagged edges that no careful forger leaves.
    scale = min(1.0, float(np.hypot(*motion[:, 0])))
    if scale < 1:
        scale = max(scale, 2 / min(donor.shape[:2]))
        donor = cv2.resize(donor, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        shrunk = _motion_between(donor_landmarks * scale, landmarks)
        motion = motion if shrunk is None else shrunk
    source = cv2.warpAffine(donor, motion, image.shape[1::-1], borderMode=cv2.BORDER_REFLECT_101)
    mask = _area_mask(image.shape[:2], landmarks, _choose_area(rng), rng)
    inside = mask > 0.5
    if inside.any():
        strength = rng.uniform(0.4, 1.0)
        mean, wanted_mean = source[inside].mean(axis=0), image[inside].mean(axis=0)
        spread, wanted_spread = source[inside].std(axis=0) + 1, image[inside].std(axis=0) + 1
        gain = np.clip(wanted_spread / spread, 0.5, 2.0) ** strength
        matched = (source - mean) * gain + mean + (wanted_mean - mean) * strength
        source = np.clip(matched, 0, 255).astype(np.uint8)
    return _blend(source, image, mask, rng)


class Reconstructor:
    """Rebuilds real faces through small autoencoders with several kinds of decoder; safe to share between threads.

    Args:
        folder: folder of the reconstruct_*.onnx files that scripts/train_autoencoders.py writes.

    Raises:
        ModelError: the folder has no such files.

    Source:
        Zhang et al., arXiv 1907.06515, and Rajan et al., arXiv 2410.11835: fakes with the content of the real beside
        them, so that the two differ only in the traces of generation; Chen et al., arXiv 2505.14359: aligned
        frequencies, or a detector learns the blur instead.
    """

    def __init__(self, folder: str | Path):
        paths = sorted(Path(folder).glob("reconstruct_*.onnx"))
        if not paths:
            raise ModelError(
                f"There are no autoencoders in {folder}. Train them with: python scripts/train_autoencoders.py"
            )
        self._sessions = [Session(path, threads=1) for path in paths]

    def reconstruct(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Rebuild a picture by one of the autoencoders, align its frequencies, and mix it with the picture.

        Args:
            image: (H, W, 3) uint8 RGB, no side longer than RECONSTRUCTION_PX.

        Returns:
            (H, W, 3) uint8 RGB.

        Raises:
            ValueError: the picture is larger; it must be shrunk in the same way as the real beside it.
        """
        height, width = image.shape[:2]
        if max(height, width) > RECONSTRUCTION_PX:
            raise ValueError(f"a picture of {width} x {height} does not fit the canvas of {RECONSTRUCTION_PX} px")
        # Mirrored to the full canvas, since the networks take one size.
        columns, rows = (_mirrored(side, RECONSTRUCTION_PX) for side in (width, height))
        canvas = image[rows][:, columns].astype(np.float32)
        session = self._sessions[rng.integers(len(self._sessions))]
        rebuilt = session.run(canvas[None])[0][0]
        rebuilt = _align_spectrum(rebuilt, canvas, strength=rng.uniform(0, 1))[:height, :width]
        opacity = np.float32(rng.uniform(0.5, 1.0))
        mixed: np.ndarray = np.clip(np.rint(image + (rebuilt - image) * opacity), 0, 255).astype(np.uint8)
        return mixed


def make_sample_fake(image: np.ndarray, seed: int) -> np.ndarray:
    """Self-blend the largest face of a picture; the rest stays as it is or changes its tone slightly.

    Args:
        image: (H, W, 3) uint8 RGB.
        seed: of all random draws.

    Raises:
        UnreadableMedia: the picture shows no face.
    """
    faces = FaceFinder().find_faces(image)
    if not faces:
        raise UnreadableMedia("No face was found, so no deepfake can be made of this picture.")
    return self_blend(image, faces[0].landmarks, np.random.default_rng(seed))[0]


def degrade(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Degrade a picture at random, as messengers and sites do: light, scaling, blur, sharpening, noise and
    compression.

    Args:
        image: (H, W, 3) uint8 RGB.
        rng: source of all randomness.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    # Includes the alterations of self-blended views, or the network would learn these instead of the seam.
    if rng.random() < 0.4:
        image = _alter(image, rng)
    if rng.random() < 0.05:
        image = np.repeat(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2)
    if rng.random() < 0.3:
        image = rescale(image, float(np.exp(rng.uniform(np.log(0.3), 0))), int(rng.choice(INTERPOLATIONS[:3])))
    if rng.random() < 0.2:
        image = blur(image, rng.uniform(0.3, 1.6))
    if rng.random() < 0.25:
        # Both classes, or sharpness would distinguish a generator's clean pictures from a camera's.
        image = _sharpen(image, sigma_px=rng.uniform(0.6, 1.6), strength=rng.uniform(0.3, 1.8))
    if rng.random() < 0.2:
        # A separate generator, so that later draws do not depend on the picture's size.
        grain = np.random.default_rng(rng.integers(2**32)).standard_normal(image.shape, dtype=np.float32)
        noise = grain * np.float32(rng.uniform(1, 8))
        image = np.clip(image + noise, 0, 255).astype(np.uint8)
    # Both classes almost always end in this compression, so that their earlier ones carry no label.
    for chance in (0.85, 0.3):
        if rng.random() < chance:
            extension = ".webp" if rng.random() < 0.2 else ".jpg"
            image = recompress(image, int(rng.integers(*JPEG_QUALITIES, endpoint=True)), extension)
    return image


def _alter(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return a view of the picture with other colours and sharpness."""
    view = image.astype(np.float32) + rng.uniform(-18, 18, 3).astype(np.float32)
    view = np.clip(view, 0, 255).astype(np.uint8)
    view = adjust_light(
        view, gain=rng.uniform(0.85, 1.15), offset=rng.uniform(-14, 14), saturation=rng.uniform(0.7, 1.3)
    )
    if rng.random() < 0.5:
        return rescale(view, rng.uniform(0.25, 0.75), int(rng.choice(INTERPOLATIONS)))
    return _sharpen(view, sigma_px=1.5, strength=rng.uniform(0.2, 0.8))


def _sharpen(image: np.ndarray, *, sigma_px: float, strength: float) -> np.ndarray:
    """Add a proportion of the detail that a Gaussian blur removes."""
    detail = image.astype(np.float32) - cv2.GaussianBlur(image, (0, 0), sigma_px)
    return np.clip(image + detail * np.float32(strength), 0, 255).astype(np.uint8)


def _motion_between(points: np.ndarray, targets: np.ndarray) -> np.ndarray | None:
    """Return the shift, rotation and zoom (2, 3) that best maps points (K, 2) to targets, or None if there is none."""
    return cv2.estimateAffinePartial2D(points.astype(np.float32), targets.astype(np.float32))[0]


def _choose_area(rng: np.random.Generator) -> Area:
    return AREAS[rng.choice(len(AREAS), p=[area.chance for area in AREAS])]


def _blend(
    source: np.ndarray, target: np.ndarray, mask: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Lay `source` over `target` inside the mask, with a random opacity or, rarely, by its gradients alone."""
    if rng.random() < GRADIENT_CHANCE and (blend := _blend_gradients(source, target, mask)) is not None:
        return blend, mask
    mask = mask * np.float32(rng.choice(BLEND_RATIOS))
    blend = target + (source.astype(np.float32) - target) * mask[..., None]
    return np.clip(np.rint(blend), 0, 255).astype(np.uint8), mask


def _blend_gradients(source: np.ndarray, target: np.ndarray, mask: np.ndarray) -> np.ndarray | None:
    """Blend gradients (Perez et al., "Poisson Image Editing", 2003); None if the area is too thin."""
    inside = (mask > 0.3).astype(np.uint8) * 255
    inside[[0, -1]] = inside[:, [0, -1]] = 0  # the solver needs a border
    x, y, w, h = cv2.boundingRect(inside)
    if min(w, h) < 8:
        return None
    centre = (x + w // 2, y + h // 2)
    return cv2.seamlessClone(
        np.ascontiguousarray(source), np.ascontiguousarray(target), inside, centre, cv2.NORMAL_CLONE
    )


def _area_mask(shape: tuple[int, int], landmarks: np.ndarray, area: Area, rng: np.random.Generator) -> np.ndarray:
    """Draw a soft mask of a part of a face, (H, W) float32 in [0, 1], deformed by a few random waves."""
    left_eye, right_eye, _, left_mouth, right_mouth = landmarks
    eyes, mouth = (left_eye + right_eye) / 2, (left_mouth + right_mouth) / 2
    across, down = (right_eye - left_eye), (mouth - eyes)
    # In profile the eyes are close together, yet the outline stays about this wide.
    width, height = np.linalg.norm(across), np.linalg.norm(down)
    half_width = np.maximum(width * 1.05, height * 0.8) * rng.uniform(0.75, 1.1)
    half_height = np.maximum(height * 1.2, width * 0.9) * rng.uniform(0.75, 1.1)
    axis_y = down / max(height, 1e-3)
    axis_x = np.array([axis_y[1], -axis_y[0]])
    centre = (eyes + mouth) / 2 + axis_y * half_height * (area.y + rng.uniform(-0.12, 0.12))
    centre = centre + axis_x * half_width * area.x
    half_width, half_height = half_width * area.width, half_height * area.height

    angles = np.linspace(0, 2 * np.pi, OUTLINE_POINTS, endpoint=False)
    waves = sum(rng.uniform(-0.07, 0.07) * np.cos(k * angles + rng.uniform(0, 2 * np.pi)) for k in range(1, 6))
    radius = (1 + waves) / (np.abs(np.cos(angles)) ** 2.4 + np.abs(np.sin(angles)) ** 2.4) ** (1 / 2.4)
    outline = centre + np.outer(radius * np.cos(angles) * half_width, axis_x)
    outline += np.outer(radius * np.sin(angles) * half_height, axis_y)
    if area is FACE and rng.random() < 0.25:  # swaps that end above the brows
        limit = centre + axis_y * half_height * rng.uniform(-0.6, -0.2)
        outline -= np.outer(np.minimum((outline - limit) @ axis_y, 0), axis_y)

    mask = np.zeros(shape, np.uint8)
    cv2.fillPoly(mask, [np.rint(outline).astype(np.int32)], 255)
    softness_px = max(0.6, float(np.minimum(half_width, half_height)) * rng.uniform(0.03, 0.25))
    return cv2.GaussianBlur(mask, (0, 0), softness_px).astype(np.float32) / 255


def _mirrored(side_px: int, canvas_px: int) -> np.ndarray:
    """Return indices (canvas_px,) that run along a side and back until the canvas is full."""
    indices = np.arange(canvas_px) % max(1, 2 * side_px - 2)
    return np.where(indices < side_px, indices, 2 * side_px - 2 - indices)


def _align_spectrum(rebuilt: np.ndarray, original: np.ndarray, *, strength: float) -> np.ndarray:
    """Scale each ring of a square picture's frequencies towards the original's energy; strength 1 matches it."""
    side = original.shape[0]
    rows, columns = np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None]
    rings = np.minimum((np.hypot(rows, columns) * 2 * SPECTRUM_RINGS).astype(int), SPECTRUM_RINGS - 1)
    got, wanted = (np.fft.rfft2(picture, axes=(0, 1)) for picture in (rebuilt, original))
    energies = [
        np.bincount(rings.ravel(), np.abs(values).sum(axis=2).ravel(), SPECTRUM_RINGS) for values in (got, wanted)
    ]
    gain = np.clip(energies[1] / np.maximum(energies[0], 1e-6), 1 / MAX_RING_GAIN, MAX_RING_GAIN) ** strength
    return np.fft.irfft2(got * gain[rings][..., None], s=(side, side), axes=(0, 1)).astype(np.float32)
