"""The commands, one short function each; what they do stands in the modules that they call."""

from __future__ import annotations

import enum
import sys
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from agents.faces.cli import admission
from agents.faces.cli.access import access_app
from agents.faces.cli.admin import register as register_admin
from agents.faces.cli.audit import register as register_audit
from agents.faces.cli.boards import board_app
from agents.faces.cli.budget import register as register_budget
from agents.faces.cli.common import (
    EXIT_FAILED,
    AsJson,
    KeptState,
    State,
    Timeout,
    fetch,
    guarded,
    with_agent,
)
from agents.faces.cli.data import register as register_data
from agents.faces.cli.deploy import register as register_deploy
from agents.faces.cli.escalation import register as register_escalation
from agents.faces.cli.feedback import register as register_feedback
from agents.faces.cli.knowledge import register as register_knowledge
from agents.faces.cli.ledger import register as register_ledger
from agents.faces.cli.mcp import register as register_mcp
from agents.faces.cli.meshes import mesh_app
from agents.faces.cli.models import register as register_models
from agents.faces.cli.order import Ordered
from agents.faces.cli.sensors import sensors_app
from agents.faces.cli.simulate import register as register_simulate
from agents.faces.cli.sums import register as register_sums
from agents.faces.cli.watching import register as register_watching
from agents.faces.cli.web import register as register_web
from agents.faces.cli.writing import register as register_writing
from agents.faces.show import ASK_TIMEOUT_S, print_json
from agents.views import EndpointView, NameView
from mesh.core.names import check_pattern, parse_address

app = typer.Typer(
    cls=Ordered,
    name="gossamer",
    help="A peer-to-peer mesh of small language models.\n\n"
    "Begin with:  gossamer demo\n\n"
    "Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(mesh_app, name="mesh")
app.add_typer(access_app, name="access")
app.add_typer(board_app, name="board")
app.add_typer(sensors_app, name="sensors")
admission.register(app)
register_admin(app)
register_audit(app)
register_budget(app)
register_data(app)
register_deploy(app)
register_escalation(app)
register_feedback(app)
register_ledger(app)
register_mcp(app)
register_knowledge(app)
register_simulate(app)
register_sums(app)
register_models(app)
register_watching(app)
register_web(app)
register_writing(app)


class ReachName(enum.StrEnum):
    """How far a question may travel."""

    NODE = "node"
    GROUP = "group"
    MESH = "mesh"
    CLOUD = "cloud"


class ObjectiveName(enum.StrEnum):
    """What a question wants most."""

    LATENCY = "latency"
    ACCURACY = "accuracy"
    RESOURCES = "resources"


class SupervisorName(enum.StrEnum):
    """Who writes the readers' tasks: rules, the general model, or a cloud's."""

    RULES = "rules"
    MODEL = "model"
    CLOUD = "cloud"


def _example(*lines: str) -> str:
    return "\n\n".join(f"Example:  {line}" for line in lines)


@app.command(epilog=_example("gossamer demo", 'gossamer demo --once --json "What is 48 * 27?"'))
def demo(
    question: Annotated[
        str | None, typer.Argument(help="With --once: the question.", show_default=False)
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="Ask one question and leave.")] = False,
    nodes: Annotated[int, typer.Option("--nodes", min=2, max=16, help="How many agents.")] = 4,
    state: KeptState = None,
    as_json: AsJson = False,
) -> None:
    """Start a mesh of agents on this machine and ask it. Ctrl-C or /quit ends all of them."""
    if once != bool(question and question.strip()):
        raise typer.BadParameter('one question goes with --once: gossamer demo --once "QUESTION"')
    with guarded(as_json):
        from agents.faces import demo as demonstration

        code = demonstration.run(once=question, as_json=as_json, nodes=nodes, state=state)
    raise typer.Exit(code)


@app.command(epilog=_example("gossamer up --config gossamer.toml"))
def up(
    config: Annotated[
        Path,
        typer.Option(
            "--config",
            metavar="FILE",
            help="The agent's configuration.",
            exists=True,
            dir_okay=False,
        ),
    ],
    state: KeptState = None,
    as_json: AsJson = False,
) -> None:
    """Run one agent of a mesh until it is stopped."""
    with guarded(as_json):
        from agents.faces import up as running

        code = running.run(config, state=state, as_json=as_json)
    raise typer.Exit(code)


@app.command(
    epilog=_example(
        'gossamer ask "What is 48 * 27?"',
        'gossamer ask "What is a mesh?" --reach node --json',
        'gossamer ask "Plan a week in Rome." --allow-cloud',
        'gossamer ask "What is 48 * 27?" --policy predictive --objective resources',
        'gossamer ask --document report.txt "When was pump-7 repaired?"',
        "gossamer ask  (without a question, on a terminal, it opens a prompt)",
    )
)
def ask(
    question: Annotated[
        str | None, typer.Argument(help="The question; without one, a prompt.", show_default=False)
    ] = None,
    reach: Annotated[
        ReachName, typer.Option("--reach", help="How far the question may travel.")
    ] = ReachName.MESH,
    allow_cloud: Annotated[
        bool,
        typer.Option("--allow-cloud", help="Where the mesh cannot, ask the cloud (--reach cloud)."),
    ] = False,
    policy: Annotated[
        str, typer.Option("--policy", metavar="NAME", help="Schedule this one by another policy.")
    ] = "",
    objective: Annotated[
        ObjectiveName, typer.Option("--objective", help="What matters most for this one.")
    ] = ObjectiveName.LATENCY,
    language: Annotated[
        str, typer.Option("--language", metavar="TAG", help="Only who answers in it, such as de.")
    ] = "",
    max_age: Annotated[
        float, typer.Option("--max-age", min=0.0, help="Only data this fresh, in seconds; 0: any.")
    ] = 0.0,
    min_accuracy: Annotated[
        float,
        typer.Option("--min-accuracy", min=0.0, max=1.0, help="Not who measured less for itself."),
    ] = 0.0,
    to: Annotated[
        list[str] | None,
        typer.Option("--to", metavar="NODE", help="Give it to no other nodes; may be repeated."),
    ] = None,
    document: Annotated[
        Path | None,
        typer.Option(
            "--document",
            metavar="FILE",
            help="Ask about this text: peers read it piece by piece, and cite.",
            exists=True,
            dir_okay=False,
            show_default=False,
        ),
    ] = None,
    supervisor: Annotated[
        SupervisorName,
        typer.Option("--supervisor", help="With --document: who says what to look for."),
    ] = SupervisorName.RULES,
    timeout: Timeout = ASK_TIMEOUT_S,
    state: State = None,
    as_json: AsJson = False,
) -> None:
    """Ask the mesh; the right expert answers, and its route is shown."""
    if allow_cloud:
        if reach not in {ReachName.MESH, ReachName.CLOUD}:
            raise typer.BadParameter(f"--allow-cloud does not go with --reach {reach.value}")
        reach = ReachName.CLOUD
    with guarded(as_json):
        if question is None and not sys.stdin.isatty():
            question = sys.stdin.read()
        if question is not None and not question.strip():
            raise typer.BadParameter("the question is empty")
        if document is not None:
            from agents.faces.cli.documents import DocumentQuestion, ask_document

            if question is None:
                raise typer.BadParameter("--document goes with a question")
            asked = DocumentQuestion(
                path=document,
                question=question,
                reach=reach.value,
                timeout_s=timeout,
                supervisor=supervisor.value,
                objective=objective.value,
            )
            code = with_agent(state, lambda client: ask_document(client, asked, as_json=as_json))
        elif question is None:
            from agents.faces.prompt import interact

            code = with_agent(
                state, lambda client: interact(client, timeout_s=timeout, reach=reach.value)
            )
        else:
            from agents.faces.cli import talk

            code = with_agent(
                state,
                lambda client: talk.ask(
                    client,
                    question,
                    reach.value,
                    timeout,
                    as_json=as_json,
                    policy=policy,
                    objective=objective.value,
                    wishes=talk.wishes(language, max_age, min_accuracy, to or []),
                ),
            )
    raise typer.Exit(code)


@app.command(epilog=_example("gossamer peers", "gossamer peers --json"))
def peers(state: State = None, as_json: AsJson = False) -> None:
    """Show who is in the mesh, how they are and what they offer."""
    with guarded(as_json):
        found = fetch(state, "peers")
        if as_json:
            print_json(found)
            return
        from agents.faces.show import show_peers

        show_peers(found)


@app.command(epilog=_example("gossamer names", "gossamer names 'knowledge.gpt/**'"))
def names(
    pattern: Annotated[
        str | None,
        typer.Argument(help="Only names like this: * is one segment, ** any.", show_default=False),
    ] = None,
    state: State = None,
    as_json: AsJson = False,
) -> None:
    """Show the names that the mesh offers, and who offers them."""
    with guarded(as_json):
        args = {"pattern": check_pattern(pattern)} if pattern else {}
        found = fetch(state, "names", args)
        if as_json:
            print_json(found)
            return
        from agents.faces.sheets import console, names_sheet, show_sheet

        show_sheet(names_sheet(msgspec.convert(found, list[NameView])), console())


@app.command(epilog=_example("gossamer resolve knowledge.gpt/arithmetic"))
def resolve(
    name: Annotated[str, typer.Argument(help="A name, or name@node.", show_default=False)],
    state: State = None,
    as_json: AsJson = False,
) -> None:
    """Show which nodes would answer a name, best first, and by which rule."""
    with guarded(as_json):
        parse_address(name)
        found = fetch(state, "resolve", {"name": name})
        if as_json:
            print_json(found)
            return
        from agents.faces.sheets import console, endpoints_sheet, printable, show_sheet

        out = console()
        show_sheet(endpoints_sheet(msgspec.convert(found["endpoints"], list[EndpointView])), out)
        if decision := found.get("decision"):
            text = decision if isinstance(decision, str) else msgspec.json.encode(decision).decode()
            console(stderr=True).print(printable(text), style="dim", soft_wrap=True)


@app.command(
    epilog=_example(
        'gossamer call knowledge.gpt/arithmetic "What is 48 * 27?"',
        'gossamer call knowledge.gpt/arithmetic@oak "7 + 5" --json',
        "gossamer call data.gpt/room/raw --count 10",
    )
)
def call(
    name: Annotated[str, typer.Argument(help="A name, or name@node.", show_default=False)],
    body: Annotated[
        str | None,
        typer.Argument(help="The text; without it, standard input.", show_default=False),
    ] = None,
    count: Annotated[
        int, typer.Option("--count", min=0, help="Leave after so many messages (0: never).")
    ] = 0,
    timeout: Timeout = ASK_TIMEOUT_S,
    state: State = None,
    as_json: AsJson = False,
) -> None:
    """Call one name directly, without planning; for data it prints messages as they come."""
    with guarded(as_json):
        from agents.faces.cli import talk

        parse_address(name)
        if body is None:
            body = "" if sys.stdin.isatty() else sys.stdin.read()
        options = talk.CallOptions(name, body, timeout, count)
        code = with_agent(state, lambda client: talk.call(client, options, as_json=as_json))
    raise typer.Exit(code)


@app.command(
    epilog=_example("gossamer status", "gossamer status --json", "gossamer status --watch")
)
def status(
    watch: Annotated[bool, typer.Option("--watch", help="Go on and tell what happens.")] = False,
    state: State = None,
    as_json: AsJson = False,
) -> None:
    """Show the agent itself: its name, mesh, age, and everything that it counts.

    With --watch it goes on with a line for each thing that happens: nodes that join, are suspect,
    die; requests and their ends. With --json that is one event of the feed a line.
    """
    with guarded(as_json):
        if watch:
            from agents.faces.cli.watching import watch_status

            watch_status(state, as_json=as_json)
            return
        found: dict[str, Any] = fetch(state, "status")
        if as_json:
            print_json(found)
            return
        from agents.faces.console.paper import PIPE_WIDTH
        from agents.faces.sheets import console, printable
        from agents.faces.statement import lines_of, statement

        out = console()
        pairs = [(word, printable(said)) for word, said in statement(found)]
        for line in lines_of(pairs, out.width if out.is_terminal else PIPE_WIDTH):
            sys.stdout.write(f"{line}\n")


@app.command(epilog=_example("gossamer doctor", "gossamer doctor --json"))
def doctor(state: State = None, as_json: AsJson = False) -> None:
    """Say what this machine has, what is missing and what to do about it."""
    with guarded(as_json):
        from agents.boards.checks import healthy
        from agents.boards.doctor import examine
        from agents.faces.sheets import checks_sheet, console, printable, show_sheet

        checks = examine(state)
        if as_json:
            print_json({"ok": healthy(checks), "checks": checks})
        else:
            out = console()
            show_sheet(checks_sheet((c.name, c.status, c.value) for c in checks), out)
            for check in checks:
                if check.advice:
                    out.print(printable(f"{check.name}: {check.advice}"), soft_wrap=True)
    raise typer.Exit(0 if healthy(checks) else EXIT_FAILED)


@app.command(epilog=_example("gossamer version"))
def version(as_json: AsJson = False) -> None:
    """Show the version of Gossamer and of what it stands on."""
    with guarded(as_json):
        import platform

        from agents.faces.control import version as own
        from mesh.core.wire import VERSION

        found = {"gossamer": own(), "wire": VERSION, "python": platform.python_version()}
        if as_json:
            print_json(found)
            return
        sys.stdout.write("".join(f"{key} {value}\n" for key, value in found.items()))
