// Which area is shown: a selection in the bar, buttons, and rectangles on the overview say the same.

function drawRectangles() {
  const map = byId("places-map");
  const [, , height, width] = content.views[0].window;
  content.views.forEach(({ name, window: [row, col, high, wide] }, index) => {
    if (index === 0) return;
    const rectangle = element("span");
    rectangle.className = "rectangle";
    rectangle.dataset.view = index;
    rectangle.title = name;
    rectangle.setAttribute("aria-hidden", "true"); // the buttons beside the map are for the keyboard
    const box = { left: percent(col, width), top: percent(row, height), width: percent(wide, width), height: percent(high, height) };
    Object.assign(rectangle.style, box);
    rectangle.append(element("b", index));
    rectangle.addEventListener("click", () => chooseView(index));
    map.append(rectangle);
  });
}

async function chooseView(index) {
  shown.view = index;
  byId("area").value = index;
  for (const button of document.querySelectorAll(".places button")) {
    button.setAttribute("aria-pressed", String(Number(button.dataset.view) === index));
  }
  for (const rectangle of document.querySelectorAll(".rectangle")) {
    rectangle.classList.toggle("chosen", Number(rectangle.dataset.view) === index);
  }
  describeArea();
  byId("places-stated").textContent = `All maps show: ${content.views[index].name}`;
  firstCut();
  await Promise.all([changed(), drawProfile()]);
}

function setUpPlaces() {
  describeArea();
  watch(drawPictures);
  if (content.views.length < 2) return;
  drawRectangles();
  byId("area").addEventListener("change", (event) => chooseView(Number(event.target.value)));
  for (const button of document.querySelectorAll(".places button")) {
    button.addEventListener("click", () => chooseView(Number(button.dataset.view)));
  }
}
