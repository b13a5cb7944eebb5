"""The folder that `demo --out` writes, and what of the user's is in it."""

import os
from pathlib import Path

import pytest

from light_sernet_kd.device import site
from light_sernet_kd.errors import UserError


def page_of(*more: str) -> dict[str, tuple[str, bytes]]:
    """The addresses of a page, few and small."""
    names = ("/", "/students.json", "/litert/a.wasm", *more)
    return {name: ("text/plain", b'<meta charset="utf-8">' + name.encode()) for name in names}


def files_in(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.relative_to(folder).parts[0] != "latest"
    }


@pytest.mark.parametrize("has_list", [True, False])
def test_a_new_page_keeps_the_users_files_and_drops_what_it_no_longer_has(tmp_path, has_list):
    folder = tmp_path / "site"
    (folder / ".git" / "empty").mkdir(parents=True)
    site.write(page_of("/students/float32.tflite", "/old.js"), folder)
    if not has_list:
        (folder / "page-files.json").unlink()
    own = {"CNAME": b"a.example", ".git/HEAD": b"ref", "litert/my.txt": b"mine", "blog/1.html": b"post"}
    for name, content in own.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    (folder / "latest").symlink_to("blog")
    (folder / ".git").chmod(0o700)
    site.write(page_of("/students/int8.tflite"), folder)
    site.write(page_of(), tmp_path / "new")
    found = files_in(folder)
    kept_for_lack_of_a_list = () if has_list else ("students/float32.tflite", "old.js")
    listed = ["page-files.json", "students/int8.tflite"]
    new = {name: content for name, content in files_in(tmp_path / "new").items() if name not in listed}
    assert {name: found[name] for name in {*own, *new}} == own | new
    assert {*found} == {*own, *new, *listed, *kept_for_lack_of_a_list}
    assert os.readlink(folder / "latest") == "blog"
    assert (folder / ".git" / "empty").is_dir()
    assert (folder / ".git").stat().st_mode & 0o777 == 0o700
    assert {path.name for path in tmp_path.iterdir()} == {"site", "new"}


def test_a_page_takes_no_name_of_a_users_file(tmp_path):
    site.write(page_of(), tmp_path)
    (tmp_path / "help.js").write_text("mine")
    before = files_in(tmp_path)
    with pytest.raises(UserError, match=r"help\.js is not of an earlier page: move it away"):
        site.write(page_of("/help.js"), tmp_path)
    assert files_in(tmp_path) == before


@pytest.mark.parametrize("step", [1, 2])
def test_a_page_interrupted_at_its_last_steps_is_as_before(tmp_path, monkeypatch, step):
    """Step 1: before the old page is moved; 2: before the new one is."""
    folder = tmp_path / "site"
    site.write(page_of("/old.js"), folder)
    (folder / "CNAME").write_text("a.example")
    before, moves, rename = files_in(folder), [], Path.rename

    def move(source, destination):
        moves.append(source)
        if len(moves) == step:
            raise KeyboardInterrupt
        return rename(source, destination)

    monkeypatch.setattr(Path, "rename", move)
    with pytest.raises(KeyboardInterrupt):
        site.write(page_of(), folder)
    assert files_in(folder) == before
    assert [path.name for path in tmp_path.iterdir()] == ["site"]


def test_what_a_killed_call_left_beside_the_folder_comes_back(tmp_path):
    folder = tmp_path / "site"
    site.write(page_of("/old.js"), folder)
    (folder / "CNAME").write_text("a.example")
    folder.rename(tmp_path / ".site.x1y2z3_4.replaced")  # between the two renames
    (tmp_path / ".site.x1y2z3_4").mkdir()
    site.write(page_of(), folder)
    assert (folder / "CNAME").read_text() == "a.example"
    assert not (folder / "old.js").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["site"]
