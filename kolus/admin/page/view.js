// Puts snapshots and events on the page. Rows are changed in place, so that the focus stays.

import { SPAN } from "./history.js";

const $ = (id) => document.getElementById(id);
const STATES = { open: "--idle", absent: "--idle", ejected: "--bad", closed: "--bad",
  due: "--warn", paused: "--warn", draining: "--warn" };
const MOST_EVENTS = 200;

export function make(name, text = "", kind = "") {
  const made = document.createElement(name);
  made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

// A row of a table: its heading, and an empty cell for each column by its name.
export function makeRow(heading, columns) {
  const made = make("tr");
  const head = make("th", heading);
  head.scope = "row";
  made.append(head);
  for (const each of columns) {
    const cell = make("td");
    cell.dataset.name = each;
    made.append(cell);
  }
  return made;
}

export function tell(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

// The child of a parent for each key: found, made, or removed.
export function keyed(parent, keys, create) {
  const found = new Map([...parent.children].map((each) => [each.dataset.key, each]));
  for (const [key, element] of found) if (!keys.includes(key)) element.remove();
  return keys.map((key) => {
    let element = found.get(key);
    if (!element) {
      element = create(key);
      element.dataset.key = key;
      parent.append(element);
    }
    return element;
  });
}

const bytes = (count) => {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let at = 0;
  while (count >= 1024 && at < units.length - 1) { count /= 1024; at += 1; }
  return `${at ? count.toFixed(1) : count} ${units[at]}`;
};

export function showGroups(snapshot, history, act) {
  const names = snapshot.groups.map((each) => each.name);
  const sections = keyed($("groups"), names, () => (
    $("group").content.firstElementChild.cloneNode(true)));
  snapshot.groups.forEach((group, at) => showGroup(sections[at], group, snapshot, history, act));
}

function showGroup(section, group, snapshot, history, act) {
  tell(section.querySelector("h2"), `Group ${group.name}`);
  const oldest = group.oldest_wait == null ? "" : `, the oldest for ${group.oldest_wait.toFixed(1)} s`;
  const ejected = group.ejected ? `; ${group.ejected} of ${group.backends.length} ejected` : "";
  const panic = group.panics ? "; in panic: all may be chosen" : "";
  tell(section.querySelector(".facts"), `${group.waiting} waiting${oldest}${ejected}${panic}`);
  const names = group.backends.map((each) => each.name);
  const rows = keyed(section.querySelector("tbody"), names, (name) => row(group.name, name, act));
  group.backends.forEach((backend, at) => showBackend(rows[at], group, backend, snapshot, history));
}

function row(group, name, act) {
  const made = makeRow(name, ["state", "connections", "waiting", "leases/s", "two minutes", "do"]);
  const [state, bar, waiting, rate, strip, doing] = made.querySelectorAll("td");
  state.append(make("span", "", "state"));
  const drawn = make("div", "", "bar");
  drawn.setAttribute("role", "img");
  drawn.append(make("span", "", "leased"), make("span", "", "idle"), make("span", "", "connecting"));
  const box = make("div");
  box.append(drawn, make("div", "", "told"));
  bar.append(box);
  waiting.className = rate.className = "number";
  const past = make("div", "", "strip");
  past.setAttribute("role", "img");
  strip.append(past);
  const buttons = make("div", "", "do");
  for (const what of ["drain", "eject", "admit", "resize"]) {
    const button = make("button", what);
    button.type = "button";
    button.dataset.what = what;
    button.setAttribute("aria-label", `${what} ${name}`);
    button.addEventListener("click", () => act(what, group, name));
    buttons.append(button);
  }
  doing.append(buttons);
  return made;
}

function showBackend(element, group, backend, snapshot, history) {
  const state = element.querySelector(".state");
  tell(state, backend.state);
  state.dataset.state = backend.state;
  const { idle, leased, connecting, limit } = backend;
  const told = `${leased} leased, ${idle} idle, ${connecting} connecting, limit ${limit}`;
  const bar = element.querySelector(".bar");
  bar.setAttribute("aria-label", told);
  tell(element.querySelector(".told"), told);
  const whole = Math.max(limit, leased + idle + connecting, 1);
  for (const kind of ["leased", "idle", "connecting"]) {
    bar.querySelector(`.${kind}`).style.width = `${100 * backend[kind] / whole}%`;
  }
  const [waiting, rate] = element.querySelectorAll("td.number");
  tell(waiting, String(backend.waiting));
  tell(rate, history.rate(group.name, backend.name).toFixed(1));
  showStrip(element.querySelector(".strip"), history.states.get(`${group.name}\n${backend.name}`),
    snapshot.time);
  const isOut = ["ejected", "due", "draining"].includes(backend.state);
  for (const button of element.querySelectorAll("button")) {
    if (button.dataset.what === "admit") button.disabled = !isOut;
    if (button.dataset.what === "eject") button.disabled = backend.state === "ejected";
  }
}

function showStrip(strip, states, now) {
  const share = (time) => Math.max(0, 100 * (1 - (now - time) / SPAN)).toFixed(2);
  const stops = states.map(([time, state], at) => {
    const end = at + 1 < states.length ? share(states[at + 1][0]) : 100;
    return `var(${STATES[state]}) ${share(time)}% ${end}%`;
  });
  const seen = share(states[0][0]);
  strip.style.background = `linear-gradient(to right, var(--unused) 0 ${seen}%, ${stops.join(", ")})`;
  strip.setAttribute("aria-label", `in the last two minutes: ${states.map((each) => each[1]).join(", ")}`);
}

export function showListeners(listeners, showClients) {
  const rows = keyed($("listeners").tBodies[0], listeners.map((each) => each.name), (name) => {
    const made = make("tr");
    const head = make("th", name);
    head.scope = "row";
    made.append(head);
    for (const each of ["addresses", "group", "clients", "served", "refused", "to backends",
      "to clients"]) {
      const cell = make("td");
      cell.dataset.name = each;
      cell.append(make("span"));
      made.append(cell);
    }
    const button = make("button", "show");
    button.type = "button";
    button.setAttribute("aria-label", `show clients of ${name}`);
    button.addEventListener("click", () => showClients(name));
    made.cells[3].append(button);
    return made;
  });
  listeners.forEach((each, at) => {
    const texts = [each.addresses.join(", "), each.group, each.clients, each.served, each.refused,
      bytes(each.sent), bytes(each.received)];
    rows[at].querySelectorAll("td span").forEach((cell, which) => tell(cell, String(texts[which])));
  });
}

export function showCertificates({ certificates, time }) {
  const due = certificates.filter((each) => each.is_due);
  const items = keyed($("certificates"), due.map((each) => `${each.user}\n${each.file}`),
    () => make("li"));
  due.forEach((each, at) => {
    const days = (each.expires_at - time) / 86400;
    const when = days > 0 ? `expires in ${days.toFixed(1)} days` : "has expired";
    tell(items[at], `${each.user}: the certificate in ${each.file} ${when}`);
  });
}

const ABOUT = {
  ejected: (event) => `is ejected: ${event.reason}`,
  admitted: (event) => `is admitted${event.reason ? `: ${event.reason}` : ""}`,
  connect_failed: (event) => `cannot be connected to: ${event.reason}`,
  recovered: (event) => `is back after ${Number(event.after).toFixed(1)} s`,
};

export function showEvent(kind, event) {
  const item = make("li", "", kind);
  const at = new Date(event.time * 1000);
  const time = make("time", at.toLocaleTimeString());
  time.dateTime = at.toISOString();
  const about = ABOUT[kind] ?? (() => kind.replaceAll("_", " "));
  item.append(time, `${event.backend ?? event.group} ${about(event)}`);
  const list = $("events");
  list.prepend(item);
  while (list.children.length > MOST_EVENTS) list.lastElementChild.remove();
}

export function showLink(state, text) {
  const link = $("link");
  link.dataset.state = state;
  tell(link, text);
}

export function showIn(outcome, text, failed) {
  tell(outcome, text);
  outcome.toggleAttribute("data-failed", failed);
}

export const showOutcome = (text, failed) => showIn($("outcome"), text, failed);

// Asks for a number; null if it was cancelled.
export function askLimit(name, present) {
  const dialog = $("resize");
  tell($("resize-title"), `Resize ${name}`);
  $("limit").value = present;
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((answer) => {
    dialog.addEventListener("close", () => {
      answer(dialog.returnValue === "ok" ? Number($("limit").value) : null);
    }, { once: true });
  });
}

export const token = () => $("token").value;
