// The three plots: leases, waits, errors.

const PLOTS = [
  { title: "leases per second", series: [["leases/s", "leases", "--leased"]] },
  { title: "wait in milliseconds", series: [["p50", "p50", "--idle"], ["p99", "p99", "--warn"]] },
  { title: "errors per second", series: [["errors/s", "errors", "--bad"]] },
];

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

const sizeIn = (figure) => ({ width: Math.max(200, figure.clientWidth), height: 150 });

export class Plots {
  constructor(place) {
    this.place = place;
    this.points = null;
    this.make();
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.make());
    addEventListener("resize", () => {
      this.all.forEach((each, at) => each.setSize(sizeIn(this.place.children[at])));
    });
  }

  make() {
    this.place.replaceChildren();
    this.place.append(...PLOTS.map(({ title }) => {
      const figure = document.createElement("figure");
      figure.setAttribute("aria-label", title);
      return figure;
    }));
    this.all = PLOTS.map(({ title, series }, at) => {
      const place = this.place.children[at];
      const axis = { stroke: colour("--soft"), grid: { stroke: colour("--line"), width: 0.5 } };
      const options = {
        title, ...sizeIn(place), cursor: { y: false },
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
