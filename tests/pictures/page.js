// Draws one dashboard into the page: `shown` is {dashboard, start, end}, with the result of each query beside it.
// Not Grafana: its panels, grid, titles, units, thresholds and legends, drawn by uPlot.

// Okabe and Ito's colours
const COLORS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"];
const CELL = { width: 1280 / 24, height: 34 };

function format(value, unit) {
  if (value === null || value === undefined || Number.isNaN(value)) return "";
  const short = (number) => {
    const magnitude = Math.abs(number);
    if (magnitude >= 1e6) return (number / 1e6).toPrecision(3) + " M";
    if (magnitude >= 1e4) return (number / 1e3).toPrecision(3) + " k";
    return String(Number(number.toPrecision(3)));
  };
  switch (unit) {
    case "s": {
      if (value !== 0 && Math.abs(value) < 1) return short(value * 1000) + " ms";
      return Math.abs(value) >= 120 ? short(value / 60) + " min" : short(value) + " s";
    }
    case "ops": return short(value) + "/s";
    case "percentunit": return short(value * 100) + " %";
    case "bytes": return short(value / 1048576) + " MiB";
    case "currencyUSD": return "$" + short(value);
    default: return short(value);
  }
}

function legend(target, labels) {
  return (target.legendFormat || "").replace(/\{\{\s*(\w+)\s*\}\}/g, (_, name) => labels[name] ?? "") || JSON.stringify(labels);
}

// The series of a panel over its common points in time; a point that is missing is a gap.
function series(panel, start, end) {
  const times = new Set();
  const found = [];
  for (const target of panel.targets) {
    for (const one of target.result || []) {
      const values = new Map(one.values.map(([time, text]) => [time, Number(text)]));
      for (const time of values.keys()) times.add(time);
      found.push({ name: legend(target, one.metric), values });
    }
  }
  const axis = [...times].sort((a, b) => a - b);
  return { axis, found };
}

function draw(shown) {
  document.title = shown.dashboard.title;
  const head = document.createElement("h1");
  head.textContent = shown.dashboard.title;
  document.body.append(head);
  const grid = document.createElement("main");
  const rows = Math.max(...shown.dashboard.panels.map((panel) => panel.gridPos.y + panel.gridPos.h));
  grid.style.height = rows * CELL.height + "px";
  document.body.append(grid);
  for (const panel of shown.dashboard.panels) {
    const { x, y, w, h } = panel.gridPos;
    const box = document.createElement("section");
    Object.assign(box.style, {
      left: x * CELL.width + 4 + "px", top: y * CELL.height + 4 + "px",
      width: w * CELL.width - 8 + "px", height: h * CELL.height - 8 + "px",
    });
    const title = document.createElement("h2");
    title.textContent = panel.title;
    box.append(title);
    grid.append(box);
    const { axis, found } = series(panel, shown.start, shown.end);
    const { unit, noValue, thresholds } = panel.fieldConfig.defaults;
    if (found.length === 0) {
      const empty = document.createElement("p");
      empty.textContent = noValue || "no data";
      box.append(empty);
    } else if (panel.type === "stat") {
      const last = [...found[0].values.values()].filter((value) => !Number.isNaN(value)).pop();
      const big = document.createElement("strong");
      big.textContent = format(last, unit);
      if (panel.options.colorMode === "value") {
        const passed = thresholds.steps.filter((step) => step.value === null || last >= step.value);
        big.style.color = passed[passed.length - 1].color;
      }
      box.append(big);
    } else {
      lines(box, panel, axis, found, unit);
    }
  }
}

function lines(box, panel, axis, found, unit) {
  const shownSeries = found.slice(0, 12);
  new uPlot(
    {
      width: box.clientWidth - 12,
      height: Math.max(box.clientHeight - 36 - 22 * Math.ceil(shownSeries.length / 3), 90),
      legend: { live: false },
      cursor: { show: false },
      scales: { y: { range: (_, least, most) => [Math.min(0, least), most <= 0 ? 1 : most * 1.05] } },
      axes: [{ grid: { stroke: "#eee" } }, { size: 64, grid: { stroke: "#eee" }, values: (_, ticks) => ticks.map((tick) => format(tick, unit)) }],
      series: [
        {},
        ...shownSeries.map((one, place) => ({
          label: one.name, stroke: COLORS[place % COLORS.length], width: 2, spanGaps: false, points: { show: false },
          dash: place >= COLORS.length ? [6, 4] : undefined,
        })),
      ],
    },
    [axis, ...shownSeries.map((one) => axis.map((time) => one.values.get(time) ?? null))],
    box,
  );
}
