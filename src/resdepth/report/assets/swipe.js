// Two pictures of the same area, one on each side of a line.

function setUpSwipe() {
  const map = byId("swipe-map");
  if (!map) return;
  const [left, right, range] = ["swipe-left", "swipe-right", "swipe-range"].map(byId);
  const drawSwipe = newest(async (overtaken) => {
    for (const [side, select] of [["left", left], ["right", right]]) {
      if (!(await show(byId(`swipe-canvas-${side}`), shown.view, select.value, overtaken))) return;
      map.querySelector(`.tag.${side}`).textContent = nameOf(select.value);
    }
    drawScaleBar(map, content.views[shown.view]);
  });
  const move = () => {
    map.style.setProperty("--at", `${range.value}%`);
    const stated = `${nameOf(left.value)} on the left ${Math.round(range.value)} percent`;
    range.setAttribute("aria-valuetext", `${stated}, ${nameOf(right.value)} on the right`);
  };
  range.addEventListener("input", move);
  for (const select of [left, right]) select.addEventListener("change", () => { move(); drawSwipe(); });
  move();
  watch(drawSwipe);
}
