// The page of one daemon: follows its stream of events, and sends what the buttons ask for.

import { post } from "./api.js";
import { showClients } from "./clients.js";
import { History } from "./history.js";
import { Plots } from "./plots.js";
import { askLimit, showCertificates, showEvent, showGroups, showLink, showListeners, showOutcome,
  token } from "./view.js";

const EVENTS = ["admitted", "connect_failed", "ejected", "forgotten", "overdue", "paused",
  "probe_due", "recovered", "resized", "resumed", "revoked"];
const RETRY = 2000; // milliseconds

const history = new History();
const plots = new Plots(document.getElementById("plots"));
let latest = null;

function follow() {
  const stream = new EventSource("/api/v1/events");
  stream.addEventListener("snapshot", (message) => {
    latest = JSON.parse(message.data);
    history.add(latest);
    showLink("live", `live, up since ${new Date(latest.started_at * 1000).toLocaleString()}`);
    showCertificates(latest);
    showGroups(latest, history, act);
    showListeners(latest.listeners, showClients);
    plots.show(history.points);
  });
  for (const kind of EVENTS) {
    stream.addEventListener(kind, (message) => showEvent(kind, JSON.parse(message.data)));
  }
  stream.addEventListener("error", () => {
    showLink("lost", "no connection to the daemon; trying again");
    if (stream.readyState === EventSource.CLOSED) setTimeout(follow, RETRY);
  });
}

async function act(what, group, name) {
  const fields = {};
  if (what === "resize") {
    const its = latest.groups.find((each) => each.name === group);
    const limit = await askLimit(name, its.backends.find((each) => each.name === name).limit);
    if (limit === null) return;
    fields.limit = limit;
  }
  const { text, failed } = await post(["groups", group, "backends", name, what], fields, token());
  showOutcome(`${name}: ${text}`, failed);
}

document.getElementById("access").addEventListener("submit", (event) => event.preventDefault());
follow();
