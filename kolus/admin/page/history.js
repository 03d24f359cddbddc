// Rates and quantiles from the snapshots: each counts since the start, and the page shows what
// happened between two of them. A new run of the daemon begins a new history.

export const SPAN = 120; // seconds that are shown
const WINDOW = 10; // seconds that quantiles are made of

const sum = (values) => values.reduce((a, b) => a + b, 0);

export class History {
  constructor() { this.clear(null); }

  clear(run) {
    this.run = run;
    this.snapshots = [];
    this.points = { time: [], leases: [], p50: [], p99: [], errors: [] };
    this.states = new Map(); // of each backend: [time, state] pairs
  }

  add(snapshot) {
    if (snapshot.run !== this.run) this.clear(snapshot.run);
    const before = this.snapshots.at(-1);
    this.snapshots.push(snapshot);
    while (this.snapshots[0].time < snapshot.time - WINDOW) this.snapshots.shift();
    this.note(snapshot);
    if (!before || snapshot.time <= before.time) return;
    const seconds = snapshot.time - before.time;
    const { points } = this;
    points.time.push(snapshot.time);
    points.leases.push((leases(snapshot) - leases(before)) / seconds);
    points.errors.push((errors(snapshot) - errors(before)) / seconds);
    const waits = difference(waitsOf(snapshot), waitsOf(this.snapshots[0]));
    points.p50.push(quantile(waits, 0.5));
    points.p99.push(quantile(waits, 0.99));
    while (points.time[0] < snapshot.time - SPAN) {
      for (const each of Object.values(points)) each.shift();
    }
  }

  note(snapshot) {
    for (const group of snapshot.groups) {
      for (const backend of group.backends) {
        const key = `${group.name}\n${backend.name}`;
        const known = this.states.get(key) ?? [];
        if (known.at(-1)?.[1] !== backend.state) known.push([snapshot.time, backend.state]);
        while (known.length > 1 && known[1][0] < snapshot.time - SPAN) known.shift();
        this.states.set(key, known);
      }
    }
  }

  rate(group, name) {
    const [first, last] = [this.snapshots[0], this.snapshots.at(-1)];
    const seconds = last.time - first.time;
    const count = (snapshot) => find(snapshot, group, name)?.counters.leases ?? 0;
    return seconds > 0 ? Math.max(0, (count(last) - count(first)) / seconds) : 0;
  }
}

function find(snapshot, group, name) {
  const its = snapshot.groups.find((each) => each.name === group);
  return its?.backends.find((each) => each.name === name);
}

const leases = (snapshot) => sum(snapshot.groups.map((each) => each.counters.leases));

const errors = (snapshot) => sum(snapshot.groups.map(
  ({ counters }) => counters.timeouts + counters.rejections + counters.connect_failures));

function waitsOf(snapshot) {
  const all = snapshot.groups.flatMap((each) => each.backends.map((backend) => backend.wait));
  const bounds = all[0]?.bounds ?? [];
  const length = all[0]?.counts.length ?? 0;
  const counts = Array.from({ length }, (_, at) => sum(all.map((each) => each.counts[at])));
  return { bounds, counts };
}

function difference(last, first) {
  return { bounds: last.bounds,
    counts: last.counts.map((count, at) => Math.max(0, count - (first.counts[at] ?? 0))) };
}

// Milliseconds, with the buckets taken as evenly filled; null if nobody waited.
export function quantile({ bounds, counts }, share) {
  const total = sum(counts);
  if (!total) return null;
  let below = 0;
  for (let at = 0; at < counts.length; at += 1) {
    if (below + counts[at] >= share * total) {
      const low = at ? bounds[at - 1] : 0;
      const high = bounds[at] ?? low;
      return 1000 * (low + (high - low) * (share * total - below) / counts[at]);
    }
    below += counts[at];
  }
  return null;
}
