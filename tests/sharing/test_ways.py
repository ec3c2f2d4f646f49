"""A second clone runs nothing that the first has run: through S3, through a shared cache, through a folder."""

import os
import re
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from moto.server import ThreadedMotoServer
from projects import commit, configure, contents, environment, run, stages_run
from s3_double import ACCESS_KEY, BUCKET, REGION, SECRET_KEY, S3Double
from sharing.conftest import Shared

pytestmark = pytest.mark.slow

OUTPUTS = ("build/dataset.parquet", "build/faces/one.parquet", "build/model", "reports/index.html", "models/recognizer")


def clone_of(project: Path, folder: Path) -> Path:
    run(project.parent, "git", "clone", "-q", str(project), str(folder))
    return folder


def first_clone(ran: Shared, folder: Path) -> Path:
    """The project that has run, with its cache, to be changed at will."""
    shutil.copytree(ran.project, folder, symlinks=True)
    return folder


def outputs(folder: Path) -> dict[str, dict[str, bytes]]:
    return {name: contents(folder / name) for name in OUTPUTS}


@contextmanager
def moto() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield f"http://{host}:{port}"
    finally:
        server.stop()


@contextmanager
def double() -> Iterator[str]:
    with S3Double() as server:
        yield server.url


@contextmanager
def rclone() -> Iterator[str]:
    """`rclone serve s3`: a server of another make that checks signatures, where it is installed."""
    program = shutil.which("rclone")
    if program is None:
        pytest.skip("rclone is not installed")
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, BUCKET).mkdir()
        command = [
            program, "serve", "s3", folder, "--config", os.devnull, "--addr", "127.0.0.1:0",
            "--auth-key", f"{ACCESS_KEY},{SECRET_KEY}",
        ]  # fmt: skip
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
            assert server.stderr is not None
            try:
                found = re.search(r"http://127\.0\.0\.1:\d+", server.stderr.readline())
                assert found
                yield found[0]
            finally:
                server.kill()


def client(url: str, secret: str = SECRET_KEY, key: str = ACCESS_KEY) -> "boto3.client":
    return boto3.client(
        "s3", endpoint_url=url, region_name=REGION, aws_access_key_id=key, aws_secret_access_key=secret,
        config=Config(retries={"max_attempts": 0}),
    )  # fmt: skip


@pytest.fixture(params=[moto, double, rclone])
def s3(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    monkeypatch.setenv("AWS_REGION", REGION)
    with request.param() as url:
        if request.param is moto:
            client(url).create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
        yield url


def test_through_s3_a_second_clone_runs_nothing(ran: Shared, s3: str, tmp_path: Path) -> None:
    first = first_clone(ran, tmp_path / "first")
    team = {"url": f"s3://{BUCKET}/castline", "endpointurl": s3, "verify": "true"}
    configure(first, {"core": {"remote": "team"}, 'remote "team"': team})
    commit(first)
    run(first, "dvc", "push", "--run-cache")

    second = clone_of(first, tmp_path / "second")
    run(second, "dvc", "pull", "--run-cache")
    assert stages_run(run(second, "dvc", "repro")) == []
    assert outputs(second) == outputs(first)


def test_through_a_folder_a_second_clone_runs_nothing_and_the_first_gets_its_runs(ran: Shared, tmp_path: Path) -> None:
    first = first_clone(ran, tmp_path / "first")
    run(first, "dvc", "remote", "add", "-d", "team", str(tmp_path / "remote"))
    commit(first)
    run(first, "castline", "share", "push")

    second = clone_of(first, tmp_path / "second")
    link = second / "data/one"
    link.unlink()
    link.symlink_to(tmp_path / "nowhere")  # as a link that was made on another machine
    run(second, "dvc", "pull", "--run-cache")
    assert "No such file or directory" in run(second, "dvc", "repro", "--allow-missing", fails=True)
    link.unlink()
    assert stages_run(run(second, "dvc", "repro", "--allow-missing")) == []
    assert outputs(second) == outputs(first)
    link.symlink_to(shutil.copytree(ran.photos, tmp_path / "photos"))
    assert stages_run(run(second, "dvc", "repro")) == []

    run(second, "castline", "compose", "head.dropout=0.5")
    assert stages_run(run(second, "dvc", "repro", "train")) == ["train"]
    run(second, "castline", "share", "push")
    run(first, "castline", "compose", "head.dropout=0.5")
    run(first, "dvc", "pull", "--run-cache")
    assert stages_run(run(first, "dvc", "repro", "--pull", "train")) == []
    for name in ("build/model/head.safetensors", "reports/curves.csv", "dvc.lock"):
        assert (first / name).read_bytes() == (second / name).read_bytes(), name


@pytest.mark.parametrize("links", ["hardlink", "symlink"])
def test_through_a_shared_cache_nothing_is_copied_and_stages_write_no_link(
    ran: Shared, links: str, tmp_path: Path
) -> None:
    first, cache = first_clone(ran, tmp_path / "first"), tmp_path / "share" / "cache"
    shared = {"dir": str(cache), "shared": "group", "type": f"reflink,{links}"}
    configure(first, {"cache": shared, "core": {"hardlink_lock": "true"}})
    # The other kind of lock is a file that stays, and looks like a hard link that somebody holds.
    for lock in (first / ".dvc/tmp").glob("*lock"):
        lock.unlink()
    commit(first)
    shutil.copytree(ran.project / ".dvc/cache", cache)  # once, by hand
    second = clone_of(first, tmp_path / "second")
    run(second, "dvc", "checkout")
    assert stages_run(run(second, "dvc", "repro")) == []
    assert outputs(second) == outputs(first)
    table = second / "build/dataset.parquet"
    assert table.is_symlink() if links == "symlink" else table.stat().st_nlink > 1
    assert stat.S_IMODE(table.stat().st_mode) == 0o444

    objects = {path: path.read_bytes() for path in (cache / "files").rglob("*") if path.is_file()}
    for folder, dropout in ((first, 0.25), (second, 0.5)):
        run(folder, "castline", "compose", f"head.dropout={dropout}")
    both = [  # at once
        subprocess.Popen(["dvc", "repro", to], cwd=folder, env=environment(), stdout=subprocess.PIPE, text=True)
        for folder, to in ((first, "train"), (second, "evaluate"))
    ]
    printed = [process.communicate(timeout=600)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], printed
    assert [stages_run(output) for output in printed] == [["train"], ["train", "evaluate"]]
    assert all(path.read_bytes() == body for path, body in objects.items())  # no stage wrote through a link
    new = [path for path in (cache / "files").rglob("*") if path.is_file() and path not in objects]
    assert {stat.S_IMODE(path.stat().st_mode) for path in new} == {0o444}
    made = {stat.S_IMODE(path.parent.stat().st_mode) for path in new}
    assert 0o2775 in made
    run(first, "castline", "compose", "head.dropout=0.5")
    assert stages_run(run(first, "dvc", "repro", "evaluate")) == []
    assert "0 are not here" in run(first, "castline", "share", "check", "--all")


def test_the_double_refuses_what_is_not_signed_for() -> None:
    with S3Double() as server:
        client(server.url).put_object(Bucket=BUCKET, Key="a b/ü+~*.bin", Body=b"body")
        assert server.objects == {"a b/ü+~*.bin": b"body"}
        for wrong, code in (
            (client(server.url, secret="other"), "SignatureDoesNotMatch"),
            (client(server.url, key="AKIAOTHER"), "InvalidAccessKeyId"),
        ):
            with pytest.raises(ClientError, match=code):
                wrong.put_object(Bucket=BUCKET, Key="b", Body=b"body")
        changed = client(server.url)
        changed.meta.events.register("before-send.s3.PutObject", lambda request, **_: _change(request))
        with pytest.raises(ClientError, match="XAmzContentSHA256Mismatch"):
            changed.put_object(Bucket=BUCKET, Key="b", Body=b"body")
        assert set(server.objects) == {"a b/ü+~*.bin"}


def _change(request: object) -> None:
    request.body = b"ydob"  # type: ignore[attr-defined]
