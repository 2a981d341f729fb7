#!/usr/bin/python3
"""Writes the manual of Sluice, from what the program says of its commands and from the settings file.

usage: scripts/lib/manual.py SLUICE SETTINGS FOLDER

SLUICE is the program, SETTINGS is docs/sluice.yaml. FOLDER gets sluice.1, one page for each command
(sluice-run.1, …) and sluice.yaml.5, in the macros of man(7). SOURCE_DATE_EPOCH is the date on them, if set.
"""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Iterator

#: Roff would take these for typographic ones.
PLAIN = {
    "\\": "\\e", "-": "\\-", "'": "\\(aq", "`": "\\(ga", "^": "\\(ha", "~": "\\(ti", "…": "\\&...",
    "–": "\\(en", "’": "\\(cq", "“": "\\(lq", "”": "\\(rq"}

ENVIRONMENT = [
    ("SLUICE_UPSTREAM", "The URL of the upstream where no argument gives it; it is not shown by ps(1)."),
    ("SLUICE_PASSWORD", "The password of the upstream's user where the URL has none."),
    ("CREDENTIALS_DIRECTORY",
     "Where systemd.exec(5) has credentials: sluice-password is the password of the upstream's user."),
    ("NOTIFY_SOCKET, WATCHDOG_USEC",
     "Of a service manager, which sluice run then tells how it goes (sd_notify(3))."),
]

FILES = [
    ("/etc/sluice/sluice.yaml", "Settings of the service; see sluice.yaml(5)."),
    ("/run/sluice/control.sock", "Where a run is reached by other commands."),
]

EXIT_STATUS = [
    ("0", "It went as asked."),
    ("1", "Two things that were compared differ (rules diff), or something takes a restart (reload)."),
    ("64", "Arguments or settings are wrong (EX_USAGE)."),
    ("69", "Something that is needed is missing or does not answer, such as the upstream (EX_UNAVAILABLE)."),
    ("77", "Rights are missing (EX_NOPERM)."),
]

DESCRIPTION = """\
Sluice sends a whole machine's traffic, what arrives from a LAN, or one program's through a SOCKS5 server: \
TCP, UDP and DNS. No application is configured or modified: the kernel redirects to a local process, which \
finds out where each flow wanted to go and makes it anew through the upstream. The rules and routes that this \
takes come with the start and are gone at the exit."""

EXAMPLES = [
    ("Everything that this machine sends:", "sudo sluice run socks5://proxy.example:1080 --machine"),
    ("Everything that arrives at an interface:",
     "sudo sluice run socks5://proxy.example:1080 --gateway lan0"),
    ("One program, without being root:",
     "sluice exec socks5://proxy.example:1080 -- git clone https://git.example/x"),
    ("Whether it works here, and if not, why:", "sudo sluice doctor socks5://proxy.example:1080"),
    ("As a service, with the settings in /etc/sluice/sluice.yaml:", "systemctl enable --now sluice"),
]


def escape(text: str) -> str:
    """Text for a line of roff that is no request."""
    line = "".join(PLAIN.get(character, character) for character in text)
    return "\\&" + line if line.startswith(".") else line


def bold(text: str) -> str:
    return f"\\fB{escape(text)}\\fR"


def variable(text: str) -> str:
    return f"\\fI{escape(text)}\\fR"


class Page:
    """The lines of a page."""

    def __init__(self, name: str, section: int, abstract: str, version: str) -> None:
        date = time.strftime(
            "%Y-%m-%d", time.gmtime(int(os.environ.get("SOURCE_DATE_EPOCH", time.time()))))
        title = "File formats" if section == 5 else "User commands"
        self.path = f"{name}.{section}"
        self.lines = [
            f'.TH "{escape(name.upper())}" {section} {date} "Sluice {version}" "{title}"', ".nh", ".ad l"]
        self.heading("NAME")
        what = abstract[0].lower() + abstract[1:].rstrip(".")
        self.lines.append(f"{escape(name)} \\- {escape(what)}")

    def heading(self, text: str) -> None:
        self.lines.append(f'.SH "{text}"')

    def subheading(self, text: str) -> None:
        self.lines.append(f'.SS "{escape(text)}"')

    def paragraph(self, text: str) -> None:
        """A new line in the text begins another paragraph."""
        for number, part in enumerate(part for part in text.splitlines() if part.strip()):
            if number or not self.lines[-1].startswith((".SH", ".SS")):
                self.lines.append(".PP")
            self.lines.append(escape(part.strip()))

    def item(self, label: str, *texts: str) -> None:
        """A label, of roff, and what there is to say about it."""
        self.lines += [".TP", label]
        for number, text in enumerate(text for text in texts if text):
            self.lines += [".IP"] * bool(number) + [escape(" ".join(text.split()))]

    def items(self, heading: str, entries: list[tuple[str, str]]) -> None:
        self.heading(heading)
        for label, text in entries:
            self.item(bold(label), text)

    def example(self, text: str) -> None:
        self.lines += [".PP", ".RS 4", ".nf", *(escape(line) for line in text.splitlines()), ".fi", ".RE"]

    def see(self, *pages: str) -> None:
        self.heading("SEE ALSO")
        references = [re.fullmatch(r"(.*)\((\d)\)", page) for page in pages]
        ends = [","] * (len(pages) - 1) + [""]
        for reference, end in zip(references, ends):
            assert reference
            self.lines.append(f".BR {escape(reference[1])} ({reference[2]}){end}")

    def write(self, folder: Path) -> None:
        (folder / self.path).write_text("\n".join(self.lines) + "\n")


def shown(entries: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    return (entry for entry in entries if entry["shouldDisplay"])


def name_of(name: dict[str, str]) -> str:
    return ("--" if name["kind"] == "long" else "-") + name["name"]


def label(argument: dict[str, Any]) -> str:
    value = variable(argument["valueName"])
    if argument["kind"] == "positional":
        return value
    names = ", ".join(bold(name_of(name)) for name in argument["names"])
    return names if argument["kind"] == "flag" else f"{names} {value}"


def synopsis(words: list[str], command: dict[str, Any]) -> str:
    parts = [bold(" ".join(words))]
    if any(argument["kind"] != "positional" for argument in shown(command["arguments"])):
        parts.append(f"[{variable('option')}\\&...]")
    if command.get("subcommands"):
        parts.append(variable("command"))
    for argument in shown(command["arguments"]):
        if argument["kind"] != "positional":
            continue
        part = variable(argument["valueName"])
        if argument["parsingStrategy"] == "postTerminator":
            part = f"{bold('--')} {part}"
        if argument["isRepeating"]:
            part += "\\&..."
        parts.append(f"[{part}]" if argument["isOptional"] else part)
    return " ".join(parts)


def describe(page: Page, command: dict[str, Any]) -> None:
    """The arguments and options of a command, as tagged paragraphs."""
    for argument in shown(command["arguments"]):
        default = argument.get("defaultValue")
        page.item(
            label(argument), argument.get("abstract", ""), argument.get("discussion", ""),
            f"Default: {default}" if default else "")


def is_own(command: dict[str, Any]) -> bool:
    """Whether it is Sluice's, and not what every program of the library has."""
    return bool(command["shouldDisplay"]) and command["commandName"] != "help"


def command_page(command: dict[str, Any], version: str) -> Page:
    name = command["commandName"]
    page = Page(f"sluice-{name}", 1, command["abstract"], version)
    page.heading("SYNOPSIS")
    subcommands = [one for one in command.get("subcommands", []) if is_own(one)]
    usages = [(["sluice", name, one["commandName"]], one) for one in subcommands]
    for number, (words, one) in enumerate(usages or [(["sluice", name], command)]):
        page.lines += [".br"] * bool(number) + [synopsis(words, one)]
    page.heading("DESCRIPTION")
    page.paragraph(command["abstract"])
    page.paragraph(command.get("discussion", ""))
    if subcommands:
        page.heading("COMMANDS")
    for one in subcommands:
        page.subheading(one["commandName"])
        page.paragraph(one["abstract"])
        page.paragraph(one.get("discussion", ""))
        describe(page, one)
    if not subcommands:
        page.heading("OPTIONS")
        describe(page, command)
    page.items("ENVIRONMENT", ENVIRONMENT[:3])
    page.items("EXIT STATUS", EXIT_STATUS)
    page.see("sluice(1)", "sluice.yaml(5)")
    return page


def main_page(command: dict[str, Any], version: str) -> Page:
    page = Page("sluice", 1, command["abstract"], version)
    page.heading("SYNOPSIS")
    page.lines.append(synopsis(["sluice"], command))
    page.heading("DESCRIPTION")
    page.paragraph(DESCRIPTION)
    page.heading("COMMANDS")
    commands = [one for one in command["subcommands"] if is_own(one)]
    for one in commands:
        reference = f"\\fBsluice\\-{escape(one['commandName'])}\\fR(1)"
        page.item(reference, one["abstract"])
    page.heading("OPTIONS")
    describe(page, command)
    page.heading("EXAMPLES")
    for text, line in EXAMPLES:
        page.paragraph(text)
        page.example(line)
    page.items("ENVIRONMENT", ENVIRONMENT)
    page.items("FILES", FILES)
    page.items("EXIT STATUS", EXIT_STATUS)
    page.see(
        *(f"sluice-{one['commandName']}(1)" for one in commands), "sluice.yaml(5)", "nft(8)",
        "systemd.exec(5)")
    return page


def settings_page(reference: str, version: str) -> Page:
    """Of the reference file: sections behind `# ---`, and settings behind #, each below what is said
    of it."""
    page = Page("sluice.yaml", 5, "settings of Sluice", version)
    page.heading("DESCRIPTION")
    page.paragraph(
        "Settings of sluice run in YAML. Each has the name of the option of sluice-run(1), which wins where "
        "both are given. Where an option may be repeated a list stands here.\n"
        "sluice check FILE tells every fault of a file with its line and column; sluice check --schema "
        "prints a JSON Schema for editors.\n"
        "Below, each setting stands with its default or an example.")
    page.heading("SETTINGS")
    remarks: list[str] = []
    is_header = True
    for line in reference.splitlines():
        if line.startswith("# --- "):
            is_header, remarks = False, []
            page.subheading(line.removeprefix("# --- "))
        elif is_header:
            continue
        elif line.startswith("# "):
            remarks.append(line.removeprefix("# "))
        elif found := re.fullmatch(r"#([a-z0-9-]+): *(.*)", line):
            page.item(f"{bold(found[1] + ':')} {escape(found[2])}", " ".join(remarks))
            remarks = []
        elif line:
            raise SystemExit(f"{line!r}: neither a remark nor a setting")
    page.items("FILES", FILES[:1])
    page.see("sluice(1)", "sluice-run(1)", "sluice-check(1)")
    return page


def main() -> None:
    try:
        sluice, settings, folder = sys.argv[1:]
    except ValueError:
        raise SystemExit(__doc__) from None
    dump = subprocess.run(
        [sluice, "--experimental-dump-help"], stdout=subprocess.PIPE, text=True, check=True).stdout
    command = json.loads(dump)["command"]
    version = subprocess.run(
        [sluice, "--version"], stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
    pages = [main_page(command, version), settings_page(Path(settings).read_text(), version)]
    pages += [command_page(one, version) for one in command["subcommands"] if is_own(one)]
    for page in pages:
        page.write(Path(folder))


if __name__ == "__main__":
    main()
