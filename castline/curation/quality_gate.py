"""Faces that are too poor to learn from: too small, blurred, dark, bright, flat, or turned away."""

from castline.curation.settings import CurationSettings
from castline.faces.quality import Quality

__all__ = ["too_poor"]


def too_poor(quality: Quality, settings: CurationSettings) -> str:
    """Why a face is not to be learned from, the first reason that holds; or nothing.

    >>> too_poor(Quality(9.0, 1.0, 120.0, 40.0, 0.0, 0.0), CurationSettings())
    'too small: 9 pixels between the eyes'
    """
    if quality.eye_distance < settings.min_eye_distance:
        return f"too small: {quality.eye_distance:.0f} pixels between the eyes"
    if quality.brightness < settings.min_brightness:
        return f"too dark: brightness {quality.brightness:.0f} of 255"
    if quality.brightness > settings.max_brightness:
        return f"too bright: brightness {quality.brightness:.0f} of 255"
    if quality.contrast < settings.min_contrast:
        return f"too flat: contrast {quality.contrast:.0f}"
    if quality.sharpness < settings.min_sharpness:
        return f"too blurred: sharpness {quality.sharpness:.2f}"
    if abs(quality.yaw) > settings.max_yaw:
        return f"turned away: {abs(quality.yaw):.0f} degrees"
    return ""
