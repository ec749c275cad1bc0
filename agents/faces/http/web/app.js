// The page: the feed to the picture and the table, the form to the conversation.

import { Chat, painter } from "/web/chat.js";
import { fetched, follow, key } from "/web/feed.js";
import { Manage } from "/web/manage.js";
import { draw, stateOf, STATES, World } from "/web/picture.js";

const $ = (id) => document.getElementById(id);
const MAX_EXAMPLES = 4;
const LOOK_MS = 1000;
const world = new World();
const manage = new Manage(world);
let connected = false;
let exampled = false;

function cell(text, className) {
  const found = document.createElement("td");
  found.textContent = text;
  if (className) found.className = className;
  return found;
}

function row(peer) {
  const word = stateOf(peer);
  const line = document.createElement("tr");
  line.className = word;
  line.dataset.node = peer.name;
  line.dataset.state = word;
  const name = document.createElement("th");
  name.scope = "row";
  name.textContent = peer.me ? `${peer.name} (here)` : peer.name;
  const state = document.createElement("td");
  const mark = document.createElement("span");
  mark.className = "mark";
  mark.textContent = STATES[word];
  mark.setAttribute("aria-hidden", "true");
  state.append(mark, ` ${word}${peer.note ? `: ${peer.note}` : ""}`);
  const busy = peer.slots ? `${peer.inflight}/${peer.slots}${peer.queued ? `+${peer.queued}` : ""}` : "–";
  const rate = peer.tokens_per_s ? Math.round(peer.tokens_per_s) : "–";
  const trip = peer.me ? "–" : peer.round_trip_ms >= 0 ? `${Number(peer.round_trip_ms.toPrecision(2))} ms` : "–";
  const runs = peer.models.length ? peer.models.join(", ") : peer.names.join(", ");
  line.append(name, state, cell(busy), cell(rate), cell(trip), cell(runs || "–"));
  return line;
}

const paint = painter(() => {
  draw($("picture"), world);
  const peers = world.ordered;
  const lines = peers.map(row);
  $("nodes").replaceChildren(...lines);
  manage.paint();
  const me = world.me;
  if (me.name) {
    $("title").textContent = `${me.name} in ${me.mesh}`;
    document.title = `${me.name} in ${me.mesh}: Gossamer`;
  }
  if (connected) {
    const alive = peers.filter((peer) => peer.state === "alive").length;
    const gone = peers.length - alive;
    const busy = world.running.size ? `, ${world.running.size} under way` : "";
    const trouble = me.troubles?.length ? `, ! ${me.troubles.at(-1)}` : "";
    say(`${alive} alive${gone ? `, ${gone} not` : ""}${busy}${trouble}`);
  }
  $("events").replaceChildren(
    ...world.events.map(({ text, at }) => {
      const item = document.createElement("li");
      item.textContent = `${new Date(at * 1000).toLocaleTimeString()}  ${text}`;
      return item;
    }),
  );
});

// A live region speaks whenever it is written to: only what is new is written.
function say(text) {
  if ($("state").textContent !== text) $("state").textContent = text;
}

function notice(lines) {
  $("notice").hidden = !lines.length;
  $("notice").replaceChildren(
    ...lines.map((line) => {
      const found = document.createElement("p");
      found.textContent = line;
      return found;
    }),
  );
}

function tell(trouble, wait) {
  const first = trouble === null && !connected;
  connected = trouble === null;
  $("key-form").hidden = !(trouble?.status === 401);
  $("send").disabled = trouble?.status === 401;
  if (first) {
    notice([]);
    looked();
    manage.look();
  }
  if (connected) return;
  if (trouble.status === 401) {
    say("A key is needed");
    notice(key.get() ? ["The agent does not take this key. Type it again."] : ["This agent asks for a key."]);
    $("key").focus();
    return;
  }
  if (trouble.status === 403) {
    say("Not allowed");
    notice([trouble.message, "Open the page under the address that the agent shows: gossamer status"]);
    return;
  }
  say("Not connected");
  const cure = {
    no_agent: "Start it on its machine: gossamer up --config FILE, or gossamer demo",
    too_many_pages: "Close another page of it.",
  }[trouble.code];
  notice([
    `${trouble.message} ${trouble.hint || ""}`.trim(),
    ...(cure ? [cure] : []),
    `What is shown is how it was. Trying again in ${wait} s.`,
  ]);
  paint();
}

async function looked() {
  if (exampled) return;
  try {
    const names = await fetched("/web/api/names");
    const asked = names.flatMap((name) => (name.kind === "generate" ? name.examples.slice(0, 1) : []));
    $("examples").replaceChildren(
      ...asked.slice(0, MAX_EXAMPLES).map((text) => {
        const button = document.createElement("button");
        button.type = "button";
        button.textContent = text;
        button.addEventListener("click", () => ask(text));
        return button;
      }),
    );
    exampled = asked.length > 0;
  } catch {
    // only suggestions
  }
}

const chat = new Chat($("turns"), world, () => {
  $("stop").hidden = !chat.busy;
  $("send").disabled = chat.busy;
  $("examples").hidden = chat.busy || chat.history.length > 0;
  paint();
});
$("examples").hidden = chat.history.length > 0;

async function ask(question) {
  if (chat.busy || !question.trim()) return;
  show("chat");
  const done = chat.ask(question.trim(), $("reach").value);
  $("turns").lastElementChild.scrollIntoView({ block: "nearest" });
  const trouble = await done;
  if (trouble?.status === 401) tell(trouble, Infinity);
}

function show(view) {
  document.body.dataset.view = view;
  for (const button of document.querySelectorAll("[data-show]")) {
    button.setAttribute("aria-pressed", String(button.dataset.show === view));
  }
}

$("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  if (chat.busy) return;
  const question = $("question").value;
  $("question").value = "";
  ask(question);
});
$("question").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    $("ask").requestSubmit();
  }
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !$("confirm").open) chat.stop();
});
$("stop").addEventListener("click", () => chat.stop());
$("fresh").addEventListener("click", () => {
  chat.fresh();
  $("examples").hidden = false;
  $("question").focus();
});
for (const button of document.querySelectorAll("[data-show]")) {
  button.addEventListener("click", () => show(button.dataset.show));
}
$("legend").textContent = Object.entries(STATES).map(([word, sign]) => `${sign} ${word}`).join("   ");

const feed = follow("/web/api/watch", (event) => {
  world.take(event);
  paint();
}, tell);
$("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  key.set($("key").value.trim(), $("keep").checked);
  $("key").value = "";
  feed.again();
});
addEventListener("online", () => feed.again());
document.addEventListener("visibilitychange", () => document.hidden || connected || feed.again());
let lit = false; // lines go dark without an event: painted while one is lit, and once after
setInterval(() => {
  const now = world.ordered.some((peer) => world.isLit(peer.name));
  if (now || lit) paint();
  lit = now;
}, LOOK_MS);
