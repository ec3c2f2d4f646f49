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
# # The data: what was dropped, and why
#
# Every photo that came in is a row somewhere: a face that is kept, one that was set aside, or a reject. Nothing is lost
# silently, so the counts add up.

# %%
import json
from collections import Counter
from io import BytesIO
from pathlib import Path

from IPython.display import SVG, display
from PIL import Image

from castline.evaluation.measures import Funnel
from castline.evaluation.plots import funnel_svg
from castline.files import params, tables
from castline.photos.batches import DataSettings

batches = params.read("data", DataSettings).read
counts = json.loads(Path("reports/dataset.json").read_text())
dataset = tables.read(Path("build/dataset.parquet")).to_pylist()
print(counts["photos"], "photos,", counts["faces"], "faces,", counts["people"], "people kept")

# %%
uses = Counter("strangers" if row["stranger"] else row["split"] for row in dataset if row["kept"])
funnel = Funnel(counts["photos"], counts["rejected"], counts["faces"], counts["left_out"], uses)
SVG(funnel_svg(funnel))

# %% [markdown]
# ## Photos without a usable face

# %%
for batch in batches:
    for row in tables.read(Path(f"build/faces/{batch}.rejects.parquet")).to_pylist():
        print(f"{batch}/{row['photo']}: {row['reason']} ({row['detail']})")

# %% [markdown]
# ## Faces that were set aside
#
# With the reason; the chip is what the model would have seen.

# %%
chips = {
    (batch, row["photo"], row["face"]): row["chip"]
    for batch in batches
    for row in tables.read(Path(f"build/faces/{batch}.parquet"), ["photo", "face", "chip"]).to_pylist()
}
for row in [row for row in dataset if not row["kept"]][:6]:
    print(f"{row['batch']}/{row['photo']}: {row['reason']}")
    display(Image.open(BytesIO(chips[row["batch"], row["photo"], row["face"]])).resize((96, 96)))

# %% [markdown]
# ## Who has how much
#
# A person with few faces is learned badly and measured worse: one test face right or wrong is all there is to say.

# %%
sides = {row["person"]: Counter() for row in dataset if row["kept"] and not row["stranger"]}
for row in dataset:
    if row["kept"] and not row["stranger"]:
        sides[row["person"]][row["split"]] += 1
for person, count in sorted(sides.items(), key=lambda item: item[1].total()):
    print(f"{person:<12} train {count['train']:>3}  val {count['val']:>3}  test {count['test']:>3}")
