// The clients of one listener, in a dialog that asks for them again while it is open.

import { get, post } from "./api.js";
import { keyed, make, makeRow, showIn, tell, token } from "./view.js";

const PERIOD = 1000; // milliseconds
const MOST = 200; // that are shown

const dialog = document.getElementById("clients");
let shown = 0; // how often the dialog was shown

export async function showClients(listener) {
  tell(document.getElementById("clients-title"), `Clients of ${listener}`);
  show(listener, []);
  showIn(dialog.querySelector(".outcome"), "", false);
  dialog.showModal();
  const time = ++shown;
  // It may have been closed, and opened for another listener, while this waited.
  const isOpen = () => dialog.open && time === shown;
  while (isOpen()) {
    const clients = await get(["listeners", listener, "clients"]);
    if (clients && isOpen()) show(listener, clients);
    await new Promise((over) => setTimeout(over, PERIOD));
  }
}

function show(listener, clients) {
  const those = clients.slice(0, MOST);
  const rows = keyed(dialog.querySelector("tbody"), those.map((each) => String(each.number)),
    (number) => row(listener, number));
  those.forEach((each, at) => {
    const texts = [each.address, each.state, `${each.age.toFixed(1)} s`,
      `${each.waited.toFixed(1)} s`, each.backend ?? "none yet"];
    texts.forEach((text, which) => tell(rows[at].cells[which + 1], text));
  });
  const more = clients.length > MOST ? `, of which the oldest ${MOST} are shown` : "";
  tell(dialog.querySelector(".facts"), `${clients.length} connected${more}`);
}

function row(listener, number) {
  const made = makeRow(number, ["address", "state", "since", "waited", "backend", "do"]);
  const button = make("button", "close");
  button.type = "button";
  button.setAttribute("aria-label", `close client ${number}`);
  button.addEventListener("click", async () => {
    const place = ["listeners", listener, "clients", number, "close"];
    const { text, failed } = await post(place, {}, token());
    showIn(dialog.querySelector(".outcome"), text, failed);
    dialog.querySelector(".done").focus(); // the row with the button goes
  });
  made.cells[6].append(button);
  return made;
}
