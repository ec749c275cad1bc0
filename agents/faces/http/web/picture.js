// The mesh as a picture: this agent in the middle, a line to each node; every state has its sign.

const SVG = "http://www.w3.org/2000/svg";
const LIT_MS = 1500; // how long a line stays lit after the work over it ended
const RING = 12; // nodes on one ring; more would cover one another's names
export const STATES = {
  alive: "●",
  busy: "◆",
  unwell: "!",
  draining: "‖",
  suspect: "◐",
  dead: "✗",
  departed: "○",
};

export function stateOf(peer) {
  if (peer.state !== "alive") return peer.state in STATES ? peer.state : "suspect";
  if (peer.draining) return "draining";
  if (!peer.healthy) return "unwell";
  return peer.inflight || peer.queued ? "busy" : "alive";
}

export class World {
  constructor() {
    this.peers = new Map();
    this.me = {};
    this.running = new Map(); // trace to the nodes that work on it, by step
    this.lit = new Map(); // name to the time it was last at work for us
    this.events = [];
    this.lost = 0;
  }

  get ordered() {
    return [...this.peers.values()].sort(
      (a, b) => Number(b.me) - Number(a.me) || a.name.localeCompare(b.name),
    );
  }

  take(event) {
    if (event.type === "mesh") {
      for (const peer of event.peers || []) this.peers.set(peer.node, peer);
      for (const node of event.gone || []) this.peers.delete(node);
    } else if (event.type === "self") {
      this.me = event;
    } else if (event.type === "event") {
      const why = event.why ? `: ${event.why}` : "";
      this.say(`${event.name} ${event.what}${why}`, event.at);
    } else if (event.type === "request") {
      this.#request(event);
    } else if (event.type === "span" && event.span?.node) {
      this.lit.set(event.span.node, Date.now());
    } else if (event.type === "lost") {
      this.lost += event.events;
    }
  }

  say(text, at) {
    this.events.unshift({ text, at: at || Date.now() / 1000 });
    this.events.length = Math.min(this.events.length, 8);
  }

  // A step of a request begins at a node, or is over there.
  step(trace, id, node, running) {
    const nodes = this.running.get(trace) || new Map();
    if (running) nodes.set(id, node);
    else if (nodes.delete(id)) this.lit.set(node, Date.now());
    this.running.set(trace, nodes);
  }

  over(trace) {
    for (const node of this.running.get(trace)?.values() || []) this.lit.set(node, Date.now());
    this.running.delete(trace);
  }

  isLit(name) {
    for (const nodes of this.running.values()) {
      for (const node of nodes.values()) if (node === name) return true;
    }
    return Date.now() - (this.lit.get(name) || 0) < LIT_MS;
  }

  #request(event) {
    const told = event.event;
    if (event.phase === "event" && told?.type === "step") {
      this.step(event.trace, told.step.id, told.step.node, told.step.status === "running");
    } else if (event.phase === "event" && told?.type === "asked") {
      this.step(event.trace, 0, told.node, true);
    } else if (event.phase === "end") {
      this.over(event.trace);
      const by = (event.nodes || []).join(", ") || "nobody";
      const took = event.elapsed_s >= 0 ? ` in ${event.elapsed_s.toFixed(2)} s` : "";
      this.say(event.error ? `a request ended: ${event.error}` : `answered by ${by}${took}`, event.at);
    }
  }
}

function made(name, attributes, text) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  return element;
}

function places(count) {
  const found = [];
  const rings = Math.ceil(count / RING);
  for (let ring = 0; ring < rings; ring += 1) {
    const here = Math.min(RING, count - ring * RING);
    const share = (rings - ring) / rings;
    for (let i = 0; i < here; i += 1) {
      const turn = (2 * Math.PI * (i + ring / 2)) / here - Math.PI / 2;
      found.push([200 + 155 * share * Math.cos(turn), 143 + 112 * share * Math.sin(turn)]);
    }
  }
  return found;
}

function shape(word, x, y, size) {
  const points = {
    busy: [[0, -1.25], [1.25, 0], [0, 1.25], [-1.25, 0]],
    unwell: [[0, -1.2], [1.2, 0.9], [-1.2, 0.9]],
    dead: [[-1, -1], [1, -1], [1, 1], [-1, 1]],
  }[word];
  if (!points) return made("circle", { class: "shape", cx: x, cy: y, r: size });
  const at = points.map(([dx, dy]) => `${x + dx * size},${y + dy * size}`).join(" ");
  return made("polygon", { class: "shape", points: at });
}

export function draw(svg, world) {
  const peers = world.ordered;
  const me = peers.find((peer) => peer.me);
  const others = peers.filter((peer) => !peer.me);
  const size = others.length > RING ? 8 : 13;
  const spots = places(others.length);
  const lines = [];
  const nodes = [];
  others.forEach((peer, i) => {
    const [x, y] = spots[i];
    if (peer.state !== "dead" && peer.state !== "departed") {
      const lit = world.isLit(peer.name) ? "lit" : peer.state === "suspect" ? "suspect" : "";
      lines.push(made("line", { x1: 200, y1: 143, x2: x, y2: y, class: lit, "data-to": peer.name }));
    }
    nodes.push(node(peer, x, y, size, others.length <= RING));
  });
  if (me) nodes.push(node(me, 200, 143, 16, true));
  svg.replaceChildren(...lines, ...nodes);
  const counts = {};
  for (const peer of peers) counts[stateOf(peer)] = (counts[stateOf(peer)] || 0) + 1;
  const told = Object.entries(counts).map(([word, count]) => `${count} ${word}`);
  svg.setAttribute("aria-label", `The mesh: ${told.join(", ") || "nothing known yet"}`);
}

function node(peer, x, y, size, words) {
  const word = stateOf(peer);
  const group = made("g", { class: word, "data-node": peer.name, "data-state": word });
  group.append(
    made("title", {}, `${peer.name}: ${word}${peer.note ? `, ${peer.note}` : ""}`),
    shape(word, x, y, size),
    made("text", { class: "sign", x, y }, STATES[word]),
  );
  if (words) {
    const load = peer.slots && peer.state === "alive" ? ` ${peer.inflight}/${peer.slots}` : "";
    group.append(
      made("text", { x, y: y + size + 12 }, peer.me ? `${peer.name} (here)` : peer.name),
      made("text", { class: "word", x, y: y + size + 22 }, word + load),
    );
  }
  return group;
}
