"""A notebook of notebooks/, run as Jupyter runs it.

python tests/notebook_run.py NOTEBOOK FOLDER    # prints it with its outputs, as JSON
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from projects import environment


def shown_by(notebook: Path, folder: Path) -> list[tuple[str, str]]:
    """What its cells show, run one after the other in `folder`: of each output what kind it is, and its text.

    kind: a MIME type, or "text" of what is printed. A cell that raises fails the test. In a process of its own, since
    Jupyter's client leaves sockets open.
    """
    command = [sys.executable, __file__, str(notebook), str(folder)]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    shown = []
    for cell in json.loads(done.stdout)["cells"]:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            kind = next((kind for kind in data if kind != "text/plain"), "text")
            shown.append((kind, "".join(output.get("text", data.get(kind, data.get("text/plain", ""))))))
    return shown


def main(notebook: str, folder: str) -> None:
    import jupytext
    import nbformat
    from jupyter_client.manager import AsyncKernelManager
    from nbclient import NotebookClient

    node = jupytext.read(notebook)
    with tempfile.TemporaryDirectory() as private:  # sockets that nobody else on this machine may open
        kernel = AsyncKernelManager(transport="ipc", ip=f"{private}/kernel")
        NotebookClient(node, km=kernel, timeout=280, resources={"metadata": {"path": folder}}).execute()
    print(nbformat.writes(node))


if __name__ == "__main__":
    main(*sys.argv[1:])
