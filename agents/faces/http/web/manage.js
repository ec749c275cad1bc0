// What an owner may do from the page: drain a node and resume it, each after a question.

import { fetched, key, sent } from "/web/feed.js";

const $ = (id) => document.getElementById(id);

export class Manage {
  constructor(world) {
    this.world = world;
    this.shown = "";
    this.peers = new Map();
    $("owner-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#unlock($("owner-key").value.trim());
      $("owner-key").value = "";
    });
    $("order").addEventListener("submit", (event) => event.preventDefault());
    $("target").addEventListener("change", () => this.#choose());
    $("drain").addEventListener("click", () => this.#ask());
    $("resume").addEventListener("click", () => this.#do("resume", { node: this.node }));
    $("confirm-no").addEventListener("click", () => $("confirm").close());
    $("confirm-form").addEventListener("submit", (event) => {
      event.preventDefault();
      $("confirm").close();
      this.#do("drain", { node: $("confirm").dataset.node, reason: $("reason").value.trim() });
    });
  }

  get node() {
    return $("target").value;
  }

  // Whether there is anything to show, and to whom.
  async look() {
    let rights = { offered: false, administer: false };
    try {
      rights = await fetched("/web/api/rights");
    } catch {
      // told where the feed's trouble is told
    }
    $("manage").hidden = !rights.offered;
    $("owner-form").hidden = rights.administer;
    $("order").hidden = !rights.administer;
    return rights.administer;
  }

  // The nodes that can be asked; written again only when they changed, so that nothing jumps.
  paint() {
    const peers = this.world.ordered.filter((peer) => peer.state === "alive");
    this.peers = new Map(peers.map((peer) => [peer.node, peer]));
    const now = JSON.stringify(peers.map((peer) => [peer.node, peer.name, peer.draining]));
    if (now === this.shown) return;
    this.shown = now;
    const chosen = this.node;
    $("target").replaceChildren(
      ...peers.map((peer) => {
        const option = document.createElement("option");
        option.value = peer.node;
        option.textContent = `${peer.name}${peer.me ? " (here)" : ""}${peer.draining ? ", draining" : ""}`;
        return option;
      }),
    );
    if (this.peers.has(chosen)) $("target").value = chosen;
    this.#choose();
  }

  #choose() {
    const peer = this.peers.get(this.node);
    $("drain").disabled = !peer || peer.draining;
    $("resume").disabled = !peer?.draining;
  }

  async #unlock(value) {
    const before = { value: key.get(), kept: key.kept() };
    key.set(value, false); // never longer than the tab is open
    if (await this.look()) {
      this.#say("");
      $("target").focus();
      return;
    }
    if (before.value) key.set(before.value, before.kept);
    else key.forget();
    await this.look();
    this.#say("This key may not administer. The owner set it as http.admin_key.", true);
    $("owner-key").focus();
  }

  #ask() {
    const peer = this.peers.get(this.node);
    if (!peer) return;
    $("confirm").dataset.node = peer.node;
    $("confirm-title").textContent = `Drain ${peer.name}?`;
    $("reason").value = "";
    $("confirm").showModal();
  }

  async #do(verb, order) {
    const name = this.peers.get(order.node)?.name || order.node;
    $("drain").disabled = $("resume").disabled = true;
    this.#say(`Asking ${name} …`);
    try {
      const done = await sent(`/web/api/${verb}`, order);
      const running = done.running ? ` ${done.running} under way will be finished.` : "";
      const lost = done.kept ? "" : " A restart will undo this: its disk could not be written.";
      this.#say(done.draining ? `${done.node} takes nothing new.${running}${lost}` : `${done.node} takes work again.${lost}`);
    } catch (trouble) {
      this.#say(trouble.message, true);
    }
    this.#choose();
  }

  #say(text, wrong = false) {
    $("managed").textContent = text;
    $("managed").className = wrong ? "wrong" : "";
  }
}
