from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
from importlib.metadata import PackageMetadata, PathDistribution
from pathlib import Path
from zipfile import ZipFile

import pytest
from packaging.requirements import Requirement

from patch.edit import edit_files

ROOT = Path(__file__).parents[2]
OWN = "litestar/security/jwt"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS = PROJECT["tool"]["hatch"]["metadata"]["hooks"]["custom"]
DIST_INFO = f"litestar-{PROJECT['project']['version']}.dist-info"
OF_THE_BASE = """
    Author-email Description Description-Content-Type Keywords License License-File Maintainer-email Metadata-Version Name
    Project-URL Summary Version
""".split()

# One worker runs them all, since they share what they build.
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("packaging")]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the build requires, the base among it."""
    target = tmp_path_factory.mktemp("base")
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-compile", "--target", str(target)]
    result = subprocess.run([*command, *PROJECT["build-system"]["requires"]], capture_output=True, text=True)
    if result.returncode:
        pytest.skip(f"The requirements of the build cannot be installed: {result.stderr[-500:]}")
    return target


def run(code: str, cwd: Path, *path: Path | str) -> str:
    """Run code where only what is on a path can be imported."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path)), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-P", "-S", "-c", code]
    result = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def build(kind: str, source: Path, target: Path, *path: Path) -> Path:
    """Call a hook of the build backend, and unpack what it makes."""
    code = f"from hatchling.build import build_{kind} as build; print(build({str(target)!r}))"
    archive = target / run(code, source, *path).splitlines()[-1]
    if kind == "sdist":
        with tarfile.open(archive) as sdist:
            sdist.extractall(target, filter="data")
        return target / archive.name.removesuffix(".tar.gz")
    with ZipFile(archive) as wheel:
        assert len(wheel.namelist()) == len(set(wheel.namelist()))
        wheel.extractall(target / kind)
    return target / kind


@pytest.fixture(scope="module")
def wheel(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("wheel", ROOT, tmp_path_factory.mktemp("wheel"), base)


@pytest.fixture(scope="module")
def sdist(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("sdist", ROOT, tmp_path_factory.mktemp("sdist"), base)


def files(root: Path, folder: str = "") -> dict[str, bytes]:
    """Files below a folder, without compiled ones."""
    paths = [path for path in (root / folder).rglob("*") if path.is_file() and path.suffix != ".pyc"]
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in paths}


def metadata(folder: Path) -> PackageMetadata:
    return PathDistribution(folder / DIST_INFO).metadata


def requirements(message: PackageMetadata, extra: str | None = None) -> set[Requirement]:
    """The requirements of an extra, or without one, those of the package itself."""
    found = map(Requirement, message.get_all("Requires-Dist") or [])
    wanted = "extra ==" if extra is None else f'extra == "{extra}"'
    return {r for r in found if (wanted in str(r.marker)) == (extra is not None)}


def test_wheel_holds_the_base_with_the_edits_and_the_additions(wheel: Path, base: Path) -> None:
    released, additions = files(base, "litestar"), files(ROOT, OWN)
    edited = edit_files(ROOT / "patch", lambda name: released[name].decode())
    assert {f"{OWN}/auth.py", "litestar/py.typed"} <= released.keys()
    assert not released.keys() & additions.keys()
    expected = released | {name: text.encode() for name, text in edited.items()} | additions | files(wheel, DIST_INFO)
    assert {name for name, _ in files(wheel).items() ^ expected.items()} == set()
    assert not [*wheel.rglob("*.pyc")]


def test_metadata_is_that_of_the_base_save_for_versions_of_python(wheel: Path, base: Path) -> None:
    for field in OF_THE_BASE:
        expected = metadata(base).get_all(field)
        assert metadata(wheel).get_all(field) == expected
        assert expected
    released, found = (set(metadata(folder).get_all("Classifier") or ()) for folder in (base, wheel))
    assert released - found == {f"Programming Language :: Python :: 3.{minor}" for minor in (8, 9, 10)}
    assert "Programming Language :: Python :: 3.11" in found
    assert metadata(wheel)["Requires-Python"] == "<4.0,>=3.11"


def test_requirements_are_those_of_the_base_save_for_jwt(wheel: Path, base: Path) -> None:
    found, released = metadata(wheel), metadata(base)
    extras = set(released.get_all("Provides-Extra") or ())
    assert set(found.get_all("Provides-Extra") or ()) == {*extras, "jwks"}
    assert requirements(found) == requirements(released) != set()
    for extra in extras - {"full", "jwt"}:
        assert requirements(found, extra) == requirements(released, extra)
    jwt = "cryptography", "pyjwt>=2.9.0"
    for extra, replaced, ours in (("full", jwt, "jwks"), ("jwt", jwt, "jwt"), ("jwks", (), "jwks")):
        gone, new = ({Requirement(f"{r}; extra == '{extra}'") for r in names} for names in (replaced, EXTRAS[ours]))
        assert gone <= requirements(released, extra)
        assert requirements(found, extra) == requirements(released, extra) - gone | new


def test_entry_points_and_licence_of_the_base_are_there_too(wheel: Path, base: Path) -> None:
    own, theirs = wheel / DIST_INFO, base / DIST_INFO
    assert "litestar = " in (own / "entry_points.txt").read_text()
    for name, expected in {
        "entry_points.txt": theirs / "entry_points.txt",
        "licenses/LICENSE": ROOT / "LICENSE",
        "licenses/litestar/LICENSE": theirs / "licenses" / "LICENSE",
    }.items():
        assert (own / name).read_bytes() == expected.read_bytes()


def test_sdist_holds_the_whole_repository(sdist: Path) -> None:
    expected = {".ci/run", "LICENSE", "Makefile", "PKG-INFO", "hatch_build.py", "pyproject.toml", *files(ROOT, OWN)}
    for folder in ("benchmarks", "docs", "patch", "requirements", "tests", "tools"):
        paths = [path.relative_to(ROOT) for path in (ROOT / folder).rglob("*.*")]
        expected |= {
            path.as_posix() for path in paths if {".ruff_cache", "__pycache__", "_build"}.isdisjoint(path.parts)
        }
    assert expected - files(sdist).keys() == set()


def test_wheel_of_the_sdist_is_the_same(base: Path, wheel: Path, sdist: Path, tmp_path: Path) -> None:
    assert {name for name, _ in files(build("wheel", sdist, tmp_path, base)).items() ^ files(wheel).items()} == set()


def test_editable_install_sees_changes_and_leaves_the_sdist_alone(base: Path, sdist: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(sdist, source)
    build("editable", source, tmp_path, base)
    installed = build("editable", source, tmp_path, base)  # replaces the tree of the first
    assert not (installed / "litestar").exists()
    tree = Path((installed / "_litestar.pth").read_text())
    assert {path.name for path in (source / "build").iterdir()} == {"base", "editable"}
    assert files(build("sdist", source, tmp_path, base)).keys() == files(sdist).keys()
    with (source / OWN / "refusals.py").open("a") as module:
        module.write("\nseen = True\n")
    code = "from litestar import Litestar; from litestar.security.jwt.refusals import seen; print(seen)"
    assert run(code, tmp_path, tree, *sys.path) == "True"


def test_editable_tree_is_what_the_wheel_installs(base: Path, sdist: Path, wheel: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(sdist, source)
    build("editable", source, tmp_path, base)
    found = {name: data for name, data in files(source / "build" / "editable").items() if "__pycache__" not in name}
    found |= {f"{OWN}/{name}": data for name, data in files(source / OWN).items()}  # rglob enters no linked folder
    expected = files(wheel, "litestar")
    assert {name for name, _ in found.items() ^ expected.items()} == set()
    assert files(source / "build" / "base") == {
        name: data for name, data in files(base, OWN).items() if files(wheel)[name] != data
    }


def test_build_refuses_an_addition_in_place_of_an_edit(base: Path, sdist: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(sdist, source)
    (source / OWN / "token.py").touch()
    with pytest.raises(AssertionError, match=f"The base has these files, which only 'patch' may edit: {OWN}/token.py"):
        build("wheel", source, tmp_path, base)


def test_build_refuses_to_take_itself_for_the_base(base: Path, wheel: Path, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="Build this with the released litestar"):
        build("wheel", ROOT, tmp_path, wheel, base)
