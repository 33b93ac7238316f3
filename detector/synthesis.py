"""Fakes of our own making and the damage pictures take on their way; the same generator gives the same pixels."""

from __future__ import annotations

import cv2
import numpy as np

from detector.faces import FaceFinder
from detector.results import UnreadableMedia

BLEND_RATIOS = (0.25, 0.5, 0.75, 1.0, 1.0, 1.0)  # how much of the source shows, from the paper
JPEG_QUALITIES = (40, 100)
OUTLINE_POINTS = 48
INTERPOLATIONS = (cv2.INTER_LINEAR, cv2.INTER_AREA, cv2.INTER_CUBIC, cv2.INTER_NEAREST)


def self_blend(image: np.ndarray, landmarks: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Make a deepfake out of one real face: two altered views of it, blended inside a deformed face outline.

    Args:
        image: (H, W, 3) uint8 RGB.
        landmarks: (5, 2) pixels: eyes, nose tip, mouth corners.
        rng: source of all randomness.

    Returns:
        The blend (H, W, 3) uint8 RGB and its mask (H, W) float32 in [0, 1]; outside the mask it is one of the views.

    Source:
        Shiohara and Yamasaki, "Detecting Deepfakes with Self-Blended Images", arXiv 2204.08376: the altered views,
        the small displacement, the deformed and softened mask and the blend ratios; the outline is our own,
        since it has five landmarks instead of 81.
    """
    altered = _alter(image, rng)
    source, target = (altered, image) if rng.random() < 0.5 else (image, altered)
    height, width = image.shape[:2]
    face_px = max(1.0, float(np.linalg.norm(landmarks[0] - landmarks[1])) * 2.5)

    zoom = rng.uniform(0.95, 1.05)
    shift = rng.uniform(-1, 1, 2) * face_px * np.array([0.03, 0.015])
    centre = landmarks.mean(axis=0)
    motion = np.array([[zoom, 0, shift[0] + centre[0] * (1 - zoom)], [0, zoom, shift[1] + centre[1] * (1 - zoom)]])
    source = cv2.warpAffine(source, motion, (width, height), borderMode=cv2.BORDER_REFLECT_101)

    mask = _face_mask((height, width), landmarks, rng) * np.float32(rng.choice(BLEND_RATIOS))
    blend = target + (source.astype(np.float32) - target) * mask[..., None]
    return np.clip(np.rint(blend), 0, 255).astype(np.uint8), mask


def make_sample_fake(image: np.ndarray, seed: int) -> np.ndarray:
    """Self-blend the largest face of a picture; the rest of it stays as it is or changes its tone a little.

    Args:
        image: (H, W, 3) uint8 RGB.
        seed: the same seed gives the same fake.

    Raises:
        UnreadableMedia: there is no face in it.
    """
    faces = FaceFinder().find_faces(image)
    if not faces:
        raise UnreadableMedia("No face was found, so no deepfake can be made of this picture.")
    return self_blend(image, faces[0].landmarks, np.random.default_rng(seed))[0]


def damage(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Put a picture through a random delivery: light, scaling, blur, noise and compression, as messengers and sites do.

    Args:
        image: (H, W, 3) uint8 RGB.

    Returns:
        A picture of the same size.
    """
    # The same alterations that make self-blended views, or the network would learn them instead of the seam.
    if rng.random() < 0.4:
        image = _alter(image, rng)
    if rng.random() < 0.05:
        image = np.repeat(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2)
    if rng.random() < 0.3:
        image = rescale(image, float(np.exp(rng.uniform(np.log(0.3), 0))), int(rng.choice(INTERPOLATIONS[:3])))
    if rng.random() < 0.2:
        image = blur(image, rng.uniform(0.3, 1.6))
    if rng.random() < 0.2:
        noise = rng.standard_normal(image.shape, dtype=np.float32) * np.float32(rng.uniform(1, 8))
        image = np.clip(image + noise, 0, 255).astype(np.uint8)
    # Both classes almost always end in a compression of ours, so that their own history says nothing.
    for chance in (0.85, 0.3):
        if rng.random() < chance:
            extension = ".webp" if rng.random() < 0.2 else ".jpg"
            image = recompress(image, int(rng.integers(*JPEG_QUALITIES, endpoint=True)), extension)
    return image


def recompress(image: np.ndarray, quality: int, extension: str = ".jpg") -> np.ndarray:
    """Return the picture after one lossy save; quality 1 to 100, extension .jpg or .webp."""
    flag = cv2.IMWRITE_WEBP_QUALITY if extension == ".webp" else cv2.IMWRITE_JPEG_QUALITY
    # JPEG and WebP treat the channels differently, hence the turn to BGR and back.
    encoded = cv2.imencode(extension, image[..., ::-1], [flag, quality])[1]
    return np.ascontiguousarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR)[..., ::-1])


def rescale(image: np.ndarray, factor: float, interpolation: int = cv2.INTER_AREA) -> np.ndarray:
    """Return the picture shrunk by `factor` in (0, 1] and brought back to its size."""
    height, width = image.shape[:2]
    small = cv2.resize(
        image, (max(2, round(width * factor)), max(2, round(height * factor))), interpolation=interpolation
    )
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)


def blur(image: np.ndarray, sigma_px: float) -> np.ndarray:
    """Return the picture after a Gaussian blur."""
    return cv2.GaussianBlur(image, (0, 0), sigma_px)


def adjust_light(image: np.ndarray, *, gain: float, offset: float, saturation: float) -> np.ndarray:
    """Return the picture with contrast `gain`, brightness `offset` (levels) and colour `saturation` (1 = as it is)."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None].astype(np.float32)
    coloured = grey + (image - grey) * np.float32(saturation)
    return np.clip((coloured - 127.5) * np.float32(gain) + np.float32(127.5 + offset), 0, 255).astype(np.uint8)


# The ways a picture may arrive on which thresholds and error rates are judged; None: as it was stored.
TIERS = {
    "stored": None,
    "jpeg50": lambda image: recompress(image, 50),
    "half": lambda image: rescale(image, 0.5),
    "blur1": lambda image: blur(image, 1.0),
}


def _alter(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return a view of the picture with other colours and another sharpness."""
    view = image.astype(np.float32) + rng.uniform(-18, 18, 3).astype(np.float32)
    view = np.clip(view, 0, 255).astype(np.uint8)
    view = adjust_light(
        view, gain=rng.uniform(0.85, 1.15), offset=rng.uniform(-14, 14), saturation=rng.uniform(0.7, 1.3)
    )
    if rng.random() < 0.5:
        return rescale(view, rng.uniform(0.25, 0.75), int(rng.choice(INTERPOLATIONS)))
    detail = view.astype(np.float32) - cv2.GaussianBlur(view, (0, 0), 1.5)
    return np.clip(view + detail * np.float32(rng.uniform(0.2, 0.8)), 0, 255).astype(np.uint8)


def _face_mask(shape: tuple[int, int], landmarks: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw a softened face outline, (H, W) float32 in [0, 1], deformed by a few random waves."""
    left_eye, right_eye, _, left_mouth, right_mouth = landmarks
    eyes, mouth = (left_eye + right_eye) / 2, (left_mouth + right_mouth) / 2
    across, down = (right_eye - left_eye), (mouth - eyes)
    # A face seen from the side has its eyes close together; its outline is still about as wide as this.
    half_width = max(np.linalg.norm(across) * 1.05, np.linalg.norm(down) * 0.8) * rng.uniform(0.75, 1.1)
    half_height = max(np.linalg.norm(down) * 1.2, np.linalg.norm(across) * 0.9) * rng.uniform(0.75, 1.1)
    axis_y = down / max(np.linalg.norm(down), 1e-3)
    axis_x = np.array([axis_y[1], -axis_y[0]])
    centre = (eyes + mouth) / 2 + axis_y * half_height * rng.uniform(-0.12, 0.12)

    angles = np.linspace(0, 2 * np.pi, OUTLINE_POINTS, endpoint=False)
    waves = sum(rng.uniform(-0.07, 0.07) * np.cos(k * angles + rng.uniform(0, 2 * np.pi)) for k in range(1, 6))
    radius = (1 + waves) / (np.abs(np.cos(angles)) ** 2.4 + np.abs(np.sin(angles)) ** 2.4) ** (1 / 2.4)
    outline = centre + np.outer(radius * np.cos(angles) * half_width, axis_x)
    outline += np.outer(radius * np.sin(angles) * half_height, axis_y)
    if rng.random() < 0.25:  # swaps that end above the brows or below the nose
        limit = centre + axis_y * half_height * rng.uniform(-0.6, -0.2)
        outline -= np.outer(np.minimum((outline - limit) @ axis_y, 0), axis_y)

    mask = np.zeros(shape, np.uint8)
    cv2.fillPoly(mask, [np.rint(outline).astype(np.int32)], 255)
    softness_px = max(0.6, half_width * rng.uniform(0.03, 0.25))
    return cv2.GaussianBlur(mask, (0, 0), softness_px).astype(np.float32) / 255
