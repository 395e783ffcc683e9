// One message as it stands in the channel or in a thread: who, when, what, files, reactions, replies.
import { clockTime, dayName, make, mrkdwn } from "/page/mrkdwn.js";
import { blockNodes } from "/page/blocks.js";
import { emoji } from "/page/emoji.js";

const HUES = ["#7c3aed", "#b45309", "#0369a1", "#be185d", "#4d7c0f", "#0f766e"];

export function avatar(author, small = false) {
  if (author.bot) return make("img", { class: small ? "avatar small" : "avatar", src: "/page/sickbay.svg", alt: "" });
  const node = make("span", { class: small ? "avatar small" : "avatar", "aria-hidden": "true" }, author.name[0].toUpperCase());
  node.style.backgroundColor = author.slack ? "#4a154b" : HUES[author.index % HUES.length];
  return node;
}

const when = (ts) => {
  const seconds = Number(ts);
  const day = dayName(seconds);
  return day === "Today" ? clockTime(seconds) : `${day} at ${clockTime(seconds)}`;
};

function size(bytes) {
  return bytes < 1024 ? `${bytes} B` : bytes < 1048576 ? `${(bytes / 1024).toFixed(1)} kB` : `${(bytes / 1048576).toFixed(1)} MB`;
}

function fileCard(file) {
  const href = `/files/${encodeURIComponent(file.id)}`;
  if (file.mimetype === "image/png") {
    return make("figure", { class: "picture", "data-test": "file" }, make("figcaption", {}, file.title), make("a", { href, target: "_blank" }, make("img", { src: href, alt: file.title })));
  }
  return make("a", { class: "file", href, target: "_blank", "data-test": "file", "aria-label": `Open ${file.title}` },
    make("span", { class: "file-head" }, make("span", { class: "file-icon" }, "≡"),
      make("span", {}, make("span", { class: "file-title" }, file.title), make("span", { class: "hint" }, `Plain text · ${size(file.size)} · click to read`))),
    file.preview ? make("span", { class: "file-preview" }, file.preview) : null);
}

function attachmentNode(attachment, context) {
  const node = make("div", { class: "attachment" }, ...blockNodes(attachment.blocks ?? [], context));
  const named = { good: "#2eb67d", warning: "#ecb22e", danger: "#e01e5a" }[attachment.color];
  if (attachment.color) node.style.borderLeftColor = named ?? `#${attachment.color.replace("#", "")}`;
  return node;
}

function replySummary(message, context) {
  const people = message.reply_users.slice(0, 4).map((id) => avatar(context.author(id), true));
  const count = message.reply_count;
  const unseen = context.unseen(message);
  return make("button", { type: "button", class: "replies", "data-test": "replies", onclick: () => context.openThread(message.ts) },
    ...people, make("span", { class: "reply-count" }, `${count} ${count === 1 ? "reply" : "replies"}`),
    unseen ? make("span", { class: "unseen", "data-test": "unseen" }, `${unseen} new`) : null,
    make("span", { class: "hint last" }, `Last reply ${dayName(Number(message.latest_reply)).toLowerCase()} at ${clockTime(Number(message.latest_reply))}`),
    make("span", { class: "hint view" }, "View thread"));
}

export function messageNode(message, context) {
  const author = context.author(message.user);
  const hidden = Boolean(message.ephemeral_to);
  const content = make("div", { class: "content" });
  let edited = null;
  const acting = { ...context, act: (element, block, value) => context.click(message, element, value) };
  if (message.blocks?.length) content.append(...blockNodes(message.blocks, acting));
  else if (message.text) content.append(make("div", { class: "text" }, ...mrkdwn(message.text, context.names)));
  content.append(...(message.attachments ?? []).map((one) => attachmentNode(one, acting)));
  content.append(...(message.files ?? []).map(fileCard));
  if (message.edited) {
    edited = make("span", { class: "edited", title: `Edited at ${when(message.edited.ts)}` }, " (edited)");
    content.querySelector(":scope > .text:last-child > .line:last-child, :scope > .section:last-child .section-main > .text:last-child > .line:last-child")?.append(edited);
  }
  if (message.reactions) {
    content.append(make("div", { class: "reactions" }, ...message.reactions.map((one) =>
      make("span", { class: "reaction", title: one.users.map((id) => context.author(id).name).join(", ") }, `${emoji(one.name)} ${one.users.length}`))));
  }
  if (message.reply_count && !context.inThread) content.append(replySummary(message, context));
  if (hidden) {
    content.append(make("button", { type: "button", class: "link hint", onclick: () => context.dismiss(message) }, "Dismiss message"));
  }
  const tools = !hidden && !context.inThread
    ? make("div", { class: "tools" }, make("button", { type: "button", class: "icon-button", "aria-label": "Reply in thread", title: "Reply in thread", onclick: () => context.openThread(message.ts) }, "💬"))
    : null;
  return make("article", {
    class: `message${hidden ? " whisper" : ""}`, "data-ts": message.ts, "data-user": message.user, "data-test": hidden ? "ephemeral" : "message",
    "aria-label": `${author.name}, ${when(message.ts)}`,
  },
    hidden ? make("div", { class: "only-you" }, "👁 Only visible to you") : null,
    make("div", { class: "message-row" },
      make("div", { class: "gutter" }, avatar(author), make("time", { class: "gutter-time" }, clockTime(Number(message.ts)))),
      make("div", { class: "message-main" },
        make("div", { class: "byline" }, make("span", { class: "author" }, author.name),
          author.bot ? make("span", { class: "badge" }, "APP") : null,
          make("time", { class: "hint", datetime: new Date(Number(message.ts) * 1000).toISOString() }, when(message.ts)), edited?.parentNode ? null : edited),
        content)),
    tools);
}
