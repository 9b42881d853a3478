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

// The colour and the dashes of a surface are the same in all charts; the truth has the colour of ink.
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
