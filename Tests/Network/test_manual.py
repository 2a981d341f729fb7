"""The manual and the completions, which are made from what the program says of itself."""

import json
import re
import subprocess
from pathlib import Path

import pytest

from harness.needs import need
from harness.sluice import binary

CHECKOUT = Path(__file__).parents[2]

SETTINGS = CHECKOUT / "docs" / "sluice.yaml"


def output(*words: str | Path, **options: str) -> str:
    return subprocess.run(
        [str(word) for word in words], stdout=subprocess.PIPE, text=True, check=True, **options).stdout


@pytest.fixture(scope="module")
def manual(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with all pages."""
    folder = tmp_path_factory.mktemp("manual")
    output(CHECKOUT / "scripts" / "lib" / "manual.py", binary(), SETTINGS, folder)
    return folder


def commands() -> list[dict[str, object]]:
    top = json.loads(output(binary(), "--experimental-dump-help"))["command"]
    return [one for one in top["subcommands"] if one["commandName"] != "help"]


def rendered(page: Path) -> str:
    """As plain text."""
    return re.sub(".\x08", "", output(need("mandoc"), "-T", "utf8", "-O", "width=200", page))


def test_a_page_for_each_command(manual: Path) -> None:
    names = [one["commandName"] for one in commands()]
    assert {"run", "exec", "check"} <= set(names)
    pages = {"sluice.1", "sluice.yaml.5", *(f"sluice-{name}.1" for name in names)}
    assert {page.name for page in manual.iterdir()} == pages
    main = rendered(manual / "sluice.1")
    for name in names:
        assert f"sluice-{name}(1)" in main


def test_no_warning(manual: Path) -> None:
    pages = sorted(manual.iterdir())
    assert output(need("mandoc"), "-T", "lint", "-W", "warning", *pages) == ""
    for page in pages:
        read = subprocess.run(
            [need("groff"), "-man", "-K", "utf-8", "-T", "utf8", "-ww", "-z", page], capture_output=True,
            text=True, check=True)
        assert read.stderr == ""


def test_every_option_is_there(manual: Path) -> None:
    for command in commands():
        page = rendered(manual / f"sluice-{command['commandName']}.1")
        help_text = output(binary(), "help", str(command["commandName"]))
        options = set(re.findall(r"^  (--[a-z0-9-]+)", help_text, flags=re.MULTILINE))
        assert command["commandName"] == "rules" or options
        # That one is the whole program's.
        missing = [option for option in options - {"--version"} if option not in page]
        assert not missing, command["commandName"]


def test_every_setting_is_there(manual: Path) -> None:
    page = rendered(manual / "sluice.yaml.5")
    names = re.findall(r"^#([a-z0-9-]+):", SETTINGS.read_text(), flags=re.MULTILINE)
    assert len(names) > 30
    for name in names:
        assert re.search(rf"^ +{name}: ", page, flags=re.MULTILINE), name


#: What completes a line in each shell, one word a line.
SHELLS = {
    "bash": """
        . "$1"; read -ra COMP_WORDS <<< "$2"; COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); COMP_LINE=$2
        COMP_POINT=${#2}; _sluice sluice "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
        printf '%s\\n' "${COMPREPLY[@]}" """,
    "fish": 'source $argv[1]; complete -C $argv[2] | string replace -r "\\t.*" ""',
}


@pytest.fixture(scope="module", params=SHELLS)
def shell(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("line, words", [
    ("sluice ru", {"run", "rules"}),
    ("sluice exe", {"exec"}),
    ("sluice run --gate", {"--gateway"}),
    ("sluice rules app", {"apply"}),
])
def test_completion(shell: str, line: str, words: set[str], tmp_path: Path) -> None:
    script = tmp_path / "completions"
    script.write_text(output(binary(), "--generate-completion-script", shell))
    call = ["-c", SHELLS[shell], *(["bash"] if shell == "bash" else []), str(script), line]
    assert set(output(need(shell), *call).split()) == words


def test_zsh_takes_the_completions(tmp_path: Path) -> None:
    """As a function of its completion system, which needs a terminal for more."""
    script = tmp_path / "_sluice"
    script.write_text(output(binary(), "--generate-completion-script", "zsh"))
    assert script.read_text().startswith("#compdef sluice\n")
    names = output(need("zsh"), "-f", "-c", 'autoload -U compinit; compinit -u -D; eval "$(<$1)"; '
                   'print -l ${(k)functions} | grep ^_sluice', "zsh", str(script)).split()
    assert {"_sluice", "_sluice_run", "_sluice_rules_apply"} <= set(names)
