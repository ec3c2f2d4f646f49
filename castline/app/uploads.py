"""What a visitor gives to be looked at: taken, or refused with a reason. Nothing is decoded here."""

from collections.abc import Iterable

from castline.app.limits import Limits
from castline.app.session import Session, Upload
from castline.runtime.video import begins_video
from castline.text import short

__all__ = ["FORMATS", "is_video", "take", "video_type"]

FORMATS = "JPEG, PNG, WebP, AVIF, GIF, BMP, TIFF; MP4, MOV, WebM, MKV, AVI"


def is_video(upload: Upload) -> bool:
    """Whether a file that was taken is a video; by how it begins, whatever it is called."""
    return begins_video(upload.data[:12]) is True


def video_type(upload: Upload) -> str:
    """The media type of a video, for the browser to choose its decoder by."""
    if upload.data.startswith(b"\x1aE\xdf\xa3"):
        return "video/webm"
    return "video/ogg" if upload.data.startswith(b"OggS") else "video/mp4"


def take(session: Session, files: Iterable[tuple[str, bytes]], limits: Limits) -> list[str]:
    """Add files (name, content) to those that are shown. Why some were not, in words that hold the files' names."""
    refused, too_many = [], 0
    for name, data in files:
        video, megabytes, called = begins_video(data[:12]), len(data) / 1e6, short(name)
        limit = limits.video_mb if video else limits.picture_mb
        if not data:
            refused.append(f"{called} is empty.")
        elif video is None:
            refused.append(f"{called} is neither a picture nor a video of a kind that is read here: {FORMATS}.")
        elif megabytes > limit:
            what = "videos" if video else "pictures"
            refused.append(f"{called} has {megabytes:.1f} MB. The limit for {what} is {limit:g} MB: make it smaller.")
        elif (upload := Upload.of(name, data)).sha256 in {one.sha256 for one in session.uploads}:
            refused.append(f"{called} is shown already.")
        elif len(session.uploads) >= limits.pictures:
            too_many += 1
        else:
            session.uploads.append(upload)
    if too_many:
        many = f"{too_many} files were left out" if too_many > 1 else "One file was left out"
        refused.append(f"{many}: at most {limits.pictures} are shown at once. Remove some first.")
    return refused
