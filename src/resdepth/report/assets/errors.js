// The colour scale that all maps of differences share.

function setUpErrors() {
  const select = byId("errors-limit");
  if (!select) return;
  const colours = BLUE_TO_RED.map((colour) => `rgb(${colour})`);
  document.querySelector(".scale > i").style.background = `linear-gradient(90deg, ${colours})`;
  const choose = () => {
    shown.limit = Number(select.value);
    const ticks = [-1, -0.5, 0, 0.5, 1].map((share) => {
      const value = share * shown.limit;
      const text = Number(Math.abs(value).toPrecision(3));
      return element("span", value < 0 ? `−${text}` : value > 0 ? `+${text}` : "0 m");
    });
    byId("errors-ticks").replaceChildren(...ticks);
  };
  select.addEventListener("change", () => { choose(); changed(); });
  choose();
}
