"""The documentation: its commands do what it says, and its site builds without a warning.

`tests/documented.py` says how a page's blocks are marked.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Final

import pytest

from docs import figures, from_code
from docs.from_code import commands
from streamer.config import Settings
from streamer.metrics import Metrics
from tests import documented
from tests.documented import COMMANDS, NOT_RUN, OTHER, ROOT, Block, read_page, run_page

PAGES: Final = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCKS: Final = {page: [item for item in read_page(page) if isinstance(item, Block)] for page in PAGES}
RUN: Final = [
    page
    for page, blocks in BLOCKS.items()
    if any(block.language in COMMANDS and block.reason_not_run is None for block in blocks)
]
#: What a line of a command begins with.
PROGRAMS: Final = (
    r"har-stream|simulator|har-models|python3?|pip|pytest|docker|kubectl|mosquitto_\w+|curl|openssl|sudo|apt-get|export"
)
#: All pages are run at once, on the first one's account.
pytestmark = pytest.mark.timeout(600)


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.fixture(scope="module")
def outcomes(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Mapping[Path, Future[None]]]:
    """What became of each page that is asked for."""
    calls = [getattr(item, "callspec", None) for item in request.session.items]
    chosen = {call.params["page"] for call in calls if call is not None and isinstance(call.params.get("page"), Path)}
    folder = tmp_path_factory.mktemp("docs")
    # More at once than there are processors, as they mostly wait.
    with ThreadPoolExecutor(4) as pool:
        # The longest first: nothing waits for them at the end.
        longest = sorted(chosen, key=lambda page: -len(BLOCKS[page]))
        yield {page: pool.submit(run_page, page, folder / name_of(page)) for page in longest}


@pytest.mark.parametrize("page", RUN, ids=name_of)
def test_commands_of_a_page_do_what_it_says(outcomes: Mapping[Path, Future[None]], page: Path) -> None:
    outcomes[page].result()


GOOD: Final = """
```bash
export NAME=Anna
mkdir there; cd there
```

```console
$ echo "hello $NAME" \\
>   && basename "$PWD"
hello …
there
```

<!-- status 3 -->
```bash
exit 3
```

<!-- keeps running -->
```console
$ echo listening on port 4711; exec sleep 60
listening on port 1883
```
"""


def test_a_page_is_followed_as_by_a_reader(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(GOOD)
    run_page(page, tmp_path / "reader")


@pytest.mark.parametrize(
    ("said", "instead", "told"),
    [
        ("hello …", "goodbye …", "what the page shows"),
        ("mkdir there", "mkdir /no/such/place", "exit status 0"),
        ("exit 3", "exit 4", "exit status 3"),
        ("listening on port 1883", "listening on port 1883, eagerly", "what the page shows"),
        ("keeps running", "keeps rnning", "nothing is known of"),
    ],
)
def test_a_page_that_promises_what_does_not_happen_is_found_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, said: str, instead: str, told: str
) -> None:
    monkeypatch.setattr(documented, "SHOWN_WITHIN_S", 0.5)
    page = tmp_path / "page.md"
    page.write_text(GOOD.replace(said, instead))
    with pytest.raises(AssertionError, match=told):
        run_page(page, tmp_path / "reader")


def test_every_block_is_a_command_or_plainly_none() -> None:
    # A block without a language, or of one that nobody knows, would be passed over.
    languages = {block.place: block.language for blocks in BLOCKS.values() for block in blocks}
    assert [place for place, language in languages.items() if language not in COMMANDS | OTHER] == []


def test_no_command_hides_where_it_would_not_be_run() -> None:
    hidden = []
    for page in PAGES:
        fenced = False
        for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), start=1):
            if line.lstrip().startswith("```"):
                fenced = not fenced
            elif not fenced and re.match(rf" {{4,}}(\$ |(?:\S+/)?({PROGRAMS}) )", line):
                hidden.append(f"{name_of(page)}:{number}")
    plain = [block for blocks in BLOCKS.values() for block in blocks if block.language == "text"]
    hidden += [block.place for block in plain if re.search(rf"^(\$ |({PROGRAMS}) )", block.text, re.MULTILINE)]
    assert hidden == []


def test_what_is_not_run_is_little_and_has_its_reason() -> None:
    commands = [block for blocks in BLOCKS.values() for block in blocks if block.language in COMMANDS]
    not_run = {block.place: block.reason_not_run for block in commands if block.reason_not_run is not None}
    assert {place: reason for place, reason in not_run.items() if reason.split(";")[0] not in NOT_RUN} == {}
    assert len(not_run) < 0.5 * len(commands), not_run


def test_every_option_that_a_page_names_exists() -> None:
    known = {path: from_code.options(c) for program in from_code.PROGRAMS for path, c in commands(program).items()}
    wrong = []
    # errors.md is about mistakes.
    for page in (page for page in PAGES if page.name != "errors.md"):
        for span in re.findall(r"`([^`\n]+)`", page.read_text(encoding="utf-8")):
            path = next((path for path in sorted(known, reverse=True) if f"{span} ".startswith(f"{path} ")), None)
            if path is not None:
                named = set(re.findall(r"(?<!\S)(--[a-z][a-z-]*)", span))
                wrong += [f"{name_of(page)}: `{span}`: {path} has no {option}" for option in named - known[path]]
    assert wrong == []


@pytest.mark.parametrize("page", figures.QUOTED)
def test_figures_that_a_page_quotes_are_those_that_the_code_gives(page: str) -> None:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    assert [quoted for quoted in figures.QUOTED[page]() if quoted not in text] == []


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    said = [line for line in f"{done.stdout}{done.stderr}".splitlines() if not line.startswith("INFO ")]
    assert (done.returncode, said) == (0, []), done.stderr
    return folder


def test_the_site_builds_without_a_warning_and_has_every_page(site: Path) -> None:
    expected = {page.relative_to(ROOT / "docs").with_suffix(".html") for page in PAGES if page.name != "README.md"}
    built = {page.relative_to(site) for page in site.rglob("*.html")}
    assert expected <= built


def test_the_reference_has_every_setting_metric_and_command(site: Path) -> None:
    settings, metrics = ((site / "reference" / f"{name}.html").read_text() for name in ("settings", "metrics"))
    assert [name for name in Settings.__struct_fields__ if f'id="{name}"' not in settings] == []
    registry = Metrics(activities=["walking"], model="m", model_digest="d").registry
    names = {family.name for family in registry.collect() if family.name.startswith("har_")}
    assert [name for name in names if f"<code>{name}" not in metrics] == []
    for program in from_code.PROGRAMS:
        page = (site / "reference" / f"{program}.html").read_text()
        assert [path for path in from_code.commands(program) if path not in page] == []


def test_the_site_asks_nothing_of_other_hosts(site: Path) -> None:
    loads = re.compile(r"""<(?:link|script|img|iframe|source)\b[^>]*?\b(?:href|src)=["']?(?:https?:)?//[^>]*>""")
    found = {str(page.relative_to(site)): loads.findall(page.read_text()) for page in site.rglob("*.html")}
    assert {page: links for page, links in found.items() if links} == {}
    sheets = {str(sheet.relative_to(site)) for sheet in site.rglob("*.css") if "url(http" in sheet.read_text()}
    assert sheets == set()
