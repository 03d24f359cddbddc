// The three plots: leases, waits, errors.

const PLOTS = [
  { title: "leases per second", series: [["leases/s", "leases", "--leased"]] },
  { title: "wait in milliseconds", series: [["p50", "p50", "--idle"], ["p99", "p99", "--warn"]] },
  { title: "errors per second", series: [["errors/s", "errors", "--bad"]] },
];

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

export class Plots {
  constructor(place) {
    this.place = place;
    this.points = null;
    this.make();
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.make());
    addEventListener("resize", () => this.all.forEach((each) => each.setSize(this.size())));
  }

  size() {
    const width = Math.max(220, Math.min(this.place.clientWidth,
      this.place.firstElementChild?.clientWidth || 380));
    return { width, height: 150 };
  }

  make() {
    this.place.replaceChildren();
    this.all = PLOTS.map(({ title, series }) => {
      const place = document.createElement("figure");
      place.style.margin = 0;
      place.setAttribute("aria-label", title);
      this.place.append(place);
      const axis = { stroke: colour("--soft"), grid: { stroke: colour("--line"), width: 0.5 } };
      const options = {
        title, ...this.size(), cursor: { y: false },
        scales: { y: { range: (plot, least, most) => [0, Math.max(1, most * 1.1)] } },
        axes: [axis, { ...axis, size: 48 }],
        series: [{}, ...series.map(([label, , name]) => (
          { label, stroke: colour(name), width: 1.5, spanGaps: false,
            value: (plot, value) => (value == null ? "-" : value.toFixed(1)) }))],
      };
      return new window.uPlot(options, [[], ...series.map(() => [])], place);
    });
    if (this.points) this.show(this.points);
  }

  show(points) {
    this.points = points;
    this.all.forEach((plot, at) => {
      plot.setData([points.time, ...PLOTS[at].series.map(([, key]) => points[key])]);
    });
  }
}
