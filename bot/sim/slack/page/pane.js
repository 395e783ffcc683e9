// A list of messages that changes under the reader's eyes: each message is one node, replaced only when it changed.
// Who reads at the end stays at the end; who has scrolled up is left where they are and told that there is more.
import { dayName, make } from "/page/mrkdwn.js";

const NEAR = 60;
const FOLLOWS = 300;

export class Pane {
  constructor(scroll, list, pill, build) {
    Object.assign(this, { scroll, list, pill, build, nodes: new Map(), shown: new Map() });
    pill.addEventListener("click", () => { this.toEnd(); scroll.focus(); });
    scroll.addEventListener("scroll", () => { if (this.atEnd()) pill.hidden = true; });
    new ResizeObserver(() => { if (this.stick) this.toEnd(); }).observe(list);
    scroll.addEventListener("scroll", () => { this.stick = this.atEnd(); });
    this.stick = true;
  }

  atEnd() {
    return this.scroll.scrollHeight - this.scroll.scrollTop - this.scroll.clientHeight < NEAR;
  }

  toEnd() {
    this.stick = true;
    this.scroll.scrollTop = this.scroll.scrollHeight;
  }

  clear() {
    this.list.replaceChildren();
    this.nodes.clear();
    this.shown.clear();
    this.pill.hidden = true;
    this.stick = true;
  }

  // `messages` in order; `extra` is what else a node shows (seen replies), so that it is rebuilt when that changes.
  show(messages, extra = () => "") {
    const fresh = messages.filter((one) => !this.nodes.has(one.ts)).length;
    const wanted = new Set(messages.map((one) => one.ts));
    for (const [ts, node] of this.nodes) {
      if (!wanted.has(ts)) { node.remove(); this.nodes.delete(ts); this.shown.delete(ts); }
    }
    for (const message of messages) this.#put(message, extra(message));
    this.#arrange(messages);
    if (this.stick) this.toEnd();
    else if (fresh) this.pill.hidden = false;
  }

  #put(message, extra) {
    const face = JSON.stringify(message) + extra;
    if (this.shown.get(message.ts) === face) return;
    const old = this.nodes.get(message.ts);
    const node = this.build(message);
    if (old) {
      const focused = old.contains(document.activeElement) ? document.activeElement.dataset.actionId : null;
      old.replaceWith(node);
      if (focused) node.querySelector(`[data-action-id="${CSS.escape(focused)}"]`)?.focus();
    } else node.classList.add("fresh");
    this.nodes.set(message.ts, node);
    this.shown.set(message.ts, face);
  }

  #arrange(messages) {
    const order = [];
    let before = null;
    for (const message of messages) {
      const node = this.nodes.get(message.ts);
      const day = dayName(Number(message.ts));
      const newDay = !before || dayName(Number(before.ts)) !== day;
      if (newDay) order.push(this.#day(day));
      const follows = !newDay && !message.ephemeral_to && !before.ephemeral_to && !before.reply_count
        && before.user === message.user && Number(message.ts) - Number(before.ts) < FOLLOWS;
      node.classList.toggle("follows", follows);
      order.push(node);
      before = message;
    }
    for (const old of [...this.list.children]) if (!order.includes(old)) old.remove();
    order.forEach((node, index) => {
      if (this.list.children[index] !== node) this.list.insertBefore(node, this.list.children[index] ?? null);
    });
  }

  #day(name) {
    const known = [...this.list.querySelectorAll(".day")].find((one) => one.dataset.day === name);
    return known ?? make("div", { class: "day", "data-day": name }, make("span", {}, name));
  }
}
