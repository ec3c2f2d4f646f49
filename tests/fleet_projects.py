"""A project whose stages take no time: Castline's settings and stages of a few lines, committed, with a cache apart."""

import shutil
from pathlib import Path

import yaml
from projects import commit, make_project, run

PIPELINE = """\
stages:
  faces:
    foreach: ${data.read}
    do:
      cmd: mkdir -p build/faces && cat data/${item}/*.txt > build/faces/${item}.txt
      deps: ["data/${item}"]
      outs: ["build/faces/${item}.txt"]
  train:
    cmd: python stages/tiny.py
    deps: [build/faces, stages/tiny.py]
    params: [head.dropout]
    outs: [build/model.txt]
    plots: [reports/curves.csv: { cache: false }]
  evaluate:
    cmd: cp reports/index.html.in reports/index.html && cp build/model.txt reports/metrics.json
    deps: [build/model.txt, reports/curves.csv, reports/index.html.in]
    outs: [reports/index.html]
    metrics: [reports/metrics.json: { cache: false }]
"""
TRAIN = """\
import json, os, sys, time
from pathlib import Path
import yaml
from castline import progress
dropout = yaml.safe_load(Path("params.yaml").read_text())["head"]["dropout"]
if dropout > 0.8:
    sys.exit("error: dropout is too much")
if dropout == 0.5:
    time.sleep(600)
faces = sum(len(path.read_text().split()) for path in sorted(Path("build/faces").iterdir()))
loss = (dropout - 0.3) ** 2 + 1
name = os.environ.get("DVC_EXP_NAME")
progress.epoch({"epoch": 0, "train_loss": 2.0, "val_loss": loss})
Path("build/model.txt").write_text(json.dumps({"top1": 1 - dropout, "n_test": faces}) + "\\n")
Path("reports").mkdir(exist_ok=True)
Path("reports/curves.csv").write_text(
    "run,epoch,train_loss,val_loss,train_accuracy,val_accuracy,kept\\n" f"{name},1,2.0,{loss},0.5,,1\\n"
)
"""
PAGE = '<p>plain</p><img src="data:image/jpeg;base64,AAAA"><img src="data:image/svg+xml;base64,BBBB">\n'


def tiny_project(folder: Path) -> Path:
    """faces of a batch → train → evaluate. Nothing has run; the last commit is all there is."""
    make_project(folder)
    shutil.rmtree(folder / "stages")
    (folder / "data.dvc").unlink()
    texts = {
        "dvc.yaml": PIPELINE,
        "stages/tiny.py": TRAIN,
        "reports/index.html.in": PAGE,
        "conf/data.yaml": "data:\n  batches: [one]\n",
        "data/one/a.txt": "alma bruno\n",
        ".gitignore": "/build\n/reports/index.html\n/.castline\n__pycache__/\n",
    }
    for path, text in texts.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    run(folder, "git", "config", "user.name", "t")
    run(folder, "git", "config", "user.email", "t@localhost")
    params = yaml.safe_load((folder / "params.yaml").read_text())
    params["data"] = {"batches": ["one"], "read": ["one"]}
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    with (folder / ".dvc/config").open("a") as config:
        config.write(f"[cache]\n    dir = {folder.with_name('cache')}\n")
    commit(folder)
    return folder
