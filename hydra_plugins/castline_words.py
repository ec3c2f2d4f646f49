"""Words for conf/: what has to be settled when params.yaml is composed. Hydra finds this file by its folder's name.

${unread:...}: the batches that an experiment reads, because DVC has stages for each.
${features_in:...}, ${featured:...}: the tables that heads are trained on, and the batches that the stage `features`
makes them of, because a stage that would only copy them takes its second all the same.
${last_release:}, ${commit_of:...}: what the report compares with, because the output of a stage may depend on nothing
but what DVC sees, and it sees no tags.
${shaping:}: a digest of what a model is made of: the report says what of it changed, and `evaluate` depends on this.
${bundle_of:...}: the bundle of a version, by which the package stage knows whether it packs that version.
${forgotten:...}: digests of labels/forgotten.csv, a batch each: when somebody is forgotten, batches without them stay.
"""

import hashlib
import json
from dataclasses import asdict

from omegaconf import DictConfig, ListConfig, OmegaConf


def unread(batches: list[str], mode: str, start: str) -> ListConfig:
    """All batches; for incremental training, those that the version it starts from has not seen."""
    from castline import project

    read = project.batches_to_read(list(batches), mode, start)
    project.prune(read, "faces", "embeddings")
    return ListConfig(read)


def features_in(base: DictConfig, reference: DictConfig, views: int, start: str) -> str:
    """The folder below build/ that has a base model's features: the reference model's, if they are those."""
    from castline import released

    known = base if start == "pretrained" else released.untuned_base(start)
    return "embeddings" if views == 1 and reference == known else "features"


def featured(folder: str, batches: list[str]) -> ListConfig:
    """The batches whose features are computed on their own account."""
    from castline import project

    own = list(batches) if folder == "features" else []
    project.prune(own, "features")
    return ListConfig(own)


def last_release() -> str:
    """The newest version that the present commit comes after; "" where there is none."""
    from castline.versions.tags import last_version

    version = last_version()
    return version.name if version else ""


def commit_of(version: str) -> str:
    """Of a version; "" of ""."""
    from castline.versions.tags import read_registry

    return read_registry().find(version).commit if version else ""


def shaping(_root_: DictConfig) -> str:
    """Of the sections that a model is made of: 32 hex digits."""
    from castline.versions.facts import SHAPING

    made_of = {name: _root_.get(name) for name in SHAPING}
    values = {
        name: OmegaConf.to_container(part, resolve=True) for name, part in made_of.items() if OmegaConf.is_config(part)
    }
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:32]


def bundle_of(version: str) -> str:
    """What DVC has of models/recognizer at a version; "" of ""."""
    from castline.versions.facts import facts_at

    return (facts_at(commit_of(version)).bundle_md5 or "") if version else ""


def forgotten(batches: list[str]) -> DictConfig:
    """The section of params.yaml that says what labels/forgotten.csv holds."""
    from castline import project
    from castline.forgetting.register import FORGOTTEN, read_register

    register = read_register(project.root() / FORGOTTEN)
    return DictConfig(asdict(register.settings(map(str, batches))))


OmegaConf.register_new_resolver("featured", featured, replace=True)
OmegaConf.register_new_resolver("features_in", features_in, replace=True)
OmegaConf.register_new_resolver("forgotten", forgotten, replace=True)
OmegaConf.register_new_resolver("last_release", last_release, replace=True)
OmegaConf.register_new_resolver("bundle_of", bundle_of, replace=True)
OmegaConf.register_new_resolver("commit_of", commit_of, replace=True)
OmegaConf.register_new_resolver("unread", unread, replace=True)
OmegaConf.register_new_resolver("shaping", shaping, replace=True)
