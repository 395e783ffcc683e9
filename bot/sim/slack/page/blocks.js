// Block Kit as DOM nodes. `act(element, block, value)` is called when a person clicks or chooses.
import { anchor, dateText, make, markdown, mrkdwn, plain, table, userMention } from "/page/mrkdwn.js";
import { emoji } from "/page/emoji.js";

const textNodes = (text, names) => (text.type === "mrkdwn" ? mrkdwn(text.text, names) : [plain(text.text)]);

const options = (element) => element.options ?? element.option_groups.flatMap((group) => group.options);

async function perform(context, element, block, value, node) {
  if (element.confirm && !(await context.confirm(element.confirm, context.names))) return false;
  node.setAttribute("aria-busy", "true");
  try {
    await context.act(element, block, value);
  } finally {
    node.removeAttribute("aria-busy");
  }
  return true;
}

// ── elements ──
function button(element, block, context) {
  const node = make("button", {
    type: "button", class: `button ${element.style ?? ""}`, "data-action-id": element.action_id, "data-value": element.value,
    "aria-label": element.accessibility_label,
  }, plain(element.text.text));
  node.addEventListener("click", async () => {
    if (node.getAttribute("aria-busy")) return;
    const done = await perform(context, element, block, element.value ?? null, node);
    if (done && element.url) window.open(element.url, "_blank", "noopener");
  });
  return node;
}

function staticSelect(element, block, context) {
  const one = (option) => make("option", { value: option.value, selected: element.initial_option?.value === option.value }, plain(option.text.text));
  const node = make("select", { class: "select", "data-action-id": element.action_id, "aria-label": element.placeholder?.text ?? "Choose" },
    make("option", { value: "" }, plain(element.placeholder?.text ?? "Choose an option")),
    ...(element.option_groups
      ? element.option_groups.map((group) => make("optgroup", { label: plain(group.label.text) }, ...group.options.map(one)))
      : element.options.map(one)));
  if (!context.form) {
    node.addEventListener("change", async () => {
      const chosen = node.value;
      if (chosen && !(await perform(context, element, block, chosen, node))) node.value = element.initial_option?.value ?? "";
    });
  }
  return node;
}

function overflow(element, block, context) {
  const menu = make("div", { class: "menu", role: "menu", hidden: true });
  const opener = make("button", { type: "button", class: "button overflow", "aria-haspopup": "menu", "aria-expanded": "false", "aria-label": "More actions", "data-action-id": element.action_id }, "⋯");
  const node = make("span", { class: "overflow-box" }, opener, menu);
  const close = () => { menu.hidden = true; opener.setAttribute("aria-expanded", "false"); };
  for (const option of element.options) {
    menu.append(make("button", { type: "button", role: "menuitem", "data-value": option.value, onclick: async () => {
      close();
      opener.focus();
      if (option.url) window.open(option.url, "_blank", "noopener");
      await perform(context, element, block, option.value, opener);
    } }, plain(option.text.text)));
  }
  opener.addEventListener("click", () => {
    menu.hidden = !menu.hidden;
    opener.setAttribute("aria-expanded", String(!menu.hidden));
    if (!menu.hidden) menu.firstChild.focus();
  });
  node.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && !menu.hidden) { event.stopPropagation(); close(); opener.focus(); }
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step && !menu.hidden) {
      event.preventDefault();
      const items = [...menu.children];
      items[(items.indexOf(document.activeElement) + step + items.length) % items.length].focus();
    }
  });
  node.addEventListener("focusout", (event) => { if (!node.contains(event.relatedTarget)) close(); });
  return node;
}

function ticks(element, block, context, type) {
  const initial = (element.initial_options ?? (element.initial_option ? [element.initial_option] : [])).map((one) => one.value);
  const node = make("div", { class: "ticks", "data-action-id": element.action_id, role: type === "radio" ? "radiogroup" : "group" });
  for (const option of options(element)) {
    const input = make("input", { type, name: `${block.block_id} ${element.action_id}`, value: option.value, checked: initial.includes(option.value) });
    if (!context.form) {
      input.addEventListener("change", () => {
        const chosen = [...node.querySelectorAll("input:checked")].map((one) => one.value);
        perform(context, element, block, type === "radio" ? chosen[0] : chosen, node);
      });
    }
    node.append(make("label", {}, input, make("span", {}, ...textNodes(option.text, context.names),
      option.description ? make("span", { class: "hint" }, ...textNodes(option.description, context.names)) : null)));
  }
  return node;
}

function textInput(element) {
  return make(element.multiline ? "textarea" : "input", {
    class: "text-input", "data-action-id": element.action_id, placeholder: element.placeholder && plain(element.placeholder.text),
    rows: element.multiline ? "4" : undefined, minlength: element.min_length, maxlength: element.max_length,
    value: element.multiline ? undefined : element.initial_value, autofocus: element.focus_on_load,
  }, element.multiline ? element.initial_value ?? "" : null);
}

function picture(element) {
  const source = element.slack_file ? `/files/${element.slack_file.id ?? element.slack_file.url.split("/").at(-1)}` : element.image_url;
  const here = source.startsWith("/") || source.startsWith("http://127.0.0.1");
  return here ? make("img", { src: source, alt: element.alt_text }) : make("span", { class: "unknown" }, `Image: ${element.alt_text}`);
}

const ELEMENTS = {
  button, static_select: staticSelect, overflow, image: picture, plain_text_input: textInput,
  checkboxes: (element, block, context) => ticks(element, block, context, "checkbox"),
  radio_buttons: (element, block, context) => ticks(element, block, context, "radio"),
};

function elementNode(element, block, context) {
  if (element.type === "mrkdwn" || element.type === "plain_text") return make("span", { class: "context-text" }, ...textNodes(element, context.names));
  return (ELEMENTS[element.type] ?? unknown)(element, block, context);
}

// ── rich text ──
function styled(node, style = {}) {
  let inner = node;
  for (const [name, tag] of [["code", "code"], ["strike", "s"], ["italic", "em"], ["bold", "strong"], ["underline", "u"]]) {
    if (style[name]) inner = make(tag, {}, inner);
  }
  return inner;
}

function span(part, names) {
  const nodes = {
    text: () => part.text,
    link: () => anchor(part.url, part.text ?? part.url),
    user: () => userMention(names, part.user_id),
    usergroup: () => make("span", { class: "mention" }, `@${names.group(part.usergroup_id)}`),
    channel: () => make("span", { class: "mention" }, `#${names.channel(part.channel_id)}`),
    broadcast: () => make("span", { class: "mention" }, `@${part.range}`),
    emoji: () => emoji(part.name),
    date: () => make("time", {}, dateText(part.timestamp, part.format)),
  };
  return styled(nodes[part.type] ? nodes[part.type]() : JSON.stringify(part), part.style);
}

function richPart(part, names) {
  const inner = (elements) => elements.map((one) => span(one, names));
  if (part.type === "rich_text_preformatted") return make("pre", {}, ...inner(part.elements));
  if (part.type === "rich_text_quote") return make("blockquote", {}, ...inner(part.elements));
  if (part.type === "rich_text_list") {
    return make(part.style === "ordered" ? "ol" : "ul", { class: `rich-list indent-${part.indent ?? 0}`, start: part.offset ? String(part.offset + 1) : undefined },
      ...part.elements.map((one) => make("li", {}, ...inner(one.elements))));
  }
  return make("div", { class: "rich" }, ...inner(part.elements));
}

// ── blocks ──
const BLOCKS = {
  section: (block, context) => make("div", { class: "section" },
    make("div", { class: "section-main" },
      block.text ? make("div", { class: "text" }, ...textNodes(block.text, context.names)) : null,
      block.fields ? make("div", { class: "fields" }, ...block.fields.map((field) => make("div", { class: "text" }, ...textNodes(field, context.names)))) : null),
    block.accessory ? make("div", { class: "accessory" }, elementNode(block.accessory, block, context)) : null),
  header: (block) => make("div", { class: "block-header", role: "heading", "aria-level": "3" }, plain(block.text.text)),
  context: (block, context) => make("div", { class: "context" }, ...block.elements.map((one) => elementNode(one, block, context))),
  divider: () => make("hr"),
  actions: (block, context) => make("div", { class: "actions" }, ...block.elements.map((one) => elementNode(one, block, context))),
  rich_text: (block, context) => make("div", {}, ...block.elements.map((part) => richPart(part, context.names))),
  image: (block) => make("figure", { class: "picture" }, block.title ? make("figcaption", {}, plain(block.title.text)) : null, picture(block)),
  markdown: (block, context) => make("div", { class: "text" }, ...markdown(block.text, context.names)),
  table: (block, context) => table(block.rows.map((row) => row.map((cell) => (cell.type === "raw_text" ? [cell.text] : cell.elements.map((part) => richPart(part, context.names))))), block.column_settings ?? []),
  alert: (block, context) => make("div", { class: `alert ${block.level ?? "default"}`, role: "note" }, ...textNodes(block.text, context.names)),
  input: (block, context) => make("div", { class: "input", role: "group", "aria-label": block.label.text, "data-element": block.element.type, "data-element-id": block.element.action_id },
    make("div", { class: "label" }, plain(block.label.text), block.optional ? make("span", { class: "hint" }, " (optional)") : null),
    elementNode(block.element, block, { ...context, form: true }),
    block.hint ? make("div", { class: "hint" }, plain(block.hint.text)) : null,
    make("div", { class: "wrong", role: "alert" })),
};

function unknown(block) {
  return make("pre", { class: "unknown" }, JSON.stringify(block, null, 1));
}

export function blockNodes(blocks, context) {
  return blocks.map((block) => {
    const node = (BLOCKS[block.type] ?? unknown)(block, context);
    node.classList.add("block");
    node.setAttribute("data-block-id", block.block_id ?? "");
    return node;
  });
}
