// Net delta inside its band over time. Points are appended, never sent again; the browser keeps a bounded number.
import { axisOf, frame, lookOf, signed } from "/assets/charts.js";
import { echarts } from "nicegui-echart";
import { h } from "vue";

const DRAW_MS = 500; // twice a second is as fast as a line is read
const [AT, LOW, HIGH, BAND_LOW, BAND_HIGH, TARGET] = [0, 1, 2, 3, 4, 5];

function span(low, high) {
  return low === null || high === null ? null : high - low;
}

export default {
  props: { first: Object },
  mounted() {
    this.points = [...this.first.points];
    this.hedges = [...this.first.hedges];
    this.chart = echarts.init(this.$refs.canvas, null, { renderer: "canvas" });
    this.dress();
    this.sized = new ResizeObserver(() => this.chart.resize());
    this.sized.observe(this.$refs.canvas);
    this.themed = new MutationObserver(() => this.dress());
    this.themed.observe(document.body, { attributes: true, attributeFilter: ["class"] });
    this.themed.observe(document.documentElement, { attributes: true, attributeFilter: ["class", "data-theme"] });
  },
  beforeUnmount() {
    this.sized?.disconnect();
    this.themed?.disconnect();
    clearTimeout(this.wait);
    cancelAnimationFrame(this.frame);
    this.chart?.dispose();
  },
  methods: {
    append(points, hedges) {
      if (!this.chart) return;
      this.points.push(...points);
      this.hedges.push(...hedges);
      while (this.points.length > this.first.most) this.thin();
      this.hedges.splice(0, Math.max(0, this.hedges.length - this.first.most_hedges));
      const draw = () => (this.frame = requestAnimationFrame(() => this.draw())); // none in a hidden tab
      if (!this.wait) this.wait = setTimeout(draw, DRAW_MS);
    },
    restart(points, hedges) {
      [this.points, this.hedges] = [[], []];
      this.append(points, hedges);
    },
    count() {
      return [this.points.length, this.hedges.length];
    },
    thin() {
      const newest = this.points.length - 1; // of the older three quarters every other point goes
      this.points = this.points.filter((_, place) => place % 2 === 0 || place > newest * 0.75);
    },
    dress() {
      const look = lookOf(this.$el);
      const { colour } = look;
      const unit = this.first.unit;
      const isNarrow = this.$el.offsetWidth < 520; // the legend takes two lines then
      const line = (name, hue, type, width) => ({
        name,
        type: "line",
        symbol: "none",
        step: name.startsWith("band") ? "end" : undefined,
        showSymbol: false,
        lineStyle: { color: colour(hue), width, type },
        itemStyle: { color: colour(hue) },
        connectNulls: false,
        data: [],
      });
      const area = (name, stack, hue, opacity, step) => ({
        name,
        type: "line",
        stack,
        stackStrategy: "all",
        step,
        showSymbol: false,
        silent: true,
        lineStyle: { opacity: 0 },
        itemStyle: hue ? { color: colour(hue) } : undefined,
        areaStyle: hue ? { color: colour(hue), opacity } : undefined,
        tooltip: { show: false },
        data: [],
      });
      const tick = (name, symbol, rotate, hue) => ({
        name,
        type: "scatter",
        symbol,
        symbolRotate: rotate,
        symbolSize: 10,
        itemStyle: { color: colour(hue), borderColor: colour("paper"), borderWidth: 1 },
        data: [],
        z: 5,
      });
      const axis = axisOf(look);
      const amount = (value) => `${signed(value, 3)} ${unit}`;
      this.chart.setOption(
        {
          ...frame(look, this.first.told, amount),
          grid: { left: 8, right: 12, top: isNarrow ? 58 : 34, bottom: 4, containLabel: true },
          legend: {
            top: 0,
            left: 0,
            itemWidth: isNarrow ? 12 : 18,
            textStyle: { color: colour("ink") },
            inactiveColor: colour("muted"),
            data: ["net delta", { name: "band", icon: "roundRect" }, "target", "bought", "sold"],
          },
          xAxis: { type: "time", ...axis, splitLine: { show: false } },
          yAxis: { type: "value", scale: true, ...axis },
          series: [
            area("band from", "band", "", 0, "end"),
            area("band", "band", "band", 0.28, "end"),
            line("band low", "band", "solid", 1),
            line("band high", "band", "solid", 1),
            line("target", "muted", "dashed", 1.2),
            area("net from", "net", "", 0),
            area("net span", "net", "warn", 0.35),
            line("net delta", "net", "solid", 1.8),
            line("net delta at most", "net", "dotted", 1.2),
            tick("bought", "triangle", 0, "gain"),
            tick("sold", "triangle", 180, "loss"),
          ],
        },
        { notMerge: true },
      );
      this.draw();
    },
    net(at) {
      let [from, to] = [0, this.points.length];
      while (from < to) {
        const middle = (from + to) >> 1;
        if (this.points[middle][AT] < at) from = middle + 1;
        else to = middle;
      }
      return this.points[from - 1]?.[LOW] ?? null; // as it was before the hedge
    },
    draw() {
      this.wait = 0;
      const column = (place) => this.points.map((point) => [point[AT], point[place]]);
      const spans = (low, high) => this.points.map((point) => [point[AT], span(point[low], point[high])]);
      const ticks = (sign) => this.hedges.filter((one) => one[1] === sign).map((one) => [one[0], this.net(one[0])]).filter((one) => one[1] !== null);
      this.chart.setOption({
        series: [
          { data: column(BAND_LOW) },
          { data: spans(BAND_LOW, BAND_HIGH) },
          { data: column(BAND_LOW) },
          { data: column(BAND_HIGH) },
          { data: column(TARGET) },
          { data: column(LOW) },
          { data: spans(LOW, HIGH) },
          { data: column(LOW) },
          { data: this.points.map((point) => [point[AT], point[HIGH] === point[LOW] ? null : point[HIGH]]) },
          { data: ticks(1) },
          { data: ticks(-1) },
        ],
      });
    },
  },
  render() {
    return h("figure", { class: "ek-plot" }, [
      h("figcaption", this.first.caption),
      h("div", { ref: "canvas", class: "ek-canvas", role: "img", "aria-label": this.first.told }),
    ]);
  },
};
