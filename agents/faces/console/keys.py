"""The keys of the console, and what the help says of them."""

from __future__ import annotations

from textual.binding import Binding, BindingType

from agents.faces.console.showing import VIEWS

HELP = """\
1 to 9, F1 to F9   the views, in the order of the second line
up down PgUp PgDn Home End   move or scroll
enter   open, subscribe, ask        esc   back, stop an answer, clear
/       filter this view            9     search everywhere
s S r   sort nodes by the next or the last column; turn round
/write TEXT     in the chat: a long text, outlined by one node, written by many
/private FILE TEXT   the same, with a context that only this node reads
c       ask; ^r: how far a question may go; ^n: a new conversation
p       replay the request that is open
a       drain, resume, load, unload, policy, revoke (with a question first)
u       read names, requests and budget again
q ^q    leave; ^c stops an answer, or leaves

● alive  ◆ busy  ! unwell  ‖ draining  ◐ suspect  ✗ dead  ○ departed
Every state has a sign; the colours suit the colour-blind."""
BINDINGS: list[BindingType] = [
    *(Binding(str(i), f"view('{name}')", show=False) for i, name in enumerate(VIEWS, 1)),
    *(
        Binding(f"f{i}", f"view('{name}')", show=False, priority=True)
        for i, name in enumerate(VIEWS, 1)
    ),
    Binding("q,ctrl+q", "quit", show=False),
    Binding("ctrl+c", "interrupt", show=False, priority=True),
    Binding("question_mark", "help", show=False),
    Binding("slash", "filter", show=False),
    Binding("c", "view('chat')", show=False),
    Binding("s", "sort(1)", show=False),
    Binding("S", "sort(-1)", show=False),
    Binding("r", "reverse", show=False),
    Binding("ctrl+r", "reach", show=False, priority=True),
    Binding("ctrl+n", "fresh", show=False, priority=True),
    Binding("a", "act", show=False),
    Binding("p", "replay", show=False),
    Binding("u", "update", show=False),
    Binding("escape", "leave", show=False, priority=True),
    Binding("enter", "open", show=False),
    Binding("up,k", "move(-1)", show=False),
    Binding("down,j", "move(1)", show=False),
    Binding("pageup", "page(-1)", show=False),
    Binding("pagedown,space", "page(1)", show=False),
    Binding("home", "move(-1000000)", show=False),
    Binding("end", "move(1000000)", show=False),
]
