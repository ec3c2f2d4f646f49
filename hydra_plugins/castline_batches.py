"""A word for conf/: ${unread:...}, the batches that an experiment reads. Hydra finds this file by its folder's name.

DVC has stages for each batch, so which batches there are has to be settled when params.yaml is composed.
"""

from omegaconf import ListConfig, OmegaConf


def unread(batches: list[str], mode: str, start: str) -> ListConfig:
    """All batches; for incremental training, those that the version it starts from has not seen."""
    from castline import project

    read = project.batches_to_read(list(batches), mode, start)
    project.prune(read)
    return ListConfig(read)


OmegaConf.register_new_resolver("unread", unread, replace=True)
