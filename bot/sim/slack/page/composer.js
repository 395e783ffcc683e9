// Where people write: Enter sends, Shift+Enter breaks the line, `/` and `@` offer what there is.
import { make } from "/page/mrkdwn.js";

export class Composer {
  constructor(place, { name, suggestions, send }) {
    this.suggestions = suggestions;
    this.input = make("textarea", { rows: "1", "aria-label": name, "data-test": "composer", autocomplete: "off", spellcheck: "false" });
    this.popup = make("ul", { class: "suggestions", role: "listbox", "aria-label": "Suggestions", hidden: true, "data-test": "suggestions" });
    this.send = make("button", { type: "submit", class: "send", "aria-label": "Send", title: "Send", disabled: true }, "➤");
    this.wrong = make("div", { class: "wrong", role: "alert" });
    const form = make("form", { class: "composer" }, this.popup,
      make("div", { class: "composer-box" }, this.input,
        make("div", { class: "composer-foot" }, make("span", { class: "hint" }, make("kbd", {}, "/"), " commands", make("kbd", {}, "@"), " mentions"), this.send)), this.wrong);
    place.replaceChildren(form);
    const submit = async () => {
      const text = this.input.value.trim();
      if (!text) return;
      this.input.value = "";
      this.#changed();
      this.wrong.textContent = (await send(text)) ?? "";
    };
    form.addEventListener("submit", (event) => { event.preventDefault(); submit(); });
    this.input.addEventListener("input", () => this.#changed());
    this.input.addEventListener("blur", () => { this.popup.hidden = true; });
    this.input.addEventListener("keydown", (event) => this.#key(event, submit));
  }

  set placeholder(text) {
    this.input.placeholder = text;
  }

  #changed() {
    this.input.style.height = "auto";
    this.input.style.height = `${Math.min(200, this.input.scrollHeight)}px`;
    this.send.disabled = !this.input.value.trim();
    this.wrong.textContent = "";
    const found = this.input.value ? this.suggestions(this.input.value) : [];
    this.popup.replaceChildren(...found.map((one) => make("li", { role: "option", "data-insert": one.insert, onmousedown: (event) => { event.preventDefault(); this.#take(one.insert); } },
      make("span", { class: "suggestion" }, one.label), make("span", { class: "hint" }, one.hint ?? ""))));
    this.popup.hidden = !found.length;
    this.#mark(-1);
  }

  #mark(index) {
    this.marked = index;
    [...this.popup.children].forEach((one, i) => one.setAttribute("aria-selected", String(i === index)));
  }

  #take(text) {
    this.input.value = text;
    this.input.focus();
    this.#changed();
    this.popup.hidden = true;
  }

  #key(event, submit) {
    const open = !this.popup.hidden;
    const count = this.popup.children.length;
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (open && step) {
      event.preventDefault();
      this.#mark((this.marked + step + count) % count);
    } else if (open && (event.key === "Tab" || (event.key === "Enter" && this.marked >= 0))) {
      event.preventDefault();
      this.#take(this.popup.children[Math.max(0, this.marked)].dataset.insert);
    } else if (open && event.key === "Escape") {
      event.stopPropagation();
      this.popup.hidden = true;
    } else if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      submit();
    }
  }
}
