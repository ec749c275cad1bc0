// A conversation: each answer as it comes, under it the way that it takes, whose words are whose.

import { events, Trouble } from "/web/feed.js";

const KEPT = "gossamer.chat";
const MAX_HISTORY = 16; // turns that go along; models of the mesh have small contexts
const SIGNS = { waiting: "·", running: "▶", ok: "✓", failed: "✗", skipped: "○" };
const TONES = 6;

function made(name, className, text) {
  const element = document.createElement(name);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

class Turn {
  constructor(list, question, tone) {
    this.steps = new Map();
    this.tone = tone;
    this.answer = null;
    this.trouble = null;
    this.root = made("li");
    this.text = made("div", "answer");
    this.thinking = made("p", "thinking");
    this.route = made("ol", "route");
    this.route.setAttribute("aria-label", "The way of the answer");
    this.sum = made("p", "hint");
    this.root.append(made("p", "asked", question), this.text, this.thinking, this.route, this.sum);
    list.append(this.root);
  }

  part(id) {
    if (!this.steps.has(id)) {
      const view = { id, name: "", node: "", status: "running", attempts: [] };
      this.steps.set(id, { view, text: "", said: [], thought: 0, tokens: 0, lost: [] });
    }
    return this.steps.get(id);
  }

  know(step) {
    const part = this.part(step.id);
    const before = part.view;
    part.view = { ...step, question: step.question || before.question };
  }

  take(event) {
    if (event.type === "plan") event.steps.forEach((step) => this.know(step));
    else if (event.type === "step") this.know(event.step);
    else if (event.type === "delta") {
      const part = this.part(event.step);
      if (event.thinking) part.thought += event.tokens;
      else {
        part.text += event.text;
        if (event.by || part.said.length) part.said.push([event.by || "", event.text]);
        part.tokens += event.tokens;
      }
    } else if (event.type === "retry") {
      const part = this.part(event.step);
      part.lost.push(`${part.view.node || "a node"}${event.reason ? `: ${event.reason}` : ""}`);
      Object.assign(part, { text: "", said: [], tokens: 0, thought: 0 });
    } else if (event.type === "answer") {
      this.answer = event.answer;
      event.answer.steps.forEach((step) => this.know(step));
    } else if (event.type === "error") {
      this.trouble = new Trouble(event.message, event);
    }
  }

  pieces() {
    const parts = [...this.steps.values()].sort((a, b) => a.view.id - b.view.id);
    const answer = this.answer;
    if (answer?.statements?.length) {
      return answer.statements.map((said) => [said.text, said.node]);
    }
    if (answer) {
      const alone = parts.length === 1 ? parts[0].view.node : "";
      return [[answer.text, alone]];
    }
    return parts.filter((part) => part.text).map((part) => [part.text, part.view.node]);
  }

  draw() {
    const pieces = this.pieces().map(([text, node]) => {
      const piece = made("span", `piece ${node ? this.tone(node) : ""}`);
      if (node) piece.append(made("span", "who", node));
      piece.append(...this.byToken(text));
      return piece;
    });
    this.text.replaceChildren(...pieces);
    const thought = [...this.steps.values()].reduce((sum, part) => sum + part.thought, 0);
    const quiet = !pieces.length && !this.trouble;
    this.thinking.textContent = quiet ? (thought ? `thinking, ${thought} tokens …` : "…") : "";
    const parts = [...this.steps.values()].sort((a, b) => a.view.id - b.view.id);
    this.route.replaceChildren(...parts.map((part) => this.step(part)));
    this.end();
  }

  // Where one answer was made on two machines: each token in the colour of who made it.
  byToken(text) {
    const part = this.steps.size === 1 ? [...this.steps.values()][0] : null;
    const whole = part?.said.map(([, piece]) => piece).join("");
    if (!part?.said.length || whole.trim() !== text.trim()) return [text];
    const makers = [...new Set(part.said.map(([by]) => by).filter(Boolean))];
    const tone = (by) => (by ? `token n${makers.indexOf(by) % TONES}` : "token");
    const pieces = part.said.map(([by, piece]) => {
      const token = made("span", tone(by), piece);
      if (by) token.title = by;
      return token;
    });
    const legend = made("span", "hint", "\ntokens by ");
    legend.append(...makers.map((by) => made("span", tone(by), `${by} `)));
    return [...pieces, legend];
  }

  step(part) {
    const { view } = part;
    const item = made("li");
    item.dataset.status = view.status;
    item.dataset.node = view.node;
    item.append(`${SIGNS[view.status] || "·"} ${view.name || "looking for who can answer"}`);
    if (view.node) item.append(" on ", made("span", `on ${this.tone(view.node)}`, view.node));
    const facts = [];
    const tokens = view.tokens || part.tokens;
    if (tokens) facts.push(`${tokens} tokens`);
    if (part.thought && !view.tokens) facts.push(`${part.thought} thought`);
    if (view.elapsed_s > 0) facts.push(`${view.elapsed_s.toFixed(2)} s`);
    if (view.confidence >= 0 && view.status === "ok") {
      facts.push(`${Math.round(view.confidence * 100)} % sure`);
    }
    if (facts.length) item.append(`, ${facts.join(", ")}`);
    const more = [];
    if (this.steps.size > 1 && view.question) more.push(view.question);
    const tried = part.lost.length ? part.lost : (view.attempts || []).slice(0, -1);
    if (tried.length) more.push(`not by ${tried.join("; ")}`);
    for (const rung of this.rungs(view.id)) more.push(rung);
    if (view.note) more.push(view.note);
    if (view.halves) more.push(`two machines: ${this.halves(view)}`);
    if (view.cloud) {
      const paid = view.cloud;
      more.push(`${paid.provider} ${paid.model}: ${paid.cost.toFixed(6)} ${paid.currency}, ${paid.why}`);
    }
    for (const text of more) item.append(made("span", "more", text));
    if (view.error) item.append(made("span", "more wrong", view.error));
    return item;
  }

  halves(view) {
    const noted = (this.answer?.decisions || []).filter(
      (one) => one.step === view.id && one.rule === "two machines",
    );
    const counts = Object.entries(view.halves.said_by || {}).map(([by, n]) => `${by}: ${n}`);
    return noted.length ? noted.at(-1).action : `said by ${counts.join(", ")}`;
  }

  rungs(step) {
    return (this.answer?.decisions || [])
      .filter((one) => one.step === step && String(one.rule).startsWith("escalation."))
      .filter((one) => /^(take|stop)/.test(String(one.action)))
      .map((one) => `${String(one.rule).replace("escalation.", "")}: ${one.action}`);
  }

  end() {
    const { answer, trouble } = this;
    this.sum.replaceChildren();
    if (trouble || answer) this.root.dataset.over = trouble ? "wrong" : "ok";
    if (trouble) {
      this.sum.append(made("span", "wrong", `✗ ${trouble.message} `), trouble.hint || "");
    } else if (answer) {
      const by = answer.nodes.join(", ") || "nobody";
      const tokens = answer.steps.reduce((sum, step) => sum + (step.tokens || 0), 0);
      const paid = answer.steps.find((step) => step.cloud)?.cloud.currency || "";
      const cost = answer.cost ? `${answer.cost.toFixed(6)} ${paid}` : "no cost";
      this.sum.append(`by ${by}, ${tokens} tokens, ${answer.elapsed_s.toFixed(2)} s, ${cost}`);
      for (const note of answer.notes) this.sum.append(made("span", "more", ` ${note}`));
      if (answer.degraded) {
        const missing = answer.missing.length ? `: ${answer.missing.join("; ")}` : "";
        this.sum.append(made("span", "care", ` ! degraded${missing}`));
      }
      if (!this.root.querySelector("details")) this.root.append(this.decisions());
    }
  }

  decisions() {
    const details = made("details");
    details.append(made("summary", "", "Every decision"));
    const lines = (this.answer.decisions || []).map((one) => {
      const score = one.score === undefined ? "" : ` (${one.score} against ${one.threshold})`;
      return `${one.rule}: ${one.action}${score}`;
    });
    details.append(made("pre", "", `trace ${this.answer.trace}\n${lines.join("\n")}`));
    return details;
  }
}

export class Chat {
  constructor(list, world, changed) {
    this.list = list;
    this.world = world;
    this.changed = changed;
    this.history = [];
    this.tones = new Map();
    this.stopped = null;
    try {
      const kept = JSON.parse(sessionStorage.getItem(KEPT) || "[]");
      for (const { question, answer } of kept) this.#shown(question, answer);
      this.kept = kept;
    } catch {
      this.kept = [];
    }
  }

  get busy() {
    return this.stopped !== null;
  }

  tone = (node) => {
    if (!this.tones.has(node)) this.tones.set(node, `n${this.tones.size % TONES}`);
    return this.tones.get(node);
  };

  #shown(question, answer) {
    const turn = new Turn(this.list, question, this.tone);
    turn.take({ type: "answer", answer });
    turn.draw();
    this.#remember(question, answer);
  }

  #remember(question, answer) {
    this.history.push({ role: "user", content: question });
    this.history.push({ role: "assistant", content: answer.text });
  }

  fresh() {
    this.stop();
    this.history = [];
    this.kept = [];
    sessionStorage.removeItem(KEPT);
    this.list.replaceChildren();
  }

  stop() {
    this.stopped?.abort();
  }

  async ask(question, reach) {
    const turn = new Turn(this.list, question, this.tone);
    const stopped = (this.stopped = new AbortController());
    const mark = `chat ${Math.random()}`;
    const paint = painter(() => turn.draw());
    const body = JSON.stringify({ question, reach, history: this.history.slice(-MAX_HISTORY) });
    const headers = { "content-type": "application/json" };
    this.changed();
    try {
      const options = { method: "POST", headers, body, signal: stopped.signal };
      for await (const event of events("/web/api/ask", options)) {
        turn.take(event);
        if (event.type === "step") {
          const { id, node, status } = event.step;
          this.world.step(mark, id, node, status === "running");
          this.changed();
        }
        paint();
      }
      if (!turn.answer && !turn.trouble) turn.trouble = new Trouble("The agent ended it without an answer.");
    } catch (error) {
      turn.trouble = error instanceof Trouble ? error : new Trouble("stopped");
      if (!(error instanceof Trouble) && error.name !== "AbortError") console.error(error);
    }
    this.stopped = null;
    this.world.over(mark);
    if (turn.answer) {
      this.#remember(question, turn.answer);
      this.kept = [...this.kept, { question, answer: turn.answer }].slice(-MAX_HISTORY / 2);
      try {
        sessionStorage.setItem(KEPT, JSON.stringify(this.kept));
      } catch {
        // no room or not allowed: the conversation is on the page all the same
      }
    }
    turn.draw();
    this.changed();
    return turn.trouble;
  }
}

// Calls back at most once a frame, or soon where frames are not drawn (a tab in the background).
export function painter(draw) {
  let due = false;
  return () => {
    if (due) return;
    due = true;
    const run = () => {
      due = false;
      draw();
    };
    if (document.hidden) setTimeout(run, 200);
    else requestAnimationFrame(run);
  };
}
