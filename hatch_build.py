"""Hooks of the build: the released Litestar (the base) with the edits of ``patch`` and the files of this repository.

The base is installed in the build environment, since ``pyproject.toml`` lists it in ``build-system.requires``.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Mapping
from importlib.metadata import Distribution, distribution
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.metadata.plugin.interface import MetadataHookInterface
from hatchling.metadata.spec import project_metadata_from_core_metadata
from packaging.requirements import Requirement

OWN = "litestar/security/jwt"
OLDEST_PYTHON = 11


def base_distribution(version: str) -> Distribution:
    """Find the base. An installed build of this repository has the same name and version, but does not qualify."""
    base = distribution("litestar")
    names = {str(path) for path in base.files or ()}
    if base.version != version or f"{OWN}/auth.py" not in names or f"{OWN}/keys.py" in names:
        raise RuntimeError(f"Build this with the released litestar {version} installed, or with build isolation")
    return base


def base_files(base: Distribution) -> dict[str, Path]:
    """Files of the base's packages."""
    names = [str(path) for path in base.files or () if path.suffix != ".pyc"]
    return {
        name: Path(str(base.locate_file(name)))
        for name in names
        if not name.startswith("../") and ".dist-info/" not in name
    }


def edited_files(root: Path, files: Mapping[str, Path]) -> dict[str, str]:
    """Texts of the base's files that ``patch`` edits. No file of the repository may take the place of another one."""
    sys.path.insert(0, str(root))
    try:
        from patch.edit import edit_files
    finally:
        sys.path.remove(str(root))
    added = {path.relative_to(root).as_posix() for path in (root / OWN).rglob("*.py")}
    if replaced := sorted(added & files.keys()):
        raise RuntimeError(f"The base has these files, which only 'patch' may edit: {', '.join(replaced)}")
    return edit_files(root / "patch", lambda name: files[name].read_text("utf-8"))


def base_licences(base: Distribution) -> dict[str, Path]:
    """Licence files of the base, by their names in its ``licenses`` folder."""
    found = (str(path).partition(".dist-info/licenses/") for path in base.files or ())
    return {name: Path(str(base.locate_file(head + mid + name))) for head, mid, name in found if name}


class MetadataHook(MetadataHookInterface):
    """What ``pyproject.toml`` declares dynamic is the base's, except for the extras that install PyJWT."""

    PLUGIN_NAME = "custom"

    def update(self, metadata: dict[str, Any]) -> None:
        base = base_distribution(metadata["version"])
        project = project_metadata_from_core_metadata(base.read_text("METADATA") or "")
        scripts = base.entry_points.select(group="console_scripts")
        project["scripts"] = {script.name: script.value for script in scripts}
        project["classifiers"] = [c for c in project["classifiers"] if not names_old_python(c)]
        extras = project["optional-dependencies"]
        extras["full"] = [*without(extras["full"], extras["jwt"]), *self.config["jwks"]]
        extras |= {name: self.config[name] for name in ("jwt", "jwks")}
        metadata.update({field: project[field] for field in metadata["dynamic"]})


def names_old_python(classifier: str) -> bool:
    prefix, _, minor = classifier.rpartition(".")
    return prefix == "Programming Language :: Python :: 3" and int(minor) < OLDEST_PYTHON


def without(requirements: list[str], removed: list[str]) -> list[str]:
    gone = {Requirement(requirement) for requirement in removed}
    return [requirement for requirement in requirements if Requirement(requirement) not in gone]


class WheelHook(BuildHookInterface[Any]):
    """Adds the base's files to a wheel. For an editable one, they go into a folder that its ``.pth`` file points to."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        base = base_distribution(self.metadata.version)
        files = base_files(base)
        edited = edited_files(Path(self.root), files)
        licences = f"{self.metadata.core.name}-{self.metadata.version}.dist-info/licenses/litestar"
        included = {str(path): f"{licences}/{name}" for name, path in base_licences(base).items()}
        if version == "editable":
            write_editable_tree(Path(self.root), files, edited)
            build_data["force_include_editable"].update(included)
            return
        self.scratch = tempfile.TemporaryDirectory()
        files |= write_texts(Path(self.scratch.name), edited)
        included |= {str(path): name for name, path in files.items()}
        build_data["force_include"].update(included)

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        if version != "editable":
            self.scratch.cleanup()


def write_texts(folder: Path, texts: Mapping[str, str]) -> dict[str, Path]:
    for name, text in texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, "utf-8")
    return {name: folder / name for name in texts}


def write_editable_tree(root: Path, files: Mapping[str, Path], edited: Mapping[str, str]) -> None:
    """Make a tree of the base's files, with the edited ones, that links to this repository's package.

    Importers, type checkers and coverage tools all follow a symbolic link, which import hooks cannot be relied on for. What the
    edited files were before goes into ``build/base``, for ``make diff``.
    """
    target = root / "build" / "editable"
    target.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        fresh = Path(scratch, "editable")
        for name, source in files.items():
            (fresh / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, fresh / name)
        write_texts(fresh, edited)
        for added in (root / OWN).iterdir():
            if added.name != "__pycache__":
                (fresh / OWN / added.name).symlink_to(os.path.relpath(added, target / OWN), added.is_dir())
        write_texts(Path(scratch, "base"), {name: files[name].read_text("utf-8") for name in edited})
        for name in ("base", "editable"):
            if (target.parent / name).exists():
                (target.parent / name).rename(Path(scratch, f"stale {name}"))
            Path(scratch, name).rename(target.parent / name)
