"""The operations of ``patch/edit.py`` on a text of our own, and the edits on Litestar's files."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from patch.edit import EditError, Source, edit_files
from tools.diff import count, edited_texts

ROOT = Path(__file__).parents[2]
PATCH = ROOT / "patch"
# Where the installed build keeps what released Litestar has in the files that it edits.
RELEASED = ROOT / "build" / "base"
# A checkout of Litestar's next version, if there is one.
CHECKOUTS = [Path(os.environ["LITESTAR_MAIN"])] if "LITESTAR_MAIN" in os.environ else []

KITCHEN = '''\
import os
from fire import Oven
from zoo import Bear, cat

from litestar.a import One
from litestar.c import Three

if TYPE_CHECKING:
    from zoo import ant

__all__ = (
    "Bear",
    "cook",
)


@big
class Stove(Oven[str], One):
    """A stove."""

    __slots__ = (
        "gas",
    )

    def bake(self, cake: str, *, minutes: int = 3) -> str:
        """Bake.

        Args:
            cake: What to bake.
            minutes: How long.

        Returns:
            What is left of it.
        """
        return self.heat("Käse" + cake, minutes)

    def heat(
        self,
        food: str,
        minutes: int = 3,
    ) -> str:
        """Heat.

        Args:
            food: What to heat.
            minutes: How long.
        """
        self.light()
        return warm(
            food,
            minutes=minutes,
        )

    def light(self) -> None:
        pass

    def off(self) -> None: ...


class Pan(Bear): ...


class Lid(Pan): ...


def cook() -> None:
    Stove().light()
    Stove().light()


def twice() -> None: ...


def twice() -> None: ...
'''

Edit = Callable[[Source], None]


def edited(edit: Edit, last: int | None = None) -> str:
    source = Source("kitchen.py", KITCHEN, last)
    edit(source)
    return source.text


@pytest.mark.parametrize(
    ("edit", "before", "after"),
    [
        pytest.param(
            lambda s: s.add_import("litestar.b", "Two", "TWO"),
            "One\n",
            "One\nfrom litestar.b import TWO, Two\n",
            id="import-between-others",
        ),
        pytest.param(
            lambda s: s.add_import("zoo", "ZEBRA", "Ape"),
            "import Bear, cat",
            "import ZEBRA, Ape, Bear, cat",
            id="import-from-a-known-module",
        ),
        pytest.param(
            lambda s: s.add_import("litestar.b", "Two", type_checking=True),
            "import ant\n",
            "import ant\n\n    from litestar.b import Two\n",
            id="import-of-a-new-package-for-type-checkers",
        ),
        pytest.param(
            lambda s: s.add_names("__all__", "eat", "Axe"),
            '    "Bear",\n    "cook",\n',
            '    "Axe",\n    "Bear",\n    "cook",\n    "eat",\n',
            id="exported-names",
        ),
        pytest.param(
            lambda s: s.add_names("Stove.__slots__", "heat"), '"gas",\n', '"gas",\n        "heat",\n', id="slot"
        ),
        pytest.param(lambda s: s.decorate("Stove", "hot"), "@big", "@hot\n@big", id="decorator"),
        pytest.param(
            lambda s: s.annotate("Stove.bake", "cake", "str | Cake"), "cake: str", "cake: str | Cake", id="annotation"
        ),
        pytest.param(
            lambda s: s.keyword("Stove.heat", "warm", "**self.extras"),
            "            minutes=minutes,\n",
            "            minutes=minutes,\n            **self.extras,\n",
            id="argument",
        ),
        pytest.param(
            lambda s: s.insert("Stove.bake", "\n    if not cake:\n        return cake\n"),
            "        return self.heat",
            "        if not cake:\n            return cake\n        return self.heat",
            id="statements-after-a-docstring",
        ),
        pytest.param(
            lambda s: s.insert("Stove.light", "self.gas = 1"),
            "        pass",
            "        self.gas = 1\n        pass",
            id="statements-without-a-docstring",
        ),
        pytest.param(
            lambda s: s.insert("Stove.light", "self.gas = 1", at_end=True),
            "        pass",
            "        pass\n        self.gas = 1",
            id="statements-at-the-end",
        ),
        pytest.param(
            lambda s: s.insert("Stove", "cold = True"),
            'A stove."""',
            'A stove."""\n\n    cold = True',
            id="statements-of-a-class",
        ),
    ],
)
def test_operation_changes_what_it_names(edit: Edit, before: str, after: str) -> None:
    assert KITCHEN.count(before) == 1
    assert edited(edit) == KITCHEN.replace(before, after)


def test_parameter_is_keyword_only_and_described_in_the_docstring() -> None:
    text = edited(lambda s: s.parameter("Stove.heat", "gas: bool = True", "Whether to use gas."))
    assert "        minutes: int = 3,\n        *,\n        gas: bool = True,\n    ) -> str:" in text
    assert '            minutes: How long.\n            gas: Whether to use gas.\n        """' in text


def test_second_parameter_has_no_second_star() -> None:
    def edit(source: Source) -> None:
        source.parameter("Stove.heat", "gas: bool = True", "Whether to use gas.")
        source.parameter("Stove.heat", "wood: bool = False", "Whether to use wood.")

    assert "        *,\n        gas: bool = True,\n        wood: bool = False,\n    ) -> str:" in edited(edit)


@pytest.mark.parametrize(
    ("former", "replaced"),
    [
        pytest.param("One", {", One)": ", Burner)", "from litestar.a import One\n": ""}, id="plain"),
        pytest.param("Oven", {"Oven[str]": "Burner[str]", "from fire import Oven\n": ""}, id="with-type-arguments"),
        pytest.param("Bear", {"Pan(Bear)": "Pan(Burner)", "Bear, cat": "cat"}, id="imported-beside-others"),
    ],
)
def test_base_is_replaced_and_no_longer_imported(former: str, replaced: dict[str, str]) -> None:
    expected = KITCHEN
    for before, after in replaced.items():
        expected = expected.replace(before, after)
    place = "Pan" if former == "Bear" else "Stove"
    assert edited(lambda s: s.base(place, "Burner", instead_of=former)) == expected


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        pytest.param(
            lambda s: s.annotate("Stove.bake", "nope", "int"),
            r"annotate\('Stove.bake', 'nope', 'int'\): no annotated parameter Stove.bake.nope",
            id="parameter",
        ),
        pytest.param(
            lambda s: s.annotate("Stove", "cake", "int"), r"annotate\(.*\): no function Stove", id="class-for-function"
        ),
        pytest.param(lambda s: s.insert("Stove.nope", "x"), r"insert\('Stove.nope', 'x'\): no Stove.nope", id="method"),
        pytest.param(lambda s: s.insert("twice", "x"), r"insert\(.*\): twice is there 2 times", id="two-functions"),
        pytest.param(lambda s: s.decorate("Nope", "hot"), r"decorate\('Nope', 'hot'\): no Nope", id="decorated-class"),
        pytest.param(
            lambda s: s.base("Stove", "Burner", instead_of="Nope"),
            r"base\('Stove', 'Burner'\): no base Nope",
            id="base",
        ),
        pytest.param(lambda s: s.base("cook", "Burner", instead_of="One"), "no base One", id="base-of-a-function"),
        pytest.param(
            lambda s: s.base("Lid", "Burner", instead_of="Pan"), "no import of Pan", id="base-that-is-not-imported"
        ),
        pytest.param(lambda s: s.add_names("__nope__", "x"), "no __nope__", id="tuple"),
        pytest.param(lambda s: s.add_import("litestar.Z", "x"), "no import before it", id="import-that-would-be-first"),
        pytest.param(
            lambda s: s.keyword("Stove.heat", "nope", "x=1"), r"keyword\(.*\): no call of nope", id="called-function"
        ),
        pytest.param(
            lambda s: s.keyword("cook", "Stove().light", "x=1"), "call of .* is there 2 times", id="two-calls"
        ),
        pytest.param(
            lambda s: s.keyword("Stove.bake", "self.heat", "x=1"), "not on a line of its own", id="call-on-one-line"
        ),
        pytest.param(
            lambda s: s.parameter("Stove.bake", "x: int = 1", "A number."),
            "not on a line of its own",
            id="parameters-on-one-line",
        ),
        pytest.param(
            lambda s: s.parameter("Stove.light", "x: int = 1", "A number."), "'Args:' is not in list", id="section-args"
        ),
        pytest.param(lambda s: s.insert("Stove.light", "for"), "insert.*invalid syntax", id="syntax"),
        pytest.param(lambda s: s.insert("Stove.off", "x = 1", at_end=True), "indent", id="body-on-one-line"),
    ],
)
def test_refuses_a_place_that_is_missing_or_ambiguous(edit: Edit, message: str) -> None:
    with pytest.raises(EditError, match=f"^kitchen.py: .*{message}"):
        edited(edit)


TWICE: dict[str, Edit] = {
    "add_import": lambda s: s.add_import("litestar.b", "Two"),
    "add_import, known module": lambda s: s.add_import("zoo", "Ape"),
    "add_import, type_checking": lambda s: s.add_import("litestar.b", "Two", type_checking=True),
    "add_names": lambda s: s.add_names("__all__", "boil"),
    "annotate": lambda s: s.annotate("Stove.bake", "cake", "str | Cake"),
    "base": lambda s: s.base("Stove", "Burner", instead_of="One"),
    "decorate": lambda s: s.decorate("Stove", "hot"),
    "insert": lambda s: s.insert("Stove.bake", "if not cake:\n    return cake"),
    "insert, at_end": lambda s: s.insert("Stove.light", "self.gas = 1", at_end=True),
    "insert, class": lambda s: s.insert("Stove", "cold = True"),
    "keyword": lambda s: s.keyword("Stove.heat", "warm", "gas=True"),
    "parameter": lambda s: s.parameter("Stove.heat", "gas: bool = True", "Whether to use gas."),
}


@pytest.mark.parametrize("name", TWICE)
def test_refuses_to_apply_twice(name: str) -> None:
    source = Source("kitchen.py", KITCHEN)
    TWICE[name](source)
    with pytest.raises(EditError):
        TWICE[name](source)


def test_leaves_out_what_a_later_pull_request_changes() -> None:
    def edit(source: Source) -> None:
        for number, name in ((1, "first"), (2, "second"), (3, "third")):
            with source.pull_request(number):
                source.decorate("cook", name)

    assert "@second\n@first\ndef cook()" in edited(edit, last=2)


def test_tells_versions_apart_by_parameters() -> None:
    source = Source("kitchen.py", KITCHEN)
    assert source.has_parameter("Stove.heat", "minutes")
    assert not source.has_parameter("Stove.light", "minutes")


@pytest.mark.parametrize("base", [RELEASED, *CHECKOUTS], ids=["released", "main"][: 1 + len(CHECKOUTS)])
@pytest.mark.parametrize(
    ("last", "most_added", "most_removed"),
    [pytest.param(None, 90, 25, id="all-pull-requests"), pytest.param(2, 55, 25, id="the-first-two")],
)
def test_edits_are_hooks(base: Path, last: int | None, most_added: int, most_removed: int) -> None:
    counts = count(edited_texts(base, last)).values()
    assert sum(added for added, _ in counts) <= most_added
    assert sum(removed for _, removed in counts) <= most_removed


@pytest.mark.parametrize("base", [RELEASED, *CHECKOUTS], ids=["released", "main"][: 1 + len(CHECKOUTS)])
def test_edits_apply_up_to_each_pull_request(base: Path) -> None:
    texts = [edit_files(PATCH, lambda name: (base / name).read_text(), last) for last in range(1, 14)]
    assert texts[0] != texts[-1] == edit_files(PATCH, lambda name: (base / name).read_text())


def test_edits_do_not_apply_to_what_they_have_edited() -> None:
    edited = edit_files(PATCH, lambda name: (RELEASED / name).read_text())
    with pytest.raises(EditError, match="there already"):
        edit_files(PATCH, edited.__getitem__)


def test_installed_package_has_the_edits() -> None:
    for name, text in edit_files(PATCH, lambda name: (RELEASED / name).read_text()).items():
        assert (ROOT / "build" / "editable" / name).read_text() == text


def test_patch_is_short() -> None:
    assert sum(len(path.read_text().splitlines()) for path in PATCH.rglob("*.py")) <= 350
