"""Forward passes over sequences that a caller names: layer segments' work, checks of drafts.

What is to be computed joins the steps of the batch scheduler. The commands of one sequence are
done in their order, so rows may be sent ahead and the question after them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from capabilities.slm import llama, protocol
from capabilities.slm.batching import Batcher, Job, Share
from capabilities.slm.capture import FINAL, Capture, layer_name
from capabilities.slm.engine import Emit, internal
from capabilities.slm.errors import BadRequest, ContextFull, Unsupported
from capabilities.slm.evidence import Rows
from capabilities.slm.sequences import Held, Table
from mesh.core.errors import DeadlineExceeded, GossamerError, ModelError, Rejected

MAX_LOGPROBS = 256  # of a row; sampling from a truncated distribution needs no more
LARGEST_HALF = 65_504.0  # of a half-precision number
# Bytes of a reply; a pair of token and log-probability takes about 16.
MAX_REPLY_BYTES = protocol.MAX_FRAME_BYTES // 2
PAIR_BYTES = 16

Ordered = (
    protocol.Forward | protocol.SaveSequence | protocol.RestoreSequence | protocol.DropSequence
)


@dataclass(slots=True)
class _Pass:
    """A forward pass under way."""

    command: protocol.Forward
    held: Held
    job: Job
    rows: llama.Floats | None  # what comes in, if it is not tokens
    hidden: list[llama.Floats] = field(default_factory=list)
    best: list[list[tuple[int, float]]] = field(default_factory=list)


class Forwards:
    """All open sequences of one engine and what is asked of them.

    ``make_room(cells)`` frees so many cells of the context, or says that it cannot; ``capture``
    is what lets hidden rows out of the context, if it was made with it.
    """

    def __init__(
        self,
        model: llama.Model,
        context: llama.Context,
        batcher: Batcher,
        table: Table,
        *,
        file_sha256: str,
        capture: Capture | None,
        make_room: Callable[[int], bool],
        clock: Callable[[], float],
    ) -> None:
        self._model = model
        self._context = context
        self._batcher = batcher
        self._table = table
        self._sha = file_sha256
        self._capture = capture
        self._make_room = make_room
        self._clock = clock
        self._lines: dict[str, deque[Ordered]] = {}
        self._arrived: dict[int, float] = {}
        self._passes: dict[int, _Pass] = {}

    def __contains__(self, request_id: int) -> bool:
        return request_id in self._arrived

    @property
    def waiting(self) -> int:
        """Commands that are not answered yet."""
        return len(self._arrived)

    @property
    def cells(self) -> int:
        """Context tokens that open sequences take."""
        return self._table.cells

    # --- commands

    def handle(self, command: Ordered, emit: Emit) -> None:
        """Put a command into its sequence's line; raises Rejected when too many wait."""
        if len(self._arrived) >= self._batcher.max_waiting:
            raise Rejected(f"{len(self._arrived)} commands for sequences already wait")
        self._arrived[command.id] = self._clock()
        self._lines.setdefault(command.sequence, deque()).append(command)
        self._pump(command.sequence, emit)

    def cancel(self, request_id: int, emit: Emit) -> None:
        """Forget a command; what a pass has computed so far is taken back."""
        one = self._passes.get(request_id)
        if one is not None:
            self._end(one, emit, whole=False)
            return
        for line in self._lines.values():
            for command in list(line):
                if command.id == request_id:
                    line.remove(command)
                    self._arrived.pop(request_id, None)

    def fail(self, request_id: int, error: GossamerError, emit: Emit) -> None:
        """End a pass with an error; its sequence is as before it."""
        emit(protocol.failed(request_id, error))
        self._end(self._passes[request_id], emit, whole=False)

    def expire(self, now: float, emit: Emit) -> None:
        """Fail what waits in a line beyond its deadline."""
        for line in self._lines.values():
            for command in list(line):
                if isinstance(command, protocol.Forward) and now >= self._deadline(command):
                    if command.id in self._passes:
                        continue  # the scheduler ends those
                    line.remove(command)
                    self._arrived.pop(command.id, None)
                    late = DeadlineExceeded("the deadline passed while the sequence was busy")
                    emit(protocol.failed(command.id, late))

    def give_way(self, cells: int) -> None:
        """Drop idle sequences until ``cells`` are free of them, or none is idle."""
        goal = self._table.cells - cells
        while self._table.cells > goal and (held := self._table.idle(self._clock())):
            self._drop(held.name)
            self._table.dropped += 1

    def _pump(self, name: str, emit: Emit) -> None:
        """Do what is next for a sequence, up to the next pass, which takes steps."""
        line = self._lines.get(name)
        while line:
            command = line[0]
            try:
                if isinstance(command, protocol.Forward):
                    self._start(command)
                    return
                emit(self._at_once(command))
            except GossamerError as error:
                emit(protocol.failed(command.id, error))
            except Exception as error:
                emit(protocol.failed(command.id, internal(error)))
            line.popleft()
            self._arrived.pop(command.id, None)
        self._lines.pop(name, None)

    def _at_once(
        self,
        command: protocol.SaveSequence | protocol.RestoreSequence | protocol.DropSequence,
    ) -> protocol.Reply:
        if isinstance(command, protocol.DropSequence):
            self._drop(command.sequence)
            return protocol.Held(id=command.id)
        if isinstance(command, protocol.RestoreSequence):
            held = self._restore(command.sequence, command.state)
            return protocol.Held(id=command.id, positions=held.length)
        held = self._table.get(command.sequence, self._clock())
        state = state_of(self._context, held.seat, self._sha, held.known, held.length)
        return protocol.State(id=command.id, state=state)

    def _drop(self, name: str) -> None:
        held = self._table.drop(name)
        if held is not None:
            self._context.forget(held.seat)

    def _open(self, name: str) -> Held:
        if self._table.full and (idle := self._table.idle(self._clock())):
            self._drop(idle.name)
            self._table.dropped += 1
        return self._table.open(name, self._clock())

    def _restore(self, name: str, state: protocol.SequenceState) -> Held:
        positions = state.positions or len(state.tokens)
        if state.model != self._sha:
            raise BadRequest("the sequence state was computed by another model")
        if state.tokens and len(state.tokens) != positions:
            raise BadRequest("the sequence state has another number of tokens than of positions")
        self._fits(positions)
        self._drop(name)
        self._need(positions)
        held = self._open(name)
        whole = self._context.restore(held.seat, state.data)
        if not whole or self._context.length(held.seat) != positions:
            self._drop(name)
            raise BadRequest("the sequence state is damaged", hint="send the sequence again")
        held.length, held.tokens = positions, list(state.tokens)
        return held

    def _fits(self, positions: int) -> None:
        room = min(self._batcher.sequence, self._batcher.cells)
        if positions > room:
            raise ContextFull(
                f"a sequence of {positions} positions, and the context holds {room}",
                hint="send less, or raise context_tokens",
            )

    def _need(self, cells: int) -> None:
        if cells > 0 and not self._make_room(cells):
            raise Rejected(
                f"the context has no {cells} cells free now",
                hint="try again later, drop or save idle sequences, or raise context_tokens",
            )

    # --- passes

    def _deadline(self, command: protocol.Forward) -> float:
        if command.timeout_s <= 0:
            return float("inf")
        return self._arrived[command.id] + command.timeout_s

    def _start(self, command: protocol.Forward) -> None:
        rows = self._check(command)
        now = self._clock()
        count = len(command.tokens) if rows is None else len(rows)
        self._fits(command.position + count)
        source = self._table.get(command.fork, now) if command.fork else None
        is_new = command.sequence not in self._table and (source or not command.position)
        held = self._open(command.sequence) if is_new else self._table.get(command.sequence, now)
        held.busy = True
        try:
            self._begin(held, source, command.position)
            self._need(count)
        except BaseException:
            held.busy = False
            if not held.length:
                self._drop(held.name)
            raise
        job = self._batcher.forward(
            command.id,
            count,
            base=command.position,
            slot=held.seat,
            all_rows=command.all_rows and bool(command.logprobs or command.want_rows),
            priority=command.priority,
            deadline=self._deadline(command),
        )
        # Its cells are spoken for from now on, whoever asks for room meanwhile.
        held.length = command.position + count
        held.tokens = held.tokens[: command.position] + command.tokens
        self._passes[command.id] = _Pass(command, held, job, rows)

    def _begin(self, held: Held, source: Held | None, position: int) -> None:
        """Bring a sequence to exactly ``position`` positions."""
        if source is not None:
            if position > source.length or source is held:
                raise BadRequest(f"a fork at {position} of a sequence of {source.length}")
            if source.busy:
                raise Rejected(
                    f"the sequence {source.name[:40]!r} is being computed",
                    hint="fork it after its answer",
                )
            self._context.forget(held.seat)
            held.cut(0)
            self._need(position)
            self._context.copy(source.seat, held.seat, 0, position)
            held.length, held.tokens = position, source.tokens[:position]
            return
        if position > held.length:
            raise BadRequest(
                f"position {position} of a sequence that has {held.length}",
                hint="send what lies between first",
            )
        if position < held.length:
            if not self._context.forget(held.seat, position):
                raise Unsupported("this model cannot go back within a sequence", hint="begin at 0")
            held.cut(position)

    def _check(self, command: protocol.Forward) -> llama.Floats | None:
        """The hidden rows that come in, if any; raises BadRequest or Unsupported."""
        layers, width = self._model.layers, self._model.width
        if bool(command.tokens) == (command.rows is not None and command.rows.rows > 0):
            raise BadRequest("a forward pass takes either tokens or hidden rows")
        if command.position < 0:
            raise BadRequest("a position is 0 or more")
        if command.dtype not in ("f32", "f16"):
            raise BadRequest(f"hidden rows come as f32 or f16, not {command.dtype[:20]!r}")
        if not -1 <= command.layer < layers:
            raise BadRequest(f"layer {command.layer} of a model of {layers}; -1 is the final norm")
        if not 0 <= command.logprobs <= min(MAX_LOGPROBS, self._model.vocab.size):
            raise BadRequest(f"logprobs are 0 to {MAX_LOGPROBS}, and no more than the vocabulary")
        if command.want_rows and self._capture is None:
            raise Unsupported(
                "this worker was loaded without capture and hands out no hidden rows",
                hint="load the model with capture",
            )
        if not all(0 <= token < self._model.vocab.size for token in command.tokens):
            raise BadRequest("a token that is not of this model's vocabulary")
        count = len(command.tokens) or (command.rows.rows if command.rows else 0)
        out = count if command.all_rows else 1
        size = command.logprobs * PAIR_BYTES + (4 * width if command.want_rows else 0)
        if out * size > MAX_REPLY_BYTES:
            raise BadRequest(
                f"an answer of {out * size} bytes; it may have {MAX_REPLY_BYTES}",
                hint="send fewer positions at once",
            )
        if command.rows is None:
            return None
        if command.rows.width != width:
            raise BadRequest(f"rows of {command.rows.width} numbers; this model takes {width}")
        kind = "<f2" if command.rows.dtype == "f16" else "<f4"
        rows = np.frombuffer(command.rows.data, dtype=kind).astype(np.float32).reshape(-1, width)
        if not np.isfinite(rows).all():
            raise BadRequest("hidden rows that are no numbers", hint="they may have overflowed")
        return rows

    # --- steps

    def takes_rows(self, share: Share) -> bool:
        """Whether a share is hidden rows, which go into a decode of their own."""
        return self._passes[share.job.key].rows is not None

    def wants_logits(self, share: Share) -> int:
        """How many best tokens a share's rows of output are asked for."""
        return self._passes[share.job.key].command.logprobs if share.outputs else 0

    def add(self, batch: llama.Batch, share: Share) -> None:
        """Append a share to a batch of its kind."""
        one = self._passes[share.job.key]
        begin, end = share.job.fed, share.job.fed + share.count
        where = share.position, share.job.slot
        if one.rows is None:
            batch.add(one.command.tokens[begin:end], *where, outputs=share.outputs)
        elif isinstance(batch, llama.RowBatch):
            batch.add_rows(one.rows[begin:end], *where, outputs=share.outputs)

    def arm(self, shares: Sequence[Share]) -> None:
        """Before a step: say which rows to copy from it."""
        if self._capture is None:
            return
        mine = [share for share in shares if share.job.forward and share.outputs]
        names = {
            name for share in mine if (name := self._name(self._passes[share.job.key].command))
        }
        logits = len(mine) < sum(share.outputs > 0 for share in shares)
        logits |= any(map(self.wants_logits, mine))
        last = layer_name(self._model.layers - 1)
        # Nobody wants logits: the output matrix, the largest of a small model, is spared. All
        # layers are computed, since each keeps keys and values for later.
        stop = FINAL if FINAL in names else last
        if names and not logits:
            self._capture.arm(names | {stop}, last=stop)
        else:
            self._capture.arm(names)

    def collect(
        self, share: Share, best: Rows | None, first: int, spans: tuple[int, int, int, int]
    ) -> None:
        """Take a share's outputs: rows ``first`` and up of ``best``, and what was captured.

        ``spans``: its first token and its first output in the step, and how many the step had.
        """
        one = self._passes[share.job.key]
        if not share.outputs:
            return
        if best is not None and one.command.logprobs:
            for row in range(first, first + share.outputs):
                tokens = best.best[row, : one.command.logprobs]
                one.best.append([(int(t), best.logprob(row, int(t))) for t in tokens])
        name = self._name(one.command)
        if name and self._capture is not None:
            at, output, tokens_all, outputs_all = spans
            found = self._capture.rows(name, self._model.width)
            if found is not None and len(found) == tokens_all:
                begin = at + share.count - share.outputs
            elif found is not None and len(found) == outputs_all:
                begin = output
            else:
                raise Unsupported("this architecture does not let hidden rows out")
            assert found is not None
            one.hidden.append(found[begin : begin + share.outputs].copy())

    def finish(self, share: Share, emit: Emit) -> None:
        """After the share is counted: answer if it was the last of its pass."""
        one = self._passes[share.job.key]
        if one.job.generating:
            block = None
            if one.hidden:
                block = _block(np.concatenate(one.hidden), one.command.dtype)
            positions = one.job.base + one.job.prompt
            emit(
                protocol.Forwarded(
                    id=one.command.id, rows=block, logprobs=one.best, positions=positions
                )
            )
            self._end(one, emit, whole=True)

    def _name(self, command: protocol.Forward) -> str:
        if not command.want_rows:
            return ""
        return FINAL if command.layer < 0 else layer_name(command.layer)

    def _end(self, one: _Pass, emit: Emit, *, whole: bool) -> None:
        key, held = one.command.id, one.held
        self._batcher.leave(key)
        del self._passes[key]
        self._arrived.pop(key, None)
        held.busy, held.used_at = False, self._clock()
        if not whole:
            if self._context.forget(held.seat, one.job.base):
                held.cut(one.job.base)
            else:
                self._drop(held.name)
        line = self._lines[held.name]
        line.popleft()
        self._pump(held.name, emit)


def state_of(
    context: llama.Context, seat: int, model: str, tokens: list[int], positions: int
) -> protocol.SequenceState:
    """What a sequence of the context remembers; raises ModelError when it cannot travel."""
    size = context.state_bytes(seat)
    if size > protocol.MAX_FRAME_BYTES // 2:
        raise ModelError(f"the sequence state has {size} bytes, too many to hand over")
    data = context.save(seat)
    return protocol.SequenceState(model=model, tokens=tokens, data=data, positions=positions)


def _block(rows: llama.Floats, dtype: str) -> protocol.Block:
    """Rows as they travel; in single precision where half would overflow."""
    half = dtype == "f16" and bool((np.abs(rows) <= LARGEST_HALF).all())
    data = rows.astype("<f2" if half else "<f4").tobytes()
    count, width = rows.shape
    return protocol.Block(rows=count, width=width, dtype="f16" if half else "f32", data=data)
