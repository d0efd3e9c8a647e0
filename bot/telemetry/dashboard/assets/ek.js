// The page's own script: shows what the server says has changed, and sends operators' orders. It builds no HTML of its
// own from anything but the server's escaped markup.
"use strict";
const ek = (() => {
  const known = new Map();
  let runMethod = () => {}; // of the framework, which hands it over with each message
  const functions = {
    reload: () => window.location.reload(),
    method: (id, name, values) => runMethod(id, name, values),
  };

  function find(key) {
    let element = known.get(key);
    if (!element || !element.isConnected) {
      element = document.querySelector(`[data-k="${CSS.escape(key)}"]`);
      if (element) known.set(key, element);
    }
    return element;
  }

  function put(element, name, value) {
    if (name === "#text") element.textContent = value;
    else if (name === "#html") element.innerHTML = value;
    else if (value === null) element.removeAttribute(name);
    else element.setAttribute(name, value);
  }

  function reorder(parent, names) {
    const rows = new Map([...parent.children].map((row) => [row.dataset.row, row]));
    const wanted = names.map((name) => rows.get(name)).filter(Boolean);
    if (wanted.every((row, place) => parent.children[place] === row)) return;
    const focused = parent.contains(document.activeElement) ? document.activeElement : null;
    parent.append(...wanted);
    focused?.focus({ preventScroll: true });
  }

  // Elements come a moment after the page's frame: what they are to show waits for them, and is shown in the order in
  // which it came: the newest word on a cell is said once, and an older one after it would stay.
  const waiting = [];
  function show(message, run = runMethod) {
    beat();
    runMethod = run;
    waiting.push(message);
    catchUp();
  }

  function catchUp() {
    if (waiting.length && !by("top")) setTimeout(catchUp, 20);
    else for (const message of waiting.splice(0)) showOne(message);
  }

  function showOne(message) {
    for (const [key, cell] of Object.entries(message.cells)) {
      const element = find(key);
      if (element) for (const [name, value] of Object.entries(cell)) put(element, name, value);
    }
    for (const [key, names] of Object.entries(message.orders)) {
      const parent = find(key);
      if (parent) reorder(parent, names);
    }
    for (const [name, values] of message.calls) functions[name]?.(...values);
    if (!document.documentElement.dataset.live) {
      paint(); // the button is there by now
      document.querySelector("main.q-page")?.setAttribute("role", "presentation"); // a page has one main part: ours
    }
    document.documentElement.dataset.live = "1";
  }

  // The server says something every second. When it does not, nothing here is how it is, whatever the figures say -----
  const SILENT_MS = 5000;
  let heardMs = Date.now();
  function beat() {
    heardMs = Date.now();
    tellSilence("");
  }
  function tellSilence(text) {
    const banner = document.getElementById("silent");
    if (!banner || banner.textContent === text) return;
    banner.textContent = text;
    document.documentElement.classList.toggle("silent", text !== "");
  }
  setInterval(() => {
    const silentMs = Date.now() - heardMs;
    if (silentMs < SILENT_MS) return;
    tellSilence(`Stale: no word from the dashboard for ${Math.floor(silentMs / 1000)} s. This is how it was, not how it is.`);
  }, 1000);

  const by = (id) => document.getElementById(id);

  // Dark and light -----------------------------------------------------------------------------------------------
  const themes = ["auto", "dark", "light"];
  const prefers = window.matchMedia("(prefers-color-scheme: dark)");
  function theme() {
    const name = localStorage.getItem("ek-theme");
    return themes.includes(name) ? name : "auto";
  }
  function isDark() {
    return theme() === "dark" || (theme() === "auto" && prefers.matches);
  }
  function paint() {
    document.documentElement.dataset.theme = isDark() ? "dark" : "light";
    const told = { auto: "as the system has it", dark: "dark", light: "light" }[theme()];
    by("theme")?.setAttribute("aria-label", `Colours: ${told}`);
    by("theme")?.setAttribute("title", `Colours: ${told}`);
    document.dispatchEvent(new CustomEvent("ek-theme", { detail: { isDark: isDark() } }));
  }
  paint();
  prefers.addEventListener("change", paint);

  // Orders -------------------------------------------------------------------------------------------------------
  let order = null;

  function open(button) {
    const forms = JSON.parse(by("order").dataset.forms);
    const form = forms[button.dataset.order];
    const { order: action, vault, alertId } = button.dataset;
    order = { action, vault, alert_id: alertId || "", title: form.title };
    by("order-form").reset();
    by("order-title").textContent = form.title;
    by("order-vault").textContent = order.vault;
    by("order-consequence").textContent = form.consequence;
    for (const field of document.querySelectorAll("#order [data-field]")) {
      field.hidden = !form.fields.includes(field.dataset.field);
    }
    by("order-typing").hidden = !form.typed;
    by("order-typed").required = form.typed;
    by("order-answer").textContent = "";
    by("order-answer").className = "";
    by("order-send").disabled = false;
    by("order-cancel").textContent = "Cancel";
    by("later").textContent = "";
    by("order").showModal();
    by("order-reason").focus();
  }

  async function send() {
    const sent = order;
    const answer = (isDone, text) => tell(sent, isDone, text);
    const wish = { vault: sent.vault, action: sent.action, reason: by("order-reason").value };
    if (sent.alert_id) wish.alert_id = sent.alert_id;
    if (!by("order-typing").hidden) wish.typed = by("order-typed").value;
    for (const field of document.querySelectorAll("#order [data-field]")) {
      const input = field.querySelector("input");
      if (field.hidden || input.value.trim() === "") continue;
      if (input.inputMode !== "decimal") wish[input.name] = input.value.trim();
      else wish[input.name] = Number(input.value.trim());
      if (Number.isNaN(wish[input.name])) return answer(false, `expected a number, found ${input.value}`);
    }
    by("order-send").disabled = true;
    answer(null, "Sent. Waiting for the answer…");
    try {
      const response = await fetch("/order", {
        method: "POST",
        headers: { "Content-Type": "application/json", "X-CSRF-Token": by("top").dataset.csrf },
        body: JSON.stringify(wish),
      });
      if (response.status === 401) return answer(false, "You are logged out. Load the page again.");
      const result = await response.json();
      answer(result.is_done, result.text);
    } catch (error) {
      answer(false, `No answer from the dashboard: ${error.message}. It may have been done.`);
    }
  }

  // An answer belongs to its own order: one whose dialog was closed, or is another's by now, is told on the page.
  function tell(sent, isDone, text) {
    const said = isDone === null ? text : `${isDone ? "✔ Done" : "✕ Not done"}: ${text}`;
    const look = isDone === null ? "" : isDone ? "good" : "bad";
    if (sent !== order || !by("order").open) {
      if (isDone === null) return;
      by("later").textContent = `${sent.title} of ${sent.vault}: ${said}`;
      by("later").className = `later ${look}`;
      return;
    }
    const place = by("order-answer");
    place.textContent = said;
    place.className = look;
    by("order-send").disabled = isDone === null || isDone;
    if (isDone) by("order-cancel").textContent = "Close";
  }

  document.addEventListener("click", (event) => {
    const target = event.target.closest("button");
    if (!target) return;
    if (target.dataset.order) open(target);
    else if (target.id === "order-cancel") by("order").close();
    else if (target.id === "theme") {
      localStorage.setItem("ek-theme", themes[(themes.indexOf(theme()) + 1) % themes.length]);
      paint();
    }
  });
  document.addEventListener("submit", (event) => {
    if (event.target.id !== "order-form") return;
    event.preventDefault();
    send();
  });

  // A person at the page keeps the session; a page left open does not ------------------------------------------------
  let toldAlive = Date.now();
  function alive() {
    const top = by("top");
    if (!top || Date.now() - toldAlive < 60000) return;
    toldAlive = Date.now();
    fetch("/alive", { method: "POST", headers: { "X-CSRF-Token": top.dataset.csrf } }).catch(() => {});
  }
  for (const name of ["keydown", "pointerdown", "pointermove"]) document.addEventListener(name, alive, { passive: true });

  return { show, beat, functions, isDark };
})();
window.ek = ek;
