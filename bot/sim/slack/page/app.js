// The page's state and its wiring: a stream of changes in, what people do out.
import { make } from "/page/mrkdwn.js";
import { avatar, messageNode } from "/page/messages.js";
import { askConfirm, showView } from "/page/dialogs.js";
import { Composer } from "/page/composer.js";
import { Pane } from "/page/pane.js";

const byId = (id) => document.getElementById(id);
const state = { me: null, bot: null, users: [], channels: [], commands: {}, messages: new Map(), dismissed: new Set(), seen: new Map(), unread: new Map(), channel: null, thread: null };

// ── who and what ──
const names = {
  get me() { return state.me; },
  user: (id) => author(id).name,
  channel: (id) => state.channels.find((one) => one.id === id)?.name ?? id,
  group: (id) => id.replace(/^S0/, "").toLowerCase(),
};

function author(id) {
  if (id === state.bot.id) return { name: state.bot.name, bot: true };
  const index = state.users.findIndex((one) => one.id === id);
  return index < 0 ? { name: id === "USLACKBOT" ? "Slackbot" : id, slack: true } : { ...state.users[index], index };
}

const key = (message) => `${message.channel} ${message.ts}`;
const isReply = (message) => message.thread_ts && message.thread_ts !== message.ts;
const inOrder = (messages) => messages.sort((a, b) => Number(a.ts) - Number(b.ts));
const known = () => [...state.messages.values()].filter((one) => one.channel === state.channel && !state.dismissed.has(key(one)));

// ── what people do ──
async function post(deed, body) {
  try {
    const answer = await fetch(`/do/${deed}`, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ user: state.me, ...body }) });
    return answer.headers.get("Content-Type")?.includes("json") ? await answer.json() : { shown: await answer.text() };
  } catch {
    return { shown: "The pretend Slack does not answer. Is the demo still running?" };
  }
}

function toast(text) {
  const node = make("div", { class: "toast", "data-test": "toast" }, `⚠️ ${text}`);
  byId("toasts").append(node);
  setTimeout(() => node.remove(), 8000);
}

async function click(message, element, value) {
  const answer = await post("click", { channel: message.channel, ts: message.ts, action_id: element.action_id, value });
  if (answer.shown) toast(answer.shown);
}

async function write(text, threadTs) {
  const command = text.match(/^(\/\S+)\s*(.*)$/s);
  if (command && threadTs) return `${command[1]} is not supported in threads. Write @${state.bot.name} ${command[2]} instead.`;
  const answer = command
    ? await post("slash", { command: command[1], text: command[2], channel: state.channel })
    : await post("say", { channel: state.channel, text, thread_ts: threadTs ?? undefined });
  return command && answer.error ? "" : answer.shown; // a failed command is answered by Slackbot in the channel
}

function suggestions(text) {
  if (text.startsWith("/")) {
    return Object.entries(state.commands).flatMap(([name, hints]) => hints.map((hint) => ({ label: `${name} ${hint}`, insert: `${name} ${hint.replace(/[A-Z]{2,}.*$/, "")}` })))
      .filter((one) => one.label.startsWith(text) && one.insert !== text);
  }
  const found = text.match(/(^|\s)@(\w*)$/);
  if (!found) return [];
  return [{ name: state.bot.name, role: "app" }, ...state.users].filter((one) => one.name.startsWith(found[2]))
    .map((one) => ({ label: `@${one.name}`, hint: one.role, insert: `${text.slice(0, text.length - found[2].length)}${one.name} ` }));
}

// ── panes ──
const unseen = (message) => {
  const last = state.seen.get(key(message)) ?? 0;
  return [...state.messages.values()].filter((one) => one.thread_ts === message.ts && isReply(one) && one.channel === message.channel && !one.ephemeral_to && one.user !== state.me && Number(one.ts) > last).length;
};

const shared = { names, author, confirm: askConfirm, click, unseen, openThread, dismiss: (message) => { state.dismissed.add(key(message)); draw(); } };
const channelPane = new Pane(byId("channel-scroll"), byId("channel-list"), byId("channel-new"), (message) => messageNode(message, { ...shared, inThread: false }));
const threadPane = new Pane(byId("thread-scroll"), byId("thread-list"), byId("thread-new"), (message) => messageNode(message, { ...shared, inThread: true }));
const channelComposer = new Composer(byId("channel-composer"), { name: "Message to the channel", suggestions, send: (text) => { channelPane.toEnd(); return write(text, null); } });
const threadComposer = new Composer(byId("thread-composer"), { name: "Reply in the thread", suggestions: (text) => (text.startsWith("/") ? [] : suggestions(text)), send: (text) => { threadPane.toEnd(); return write(text, state.thread); } });
threadComposer.placeholder = "Reply…";

function openThread(ts) {
  if (state.thread !== ts) threadPane.clear();
  state.thread = ts;
  draw();
  threadComposer.input.focus();
}

function closeThread() {
  const ts = state.thread;
  state.thread = null;
  draw();
  byId("channel-list").querySelector(`[data-ts="${ts}"] .replies`)?.focus();
}

function draw() {
  const all = known();
  const root = state.thread && state.messages.get(`${state.channel} ${state.thread}`);
  byId("thread").hidden = !root;
  document.body.classList.toggle("with-thread", Boolean(root));
  if (root) {
    const replies = inOrder(all.filter((one) => one.thread_ts === root.ts && one.ts !== root.ts));
    threadPane.show([root, ...replies]);
    state.seen.set(key(root), Number(replies.at(-1)?.ts ?? root.ts));
    byId("thread-topic").textContent = `# ${names.channel(state.channel)}`;
  }
  channelPane.show(inOrder(all.filter((one) => !isReply(one))), (message) => (message.reply_count ? String(unseen(message)) : ""));
  drawSide();
}

function drawSide() {
  byId("channel-name").textContent = `# ${names.channel(state.channel)}`;
  byId("channel-topic").textContent = `${state.users.length} people and ${state.bot.name}`;
  channelComposer.placeholder = `Message #${names.channel(state.channel)}`;
  byId("channels").replaceChildren(...state.channels.map((one) => make("li", {}, make("button", {
    type: "button", class: `side-row${state.unread.get(one.id) ? " unread" : ""}`, "aria-current": one.id === state.channel ? "true" : undefined, "data-channel": one.id, onclick: () => enter(one.id),
  }, make("span", { class: "hash" }, "#"), one.name, state.unread.get(one.id) ? make("span", { class: "count" }, String(state.unread.get(one.id))) : null))));
  byId("people").replaceChildren(...state.users.map((one) => make("li", {}, make("button", {
    type: "button", class: "side-row", "aria-pressed": String(one.id === state.me), "data-user": one.id, "data-test": `be-${one.name}`, onclick: () => become(one.id),
  }, avatar(author(one.id), true), one.name, make("span", { class: "role" }, one.role)))));
}

function enter(channel) {
  Object.assign(state, { channel, thread: null });
  state.unread.delete(channel);
  channelPane.clear();
  draw();
  channelComposer.input.focus();
}

// ── the stream ──
let stream = null;

function become(user) {
  sessionStorage.setItem("me", user);
  stream?.close();
  stream = new EventSource(`/stream?as=${encodeURIComponent(user)}`);
  stream.onmessage = (event) => take(JSON.parse(event.data));
  stream.onopen = () => online(true);
  stream.onerror = () => online(false, stream.readyState === EventSource.CLOSED);
}

function presence(online) {
  byId("presence").classList.toggle("away", !online);
  byId("presence").title = online ? "connected" : "not connected: commands and clicks will fail";
}

function online(yes, ended = false) {
  byId("banner").hidden = yes;
  byId("banner").textContent = ended ? "This demo has ended or was started anew: open the address it printed." : "Connection lost. Trying again…";
}

function begin(snapshot) {
  const { me, bot, users, channels, commands, messages, view } = snapshot;
  Object.assign(state, { me, bot, users, channels, commands, messages: new Map(messages.map((one) => [key(one), one])) });
  if (!state.channel) {
    for (const one of messages) if (one.latest_reply) state.seen.set(key(one), Number(one.latest_reply));
    const linked = location.pathname.match(/^\/archives\/(\w+)\/p(\d+)(\d{6})$/);
    state.channel = linked?.[1] ?? channels[0].id;
    if (linked) openThread(state.messages.get(`${linked[1]} ${linked[2]}.${linked[3]}`)?.thread_ts ?? `${linked[2]}.${linked[3]}`);
  }
  presence(snapshot.online);
  showView(view, viewContext);
}

function take(change) {
  if (change.kind === "snapshot") begin(change);
  else if (change.kind === "message") arrive(change.message);
  else if (change.kind === "deleted") state.messages.delete(`${change.channel} ${change.ts}`);
  else if (change.kind === "view") return showView(change.view, viewContext);
  else if (change.kind === "presence") return presence(change.online);
  schedule();
  return undefined;
}

function arrive(message) {
  const isNew = !state.messages.has(key(message));
  state.messages.set(key(message), message);
  if (isNew && message.channel !== state.channel && message.user !== state.me) state.unread.set(message.channel, (state.unread.get(message.channel) ?? 0) + 1);
}

let scheduled = false;
function schedule() { // many changes of one moment become one drawing
  if (scheduled) return;
  scheduled = true;
  requestAnimationFrame(() => { scheduled = false; draw(); });
}

const viewContext = {
  names, confirm: askConfirm,
  actInView: async (element, block, value) => { const answer = await post("click-in-view", { action_id: element.action_id, value }); if (answer.shown) toast(answer.shown); },
  submitView: (values) => post("submit", { values }),
  closeView: () => post("close", {}),
};

byId("thread-close").addEventListener("click", closeThread);
document.addEventListener("keydown", (event) => { if (event.key === "Escape" && state.thread && !document.querySelector("dialog[open]")) closeThread(); });
if (location.search) history.replaceState(null, "", location.pathname); // the cookie has the token from here on
become(sessionStorage.getItem("me") ?? "");
