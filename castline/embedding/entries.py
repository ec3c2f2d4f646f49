"""The entries of conf/base_model/, and which of them the project's licence rule lets in. Light to import."""

from pathlib import Path

from castline.embedding.base_settings import BaseModelSettings, LicenceSettings
from castline.errors import CastlineError, ConfigError
from castline.files import params

__all__ = ["check_licence", "read_entries"]

_CONF = Path("conf")


def read_entries(conf: Path = _CONF) -> list[BaseModelSettings]:
    """Every entry of the project's conf/base_model/, by name of its file.

    Raises: ConfigError naming the file that is none, or if there is no such folder.
    """
    if not (conf / "base_model").is_dir():
        raise ConfigError(f"{conf.absolute() / 'base_model'}: no Castline project here", "cd into your clone")
    return [_entry(path) for path in sorted((conf / "base_model").glob("*.yaml"))]


def check_licence(section: str, settings: BaseModelSettings, licence: LicenceSettings) -> None:
    """Refuse weights that may not, or may perhaps not, be used commercially, where the project requires it.

    section: base_model or reference_model, for the message.

    Raises: ConfigError.
    """
    if not licence.require_commercial or settings.commercial_ok == "yes":
        return
    use = {"no": "forbids commercial use", "unknown": "does not say that they may be used commercially"}
    allowed = []
    for path in sorted((_CONF / "base_model").glob("*.yaml")):
        try:
            entry = _entry(path)
        except CastlineError:  # another entry's fault is said when that one is chosen
            continue
        if entry.commercial_ok == "yes":
            allowed.append(path.stem)
    raise ConfigError(
        f"{section}={settings.name}: the licence of its weights, {settings.licence}, "
        f"{use[settings.commercial_ok]}, and licence.require_commercial is true",
        f"castline compose {'base_model@' if section == 'reference_model' else ''}{section}=NAME; "
        f"allowed are {', '.join(allowed)}",
    )


def _entry(path: Path) -> BaseModelSettings:
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    try:
        values = OmegaConf.to_container(OmegaConf.load(path))
        return params.typed(values, BaseModelSettings, "base_model")
    except (OmegaConfBaseException, YAMLError, OSError, ValueError) as error:
        raise ConfigError(f"{path}: {error}", "mend it, or remove it") from error
    except ConfigError as error:
        raise ConfigError(f"{path}: {error.what}", "mend it, or remove it") from error
