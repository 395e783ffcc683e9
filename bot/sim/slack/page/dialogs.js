// Confirm dialogs and modals, as real <dialog> elements: focus is kept inside and Escape closes.
import { make, mrkdwn, plain } from "/page/mrkdwn.js";
import { blockNodes } from "/page/blocks.js";

const byId = (id) => document.getElementById(id);

export function askConfirm(confirm, names) {
  const dialog = byId("confirm");
  return new Promise((resolve) => {
    const end = (answer) => { dialog.onclose = null; dialog.close(); resolve(answer); };
    dialog.onclose = () => resolve(false);
    const text = confirm.text.type === "mrkdwn" ? mrkdwn(confirm.text.text, names) : [plain(confirm.text.text)];
    const yes = make("button", { type: "button", class: `button ${confirm.style === "danger" ? "danger" : "primary"}`, "data-test": "confirm-yes", onclick: () => end(true) }, plain(confirm.confirm.text));
    dialog.replaceChildren(
      make("header", { class: "modal-head" }, make("h2", {}, plain(confirm.title.text))),
      make("div", { class: "modal-body text" }, ...text),
      make("footer", { class: "modal-foot" },
        make("button", { type: "button", class: "button", "data-test": "confirm-no", onclick: () => end(false) }, plain(confirm.deny.text)), yes));
    dialog.showModal();
    yes.focus();
  });
}

function valuesIn(body) {
  const values = {};
  for (const input of body.querySelectorAll(".input")) {
    const kind = input.dataset.element;
    const ticked = [...input.querySelectorAll("input:checked")].map((one) => one.value);
    let value = kind === "checkboxes" ? ticked : ticked[0];
    if (kind === "plain_text_input") value = input.querySelector(".text-input").value;
    if (kind === "static_select") value = input.querySelector("select").value || undefined;
    if (value !== undefined) values[input.dataset.blockId] = value;
  }
  return values;
}

function restore(body, values) {
  for (const input of body.querySelectorAll(".input")) {
    const value = values[input.dataset.blockId];
    if (value === undefined) continue;
    const field = input.querySelector(".text-input, select");
    if (field) field.value = value;
    for (const tick of input.querySelectorAll("input[type=checkbox], input[type=radio]")) tick.checked = [value].flat().includes(tick.value);
  }
}

let shown = null;

export function showView(view, context) {
  const dialog = byId("modal");
  if (!view) {
    shown = null;
    dialog.onclose = null;
    if (dialog.open) dialog.close();
    return;
  }
  const kept = shown?.id === view.id ? valuesIn(dialog) : {};
  shown = view;
  const failure = make("div", { class: "wrong modal-wrong", role: "alert" });
  const body = make("div", { class: "modal-body" }, ...blockNodes(view.blocks, { ...context, act: context.actInView }));
  const submit = view.submit ? make("button", { type: "submit", class: "button primary", "data-test": "submit" }, plain(view.submit.text)) : null;
  const close = () => context.closeView();
  const form = make("form", { "data-view-id": view.id, onsubmit: async (event) => {
    event.preventDefault();
    submit.setAttribute("aria-busy", "true");
    failure.textContent = "";
    for (const one of body.querySelectorAll(".wrong")) one.textContent = "";
    const answer = await context.submitView(valuesIn(body));
    submit.removeAttribute("aria-busy");
    if (answer.errors) {
      for (const [block, text] of Object.entries(answer.errors)) {
        const place = body.querySelector(`[data-block-id="${CSS.escape(block)}"] .wrong`);
        (place ?? failure).textContent = plain(text);
      }
    } else if (answer.shown) failure.textContent = answer.shown;
  } },
    make("header", { class: "modal-head" }, make("h2", {}, plain(view.title.text)),
      make("button", { type: "button", class: "icon-button", "aria-label": "Close", onclick: close }, "✕")),
    body, failure,
    make("footer", { class: "modal-foot" },
      make("button", { type: "button", class: "button", "data-test": "close", onclick: close }, plain(view.close?.text ?? "Close")), submit));
  dialog.replaceChildren(form);
  restore(body, kept);
  dialog.oncancel = (event) => { event.preventDefault(); close(); };
  if (dialog.open) return;
  dialog.showModal();
  (body.querySelector("input, textarea, select") ?? submit)?.focus();
}
