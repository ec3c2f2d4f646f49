"""Recipes that either nucleus takes, and each rule broken in turn."""

import copy
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from edge_device import Device

from castline.edge.package import pack_program
from castline.edge.recipes import NUCLEI, PackageSettings, access_control, check, joined, json_bytes, recipe
from castline.edge.settings import parse
from castline.errors import ConfigError
from castline.files import params

ROOT = Path(__file__).parents[2]
Recipe = dict[str, Any]
PLAIN = {"PATH": "/usr/bin:/bin"}
CONFIGURATION = {"PublishResultsOnTopic": "cast/seen", "LocalTopic": "cast/local", "Source": "camera:/dev/video0"}


def made(nucleus: str, **settings: Any) -> Recipe:
    chosen = PackageSettings(**{"configuration": CONFIGURATION, **settings})
    return recipe(chosen, nucleus, "1.2.3", "castline-edge-0.1.0.zip", "recognizer-1.2.3.zip", "5f3a")


def put(*path: str | int, value: Any) -> Callable[[Recipe], None]:
    """Set what is at a path."""

    def change(recipe: Recipe) -> None:
        inner: Any = recipe
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = value

    return change


def rename(*path: str | int, to: str) -> Callable[[Recipe], None]:
    def change(recipe: Recipe) -> None:
        inner: Any = recipe
        for key in path[:-1]:
            inner = inner[key]
        inner[to] = inner.pop(path[-1])

    return change


DEFAULTS = ("ComponentConfiguration", "DefaultConfiguration")
RIGHTS = (*DEFAULTS, "accessControl")
NAME = "com.example.CastlineRecognizer"
MANIFEST = ("Manifests", 0)
STEPS = (*MANIFEST, "Lifecycle")
BROKEN_EITHER = [
    (put("Colour", value="red"), "unknown key 'Colour'"),
    (rename("ComponentName", to="componentName"), "unknown key 'componentName': ComponentName is meant?"),
    (put("RecipeFormatVersion", value="2021-01-01"), "RecipeFormatVersion"),
    (put("ComponentName", value="com/example"), "ComponentName: 'com/example'"),
    (put("ComponentVersion", value="NEXT_PATCH"), "no semantic version"),
    (put("ComponentVersion", value="1.02.0"), "no semantic version"),
    (put("ComponentVersion", value="1.0.0+" + "a" * 60), "64 letters at most"),
    (put("ComponentType", value="aws.greengrass.plugin"), "ComponentType"),
    (put("Lifecycle", value={}), "Lifecycle: beside Manifests"),
    (put("ComponentDependencies", value={"a.b": {"DependencyType": "STRONG"}}), "DependencyType is HARD or SOFT"),
    (put("ComponentDependencies", value={"a.b": {"Version": "1"}}), "unknown key 'Version'"),
    (put("Manifests", value=[]), "Manifests: none"),
    (rename(*MANIFEST, "Artifacts", to="artifacts"), "unknown key 'artifacts': Artifacts is meant?"),
    (put(*DEFAULTS, "InferenceInterval", value=30), "InferenceInterval: 30 is not text"),
    (put(*DEFAULTS, "InferenceInterval", value="soon"), 'InferenceInterval is "soon"'),
    (put(*DEFAULTS, "Colour", value="red"), "'Colour' is no setting"),
    (put(*DEFAULTS, "Source", value=""), "no Source, ImageName, ImageDirectory or UseCamera"),
    (put(*DEFAULTS, "PublishResultsOnTopic", value="other"), "configured are ['other', 'other/events']"),
    (put(*DEFAULTS, "LocalTopic", value=""), "pubsub allows ['cast/local'], configured are []"),
    (put(*RIGHTS, "aws.greengrass.ipc.pubsub", value={}), "pubsub allows [], configured are ['cast/local']"),
    (put(*RIGHTS, "aws.greengrass.ipc.lambda", value={}), "unknown service 'aws.greengrass.ipc.lambda'"),
    (
        put(*RIGHTS, "aws.greengrass.ipc.pubsub", f"{NAME}:pubsub:1", "operations", value=["aws.greengrass#Publish"]),
        "no operation aws.greengrass#Publish",
    ),
    (
        rename(*RIGHTS, "aws.greengrass.ipc.pubsub", f"{NAME}:pubsub:1", to=f"{NAME}:mqttproxy:1"),
        "two policies of one name",
    ),
    (put(*STEPS, "start", value="x"), "unknown key 'start'"),
    (put(*STEPS, "startup", value="x"), "run or startup, not both"),
    (put(*STEPS, value={"install": "x"}), "nothing is run"),
    (rename(*STEPS, "install", "Script", to="script"), "unknown key 'script': Script is meant?"),
    (put(*STEPS, "install", value={"Timeout": 5}), "no Script"),
    (put(*STEPS, "install", "Timeout", value="long"), "'long' is no number of seconds"),
    (put(*STEPS, "run", value="cat {artifacts:place}/x"), "{artifacts:place} is no variable"),
    (put(*STEPS, "run", value="cat {work:path:here}"), "{work:path:here} is no variable"),
    (put(*STEPS, "run", value="cat {configuration:/Colour}"), "not in DefaultConfiguration"),
    (put(*STEPS, "Setenv", value={"A": "{kernel:root}"}), "{kernel:root} is no variable"),
    (put(*STEPS, "run", value="{artifacts:decompressedPath}/other/x"), "other is no artifact with Unarchive ZIP"),
    (put(*STEPS, "run", value="{artifacts:path}/castline-edge-0.1.0"), "no artifact with Unarchive NONE"),
    (put(*MANIFEST, "Artifacts", 0, "Unarchive", value="TAR"), "NONE or ZIP"),
    (put(*MANIFEST, "Artifacts", 0, "Permission", value={"Read": "WORLD"}), "OWNER or ALL"),
]
BROKEN_CLASSIC = [
    (rename(*MANIFEST, "Artifacts", 0, "URI", to="Url"), "unknown key 'Url'"),
    (put(*MANIFEST, "Artifacts", 0, "URI", value="https://example.com/a.zip"), "is not s3://BUCKET/KEY"),
    (put(*MANIFEST, "Artifacts", 0, "URI", value="s3://BUCKET/recognizer-1.2.3.zip"), "is there twice"),
    (put(*STEPS, "run", value="{com.x.Model:artifacts:path}/x"), "nor among ComponentDependencies"),
]
BROKEN_LITE = [
    (rename(*MANIFEST, "Artifacts", 0, "Uri", to="URI"), "unknown key 'URI': Uri is meant?"),
    (put(*MANIFEST, "Platform", value={"os": "linux"}), "wants runtime"),
    (put(*MANIFEST, "Platform", value={"os": "windows", "runtime": "*"}), "runs on linux"),
    (put(*MANIFEST, "Platform", "architecture", value="/arm|aarch64/"), "no regular expressions"),
    (put(*STEPS, "shutdown", value="x"), "shutdown: not on nucleus lite"),
    (put(*STEPS, "recover", value="x"), "recover: not on nucleus lite"),
    (put(*STEPS, "bootstrap", value="x"), "bootstrap: not on nucleus lite"),
    (put(*STEPS, "run", "Skipif", value="onpath python3"), "Skipif: not on nucleus lite"),
    (put(*STEPS, "run", value="{com.x.Model:artifacts:path}/x"), "no other component's variables"),
]


@pytest.mark.parametrize("nucleus", NUCLEI)
@pytest.mark.parametrize(
    "settings", [{}, {"video": True}, {"configuration": {"PublishResultsOnTopic": "t", "UseCamera": "true"}}]
)
def test_ours_is_as_its_nucleus_wants_it(nucleus: str, settings: dict[str, Any]) -> None:
    found = made(nucleus, **settings)
    assert check(found, nucleus) == []
    assert json.loads(json_bytes(found)) == found
    assert json_bytes(found) == json_bytes(made(nucleus, **settings))
    other = NUCLEI[nucleus == "classic"]
    assert check(found, other), "and not as the other does"
    step = found["Manifests"][0]["Lifecycle"]["install"]["Script"]
    assert ("requirements-video.txt" in step) == bool(settings.get("video"))


BROKEN = [
    *((nucleus, change, said) for nucleus in NUCLEI for change, said in BROKEN_EITHER),
    *(("classic", change, said) for change, said in BROKEN_CLASSIC),
    *(("lite", change, said) for change, said in BROKEN_LITE),
]


@pytest.mark.parametrize(
    ("nucleus", "change", "said"), BROKEN, ids=lambda value: value if isinstance(value, str) else ""
)
def test_a_broken_rule_is_said(nucleus: str, change: Callable[[Recipe], None], said: str) -> None:
    broken = copy.deepcopy(made(nucleus))
    change(broken)
    assert any(said in problem for problem in check(broken, nucleus)), check(broken, nucleus)


def test_a_dependency_may_be_named_where_it_is_one() -> None:
    found = made("classic")
    found["ComponentDependencies"] = {"com.x.Model": {"VersionRequirement": ">=1.0.0", "DependencyType": "HARD"}}
    found["Manifests"][0]["Lifecycle"]["run"] = "cat {com.x.Model:artifacts:decompressedPath}/x {configuration:/Source}"
    assert check(found, "classic") == []


def test_the_settings_that_are_shipped_make_good_recipes() -> None:
    values = yaml.safe_load((ROOT / "conf/package.yaml").read_text())["package"]
    settings = params.typed({**values, "version": "", "bundle": ""}, PackageSettings, "package")
    for nucleus in NUCLEI:
        assert check(recipe(settings, nucleus, "1.0.0", "a.zip", "b.zip", "c"), nucleus) == []
    assert {"ImageName", "ImageDirectory", "InferenceInterval", "UseCamera"} <= settings.configuration.keys()
    assert settings.configuration["PublishResultsOnTopic"] == "ml/tflite/image-classification"


def test_in_the_cloud_both_are_one_and_the_lite_nucleus_comes_first() -> None:
    both = joined([made("classic"), made("lite")])
    assert [manifest["Name"] for manifest in both["Manifests"]] == ["nucleus lite", "classic nucleus"]
    assert {key: value for key, value in both.items() if key != "Manifests"} == {
        key: value for key, value in made("lite").items() if key != "Manifests"
    }


def test_a_component_may_publish_where_it_is_told_to_and_nowhere_else() -> None:
    both = access_control("a.b", {"PublishResultsOnTopic": "t", "LocalTopic": "l"})
    assert both["aws.greengrass.ipc.mqttproxy"]["a.b:mqttproxy:1"]["resources"] == ["t", "t/events"]
    assert both["aws.greengrass.ipc.pubsub"]["a.b:pubsub:1"]["resources"] == ["l"]
    assert list(access_control("a.b", {"PublishResultsOnTopic": "t", "LocalTopic": ""})) == [
        "aws.greengrass.ipc.mqttproxy"
    ]


@pytest.fixture
def device(tmp_path: Path) -> Device:
    """The Python packages are there already; a folder has a space in its name."""
    device = Device(tmp_path / "a device", pack_program(tmp_path))
    device.python.parent.mkdir(parents=True)
    device.python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    device.python.chmod(0o755)
    (device.python.parents[1] / "complete").touch()
    return device


def test_installing_makes_a_release_current_and_fails_for_a_bad_one(device: Device, old: Path, tmp_path: Path) -> None:
    done = device.step("classic", "install", old, PLAIN)
    assert done.returncode == 0, done.stderr
    assert (device.work / "store/current/model.tflite").is_file()
    assert (device.work / "images").is_dir()
    bad = tmp_path / "recognizer-9.0.0.zip"
    bad.write_bytes(old.read_bytes()[:-1000])
    assert device.step("classic", "install", bad, PLAIN).returncode != 0


@pytest.mark.parametrize("nucleus", NUCLEI)
def test_the_program_is_run_with_the_release_to_bring_in(nucleus: str, device: Device, old: Path) -> None:
    (device.program / "castline/edge/__main__.py").write_text("import sys; print(sys.argv[1:])")
    assert device.step(nucleus, "install", old, PLAIN).returncode == 0
    assert (device.work / "store").exists() == (nucleus == "classic"), "on lite a refusal must not stop the program"
    done = device.step(nucleus, "run", old, PLAIN)
    release = str(device.root / "artifacts" / old.name)
    assert done.stdout == f"{['--work', '.', '--install', release]}\n", done.stderr
    assert parse(PackageSettings().configuration)[0].store_path == "store"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"format": "onnx"}, "package.format is 'onnx'"),
        ({"component": "com.example; rm -rf /"}, "package.component"),
        ({"nucleus": ("v1",)}, "package.nucleus"),
        ({"nucleus": ()}, "package.nucleus"),
        ({"configuration": {}}, "no PublishResultsOnTopic"),
    ],
)
def test_settings_that_do_not_fit_are_said(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)):
        PackageSettings(**settings)
