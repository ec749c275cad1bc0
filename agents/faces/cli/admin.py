"""``gossamer drain | resume | load | unload | policy``: administer this node, or another that
grants it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from agents.faces.cli.common import AsJson, State, guarded, with_agent
from agents.faces.show import GRACE_S, print_json

ORDER_S = 300.0  # a large model from a slow card takes minutes

Node = Annotated[
    str,
    typer.Option("--node", metavar="NAME", help="Another node, whose owner lets this one."),
]


def register(app: typer.Typer) -> None:
    """Add the five commands to the command line."""
    for name, command, example in (
        ("drain", drain, 'gossamer drain --node pi-kitchen --reason "a new power supply"'),
        ("resume", resume, "gossamer resume --node pi-kitchen"),
        ("load", load, "gossamer load builtin:arithmetic --node pi-kitchen"),
        ("unload", unload, "gossamer unload gossamer-arithmetic"),
        ("policy", policy, "gossamer policy predictive"),
    ):
        app.command(name, epilog=f"Example:  {example}")(command)


def drain(
    node: Node = "",
    reason: Annotated[str, typer.Option("--reason", help="Who is refused hears it.")] = "",
    state: State = None,
    as_json: AsJson = False,
) -> None:
    """Let a node finish what it works on and take nothing new, until resume. It stays
    drained when it is started again."""
    done = _run(state, "drain", {"node": node, "reason": reason}, as_json=as_json)
    if done:
        _say(f"{done['node']} takes nothing new; {_count(done['running'])} under way")


def resume(node: Node = "", state: State = None, as_json: AsJson = False) -> None:
    """Let a drained node take work again."""
    done = _run(state, "resume", {"node": node}, as_json=as_json)
    if done:
        _say(f"{done['node']} takes work again")


def load(
    model: Annotated[
        str, typer.Argument(help="builtin:NAME, a model of its configuration, or a GGUF file.")
    ],
    names: Annotated[
        list[str] | None,
        typer.Option("--name", metavar="NAME", help="What a file answers under; several times."),
    ] = None,
    node: Node = "",
    state: State = None,
    as_json: AsJson = False,
) -> None:
    """Load a model and offer its names. At another node: what ships, what its configuration names,
    or what was pulled there."""
    file = Path(model)
    if not node and file.is_file():
        model = str(file.resolve())
    done = _run(
        state, "load", {"node": node, "model": model, "names": names or []}, as_json=as_json
    )
    if done:
        _say(f"{done['node']} serves {', '.join(done['names'])} with {', '.join(done['models'])}")


def unload(
    model: Annotated[str, typer.Argument(help="A loaded model, or a name that it serves.")],
    node: Node = "",
    finish: Annotated[
        float,
        typer.Option("--finish", metavar="SECONDS", min=0, max=600, help="For what it works on."),
    ] = 60.0,
    state: State = None,
    as_json: AsJson = False,
) -> None:
    """Take a model's names away, let it finish, and give its memory back."""
    asked = {"node": node, "model": model, "finish_s": finish}
    done = _run(state, "unload", asked, as_json=as_json)
    if done:
        cut = f"; {_count(done['cut_off'])} cut off" if done["cut_off"] else ""
        _say(f"{done['node']} no longer serves {', '.join(done['names'])}{cut}")


def policy(
    name: Annotated[
        str,
        typer.Argument(
            help="The policy from now on; 'configured' for the configuration's; none asks.",
            show_default=False,
        ),
    ] = "",
    node: Node = "",
    state: State = None,
    as_json: AsJson = False,
) -> None:
    """Show or change how a node chooses among the nodes that it asks."""
    done = _run(state, "policy", {"node": node, "policy": name}, as_json=as_json)
    if done:
        _say(f"{done['node']} schedules by {done['policy']} (configured: {done['configured']})")
        if not name:
            _say(f"there are: {', '.join(done['known'])}")


def _run(state: Path | None, verb: str, args: dict[str, Any], *, as_json: bool) -> dict[str, Any]:
    """The result, printed as JSON where that is wished for: then nothing is left to say."""
    with guarded(as_json):
        done: dict[str, Any] = with_agent(
            state, lambda client: client.fetch(verb, args, silence_s=ORDER_S + GRACE_S)
        )
        if as_json:
            print_json(done)
            return {}
        return done


def _count(running: int) -> str:
    return "1 request is" if running == 1 else f"{running} requests are"


def _say(text: str) -> None:
    from agents.faces.sheets import printable

    sys.stdout.write(f"{printable(text)}\n")
