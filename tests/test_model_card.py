"""The model card: what it says of a version, and what it does not."""

import json

from huggingface_hub import ModelCard

from castline.versions.card import render_card
from castline.versions.facts import Facts


def test_a_card_of_nothing_known_is_still_a_card() -> None:
    text = render_card("v1.0.0", Facts(lambda _: None))
    assert ModelCard(text).data.license == "other"
    assert "Nothing is known of the model's quality." in text
    assert "commercial use is unclear" in text


def facts_of(**files: object) -> Facts:
    """Of a state that has these files, given as text or as what JSON says."""
    texts = {name: text if isinstance(text, str) else json.dumps(text) for name, text in files.items()}
    known = {
        "reports/metrics.json": texts.get("metrics"),
        "reports/export.json": texts.get("export"),
        "reports/dataset.json": texts.get("dataset"),
        "reports/groups.csv": texts.get("groups"),
        "reports/confusion.csv": texts.get("confusion"),
        "params.yaml": texts.get("params"),
    }
    return Facts(lambda path: text.encode() if (text := known.get(path)) is not None else None)


def test_a_card_sums_up_the_report() -> None:
    text = render_card(
        "v1.0.0",
        facts_of(
            metrics={"top1": 0.97, "worst_person_recall": 0.75},
            export={
                "int8": {"top1": 0.96, "faces": 100, "tpir": 0.912, "threshold": 0.41234, "ece": 0.021, "bytes": 5e6},
                "onnx": {"top1": 0.97, "faces": 100, "tpir": 0.934},
            },
            dataset={"photos": 120, "faces": 130, "left_out": {"ambig|uous": 4, "none": 0}, "rejected": {"no_face": 2}},
            groups="by,value,faces,people,right,says\nblur,<b>very</b>,40,9,30,behind\nblur,sharp,50,9,50,\n"
            "blur,fair,3,1,3,too few\nblur,not known,7,2,7,too few\nbroken line\n",
        ),
    )
    rows = {line.split(" | ")[0]: line.split(" | ")[1:] for line in text.splitlines() if line.startswith("| ")}
    assert rows["| file"] == [
        "top-1", "95 % interval", "named right and not called unknown", "threshold", "confidence off by (ECE)", "MB |",
    ]  # fmt: skip
    assert rows[r"| int8 \(int8\)"] == ["96.0%", "90.2% to 98.4%", "91.2%", "0.412", "2.1%", "5.0 |"]
    assert rows[r"| onnx \(onnx\)"] == ["97.0%", "91.5% to 99.0%", "93.4%", "unknown", "unknown", "unknown |"]
    assert "named right in 75.0% of the test faces" in text
    assert "Each file has a threshold of its own." in text
    assert r"- blur, \<b\>very\</b\>: 30 of 40 named right" in text
    assert "Groups: 3, too small to say: 1." in text
    assert "120 photos came in, and 130 faces were found." in text
    assert "| photo: no face | 2 |" in text
    assert r"| face: ambig\|uous | 4 |" in text
    assert "none" not in text
    assert "Faces are biometric data." in text


def test_a_card_says_where_the_photos_come_from() -> None:
    commons, licence = "https://commons.wikimedia.org/wiki/File:1.jpg", "https://creativecommons.org/licenses/by/4.0"
    files = {
        "params.yaml": "data: {batches: [one, two, ../three]}\n",
        "dvc.lock": "stages: {a: {deps: [{path: data/one, nfiles: 5}, {path: data/two, nfiles: 7}]}}\n",
        "labels/manifests/one.csv": "photo,source,author,licence,licence_url,consent\n"
        f"a/1.jpg,{commons},Ada,CC BY 4.0,{licence},<b>signed</b>\n"
        f"a/2.jpg,{commons},Ada,CC BY 4.0,{licence},\n"
        "a/3.jpg,http://[,Ada,CC0,,\nbroken\n",
    }

    def read(path: str) -> bytes | None:
        assert ".." not in path
        return files[path].encode() if path in files else None

    text = render_card("v1.0.0", Facts(read))
    rows = [
        line for line in text.splitlines() if line.startswith(("| source", "| licence", "| consent", "| no source"))
    ]
    assert rows == [
        "| source: commons.wikimedia.org | 2 |",
        "| source: not on record | 1 |",
        "| licence: CC BY 4.0 | 2 |",
        "| licence: CC0 | 1 |",
        "| consent of the people shown: not on record | 2 |",
        r"| consent of the people shown: \<b\>signed\</b\> | 1 |",
        "| no source on record | 9 |",
    ]
    assert "labels/manifests/one.csv in the repository" in text
    assert "Ada" not in text
    del files["labels/manifests/one.csv"]
    assert "Where the photos come from" not in render_card("v1.0.0", Facts(read))


def test_a_card_of_a_model_without_a_threshold_says_so() -> None:
    facts = facts_of(export={"int8": {"top1": 0.96, "faces": 100}})
    assert "Nobody is called unknown: there is no threshold." in render_card("v1.0.0", facts)
    facts.__dict__["bundle"] = {"unknown": {"refusal": "too few <strangers>", "fpir": 0.01}}
    text = render_card("v1.0.0", facts)
    assert r"nobody is called unknown: too few \<strangers\>." in text
    assert "It names everybody" in text


def test_a_state_is_what_its_files_say_and_no_more() -> None:
    state = facts_of(
        metrics={"top1": 0.9},
        params="data: {batches: [one, two], read: [two]}\nhead: {kind: softmax}\nexport: {int8: 1}\n",
        confusion="actual,predicted\nann,ann\nann,bob\nbob,bob\nshort\n",
    ).state
    assert state.metrics == {"top1": 0.9}
    assert state.settings == {"head.kind": "softmax"}, "how it is shipped does not shape a model"
    assert state.batches == ["one", "two"]
    assert state.tested == {"ann": (1, 2), "bob": (1, 1)}
    for odd in ("", "\xff", '"', "a,b\n1,2\n", "actual,predicted\n" + '"\n' * 9):
        assert facts_of(confusion=odd).state.tested == {}
