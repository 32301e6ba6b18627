"use strict";
// Sorting and filtering of the tables, and the charts that plotly draws from the numbers in the page.
const filters = document.getElementById("filters");

function compare(a, b) {
  // numbers by size, words by letter, what is absent last either way
  if (a === "" || b === "") return { last: (a === "") - (b === "") };
  const byNumber = Number(a) - Number(b);
  const [one, other] = [a.toLowerCase(), b.toLowerCase()];
  return { order: Number.isNaN(byNumber) ? (one > other) - (one < other) : byNumber };
}

function sortBy(header) {
  const column = header.cellIndex;
  const body = header.closest("table").tBodies[0];
  const number = header.classList.contains("number");
  const first = number ? "descending" : "ascending";
  const now = header.getAttribute("aria-sort");
  const next = now === null ? first : now === "ascending" ? "descending" : "ascending";
  for (const other of header.parentElement.cells) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", next);
  const way = next === "ascending" ? 1 : -1;
  const value = (row) => row.cells[column].dataset.sort;
  const rows = Array.from(body.rows).sort((a, b) => {
    const { last, order } = compare(value(a), value(b));
    return last === undefined ? way * order : last;
  });
  body.append(...rows);
}

function fits(item) {
  const family = filters.elements.family.value;
  return (family === "" || item.family === family) && Number(item.seeds) >= Number(filters.elements.seeds.value);
}

function filter() {
  const data = filters.elements.data.value;
  let shown = 0, all = 0;
  for (const part of document.querySelectorAll("[data-data]")) part.hidden = data !== "" && part.dataset.data !== data;
  for (const section of document.querySelectorAll("section[data-data]")) {
    let here = 0;
    for (const row of section.querySelectorAll(".sortable tbody tr")) {
      row.hidden = !fits(row.dataset);
      here += row.hidden ? 0 : 1;
      all += 1;
    }
    section.querySelector(".none").hidden = here > 0;
    shown += section.hidden ? 0 : here;
    const chart = section.querySelector(".chart");
    if (chart && chart.data) {
      const visible = chart.data.map((trace) => trace.meta === undefined || fits(trace.meta));
      Plotly.restyle(chart, { visible });
      if (!section.hidden) Plotly.Plots.resize(chart);
    }
  }
  document.getElementById("shown").textContent = `${shown} of ${all} rows shown`;
}

function drawChart(chart) {
  const figure = JSON.parse(document.getElementById(chart.dataset.chart).textContent);
  const config = { responsive: true, displaylogo: false, modeBarButtonsToRemove: ["lasso2d", "select2d"] };
  const rows = Array.from(chart.closest("section").querySelectorAll(".sortable tbody tr"));
  return Plotly.newPlot(chart, figure.data, figure.layout, config).then(() => {
    const point = (event, on) => {
      const name = event.points[0].data.meta?.name;
      for (const row of rows) row.classList.toggle("pointed", on && row.dataset.name === name);
    };
    chart.on("plotly_hover", (event) => point(event, true));
    chart.on("plotly_unhover", (event) => point(event, false));
  });
}

for (const header of document.querySelectorAll(".sortable thead th")) {
  header.querySelector("button").addEventListener("click", () => sortBy(header));
}
filters.addEventListener("change", filter);
filters.addEventListener("submit", (event) => event.preventDefault());
filter();
document.addEventListener("DOMContentLoaded", async () => {
  for (const chart of document.querySelectorAll(".chart")) {
    if (window.Plotly === undefined) chart.textContent = "This chart needs the file plotly.min.js, which came with the page.";
    else await drawChart(chart);
  }
  filter();
});
