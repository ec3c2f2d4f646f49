"""What goes wrong while work is shared: a push that is killed, a remote that goes away, bytes that are damaged.

Each case says what DVC says, and that nothing is lost: the same command typed again comes to its end.
"""

import os
import re
import subprocess
from hashlib import md5
from pathlib import Path

import pytest
from projects import commit, configure, environment, run
from s3_double import ACCESS_KEY, BUCKET, SECRET_KEY, S3Double

FILES = 12
SIZE = 150_000


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A DVC project of a folder of files and one file beside it."""
    folder = tmp_path / "clone"
    (folder / "data").mkdir(parents=True)
    for number in range(FILES):
        (folder / "data" / f"{number}.bin").write_bytes(os.urandom(SIZE))
    (folder / "alone.bin").write_bytes(os.urandom(SIZE))
    run(folder, "git", "init", "-q")
    run(folder, "dvc", "init", "-q")
    run(folder, "dvc", "add", "-q", "data", "alone.bin")
    return folder


def with_remote(clone: Path, url: str, endpoint: str = "") -> None:
    team = {"url": url, "endpointurl": endpoint} if endpoint else {"url": url}
    configure(clone, {"core": {"remote": "team"}, 'remote "team"': team})


def another(clone: Path) -> Path:
    """A second clone, with a cache of its own that is empty."""
    folder = clone.parent / "second"
    commit(clone)
    run(clone.parent, "git", "clone", "-q", str(clone), str(folder))
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    paths = [folder / "alone.bin", *(folder / "data").iterdir()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def objects(folder: Path) -> dict[str, bytes]:
    """What a cache or a remote in a folder holds, by name."""
    root = folder / "files" / "md5"
    return {path.parent.name + path.name: path.read_bytes() for path in root.glob("??/*")}


def whole(server: S3Double) -> bool:
    names = {key: "".join(key.split("/")[-2:]).removesuffix(".dir") for key in server.objects}
    return all(md5(server.objects[key]).hexdigest() == name for key, name in names.items())


def damage(path: Path, how: str) -> None:
    """Change a write-protected file in place, as a bad disk does: its mode and its times stay as they were."""
    before = path.stat()
    path.chmod(0o644)
    with path.open("r+b") as file:
        if how == "cut":
            file.truncate(SIZE // 2)
        else:
            file.seek(SIZE // 2)
            file.write(b"not what was there")
    path.chmod(before.st_mode)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_a_killed_push_leaves_no_half_object_and_the_next_one_completes(clone: Path) -> None:
    with S3Double() as server:
        with_remote(clone, f"s3://{BUCKET}/x", server.url)
        server.after(5 * SIZE, "stall")
        with subprocess.Popen(
            ["dvc", "push", "-j", "2"], cwd=clone, env=environment(), stderr=subprocess.DEVNULL
        ) as push:
            arrived = server.reached.wait(60)
            push.kill()
        assert arrived
        kept = dict(server.objects)
        assert 0 < len(kept) < FILES
        assert whole(server)
    with S3Double(dict(kept), server.server_port) as server:
        run(clone, "dvc", "push")
        assert len(server.objects) == FILES + 2
        assert server.moved["objects up"] == FILES + 2 - len(kept)  # what had arrived is not sent again
        assert whole(server)


def test_a_remote_that_goes_away_midway_is_said_and_the_next_push_and_pull_complete(clone: Path) -> None:
    with S3Double() as server:
        with_remote(clone, f"s3://{BUCKET}/x", server.url)
        server.after(5 * SIZE, "stop")
        said = run(clone, "dvc", "push", "-j", "2", fails=True)
        assert "Could not connect to the endpoint URL" in said
        assert re.search(r"failed to push data to the cloud - \d+ files failed to upload", said)
        assert whole(server)
    assert set(objects(clone / ".dvc/cache").values()) >= set(contents(clone).values())
    with S3Double(server.objects, server.server_port) as server:
        run(clone, "dvc", "push")
        assert len(server.objects) == FILES + 2
    second = another(clone)
    with S3Double(server.objects, server.server_port) as server:
        server.after(5 * SIZE, "stop")
        said = run(second, "dvc", "pull", "-j", "2", fails=True)
        assert re.search(r"failed to pull data from the cloud - \d+ files failed to download", said)
    got = objects(second / ".dvc/cache")
    assert all(md5(body).hexdigest() == name.removesuffix(".dir") for name, body in got.items())
    with S3Double(server.objects, server.server_port):
        run(second, "dvc", "pull")
    assert contents(second) == contents(clone)


@pytest.mark.parametrize(("links", "how"), [("copy", "cut"), ("hardlink", "changed"), ("symlink", "cut")])
def test_a_damaged_object_of_the_cache_is_found_put_aside_and_fetched_again(clone: Path, links: str, how: str) -> None:
    with_remote(clone, str(clone.parent / "remote"))
    configure(clone, {"cache": {"type": links}})
    run(clone, "dvc", "checkout", "-q", "--relink")
    run(clone, "dvc", "push", "-q")
    before = contents(clone)
    name = md5(before["data/3.bin"]).hexdigest()
    damage(clone / ".dvc/cache/files/md5" / name[:2] / name[2:], how)
    (clone / "data/3.bin").unlink()
    run(clone, "dvc", "checkout", "-q")
    assert (clone / "data/3.bin").read_bytes() != before["data/3.bin"]
    assert "up to date" in run(clone, "dvc", "status")  # DVC notices nothing
    said = run(clone, "castline", "share", "check", fails=True)
    assert f"damaged: {name}" in said
    assert "removed: data/3.bin" in said
    assert "next: dvc pull" in said
    assert (clone / ".dvc/cache/damaged" / name).is_file()
    assert "data/" in run(clone, "dvc", "pull")
    assert contents(clone) == before
    assert f"{FILES + 2} objects are whole, 0 are not here" in run(clone, "castline", "share", "check", "--all")


def test_a_damaged_object_of_a_remote_is_refused_with_verify_and_can_be_replaced(clone: Path) -> None:
    remote = clone.parent / "remote"
    with_remote(clone, str(remote))
    run(clone, "dvc", "push", "-q")
    before = contents(clone)
    name = md5(before["alone.bin"]).hexdigest()
    bad = remote / "files/md5" / name[:2] / name[2:]
    damage(bad, "cut")
    second = another(clone)
    run(second, "dvc", "pull")  # DVC takes it as it comes
    assert f"damaged: {name}" in run(second, "castline", "share", "check", fails=True)
    configure(second, {'remote "team"': {"verify": "true"}})
    said = run(second, "dvc", "pull", fails=True)
    assert "Checkout failed for following targets:\nalone.bin" in said
    assert not (second / "alone.bin").exists()
    assert "up to date" in run(clone, "dvc", "push")  # there is an object of that name
    bad.rename(remote / "bad")
    assert "1 file pushed" in run(clone, "dvc", "push")
    run(second, "dvc", "pull")
    assert contents(second) == before
