// Replays side by side over time: P&L of all of them, and below it net delta of each in its band. Drawn once per replay.
import { axisOf, frame, lookOf, signed } from "/assets/charts.js";
import { echarts } from "nicegui-echart";
import { h, markRaw } from "vue";

const ROOM_PX = 6;
let made = 0;

export default {
  data() {
    return { shown: markRaw({}), isSame: true };
  },
  mounted() {
    this.group = `ek-curves-${(made += 1)}`; // one pointer in all of them
    this.charts = [];
    this.sized = new ResizeObserver(() => this.charts.forEach((chart) => chart.resize()));
    this.sized.observe(this.$el);
    this.themed = new MutationObserver(() => this.draw());
    this.themed.observe(document.documentElement, { attributes: true, attributeFilter: ["class", "data-theme"] });
  },
  beforeUnmount() {
    this.sized?.disconnect();
    this.themed?.disconnect();
    this.clear();
  },
  methods: {
    show(now) {
      this.shown = markRaw(now);
      this.$nextTick(() => this.draw());
    },
    count() {
      const { pnl, deltas } = this.shown;
      return pnl ? { lines: pnl.lines.length, charts: this.charts.length, hedges: deltas.map((one) => one.hedges.length) } : null;
    },
    clear() {
      this.charts.forEach((chart) => chart.dispose());
      this.charts = [];
    },
    draw() {
      this.clear();
      const { pnl, deltas } = this.shown;
      if (!pnl) return;
      const look = lookOf(this.$el);
      const canvases = this.$el.querySelectorAll(".ek-canvas");
      [this.pnlOption(pnl, look), ...deltas.map((one) => this.deltaOption(one, look))].forEach((option, place) => {
        const chart = echarts.init(canvases[place], null, { renderer: "canvas" });
        chart.group = this.group;
        chart.setOption(option);
        this.charts.push(chart);
      });
      echarts.connect(this.group);
    },
    // What all charts have in common: the axis of time is the same for all
    frame(look, told, write, ends) {
      const axis = axisOf(look);
      return {
        ...frame(look, told, write),
        grid: { left: ROOM_PX, right: 4 * ROOM_PX, top: 2 * ROOM_PX, bottom: ROOM_PX, containLabel: true },
        xAxis: { type: "time", min: this.shown.from_ms, max: this.shown.to_ms, ...axis, splitLine: { show: false } },
        yAxis: { type: "value", scale: true, splitNumber: 4, ...ends, ...axis },
      };
    },
    points(at, values) {
      return at.map((second, place) => [this.shown.from_ms + 1000 * second, values[place]]);
    },
    pnlOption(pnl, look) {
      const money = (value) => signed(value, Math.abs(value) < 1000 ? 2 : 0);
      const series = pnl.lines.map((one) => ({
        name: one.name,
        type: "line",
        showSymbol: false,
        lineStyle: { color: look.colour(one.hue), width: 1.8, type: one.dash.length ? one.dash : "solid" },
        itemStyle: { color: look.colour(one.hue) },
        data: this.points(one.at, one.values),
      }));
      return { ...this.frame(look, pnl.told, money, {}), series };
    },
    deltaOption(one, look) {
      const { unit, low, high } = this.shown;
      const amount = (value) => `${signed(value, 3)} ${unit}`;
      const line = (name, hue, width, values) => ({
        name,
        type: "line",
        showSymbol: false,
        step: name === "net delta" ? undefined : "end",
        lineStyle: { color: look.colour(hue), width },
        itemStyle: { color: look.colour(hue) },
        data: this.points(one.at, values),
      });
      const area = (name, values, opacity) => ({
        name,
        type: "line",
        stack: "band",
        stackStrategy: "all",
        step: "end",
        showSymbol: false,
        silent: true,
        lineStyle: { opacity: 0 },
        areaStyle: { color: look.colour("band"), opacity },
        tooltip: { show: false },
        data: this.points(one.at, values),
      });
      const tick = (name, sign, hue) => ({
        name,
        type: "scatter",
        symbol: "triangle",
        symbolRotate: sign > 0 ? 0 : 180,
        symbolSize: 8,
        itemStyle: { color: look.colour(hue), borderColor: look.colour("paper"), borderWidth: 0.5 },
        data: one.hedges.filter((hedge) => hedge[1] === sign).map((hedge) => [this.shown.from_ms + 1000 * hedge[0], hedge[2]]),
        tooltip: { show: false },
        z: 5,
      });
      const width = one.low.map((from, place) => (from === null || one.high[place] === null ? null : one.high[place] - from));
      const ends = this.isSame ? { min: low, max: high } : {};
      return {
        ...this.frame(look, one.told, amount, ends),
        series: [
          area("band from", one.low, 0),
          area("band", width, 0.28),
          line("band low", "band", 1, one.low),
          line("band high", "band", 1, one.high),
          line("net delta", "net", 1.5, one.net),
          tick("bought", 1, "gain"),
          tick("sold", -1, "loss"),
        ],
      };
    },
    legend(entries) {
      return h("ul", { class: "ek-legend" }, entries.map(([sign, name]) => h("li", [sign, ` ${name}`])));
    },
    canvas(told) {
      return h("div", { class: "ek-canvas", role: "img", "aria-label": told });
    },
  },
  render() {
    const { pnl, deltas, unit } = this.shown;
    if (!pnl) return h("div", { class: "ek-curves" });
    const names = pnl.lines.map((one) => [stroke(one.hue, one.dash), one.name]);
    const signs = [
      [stroke("net", []), "net delta"],
      [h("span", { class: "ek-swatch band", "aria-hidden": "true" }), "no-trade band"],
      [h("span", { class: "gain", "aria-hidden": "true" }, "▲"), "bought"],
      [h("span", { class: "loss", "aria-hidden": "true" }, "▼"), "sold"],
    ];
    const same = h("label", { class: "ek-box" }, [
      h("input", { type: "checkbox", name: "same-scale", checked: this.isSame, onChange: (event) => ((this.isSame = event.target.checked), this.draw()) }),
      " same scale",
    ]);
    return h("div", { class: "ek-curves" }, [
      h("figure", { class: "ek-plot" }, [h("figcaption", "P&L over time"), this.legend(names), this.canvas(pnl.told)]),
      h("section", { class: "ek-plot" }, [
        h("h2", [`Net delta in its band, ${unit}`]),
        h("div", { class: "ek-above" }, [this.legend(signs), same]),
        h("div", { class: "ek-panels" }, deltas.map((one) =>
          h("figure", [h("figcaption", [one.caption, h("span", { class: "muted" }, ` ${one.note}`)]), this.canvas(one.told)]),
        )),
      ]),
    ]);
  },
};

function stroke(hue, dash) {
  const line = { x1: 0, x2: 28, y1: 5, y2: 5, stroke: `var(--ek-${hue})`, "stroke-width": 2.5, "stroke-dasharray": dash.join(" ") };
  return h("svg", { width: 28, height: 10, "aria-hidden": "true" }, [h("line", line)]);
}
