// The calls of the daemon's API that the page makes, besides the stream of events.

// Sends a change; what has come of it is a text for the operator.
export async function post(place, fields, token) {
  const headers = { "Content-Type": "application/json" };
  if (token) headers.Authorization = `Bearer ${token}`;
  try {
    const response = await fetch(urlOf(place),
      { method: "POST", headers, body: JSON.stringify(fields) });
    const told = await response.json();
    return { text: response.ok ? told.done : told.detail, failed: !response.ok };
  } catch {
    return { text: "the daemon does not answer", failed: true };
  }
}

// What is at a place; null if the daemon does not say.
export async function get(place) {
  try {
    const response = await fetch(urlOf(place));
    return response.ok ? await response.json() : null;
  } catch {
    return null;
  }
}

const urlOf = (place) => `/api/v1/${place.map(encodeURIComponent).join("/")}`;
