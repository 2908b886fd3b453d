from __future__ import annotations

import base64
import csv
import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
from email.message import Message
from email.parser import Parser
from pathlib import Path
from zipfile import ZipFile

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
OWN = "litestar/security/jwt"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS = PROJECT["tool"]["hatch"]["metadata"]["hooks"]["custom"]
DIST_INFO = f"litestar-{PROJECT['project']['version']}.dist-info"

# One worker runs them all, since they share what they build.
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("packaging"), pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def build_env(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the build requires, the base among it."""
    target = tmp_path_factory.mktemp("env")
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-compile", "--target", str(target)]
    result = subprocess.run([*command, *PROJECT["build-system"]["requires"]], capture_output=True, text=True)
    if result.returncode:
        pytest.skip(f"The requirements of the build cannot be installed: {result.stderr[-500:]}")
    return target


def build(env: Path, source: Path, target: Path, kind: str) -> Path:
    """Call a hook of the build backend where only the requirements of the build are importable."""
    code = f"from hatchling.build import build_{kind}; print(build_{kind}({str(target)!r}))"
    result = subprocess.run(
        [sys.executable, "-S", "-c", code],
        cwd=source,
        env={**os.environ, "PYTHONPATH": str(env), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    return target / result.stdout.strip().splitlines()[-1]


@pytest.fixture(scope="module")
def wheel(build_env: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(build_env, ROOT, tmp_path_factory.mktemp("wheel"), "wheel")


@pytest.fixture(scope="module")
def unpacked_sdist(build_env: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("sdist")
    sdist = build(build_env, ROOT, target, "sdist")
    with tarfile.open(sdist) as archive:
        archive.extractall(target, filter="data")
    return target / sdist.name.removesuffix(".tar.gz")


@pytest.fixture(scope="module")
def wheel_of_sdist(build_env: Path, unpacked_sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(build_env, unpacked_sdist, tmp_path_factory.mktemp("wheel"), "wheel")


def contents(wheel: Path) -> dict[str, bytes]:
    with ZipFile(wheel) as archive:
        names = archive.namelist()
        assert len(names) == len(set(names))
        return {name: archive.read(name) for name in names}


def sources(root: Path) -> dict[str, bytes]:
    """Files of the packages below a folder, without compiled ones."""
    paths = [path for path in (root / "litestar").rglob("*") if path.is_file() and path.suffix != ".pyc"]
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in paths}


def own_sources() -> dict[str, bytes]:
    return {name: data for name, data in sources(ROOT).items() if name.startswith(f"{OWN}/")}


def metadata(data: bytes) -> Message:
    return Parser().parsestr(data.decode())


def base_metadata(env: Path) -> Message:
    return metadata((env / DIST_INFO / "METADATA").read_bytes())


def requirements(message: Message, extra: str | None = None) -> set[Requirement]:
    """The requirements of an extra, or without one, those of the package itself."""
    found = {Requirement(requirement) for requirement in message.get_all("Requires-Dist", [])}
    wanted = "extra ==" if extra is None else f'extra == "{extra}"'
    return {r for r in found if (wanted in str(r.marker)) == (extra is not None)}


def test_wheel_holds_the_base_with_this_package_in_it(wheel: Path, build_env: Path) -> None:
    found = {name: data for name, data in contents(wheel).items() if not name.startswith(DIST_INFO)}
    base = {name: data for name, data in sources(build_env).items() if not name.startswith(f"{OWN}/")}
    assert "litestar/py.typed" in base
    assert found.keys() == base.keys() | own_sources().keys()
    assert [name for name, data in found.items() if data != {**base, **own_sources()}[name]] == []


def test_wheel_lists_each_file_with_its_hash(wheel: Path) -> None:
    files = contents(wheel)
    rows = {name: digest for name, digest, _ in csv.reader(io.StringIO(files[f"{DIST_INFO}/RECORD"].decode()))}
    assert rows.keys() == files.keys()
    for name, data in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        assert rows[name] == (f"sha256={digest}" if name != f"{DIST_INFO}/RECORD" else "")


@pytest.mark.parametrize(
    "field",
    [
        "Author-email",
        "Description-Content-Type",
        "Keywords",
        "License",
        "License-File",
        "Maintainer-email",
        "Metadata-Version",
        "Name",
        "Project-URL",
        "Summary",
        "Version",
    ],
)
def test_metadata_is_that_of_the_base(wheel: Path, build_env: Path, field: str) -> None:
    expected = base_metadata(build_env).get_all(field)
    assert expected
    assert metadata(contents(wheel)[f"{DIST_INFO}/METADATA"]).get_all(field) == expected


def test_description_is_that_of_the_base(wheel: Path, build_env: Path) -> None:
    found = metadata(contents(wheel)[f"{DIST_INFO}/METADATA"]).get_payload()
    assert found == base_metadata(build_env).get_payload()
    assert found


def test_metadata_names_only_python_versions_that_are_supported(wheel: Path, build_env: Path) -> None:
    message = metadata(contents(wheel)[f"{DIST_INFO}/METADATA"])
    dropped = set(base_metadata(build_env).get_all("Classifier", [])) - set(message.get_all("Classifier", []))
    assert dropped == {f"Programming Language :: Python :: 3.{minor}" for minor in (8, 9, 10)}
    assert "Programming Language :: Python :: 3.11" in message.get_all("Classifier", [])
    assert message["Requires-Python"] == "<4.0,>=3.11"


def test_requirements_are_those_of_the_base_save_for_jwt(wheel: Path, build_env: Path) -> None:
    found, base = metadata(contents(wheel)[f"{DIST_INFO}/METADATA"]), base_metadata(build_env)
    assert requirements(found) == requirements(base) != set()
    for extra in set(base.get_all("Provides-Extra", [])) - {"full", "jwt"}:
        assert requirements(found, extra) == requirements(base, extra)
    assert set(found.get_all("Provides-Extra", [])) == {*base.get_all("Provides-Extra", []), "jwks"}
    assert requirements(found, "jwks") == {Requirement(f"{r}; extra == 'jwks'") for r in EXTRAS["jwks"]}
    for extra, own in (("full", "jwks"), ("jwt", "jwt")):
        released = {Requirement(f"{r}; extra == '{extra}'") for r in ("cryptography", "pyjwt>=2.9.0")}
        ours = {Requirement(f"{r}; extra == '{extra}'") for r in EXTRAS[own]}
        assert released <= requirements(base, extra)
        assert requirements(found, extra) == requirements(base, extra) - released | ours


def test_entry_points_are_those_of_the_base(wheel: Path, build_env: Path) -> None:
    found = contents(wheel)[f"{DIST_INFO}/entry_points.txt"]
    assert b"litestar = " in found
    assert found == (build_env / DIST_INFO / "entry_points.txt").read_bytes()


def test_wheel_holds_both_licences(wheel: Path, build_env: Path) -> None:
    files = contents(wheel)
    assert files[f"{DIST_INFO}/licenses/LICENSE"] == (ROOT / "LICENSE").read_bytes()
    base = (build_env / DIST_INFO / "licenses" / "LICENSE").read_bytes()
    assert files[f"{DIST_INFO}/licenses/litestar/LICENSE"] == base


def test_sdist_holds_the_whole_repository(unpacked_sdist: Path) -> None:
    found = {path.relative_to(unpacked_sdist).as_posix() for path in unpacked_sdist.rglob("*") if path.is_file()}
    expected = {".ci/run", "LICENSE", "Makefile", "PKG-INFO", "hatch_build.py", "pyproject.toml", *own_sources()}
    for folder in ("benchmarks", "docs", "requirements", "tests", "tools"):
        paths = [path.relative_to(ROOT) for path in (ROOT / folder).rglob("*.*")]
        ignored = {"__pycache__", "_build"}
        expected |= {path.as_posix() for path in paths if ignored.isdisjoint(path.parts)}
    assert found >= expected


def test_wheel_of_the_sdist_is_the_same(wheel: Path, wheel_of_sdist: Path) -> None:
    assert contents(wheel_of_sdist) == contents(wheel)


def test_editable_install_sees_edits(build_env: Path, unpacked_sdist: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(unpacked_sdist, source)
    build(build_env, source, tmp_path, "editable")
    files = contents(build(build_env, source, tmp_path, "editable"))  # replaces the tree of the first
    assert not any(name.startswith("litestar/") for name in files)
    tree = Path(files["_litestar.pth"].decode())
    assert (tree / OWN).resolve() == (source / OWN).resolve()
    assert {path.name for path in (source / "build").iterdir()} == {"editable"}
    (source / OWN / "edited.py").write_text("seen = True")
    code = "from litestar import Litestar; from litestar.security.jwt.edited import seen; print(seen)"
    result = subprocess.run(
        [sys.executable, "-P", "-c", code], env={**os.environ, "PYTHONPATH": str(tree)}, capture_output=True, text=True
    )
    assert result.stdout == "True\n", result.stderr


def test_sdist_of_an_installed_checkout_is_the_same(build_env: Path, unpacked_sdist: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(unpacked_sdist, source)
    build(build_env, source, tmp_path, "editable")
    with tarfile.open(build(build_env, source, tmp_path, "sdist")) as archive:
        found = {name.partition("/")[2] for name in archive.getnames()}
    assert found == {
        path.relative_to(unpacked_sdist).as_posix() for path in unpacked_sdist.rglob("*") if path.is_file()
    }


def test_build_refuses_to_take_itself_for_the_base(build_env: Path, wheel: Path, tmp_path: Path) -> None:
    overlaid = tmp_path / "overlaid"
    with ZipFile(wheel) as archive:
        archive.extractall(overlaid)
    result = subprocess.run(
        [sys.executable, "-S", "-c", f"from hatchling.build import build_wheel; build_wheel({str(tmp_path)!r})"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(overlaid), str(build_env)])},
        capture_output=True,
        text=True,
    )
    assert result.returncode
    assert "Build this with the released litestar" in result.stderr
