(function () {
  "use strict";
  var dark = {};
  var scheme = window.matchMedia("(prefers-color-scheme: dark)");
  var printing = false;
  var main = document.querySelector("main");
  var drawnFor;

  function recoloured(value, swap) {
    if (typeof value === "string") return swap[value] || value;
    if (Array.isArray(value)) return value.map(function (item) { return recoloured(item, swap); });
    if (value === null || typeof value !== "object") return value;
    var copy = {};
    Object.keys(value).forEach(function (key) { copy[key] = recoloured(value[key], swap); });
    return copy;
  }

  function draw() {
    drawnFor = main.clientWidth;
    var swap = scheme.matches && !printing ? dark : {};
    document.querySelectorAll("script[data-figure]").forEach(function (source) {
      var place = document.getElementById(source.dataset.figure);
      var figure = recoloured(JSON.parse(source.textContent), swap);
      if (place.clientWidth < 480) {
        figure.layout.margin.l = Math.min(figure.layout.margin.l, 44);
        figure.layout.margin.r = Math.min(figure.layout.margin.r, 8);
        (figure.data || []).forEach(function (trace) { if (trace.colorbar) trace.colorbar.thickness = 8; });
      }
      figure.layout.width = place.clientWidth; // a figure that is drawn again is not measured again
      if (printing) {
        // Paper of 210 mm less its margins; three panels side by side.
        figure.layout.width = place.closest(".panels") ? 208 : 640;
        figure.layout.height *= 0.78;
      }
      Plotly.react(place, figure.data, figure.layout, { displayModeBar: false });
    });
  }

  // The page becomes narrower when a phone is turned, and without its window in a frame. Plotly's own responsiveness
  // listens to the window alone, and keeps the margins of the first width.
  var width = new ResizeObserver(function () { if (!printing && main.clientWidth !== drawnFor) draw(); });

  draw();
  width.observe(main);
  scheme.addEventListener("change", draw);
  window.addEventListener("beforeprint", function () { printing = true; draw(); });
  window.addEventListener("afterprint", function () { printing = false; draw(); });
})();
