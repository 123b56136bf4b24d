"""``modelspace runs``: the runs in folders, from their catalogues; no architecture is executed."""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from rich.table import Table

from modelspace.cli import accounts
from modelspace.cli.arguments import add_json
from modelspace.cli.parser import Parser, Verb
from modelspace.cli.results import print_json
from modelspace.errors import ModelspaceError
from modelspace.export import TARGETS, check, export, name_of
from modelspace.progress import notice
from modelspace.show import Terminal, bytes_text, number, say, seconds_text

USAGE = """%(prog)s [FOLDER …] [--json]
       %(prog)s show RUN [--json]
       %(prog)s compare RUN RUN … [--json]
       %(prog)s export RUN --to TO PLACE [--members]"""
DESCRIPTION = """\
List every run below the folders (default: runs): what it is of, how many of its members have ended, how many
diverged, the setting with the best median, seconds and size. `show` says all about one, `compare` where several
differ and how their scores are distributed, `export` writes one for another tool. RUN is a folder with a run.sqlite
in it: what --out named, or sweep and fresh in it where explore wrote it. It may be half done, or in training; the
architecture's file is not executed. (A folder that is called like an action: ./show.)"""
EPILOG = """\
examples:
  modelspace runs
  modelspace runs show runs/dummynet/sweep
  modelspace runs compare runs/adam runs/sgd
  modelspace runs export runs/seeds --to parquet members.parquet

modelspace runs show --help, … compare --help and … export --help say more"""

_SHOW = """\
Say what a run is: the entries that make two runs the same, versions, machine and commit, how it was computed,
the states of its members, and of each setting the quartiles of the last validation score over its members
(by rank, a diverged member being the worst, as explore chooses)."""
_COMPARE = """\
Say in which entries runs differ, and put the distributions of their last scores beside each other: over the
members that ended and did not diverge, for all of them and by setting."""
_EXPORT = """\
Write a run for another tool. csv and parquet: the members' table. tensorboard, mlflow and wandb: one of their runs
for each setting, with the quartiles of every curve over its seeds. PLACE is a file, TensorBoard's log folder,
MLflow's store (a folder, sqlite:///runs.db or http://…), or wandb's project (WANDB_MODE=offline needs no account)."""
_SHOWN_SETTINGS = 24


def _configure(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments; what an action takes is parsed by a parser of its own."""
    add_json(parser)
    parser.add_argument(
        "words",
        nargs=argparse.REMAINDER,
        metavar="FOLDER",
        help="where to look (runs); or an action, show, compare or export, and what it takes",
    )


def _call(options: argparse.Namespace) -> int:
    """Do what the first word says; list where it is none of the actions."""
    words = options.words
    name = words[0] if words and words[0] in _ACTIONS else None
    act, parser = _ACTIONS[name] if name else (_list, _list_parser)
    chosen = parser().parse_intermixed_args(words[1:] if name else words)
    chosen.json |= options.json
    act(chosen)
    return 0


def _list_parser() -> Parser:
    parser = _parser("", "[FOLDER …] [--json]", DESCRIPTION, EPILOG)
    parser.add_argument("folders", nargs="*", metavar="FOLDER", default=["runs"])
    return parser


def _list(options: argparse.Namespace) -> None:
    for text in options.folders:
        near = get_close_matches(text, _ACTIONS, n=1)
        if near and not Path(text).exists():
            raise ModelspaceError(f"no folder '{text}', nor such an action: did you mean '{near[0]}'?")
    folders = dict.fromkeys(path for text in options.folders for path in accounts.runs_below(Path(text)))
    if not folders:
        raise ModelspaceError(
            f"no run below {', '.join(options.folders)}: fit … --out FOLDER writes one down"
        )
    found = [accounts.line(folder) for folder in folders]
    if options.json:
        print_json({"runs": found})
        return
    headings = ["run", "space", "data", *(f">{n}" for n in ("members", "diverged", "epochs")), "best setting"]
    _table([*headings, ">median", ">time", ">size"], [_cells(each) for each in found])
    for each in found:
        if each["problem"]:
            notice(f"{each['run']}: {each['problem']}")


def _cells(found: Mapping[str, Any]) -> list[str]:
    """A line of the list."""
    if found["problem"]:
        return [found["run"], "can't be read", *[""] * 7, bytes_text(found["bytes"])]
    best = found["best"]
    return [
        found["run"],
        found["space"],
        found["data"],
        f"{found['done']:,}/{found['members']:,}",
        f"{found['diverged']:,}",
        str(found["epochs"]),
        _setting(best["setting"]) if best else "–",
        f"{best['score'].removeprefix('validation_')} {best['median']:.4g}" if best else "–",
        seconds_text(found["seconds"]),
        bytes_text(found["bytes"]),
    ]


def _show_parser() -> Parser:
    examples = "  modelspace runs show runs/seeds\n  modelspace runs show runs/dummynet/fresh --json"
    parser = _parser("show", "RUN [--json]", _SHOW, f"examples:\n{examples}")
    parser.add_argument("run", metavar="RUN", help="a run's folder")
    return parser


def _show(options: argparse.Namespace) -> None:
    run = accounts.opened(Path(options.run))
    found = accounts.account(run)
    if options.json:
        print_json(found)
        return
    states = ", ".join(f"{n:,} {state}" for state, n in found["states"].items())
    facts = {
        "architecture": found["target"] or "–",
        "members": f"{found['members']:,}: {states}" if states else "0",
        "epochs": found["epochs"],
        "plan": run.plan,
        "time": seconds_text(found["seconds"]),
        "size": bytes_text(found["bytes"]),
    }
    console = _console()
    console.print(f"{run.title} on {run.data}   {found['run']}", style="bold")
    spec, environment = run.about["spec"], run.about["environment"]
    for title, entries in ((None, facts), ("what it is", spec), ("environment", environment)):
        if title:
            console.print(f"\n{title}", style="bold")
        for name, value in entries.items():
            console.print(f"  {name:<26}{_plain(value)}")
    settings = found["settings"]
    if not settings:
        return
    console.print(f"\n{found['score'].replace('_', ' ')} by setting, over its members", style="bold")
    shown = settings
    if len(settings) > _SHOWN_SETTINGS:
        sign = -1 if found["score"] in run.higher_is_better else 1
        known = [each for each in settings if each["median"] is not None]
        shown = sorted(known, key=lambda each: sign * each["median"])[:_SHOWN_SETTINGS]
    rows = [
        [
            _setting(each["setting"]),
            *(number(each[name]) for name in ("q1", "median", "q3")),
            f"{each['ended']:,}/{each['members']:,}",
            f"{each['diverged']:,}",
        ]
        for each in shown
    ]
    _table(["setting", ">q1", ">median", ">q3", ">members", ">diverged"], rows)
    if len(shown) < len(settings):
        console.print(f"(the best {len(shown)} of {len(settings)} settings; --json has all)")


def _compare_parser() -> Parser:
    examples = "  modelspace runs compare runs/adam runs/sgd\n  modelspace runs compare runs/*/fresh --json"
    parser = _parser("compare", "RUN RUN … [--json]", _COMPARE, f"examples:\n{examples}")
    parser.add_argument("runs", nargs="+", metavar="RUN", help="two runs' folders, or more")
    return parser


def _compare(options: argparse.Namespace) -> None:
    if len(options.runs) < 2:
        raise ModelspaceError(f"two runs or more are compared; received {options.runs[0]} alone")
    runs = [accounts.opened(Path(text)) for text in options.runs]
    found = accounts.comparison(runs)
    if options.json:
        print_json(found)
        return
    console = _console()
    differences = {**found["differences"]["spec"], **found["differences"]["environment"]}
    console.print("where they differ" if differences else "they differ in nothing", style="bold")
    if differences:
        rows = [[name, *map(_plain, values)] for name, values in differences.items()]
        _table(["", *found["runs"]], rows)
    console.print("\nlast scores of all members that did not diverge", style="bold")
    rows = [
        [name.replace("_", " "), folder, *_distribution(each)]
        for name, scores in found["scores"].items()
        for folder, each in zip(found["runs"], scores, strict=True)
    ]
    headings = [">n", ">q1", ">median", ">q3", ">diverged"]
    _table(["score", "run", *headings], rows)
    if len(found["settings"]) > 1:
        console.print(f"\n{found['score'].replace('_', ' ')} by setting", style="bold")
        rows = [
            [_setting(each["setting"]), folder, *_distribution(one)]
            for each in found["settings"]
            for folder, one in zip(found["runs"], each["runs"], strict=True)
            if one
        ]
        _table(["setting", "run", *headings], rows)


def _export_parser() -> Parser:
    examples = (
        "  modelspace runs export runs/seeds --to csv members.csv\n"
        "  modelspace runs export runs/seeds --to tensorboard runs/tb --members\n"
        "  modelspace runs export runs/seeds --to mlflow sqlite:///runs.db --to wandb my-project"
    )
    usage = "RUN --to TO PLACE [--to TO PLACE …] [--members] [--json]"
    parser = _parser("export", usage, _EXPORT, f"examples:\n{examples}")
    parser.add_argument("run", metavar="RUN", help="a run's folder")
    parser.add_argument(
        "--to",
        nargs=2,
        action="append",
        required=True,
        metavar=("TO", "PLACE"),
        help=f"{', '.join(TARGETS)}, and where",
    )
    parser.add_argument(
        "--members",
        action="store_true",
        help="to tensorboard: also one run a member, in its setting's folder",
    )
    return parser


def _export(options: argparse.Namespace) -> None:
    accounts.opened(Path(options.run))
    for to, place in options.to:
        check(to, place, members=options.members)
    for to, place in options.to:
        export(options.run, to, place, members=options.members)
        if not options.json:
            say(f"exported: {to} to {place}")
    if options.json:
        print_json({"run": options.run, "exported": [{"to": to, "place": place} for to, place in options.to]})


_Action = tuple[Callable[[argparse.Namespace], None], Callable[[], Parser]]
_ACTIONS: dict[str, _Action] = {
    "show": (_show, _show_parser),
    "compare": (_compare, _compare_parser),
    "export": (_export, _export_parser),
}


def _parser(name: str, usage: str, description: str, epilog: str) -> Parser:
    prog = f"modelspace runs {name}".rstrip()
    parser = Parser(
        prog=prog,
        usage=f"{prog} {usage}",
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add_json(parser)
    return parser


def _console() -> Terminal:
    """A terminal, or lines as long as they are."""
    return Terminal(width=None if sys.stdout.isatty() else 10_000)


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table; a heading that begins with ``>`` is of numbers."""
    table = Table(box=None, header_style="dim", pad_edge=False, padding=(0, 3, 0, 0))
    for heading in headings:
        table.add_column(
            heading.removeprefix(">"),
            justify="right" if heading.startswith(">") else "left",
            overflow="fold",
        )
    for row in rows:
        table.add_row(*row)
    _console().print(table)


def _distribution(found: Mapping[str, Any] | None) -> list[str]:
    if found is None:
        return ["–"] * 5
    return [
        f"{found['n']:,}",
        *(number(found[n]) for n in ("q1", "median", "q3")),
        str(found["diverged"]),
    ]


def _setting(columns: Mapping[str, Any]) -> str:
    return name_of(columns).replace(",", ", ") if columns else "all"


def _plain(value: Any) -> str:
    if value is None:
        return "–"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


VERBS = {"runs": Verb(USAGE, DESCRIPTION, EPILOG, _configure, _call)}
