"""Recipes: what a nucleus of AWS IoT Greengrass V2 is told of the component, and the rules that it goes by.

One component holds program and model, as two artifacts: nucleus lite cannot hand one component the path of another's
artifacts, and waits for ever for one that only installs.

Source: AWS IoT Greengrass developer guide, "component recipe reference" and
"tensorflow-lite-image-classification-component"; RECIPE_SUPPORT_CHANGES.md of aws-greengrass-lite.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from castline.edge.settings import TOPIC, parse
from castline.errors import ConfigError

__all__ = [
    "BUCKET",
    "NUCLEI",
    "REFUSED",
    "UNUSED",
    "PackageSettings",
    "access_control",
    "check",
    "joined",
    "json_bytes",
    "recipe",
    "requirements",
]

NUCLEI = ("classic", "lite")
BUCKET = "BUCKET"  # stands for the bucket, with or without a prefix, until the component is published
REFUSED = "refused.txt"  # in build/edge, instead of a package: why there is none
_FORMATS = ("float16", "int8", "float32")
# Of LiteRT's package: 27 MB for graphics processors and for compiling models.
UNUSED = ("libLiteRtWebGpuAccelerator.so", "tools/apply_plugin_main")
_TOPIC = "PublishResultsOnTopic"
_MEND = "edit conf/package.yaml, then: castline compose"

_COMPONENT = re.compile(r"[a-zA-Z0-9_.-]{1,128}")
_VERSION = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?")
_VARIABLE = re.compile(r"\{([A-Za-z0-9_.-]+(?::[A-Za-z0-9_./:-]+)+)\}")
_TOP = {
    "RecipeFormatVersion", "ComponentName", "ComponentVersion", "ComponentType", "ComponentDescription",
    "ComponentPublisher", "ComponentConfiguration", "ComponentDependencies", "Manifests", "Lifecycle",
}  # fmt: skip
_STEPS = {"install", "run", "startup", "shutdown", "recover", "bootstrap", "Setenv"}
_NOT_IN_LITE = {"shutdown", "recover", "bootstrap"}
_STEP_KEYS = {"Script", "RequiresPrivilege", "Skipif", "Timeout", "Setenv"}
_OPERATIONS = {
    "aws.greengrass.ipc.mqttproxy": {"aws.greengrass#PublishToIoTCore", "aws.greengrass#SubscribeToIoTCore"},
    "aws.greengrass.ipc.pubsub": {"aws.greengrass#PublishToTopic", "aws.greengrass#SubscribeToTopic"},
}
# By what stands before the colon. {configuration:/...} is one too.
_VARIABLES = {"artifacts": {"path", "decompressedPath"}, "work": {"path"}, "kernel": {"rootPath"}, "iot": {"thingName"}}


@dataclass(frozen=True)
class PackageSettings:
    """The `package` section of params.yaml.

    format: which of the bundle's files devices get: float16, int8 or float32.
    component: its name in Greengrass. publisher: who is named as its publisher.
    nucleus: for which there is a recipe: classic, lite, or both.
    video: whether PyAV is installed on devices too, for cameras, streams and video files.
    configuration: of the component, before a deployment changes it: keys of the public TFLite component, and ours; all
        are text, as they are there.
    version, bundle: the last release, such as v1.2.0, and what its models/recognizer was (DVC's hash); found when
        settings are composed. The package is of that version if its bundle is.
    """

    format: str = "float16"
    component: str = "com.example.CastlineRecognizer"
    publisher: str = "example.com"
    nucleus: tuple[str, ...] = NUCLEI
    video: bool = False
    configuration: dict[str, str] = field(
        default_factory=lambda: {"ImageDirectory": "images", _TOPIC: TOPIC, "StorePath": "store"}
    )
    version: str = ""
    bundle: str = ""

    def __post_init__(self) -> None:
        if self.format not in _FORMATS:
            raise ConfigError(f"package.format is {self.format!r}: known are {', '.join(_FORMATS)}", _MEND)
        if not _COMPONENT.fullmatch(self.component):
            raise ConfigError(f"package.component is {self.component[:80]!r}: letters, digits, - _ . only", _MEND)
        if not self.nucleus or not set(self.nucleus) <= set(NUCLEI) or len(set(self.nucleus)) < len(self.nucleus):
            raise ConfigError(f"package.nucleus is {list(self.nucleus)}: one of each of {', '.join(NUCLEI)}", _MEND)
        if not self.configuration.get(_TOPIC):
            raise ConfigError(f"package.configuration has no {_TOPIC}", _MEND)


def recipe(
    settings: PackageSettings, nucleus: str, version: str, program: str, release: str, environment: str
) -> dict[str, Any]:
    """The recipe of the component for a nucleus, its artifacts in the bucket that BUCKET stands for.

    version: X.Y.Z. program, release: names of the two zips. environment: names the Python packages that the program
    needs, so that a device whose packages are those already has nothing to download.
    """
    configuration: dict[str, Any] = {"accessControl": access_control(settings.component, settings.configuration)}
    configuration |= dict(sorted(settings.configuration.items()))
    configuration["ModelResourceKey"] = {"model": "recognizer"}
    lite = nucleus == "lite"
    uri = "Uri" if lite else "URI"
    place = f"s3://{BUCKET}/{settings.component}/{version}"
    return {
        "RecipeFormatVersion": "2020-01-25",
        "ComponentName": settings.component,
        "ComponentVersion": version,
        "ComponentType": "aws.greengrass.generic",
        "ComponentDescription": "Names the people in what a camera sees, and publishes the names.",
        "ComponentPublisher": settings.publisher,
        "ComponentConfiguration": {"DefaultConfiguration": configuration},
        "Manifests": [
            {
                "Name": "nucleus lite" if lite else "classic nucleus",
                "Platform": {"os": "linux"} | ({"runtime": "aws_nucleus_lite"} if lite else {}),
                "Lifecycle": _lifecycle(settings, nucleus, Path(program).stem, release, environment),
                "Artifacts": [
                    {uri: f"{place}/{program}", "Unarchive": "ZIP"},
                    {uri: f"{place}/{release}", "Unarchive": "NONE"},
                ],
            }
        ],
    }


def requirements(settings: PackageSettings) -> list[str]:
    """The lists of packages in the program's zip that devices install."""
    return ["requirements.txt", *(["requirements-video.txt"] if settings.video else [])]


def _lifecycle(
    settings: PackageSettings, nucleus: str, program: str, release: str, environment: str
) -> dict[str, dict[str, Any]]:
    """Install and run.

    A release that a device refuses fails the deployment on the classic nucleus, which then goes back to the component
    before. Nucleus lite does not go back, so there the component starts whatever the store makes of the release.
    """
    needed = " ".join(f'-r "$program/{file}"' for file in requirements(settings))
    python = f"env-{environment}/bin/python"
    # Greengrass keeps what is in the work folder from version to version; the artifacts' folder may not be written to.
    beginning = [
        "set -eu",
        'cd "{work:path}"',
        f'program="{{artifacts:decompressedPath}}/{program}"',
        'export PYTHONPATH="$program" PYTHONPYCACHEPREFIX="{work:path}/pycache"',
    ]
    packages = [
        f"if [ ! -e env-{environment}/complete ]; then",
        f"  python3 -m venv --clear env-{environment}",
        f"  {python} -m pip install --no-input --disable-pip-version-check --no-cache-dir --no-compile"
        f" --only-binary :all: --require-hashes {needed}",
        *(f"  rm -f env-{environment}/lib/python3*/site-packages/ai_edge_litert/{file}" for file in UNUSED),
        f"  touch env-{environment}/complete",
        "  ls -dt env-* | tail -n +3 | xargs -r rm -rf",  # the one before stays: there may be a way back
        "fi",
        "mkdir -p images",
    ]
    install = f'{python} -m castline.edge.store store --install "{{artifacts:path}}/{release}"'
    # The program brings the release in, too, so that what became of it is published; a second time nothing is done.
    start = f'exec {python} -m castline.edge --work . --install "{{artifacts:path}}/{release}"'
    steps = [*beginning, *packages, *([install] if nucleus == "classic" else [])]
    return {"install": _step(steps, 1800), "run": _step([*beginning, start])}


def _step(lines: list[str], timeout: int | None = None) -> dict[str, Any]:
    """A step of the lifecycle. timeout: seconds; a device's first start downloads packages."""
    step: dict[str, Any] = {"Script": "\n".join(lines)}
    return step if timeout is None else step | {"Timeout": timeout}


def access_control(component: str, configuration: Mapping[str, Any]) -> dict[str, Any]:
    """What the component may do: publish to the topics that are configured, and to no other."""
    topic, local = configuration[_TOPIC], configuration.get("LocalTopic", "")

    def allow(service: str, operation: str, topics: list[str]) -> dict[str, Any]:
        policy = {
            "policyDescription": "Publishes results.",
            "operations": [f"aws.greengrass#{operation}"],
            "resources": topics,
        }
        return {f"aws.greengrass.ipc.{service}": {f"{component}:{service}:1": policy}}

    cloud = allow("mqttproxy", "PublishToIoTCore", [topic, f"{topic}/events"])
    return cloud | (allow("pubsub", "PublishToTopic", [local]) if local else {})


def joined(recipes: list[dict[str, Any]]) -> dict[str, Any]:
    """One recipe of those for several nuclei: in the cloud a version has one.

    A nucleus takes the first manifest whose platform is its own. The lite one's says more, so it comes first.
    """
    manifests = [manifest for recipe in recipes for manifest in recipe["Manifests"]]
    manifests.sort(key=lambda manifest: "runtime" not in manifest["Platform"])
    return recipes[0] | {"Manifests": manifests}


def json_bytes(recipe: Mapping[str, Any]) -> bytes:
    """As a file, or sent; the same recipe gives the same bytes."""
    return (json.dumps(recipe, indent=2, ensure_ascii=False) + "\n").encode()


def check(recipe: Mapping[str, Any], nucleus: str) -> list[str]:
    """What a nucleus would not take of a recipe, or not do as it is meant; none of it, an empty list."""
    return list(_problems(recipe, nucleus))


def _problems(recipe: Mapping[str, Any], nucleus: str) -> Iterator[str]:
    yield from _keys("recipe", recipe, _TOP)
    if recipe.get("RecipeFormatVersion") != "2020-01-25":
        yield "RecipeFormatVersion: it is 2020-01-25"
    name = recipe.get("ComponentName")
    if not isinstance(name, str) or not _COMPONENT.fullmatch(name):
        yield f"ComponentName: {name!r}: letters, digits, - _ . only"
    version = recipe.get("ComponentVersion")
    if not isinstance(version, str) or not _VERSION.fullmatch(version) or len(version) > 64:
        yield f"ComponentVersion: {version!r} is no semantic version of 64 letters at most"
    if recipe.get("ComponentType", "aws.greengrass.generic") != "aws.greengrass.generic":
        yield "ComponentType: aws.greengrass.generic is the one for components of one's own"
    if "Lifecycle" in recipe:
        yield "Lifecycle: beside Manifests it needs Selections; write it into the manifests"
    dependencies = recipe.get("ComponentDependencies", {})
    for dependency, wanted in dependencies.items():
        where = f"ComponentDependencies.{dependency}"
        yield from _keys(where, wanted, {"VersionRequirement", "DependencyType"})
        if wanted.get("DependencyType", "HARD") not in ("HARD", "SOFT"):
            yield f"{where}: DependencyType is HARD or SOFT"
    defaults = recipe.get("ComponentConfiguration", {}).get("DefaultConfiguration", {})
    yield from _configuration_problems(defaults)
    manifests = recipe.get("Manifests")
    if not isinstance(manifests, list) or not manifests:
        yield "Manifests: none"
        return
    for number, manifest in enumerate(manifests):
        where = f"Manifests[{number}]"
        yield from _keys(where, manifest, {"Name", "Platform", "Lifecycle", "Selections", "Artifacts"})
        yield from _platform_problems(f"{where}.Platform", manifest.get("Platform", {}), nucleus)
        files: dict[str, str] = {}
        for place, artifact in enumerate(manifest.get("Artifacts", [])):
            yield from _artifact_problems(f"{where}.Artifacts[{place}]", artifact, nucleus, files)
        lifecycle = manifest.get("Lifecycle", {})
        yield from _lifecycle_problems(f"{where}.Lifecycle", lifecycle, nucleus)
        for script in _scripts(lifecycle):
            yield from _variable_problems(f"{where}.Lifecycle", script, nucleus, set(dependencies), files, defaults)


def _keys(where: str, values: Mapping[str, Any], known: set[str]) -> Iterator[str]:
    for key in values:
        if key not in known:
            meant = next((f": {other} is meant?" for other in sorted(known) if other.lower() == key.lower()), "")
            yield f"{where}: unknown key {key!r}{meant}"


def _configuration_problems(defaults: Mapping[str, Any]) -> Iterator[str]:
    where = "DefaultConfiguration"
    for key, value in defaults.items():
        if key not in ("accessControl", "ModelResourceKey") and not isinstance(value, str):
            yield f"{where}.{key}: {value!r} is not text, as the public component's values are"
    try:
        yield from (f"{where}: {note}" for note in parse(defaults)[1])
    except ConfigError as error:
        yield f"{where}: {error.what}; {error.next}"
    allowed: dict[str, set[str]] = {service: set() for service in _OPERATIONS}
    names: list[str] = []
    for service, policies in defaults.get("accessControl", {}).items():
        if service not in _OPERATIONS:
            yield f"{where}.accessControl: unknown service {service!r}"
            continue
        for name, policy in policies.items():
            names.append(name)
            if unknown := set(policy.get("operations", [])) - _OPERATIONS[service]:
                yield f"{where}.accessControl: {service} has no operation {', '.join(sorted(unknown))}"
            allowed[service] |= set(policy.get("resources", []))
    if len(set(names)) < len(names):
        yield f"{where}.accessControl: two policies of one name"
    topic, local = defaults.get(_TOPIC), defaults.get("LocalTopic")
    wanted = {
        "aws.greengrass.ipc.mqttproxy": {topic, f"{topic}/events"} if topic else set(),
        "aws.greengrass.ipc.pubsub": {local} if local else set(),
    }
    for service, topics in wanted.items():
        if allowed[service] != topics:
            yield (
                f"{where}.accessControl: {service} allows {sorted(allowed[service])}, configured are {sorted(topics)}"
            )


def _platform_problems(where: str, platform: Mapping[str, Any], nucleus: str) -> Iterator[str]:
    if nucleus != "lite":
        return
    if platform.get("runtime") not in ("*", "aws_nucleus_lite"):
        yield f"{where}: nucleus lite wants runtime, * or aws_nucleus_lite"
    if platform.get("os") not in ("linux", "*"):
        yield f"{where}: nucleus lite runs on linux"
    for key, value in platform.items():
        if str(value).startswith("/"):
            yield f"{where}.{key}: nucleus lite knows no regular expressions"


def _artifact_problems(where: str, artifact: Mapping[str, Any], nucleus: str, files: dict[str, str]) -> Iterator[str]:
    """Also adds to `files`: how each is unpacked, by its name."""
    key = "Uri" if nucleus == "lite" else "URI"
    yield from _keys(where, artifact, {key, "Unarchive", "Permission", "Digest", "Algorithm"})
    uri, unarchive = str(artifact.get(key, "")), artifact.get("Unarchive", "NONE")
    if not re.fullmatch(r"s3://[A-Za-z0-9.-]{3,63}/[^\s{}]*[^\s{}/]", uri):
        yield f"{where}.{key}: {uri!r} is not s3://BUCKET/KEY"
    if unarchive not in ("NONE", "ZIP"):
        yield f"{where}.Unarchive: NONE or ZIP"
    for right, who in artifact.get("Permission", {}).items():
        if right not in ("Read", "Execute") or who not in ("NONE", "OWNER", "ALL"):
            yield f"{where}.Permission: Read and Execute, for NONE, OWNER or ALL"
    if (name := uri.rpartition("/")[2]) in files:
        yield f"{where}: {name} is there twice"
    files[name] = str(unarchive)


def _lifecycle_problems(where: str, lifecycle: Mapping[str, Any], nucleus: str) -> Iterator[str]:
    yield from _keys(where, lifecycle, _STEPS)
    if "run" in lifecycle and "startup" in lifecycle:
        yield f"{where}: run or startup, not both"
    if not {"run", "startup"} & lifecycle.keys():
        yield f"{where}: nothing is run"
    for name, step in lifecycle.items():
        if nucleus == "lite" and name in _NOT_IN_LITE:
            yield f"{where}.{name}: not on nucleus lite"
        if isinstance(step, str) or name == "Setenv":
            continue
        yield from _keys(f"{where}.{name}", step, _STEP_KEYS)
        if not isinstance(step.get("Script"), str):
            yield f"{where}.{name}: no Script"
        if nucleus == "lite" and "Skipif" in step:
            yield f"{where}.{name}.Skipif: not on nucleus lite"
        timeout = step.get("Timeout", 1)
        if not isinstance(timeout, int) or timeout < 1:
            yield f"{where}.{name}.Timeout: {timeout!r} is no number of seconds"


def _scripts(lifecycle: Mapping[str, Any]) -> Iterator[str]:
    for name, step in lifecycle.items():
        if isinstance(step, str):
            yield step
        else:
            environment = step if name == "Setenv" else step.get("Setenv", {})
            yield from map(str, [step.get("Script", ""), *environment.values()])


def _variable_problems(
    where: str, script: str, nucleus: str, dependencies: set[str], files: Mapping[str, str], defaults: Mapping[str, Any]
) -> Iterator[str]:
    for found in _VARIABLE.finditer(script):
        first, _, rest = found[1].partition(":")
        if first not in _VARIABLES and first != "configuration":
            if nucleus == "lite":
                yield f"{where}: {found[0]}: nucleus lite reads no other component's variables"
            elif first not in dependencies:
                yield f"{where}: {found[0]}: {first} is no variable, nor among ComponentDependencies"
        elif first == "configuration":
            value: Any = defaults
            for key in rest.strip("/").split("/"):
                value = value.get(key) if isinstance(value, Mapping) else None
            if value is None:
                yield f"{where}: {found[0]}: not in DefaultConfiguration"
        elif rest not in _VARIABLES[first]:
            yield f"{where}: {found[0]} is no variable"
    names = {Path(name).stem if how == "ZIP" else name: how for name, how in files.items()}
    for kind, how in (("path", "NONE"), ("decompressedPath", "ZIP")):
        for name in re.findall(rf'\{{artifacts:{kind}\}}/([^\s"\'/;|&]+)', script):
            if names.get(name) != how:
                yield f"{where}: {name} is no artifact with Unarchive {how}"
