# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Quick start: photos → names
#
# The model that `dvc repro` made last, asked about a picture and a video. Run it in the project's folder.

# %%
from pathlib import Path

from castline.runtime import Recognizer, watch
from castline.runtime.draw import draw

SAMPLE = Path("sample")
recognizer = Recognizer("models/recognizer")
print(len(recognizer.people), "people:", ", ".join(recognizer.people))
print("below a similarity of", recognizer.threshold, "a face is unknown")

# %% [markdown]
# ## A picture
#
# `open` decodes it upright, perhaps reduced; `identify_photo` finds the faces and names them, left to right.

# %%
photo = recognizer.open(SAMPLE / "scenes/scene_02.jpg")
people = recognizer.identify_photo(photo)
for person in people:
    print(f"{person.name.shown:<10} confidence {person.name.confidence:.2f}, similarity {person.name.similarity:.2f}")
draw(photo.image, people, photo.scale)

# %% [markdown]
# Who else it might have been: scores are over everybody that the model knows, and sum to 1.

# %%
name = people[0].name
for score, person in sorted(zip(name.scores, recognizer.people, strict=True), reverse=True)[:3]:
    print(f"{person:<10} {score:.3f}")

# %% [markdown]
# ## A video
#
# Faces are followed from frame to frame, and each track is named once.

# %%
timeline = watch(recognizer, SAMPLE / "clip.mp4", fps=6, keep_boxes=True)
for seen in timeline.appearances:
    print(f"{seen.label:<12} {seen.start:5.1f} s to {seen.end:5.1f} s")

# %%
frames = list(timeline.drawn())
time, picture = frames[len(frames) // 2]
print(f"at {time:.1f} s")
picture
