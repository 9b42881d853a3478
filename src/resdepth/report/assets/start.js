// Maps first, charts when these are there.

async function start() {
  const drawPlots = setUpCharts();
  if (content.views.length) {
    setUpErrors();
    setUpSwipe();
    setUpPlaces();
    drawPlots.unshift(setUpProfile());
    setUpRelief();
    await changed();
  }
  for (const drawPlot of drawPlots) await drawPlot();
  if (content.views.length) linkProfile();
  const redraw = () => { changed(); for (const drawPlot of drawPlots) drawPlot(); };
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  let pause;
  window.addEventListener("resize", () => { clearTimeout(pause); pause = setTimeout(resized, 150); });
  keepTablesReachable();
  document.documentElement.dataset.ready = "true";
}

// What depends on how wide maps are.
function resized() {
  changed();
  if (content.evaluated) drawClasses();
  keepTablesReachable();
}

// What can be scrolled can be focused, and then scrolled with the arrow keys.
function keepTablesReachable() {
  for (const box of document.querySelectorAll(".scroll")) {
    const hidden = () => box.scrollWidth - box.clientWidth - box.scrollLeft;
    const fade = () => box.classList.toggle("more", hidden() > 1);
    box.onscroll = fade;
    fade();
    if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
    else box.removeAttribute("tabindex");
  }
}

function tellTrouble(reason) {
  const trouble = byId("trouble");
  trouble.hidden = false;
  trouble.textContent = "DecompressionStream" in window
    ? `Something on this page could not be drawn (${reason}).`
    : "This browser is too old for the maps and charts of this page: it cannot unpack them. The tables can be read.";
}

start().catch((error) => {
  tellTrouble(error);
  throw error;
});
