"""The project's model made known to a project on a Label Studio server, so that labellers begin with its names."""

from castline.errors import CastlineError
from castline.label_studio.client import Client
from castline.label_studio.projects import Project

__all__ = ["TITLE", "attach"]

TITLE = "Castline model"
"""What the backend is called there. Not as the predictions of a push are: a project shows those of one name."""


def attach(client: Client, project: Project, url: str, login: tuple[str, str] | None = None) -> str:
    """Have `project` ask the backend at `url` about each task that somebody opens; the version that it has now.

    Predictions of a push stay, but are not shown any more. Done again, it changes nothing but the address.

    login: user and password that the backend wants.

    Raises: CastlineError when the server does not take it, as it does not without `castline label start
    --allow-backend`.
    """
    wanted = {"project": project.id, "title": TITLE, "url": url, "auth_method": "BASIC_AUTH" if login else "NONE"}
    if login:
        wanted |= {"basic_auth_user": login[0], "basic_auth_pass": login[1]}
    known = [backend for backend in client.get("/api/ml", project=project.id) if backend["title"] == TITLE]
    try:
        made = client.patch(f"/api/ml/{known[0]['id']}", wanted) if known else client.post("/api/ml/", wanted)
    except CastlineError as error:
        raise CastlineError(
            f"Label Studio does not take {url}: {error.what}",
            "does castline label backend run there, and Label Studio with castline label start --allow-backend? "
            "docs/labelling_backend.md",
        ) from error
    client.patch(f"/api/projects/{project.id}/", {"model_version": TITLE})
    return str(made["model_version"])
