// Charts: Plotly in the colours of the page, for all that it draws; distribution and classes of errors.

// Plotly: unpacked once, and given the colours of the page.

const PLOT_CONFIG = {
  displayModeBar: false, displaylogo: false, responsive: true, doubleClick: false,
  plotGlPixelRatio: window.devicePixelRatio, // twice as many would halve the speed without a graphics card
};
const COLOURS = 8;
const DASHES = ["solid", "solid", "dash", "dot", "dashdot", "longdash"];
let plotlyPromise;

function plotly() {
  plotlyPromise ??= inflated("plotly").then((bytes) => {
    const script = element("script", new TextDecoder().decode(bytes));
    document.head.append(script);
    return window.Plotly;
  });
  return plotlyPromise;
}

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

// Text in which Plotly must not find its own markup.
function plain(text) {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}

// The colour and the dashes of a surface are the same in all charts; the reference DSM has the colour of ink.
function styleOf(name) {
  const reference = content.difference === "error" ? content.layers[content.reference]?.name : undefined;
  if (name === reference) return { color: colour("ink"), dash: "solid", width: 1.75 };
  const evaluated = content.evaluated?.surfaces ?? [];
  const names = [...new Set([...surfaces(), ...evaluated].map((one) => one.name))].filter((one) => one !== reference);
  const number = names.indexOf(name);
  const dash = DASHES[(number + Math.floor(number / COLOURS)) % DASHES.length];
  return { color: colour(`series-${number % COLOURS}`), dash, width: 2.25 };
}

function axis(title, more = {}) {
  return {
    title: { text: title, standoff: 8 }, gridcolor: colour("line"), zerolinecolor: colour("edge"),
    linecolor: colour("edge"), automargin: true, fixedrange: true, ...more,
  };
}

const LEGEND_LINE = 19;

// What a legend of these names takes of the height of a plot.
function legendHeight(plot, names) {
  const widest = 50 + 7.5 * Math.max(...names.map((name) => name.length), 1);
  const columns = Math.max(Math.floor((plot.clientWidth - 70) / widest), 1);
  return LEGEND_LINE * Math.ceil(names.length / columns);
}

function plotLayout(more) {
  return {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", dragmode: false, hovermode: "x unified",
    font: { family: getComputedStyle(document.body).fontFamily, size: 13, color: colour("ink") },
    hoverlabel: { bgcolor: colour("raised"), bordercolor: colour("edge"), font: { color: colour("ink") } },
    margin: { l: 56, r: 14, t: 12, b: 48 },
    legend: { orientation: "h", x: 0, y: 1 + 8 / (more.height ?? 400), yanchor: "bottom" },
    showlegend: true,
    ...more,
  };
}

// Charts of errors, of all pixels: distribution and classes.

function fillSelect(select, options) {
  select.replaceChildren(...options.map(([value, text]) => {
    const option = element("option", text);
    option.value = value;
    return option;
  }));
}

function shareOf(counts) {
  const all = counts.reduce((sum, count) => sum + count, 0);
  return counts.map((count) => (all ? (100 * count) / all : 0));
}

// From which to which error a histogram is worth showing: what holds all but a hundredth on either side.
function worthShowing(results) {
  const ends = results.flatMap(({ edges, counts }) => {
    const all = counts.reduce((sum, count) => sum + count, 0);
    let [first, last, low, high] = [0, counts.length - 1, 0, 0];
    while (first < last && (low += counts[first]) < 0.01 * all) first++;
    while (last > first && (high += counts[last]) < 0.01 * all) last--;
    return [Math.abs(edges[first]), Math.abs(edges[last + 1])];
  });
  return Math.max(...ends, 0) || 1;
}

function binsOf(results) {
  const widths = results.flatMap(({ edges }) => edges.slice(1).map((edge, i) => edge - edges[i]));
  const [least, most] = [Math.min(...widths), Math.max(...widths)];
  return most - least < 1e-3 * most ? `per ${Number(most.toPrecision(2))} m` : "in each bin";
}

const drawDistribution = newest(async (overtaken) => {
  const key = byId("distribution-class").value;
  const evaluated = content.evaluated.surfaces.filter((surface) => surface.classes[key]?.count);
  const results = evaluated.map((surface) => surface.classes[key]);
  const reach = worthShowing(results);
  const Plotly = await plotly();
  if (overtaken()) return;
  const legends = evaluated.map(({ name }) => ({ name: plain(name), mode: "lines" }));
  const bars = results.map(({ edges, counts }, i) => ({
    ...legends[i], x: edges.slice(0, -1).map((edge, j) => (edge + edges[j + 1]) / 2), y: shareOf(counts),
    line: { ...styleOf(evaluated[i].name), shape: "hvh" }, hovertemplate: "%{y:.2f} %",
  }));
  const curves = results.map(({ sizes, shares }, i) => ({
    ...legends[i], x: sizes, y: shares.map((share) => (share === null ? null : 100 * share)),
    line: styleOf(evaluated[i].name), hovertemplate: "%{y:.1f} %",
  }));
  const height = 330 + legendHeight(byId("curve"), evaluated.map(({ name }) => name));
  await Plotly.react("histogram", bars, plotLayout({
    height, xaxis: axis("error [m]", { range: [-reach, reach], hoverformat: ".2f", ticksuffix: "" }),
    yaxis: axis(`share of pixels ${binsOf(results)} [%]`, { rangemode: "tozero" }),
  }), PLOT_CONFIG);
  await Plotly.react("curve", curves, plotLayout({
    height, xaxis: axis("absolute error [m]", { range: [0, reach], hoverformat: ".2f" }),
    yaxis: axis("share of pixels up to it [%]", { range: [0, 101] }),
  }), PLOT_CONFIG);
  const pixels = content.evaluated.classes.find((one) => one.key === key).title;
  byId("histogram").setAttribute("aria-label", `Histogram of the errors, ${pixels}: ${namesOf(evaluated)}`);
  byId("curve").setAttribute("aria-label", `Cumulative curve of the errors, ${pixels}: ${namesOf(evaluated)}`);
});

function namesOf(evaluated) {
  return evaluated.map(({ name }) => name).join(", ");
}

// Titles of classes in lines of at most so many letters.
function wrapped(text, letters) {
  const lines = [""];
  for (const word of text.replace(/(\d) (m|px|%)(?=\s|$)/g, "$1\u00a0$2").split(" ")) {
    const line = `${lines.at(-1)} ${word}`.trim();
    if (line.length <= letters || !lines.at(-1)) lines[lines.length - 1] = line;
    else lines.push(word);
  }
  return lines.map(plain).join("<br>");
}

function barsOf({ name, classes }, key, titles) {
  const results = content.evaluated.classes.map((one) => classes[one.key]);
  const values = results.map((result) => result?.figures[key] ?? null);
  const reach = (side) => results.map((result, i) => {
    const ends = result?.intervals[key];
    if (!ends || ends.includes(null) || values[i] === null) return 0;
    return Math.max(side ? ends[1] - values[i] : values[i] - ends[0], 0);
  });
  const { color } = styleOf(name);
  return {
    type: "bar", orientation: "h", name: plain(name), y: titles, x: values, marker: { color },
    error_x: { type: "data", symmetric: false, array: reach(1), arrayminus: reach(0), color: colour("ink"), thickness: 1.5, width: 3 },
    hovertemplate: "%{x:.3f} m",
  };
}

const drawClasses = newest(async (overtaken) => {
  const { figures, classes, surfaces: evaluated } = content.evaluated;
  const figure = figures.find((one) => one.key === byId("classes-figure").value);
  byId("classes-stated").textContent = `${figure.title}; ${figure.stated}.`;
  const narrow = byId("bars").clientWidth < 560;
  const titles = classes.map(({ title }) => wrapped(title, narrow ? 15 : 34));
  const legend = legendHeight(byId("bars"), evaluated.map(({ name }) => name));
  const thick = evaluated.length > 3 ? 12 : 17;
  // The first class is the uppermost, and so is the first surface of each.
  const bars = evaluated.map((surface) => barsOf(surface, figure.key, titles));
  const Plotly = await plotly();
  if (overtaken()) return;
  await Plotly.react("bars", bars, plotLayout({
    height: 90 + legend + classes.length * Math.max(26, 10 + thick * evaluated.length), barmode: "group", bargap: 0.28, hovermode: "closest",
    xaxis: axis(`${figure.name} [m]`, { rangemode: "tozero" }),
    yaxis: { ...axis(""), autorange: "reversed", ticksuffix: "  ", gridcolor: "rgba(0,0,0,0)" },
  }), PLOT_CONFIG);
  const stated = evaluated.map(({ name, classes: of }) => classes
    .filter(({ key }) => of[key]?.figures[figure.key] != null)
    .map(({ key, title }) => `${title} ${of[key].figures[figure.key].toFixed(2)} m`).join(", ")
    .replace(/^/, `${name}: `));
  byId("bars").setAttribute("aria-label", `${figure.name} by class. ${stated.join(". ")}`);
});

function setUpCharts() {
  if (!content.evaluated) return [];
  const { classes, figures } = content.evaluated;
  fillSelect(byId("distribution-class"), classes.map(({ key, title }) => [key, title]));
  fillSelect(byId("classes-figure"), figures.map(({ key, title }) => [key, title]));
  byId("distribution-class").addEventListener("change", drawDistribution);
  byId("classes-figure").addEventListener("change", drawClasses);
  return [drawDistribution, drawClasses];
}
