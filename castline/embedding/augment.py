"""Faces as other photos might have shown them, by albumentations. The same numbers give the same picture, anywhere."""

import os
import random
import threading
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from castline.embedding.augment_settings import AugmentationSettings

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # else it asks the package index for a newer version, on every import

import albumentations as A
import cv2

__all__ = ["augment"]


def augment(picture: NDArray[np.uint8], settings: AugmentationSettings, *numbers: int) -> NDArray[np.uint8]:
    """The face changed as `settings` allow and `numbers` decide: (S, S, 3) uint8 RGB → the same.

    numbers: such as seed, epoch and index, 0 or more. Neither threads, processes nor earlier calls play a part.
    """
    if not settings.changes:
        return picture
    pipeline = _pipeline(settings, threading.get_ident())
    generator = np.random.default_rng(list(numbers))
    # One pair of generators that all steps draw from in turn: given one seed, as albumentations' own `seed` does, each
    # would draw the same number, and whoever is mirrored would be blurred too.
    pipeline.set_random_state(generator, random.Random(int(generator.integers(2**63))))  # noqa: S311
    changed: NDArray[np.uint8] = pipeline(image=picture)["image"]
    return changed


@lru_cache(maxsize=128)  # a second to build, and each has a state of its own: one a thread
def _pipeline(settings: AugmentationSettings, thread: int) -> A.Compose:
    """The steps in the order in which they befall a photo: the pose, the light, the camera, the file."""
    steps: list[A.BasicTransform] = []
    if settings.flip:
        steps.append(A.HorizontalFlip(p=settings.flip))
    if settings.shift or settings.scale or settings.rotate:
        steps.append(
            A.Affine(
                translate_percent=(-settings.shift, settings.shift),
                scale=(1 - settings.scale, 1 + settings.scale),
                rotate=(-settings.rotate, settings.rotate),
                border_mode=cv2.BORDER_REFLECT_101,
                p=1,
            )
        )
    if settings.dropout:
        steps.append(
            A.CoarseDropout(
                num_holes_range=(1, 1),
                hole_height_range=(0.1, 0.33),
                hole_width_range=(0.1, 0.33),
                fill=127,
                p=settings.dropout,
            )
        )
    if settings.brightness or settings.contrast:
        steps.append(
            A.RandomBrightnessContrast(
                brightness_limit=settings.brightness,
                contrast_limit=settings.contrast,
                p=1,
            )
        )
    if settings.gray:
        steps.append(A.ToGray(p=settings.gray))
    if settings.blur:
        steps.append(A.GaussianBlur(sigma_limit=(0.5, 2.0), p=settings.blur))
    if settings.noise:
        steps.append(A.GaussNoise(std_range=(0.01, 0.06), p=settings.noise))
    if settings.jpeg < 100:
        steps.append(A.ImageCompression(quality_range=(settings.jpeg, 100), p=1))
    return A.Compose(steps)
