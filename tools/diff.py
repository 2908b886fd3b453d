"""Show what the edits of ``patch`` change in Litestar's own files, as a unified diff."""

from __future__ import annotations

import argparse
import sys
from difflib import SequenceMatcher, unified_diff
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from patch.edit import edit_files  # noqa: E402

Texts = dict[str, tuple[list[str], list[str]]]


def edited_texts(base: Path, last: int | None = None) -> Texts:
    """Return the lines of Litestar's files before and after the edits up to a pull request, by path.

    Args:
        base: The folder that holds the package, of an installation or a checkout.
        last: The number of the last pull request. All if not set.
    """

    def read(name: str) -> str:
        return (base / name).read_text("utf-8")

    edited = edit_files(ROOT / "patch", read, last)
    return {name: (read(name).splitlines(), text.splitlines()) for name, text in edited.items()}


def count(texts: Texts) -> dict[str, tuple[int, int]]:
    """Count the lines that the edits add and remove."""
    changed = {}
    for name, (old, new) in texts.items():
        kept = sum(block.size for block in SequenceMatcher(None, old, new, autojunk=False).get_matching_blocks())
        changed[name] = len(new) - kept, len(old) - kept
    return changed


def not_executed(texts: Texts) -> list[str]:
    """Return the lines that edits add and that no test has executed, by the last run of the tests that measured coverage."""
    from coverage import Coverage

    coverage = Coverage(config_file=ROOT / "pyproject.toml")
    coverage.load()
    found = []
    for name, (old, new) in texts.items():
        added = set(range(len(new)))
        for block in SequenceMatcher(None, old, new, autojunk=False).get_matching_blocks():
            added -= set(range(block.b, block.b + block.size))
        missing = coverage.analysis2(str((ROOT / "build" / "editable" / name).resolve()))[3]
        found += [f"{name}:{line}: {new[line - 1].strip()}" for line in missing if line - 1 in added]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", type=Path, default=ROOT / "build" / "base", help="another version of Litestar")
    parser.add_argument("--last", type=int, help="leave out the edits of pull requests after this one")
    parser.add_argument("--stat", action="store_true", help="only count lines")
    parser.add_argument(
        "--executed", action="store_true", help="fail if the tests have not executed a line that an edit adds"
    )
    options = parser.parse_args()
    texts = edited_texts(options.base, options.last)
    if options.executed:
        if lines := not_executed(texts):
            sys.exit("\n".join(["No test executes these lines that edits add:", *lines]))
    elif options.stat:
        counts = count(texts)
        counts["all files"] = sum(added for added, _ in counts.values()), sum(removed for _, removed in counts.values())
        for name, (added, removed) in counts.items():
            print(f"{name:40} {added:4} added {removed:4} removed")
    else:
        for name, (old, new) in texts.items():
            print("\n".join(unified_diff(old, new, f"a/{name}", f"b/{name}", lineterm="")))


if __name__ == "__main__":
    main()
