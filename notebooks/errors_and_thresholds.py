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
# # Errors and thresholds
#
# Whom the model confuses, how far its confidence can be believed, and what a stricter threshold costs. All of it from
# what the bundle remembers of the faces, so the photos need not be there.

# %%
from pathlib import Path

from IPython.display import SVG

from castline.evaluation.identification import Identification
from castline.evaluation.measures import Evaluation, most_confused
from castline.evaluation.plots import confusion_svg, open_set_svg, people_svg, reliability_svg
from castline.evaluation.settings import OpenSetSettings
from castline.files import params, tables
from castline.scoring import Scorer
from castline.training.memory import part_of

bundle, build = Path("models/recognizer"), Path("build/model")
memory, scorer = tables.read(bundle / "memory.parquet"), Scorer.read(bundle / "head.safetensors")
folds = [Scorer.read(path) for path in sorted(build.glob("folds/*.safetensors"))]
identification = Identification.of(memory, scorer, params.read("open_set", OpenSetSettings), folds)
test = part_of(memory, "test", scorer.people)
embeddings, scores = scorer(test.features, identification.temperature)
evaluation = Evaluation(scorer.people, test.people, scores, embeddings)
print(f"{evaluation.correct} of {evaluation.n} test faces named right")

# %% [markdown]
# ## Whom it confuses

# %%
for actual, predicted, times in most_confused(evaluation.confusion):
    print(f"{scorer.people[actual]} taken for {scorer.people[predicted]}: {times} times")
SVG(confusion_svg(scorer.people, evaluation.confusion))

# %%
SVG(people_svg(evaluation.persons))

# %% [markdown]
# ## How sure it is
#
# Of the faces that it names with a confidence of 0.8, eight in ten should be right: before calibration and after.

# %%
SVG(reliability_svg(identification.reliability(1.0), identification.reliability(identification.temperature)))

# %% [markdown]
# ## Saying "unknown"
#
# Each threshold names some strangers (FPIR) and some of the cast (TPIR). The one in the bundle is fitted to the FPIR of
# `open_set.fpir`; where there are too few faces to say, it is refused.

# %%
for statistic, measured in (("similarity", identification.by_similarity), ("confidence", identification.by_confidence)):
    for point in measured.points:
        said = point.refusal or f"threshold {point.threshold:.3f}, TPIR {point.tpir:.3f}"
        print(f"by {statistic}, FPIR {point.fpir:g}: {said}")
SVG(open_set_svg({"similarity": identification.by_similarity, "confidence": identification.by_confidence}))
