// Slack's mrkdwn, and the small part of Markdown that bots write, as DOM nodes.
// Everything a host or a person wrote reaches the page through textContent; nothing is ever parsed as HTML.
import { emoji, isEmoji } from "/page/emoji.js";

export function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

export const decoded = (text) => text.replaceAll("&lt;", "<").replaceAll("&gt;", ">").replaceAll("&amp;", "&");

const withEmoji = (text) => text.replace(/:([a-z0-9_+-]+):/g, (whole, name) => (isEmoji(name) ? emoji(name) : whole));

export const plain = (text) => withEmoji(decoded(text));

function safe(url) {
  return /^(https?:\/\/|mailto:)/.test(url) ? url : null;
}

export function anchor(url, label) {
  const href = safe(url);
  return href ? make("a", { href, target: "_blank", rel: "noopener noreferrer" }, label) : document.createTextNode(label);
}

// ── dates ──
const two = (number) => String(number).padStart(2, "0");

export function clockTime(seconds) {
  const date = new Date(seconds * 1000);
  return `${two(date.getHours())}:${two(date.getMinutes())}`;
}

export function dayName(seconds) {
  const day = (date) => date.toDateString();
  const date = new Date(seconds * 1000);
  if (day(date) === day(new Date())) return "Today";
  if (day(date) === day(new Date(Date.now() - 86400000))) return "Yesterday";
  return date.toLocaleDateString("en-GB", { weekday: "long", day: "numeric", month: "long" });
}

function ago(seconds) {
  const past = Math.max(0, Date.now() / 1000 - seconds);
  if (past < 60) return "just now";
  if (past < 3600) return `${Math.floor(past / 60)} min ago`;
  return past < 86400 ? `${Math.floor(past / 3600)} h ago` : `${Math.floor(past / 86400)} d ago`;
}

export function dateText(seconds, format) {
  const date = new Date(seconds * 1000);
  const as = (options) => date.toLocaleDateString("en-GB", options);
  const long = { weekday: "long", year: "numeric", month: "long", day: "numeric" };
  const pretty = (options) => (["Today", "Yesterday"].includes(dayName(seconds)) ? dayName(seconds).toLowerCase() : as(options));
  const words = {
    date_num: () => `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`,
    date: () => as({ year: "numeric", month: "long", day: "numeric" }),
    date_short: () => as({ year: "numeric", month: "short", day: "numeric" }),
    date_long: () => as(long),
    date_pretty: () => pretty({ year: "numeric", month: "long", day: "numeric" }),
    date_short_pretty: () => pretty({ year: "numeric", month: "short", day: "numeric" }),
    date_long_pretty: () => pretty(long),
    time: () => clockTime(seconds),
    time_secs: () => `${clockTime(seconds)}:${two(date.getSeconds())}`,
    ago: () => ago(seconds),
  };
  return format.replace(/\{(\w+)\}/g, (whole, name) => (words[name] ? words[name]() : whole));
}

// ── <…> ──
export function userMention(names, id) {
  const mine = id === names.me ? " mine" : "";
  return make("span", { class: `mention${mine}` }, `@${names.user(id)}`);
}

function angled(inner, names) {
  const [target, label] = inner.split(/\|(.*)/s);
  if (target.startsWith("@")) return userMention(names, target.slice(1));
  if (target.startsWith("#")) return make("span", { class: "mention" }, `#${label || names.channel(target.slice(1))}`);
  if (target.startsWith("!date^")) {
    const [, seconds, format, url] = target.split("^");
    const text = dateText(Number(seconds), format ?? "{date} {time}");
    const node = make("time", { datetime: new Date(Number(seconds) * 1000).toISOString() }, text);
    return url ? anchor(url, node) : node;
  }
  if (target.startsWith("!subteam^")) return make("span", { class: "mention" }, label || `@${target.slice(9)}`);
  if (target.startsWith("!")) return make("span", { class: "mention" }, `@${label || target.slice(1)}`);
  if (safe(target)) return anchor(decoded(target), plain(label || target.replace(/^mailto:/, "")));
  return document.createTextNode(decoded(`<${inner}>`));
}

// ── spans of mrkdwn ──
const SPANS = new RegExp(
  [
    "`([^`\\n]+)`", // 1 code
    "<([^<>\\n]+)>", // 2 link, mention, date
    ":([a-z0-9_+-]+):", // 3 emoji
    "(?<![\\w*])\\*(?=\\S)([^*\\n]*?\\S)\\*(?![\\w*])", // 4 bold
    "(?<![\\w_])_(?=\\S)([^_\\n]*?\\S)_(?![\\w_])", // 5 italic
    "(?<![\\w~])~(?=\\S)([^~\\n]*?\\S)~(?![\\w~])", // 6 strike
    "(https?:\\/\\/[^\\s<>|]+[^\\s<>|.,;:!?)\\]'\"])", // 7 bare address
  ].join("|"),
  "g",
);

function spans(text, names) {
  const nodes = [];
  let end = 0;
  for (const found of text.matchAll(SPANS)) {
    if (found.index > end) nodes.push(decoded(text.slice(end, found.index)));
    const [whole, code, angle, name, bold, italic, strike, address] = found;
    if (code !== undefined) nodes.push(make("code", {}, decoded(code)));
    else if (angle !== undefined) nodes.push(angled(angle, names));
    else if (name !== undefined) nodes.push(isEmoji(name) ? make("span", { class: "emoji", role: "img", "aria-label": name }, emoji(name)) : whole);
    else if (bold !== undefined) nodes.push(make("strong", {}, ...spans(bold, names)));
    else if (italic !== undefined) nodes.push(make("em", {}, ...spans(italic, names)));
    else if (strike !== undefined) nodes.push(make("s", {}, ...spans(strike, names)));
    else nodes.push(anchor(decoded(address), decoded(address)));
    end = found.index + whole.length;
  }
  if (end < text.length) nodes.push(decoded(text.slice(end)));
  return nodes;
}

function lines(text, names) {
  const nodes = [];
  let quote = null;
  for (const line of text.split("\n")) {
    const quoted = line.match(/^(?:&gt;|>) ?(.*)$/);
    const item = line.match(/^(\s*)(•|◦|-|\d+\.) (.*)$/);
    if (quoted) {
      quote ??= nodes[nodes.push(make("blockquote")) - 1];
      quote.append(make("div", { class: "line" }, ...spans(quoted[1], names)));
      continue;
    }
    quote = null;
    if (item) nodes.push(make("div", { class: `line item depth-${Math.min(4, item[1].length)}` }, make("span", { class: "marker" }, item[2]), make("span", {}, ...spans(item[3], names))));
    else nodes.push(make("div", { class: line.trim() ? "line" : "line blank" }, ...spans(line, names)));
  }
  return nodes;
}

export function mrkdwn(text, names) {
  const nodes = [];
  text.split(/```\n?/).forEach((part, index) => {
    if (index % 2) nodes.push(make("pre", {}, decoded(part.replace(/\n$/, ""))));
    else if (part.trim()) nodes.push(...lines(part.replace(/^\n|\n$/g, ""), names));
  });
  return nodes;
}

// ── markdown blocks ──
const asMrkdwn = (text) =>
  text
    .replace(/\[([^\]]+)\]\((https?:\/\/[^)\s]+)\)/g, "<$2|$1>")
    .replace(/(?<![*\w])\*(?=[^\s*])([^*\n]+)\*(?![*\w])/g, "_$1_")
    .replace(/\*\*(?=\S)(.+?)\*\*/g, "*$1*")
    .replace(/~~(?=\S)(.+?)~~/g, "~$1~");

const cells = (line) => line.trim().replace(/^\||\|$/g, "").split("|").map((cell) => cell.trim());

export function markdown(text, names) {
  const nodes = [];
  const rows = text.split("\n");
  const inline = (line) => spans(asMrkdwn(line), names);
  for (let i = 0; i < rows.length; i += 1) {
    const line = rows[i];
    const heading = line.match(/^(#{1,6}) (.*)$/);
    const item = line.match(/^(\s*)([-*+]|\d+\.) (.*)$/);
    if (line.startsWith("```")) {
      const start = i + 1;
      for (i = start; i < rows.length && !rows[i].startsWith("```"); i += 1);
      nodes.push(make("pre", {}, rows.slice(start, i).join("\n")));
    } else if (line.includes("|") && /^[\s|:-]+$/.test(rows[i + 1] ?? "") && rows[i + 1].includes("-")) {
      const body = [cells(line)];
      for (i += 2; i < rows.length && rows[i].includes("|"); i += 1) body.push(cells(rows[i]));
      i -= 1;
      nodes.push(table(body.map((row) => row.map((cell) => inline(cell))), []));
    } else if (heading) nodes.push(make("div", { class: `heading level-${heading[1].length}`, role: "heading", "aria-level": String(heading[1].length + 1) }, ...inline(heading[2])));
    else if (item) nodes.push(make("div", { class: `line item depth-${Math.min(4, item[1].length)}` }, make("span", { class: "marker" }, /\d/.test(item[2]) ? item[2] : "•"), make("span", {}, ...inline(item[3]))));
    else nodes.push(make("div", { class: line.trim() ? "line" : "line blank" }, ...inline(line)));
  }
  return nodes;
}

export function table(rows, settings) {
  const cell = (tag, nodes, column) => {
    const set = settings[column] ?? {};
    return make(tag, { class: `align-${set.align ?? "left"}${set.is_wrapped ? " wrapped" : ""}` }, ...nodes);
  };
  const [head, ...body] = rows;
  return make("div", { class: "table-box", tabindex: "0" }, make("table", {},
    make("thead", {}, make("tr", {}, ...head.map((nodes, i) => cell("th", nodes, i)))),
    make("tbody", {}, ...body.map((row) => make("tr", {}, ...row.map((nodes, i) => cell("td", nodes, i)))))));
}
