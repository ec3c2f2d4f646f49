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
# # Bring your own base model
#
# A base model is an entry in `conf/base_model/`: which network, which weights, how a face is cut out for it. Before it
# is trained on, see whether it tells faces apart at all: here on the faces that the pipeline has found, untrained.
#
# The weights of this page are a file that is made on the spot, so that nothing is fetched. Yours is a `.safetensors` or
# a `.pth` of plain tensors; its hash is checked whenever it is read.

# %%
import tempfile
from pathlib import Path

import numpy as np
import yaml
from IPython.display import SVG
from safetensors.torch import save_file

from castline.curation.choose import centred
from castline.embedding import base_models
from castline.embedding.base_settings import ONNX, BaseModelSettings, FeatureSettings
from castline.embedding.entries import read_entries
from castline.embedding.features import embed
from castline.embedding.onnx import export_base
from castline.embedding.onnx_model import OnnxModel
from castline.evaluation.measures import verification_roc
from castline.evaluation.plots import roc_svg
from castline.files import params, tables
from castline.files.weights import sha256_of
from castline.photos.batches import DataSettings

folder = Path(tempfile.mkdtemp())
packaged = next(entry for entry in read_entries() if entry.name == "mobilenetv2")
save_file(base_models.build(packaged, "pretrained", seed=1).state_dict(), folder / "mine.safetensors")

# %% [markdown]
# ## The entry

# %%
mine = yaml.safe_load(
    f"""
name: mine
source: file
architecture: mobilenetv2_100
file: {folder / "mine.safetensors"}
sha256: {sha256_of(folder / "mine.safetensors")}
input_size: 224
mean: [123.675, 116.28, 103.53]
std: [58.395, 57.12, 57.375]
template: head
embedding_size: 1280
licence: "mine"
commercial_ok: "yes"
pool: ""
"""
)
settings = params.typed(mine, BaseModelSettings, "base_model")

# %% [markdown]
# ## Does it tell faces apart?
#
# Each pair of test faces is of one person or of two. The nearer the curve comes to the upper left corner, the better;
# the project's own base model beside it.

# %%
batches = params.read("data", DataSettings).read
dataset = tables.read(Path("build/dataset.parquet")).to_pylist()
faces = tables.read_many([Path(f"build/faces/{batch}.parquet") for batch in batches], ["chip"])
chips = faces.column("chip").to_pylist()
kept = [i for i, row in enumerate(dataset) if row["kept"] and row["split"] == "test"]
people = sorted({dataset[i]["person"] for i in kept})
truth = np.array([people.index(dataset[i]["person"]) for i in kept])

export_base(base_models.build(settings, "pretrained", seed=1), settings.input_size, folder)
own = verification_roc(truth, centred(embed(OnnxModel(folder / ONNX), settings, [chips[i] for i in kept])))
print(f"area under the curve: {own.auc:.3f}")
SVG(roc_svg(own))

# %%
folder = Path("build", params.read("features", FeatureSettings).folder)
features = tables.matrix(tables.read_many([folder / f"{batch}.parquet" for batch in batches]), "feature")
usual = verification_roc(truth, centred(features[kept]))
print(f"area under the curve: {usual.auc:.3f}")
SVG(roc_svg(usual))

# %% [markdown]
# ## Train with it
#
# ```
# cp mine.yaml conf/base_model/
# dvc exp run -S base_model=mine
# ```
