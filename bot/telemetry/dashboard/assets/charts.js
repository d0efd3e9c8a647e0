// What all charts have in common: how they look, what they tell at the pointer, how amounts are written.
"use strict";

// The colours and the font of the page around an element, as the theme has them
export function lookOf(element) {
  const style = getComputedStyle(element);
  return { font: style.fontFamily, colour: (name) => style.getPropertyValue(`--ek-${name}`).trim() };
}

// `told` says in words what is drawn, `write` writes a value
export function frame({ font, colour }, told, write) {
  return {
    animation: false,
    useUTC: true,
    aria: { enabled: true, label: { description: told } },
    textStyle: { fontFamily: font },
    tooltip: {
      trigger: "axis",
      confine: true,
      backgroundColor: colour("paper"),
      borderColor: colour("grid"),
      textStyle: { color: colour("ink") },
      order: "valueDesc",
      valueFormatter: (value) => (typeof value === "number" ? write(value) : "–"),
    },
  };
}

export function axisOf({ colour }) {
  return {
    axisLine: { lineStyle: { color: colour("muted") } },
    axisLabel: { color: colour("muted"), hideOverlap: true },
    splitLine: { lineStyle: { color: colour("grid") } },
  };
}

export function signed(value, digits) {
  const text = Math.abs(value).toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });
  return `${value < 0 ? "−" : "+"}${text}`;
}
