"use strict";

// Galleries: without this, all cards are there and the filter is not. Of many that fit, a few from all over are shown.
const FEW = matchMedia("(max-width: 40rem)").matches ? 10 : 24;
for (const gallery of document.querySelectorAll("[data-gallery]")) {
  const form = gallery.querySelector("form");
  const more = gallery.querySelector("button.more");
  const cards = [...gallery.querySelectorAll(".card")];
  let all = false;
  const show = () => {
    const name = form.elements.identity.value.trim().toLowerCase();
    const reason = form.elements.reason.value;
    const fit = cards.filter(
      ({ dataset }) => dataset.identity.toLowerCase().includes(name) && (!reason || dataset.reason === reason)
    );
    const few = all || fit.length <= FEW ? fit : [...Array(FEW).keys()].map((n) => fit[Math.floor((n * fit.length) / FEW)]);
    const shown = new Set(few);
    for (const card of cards) card.hidden = !shown.has(card);
    form.querySelector("output").textContent = `${shown.size} of ${fit.length} shown`;
    more.hidden = shown.size === fit.length;
    more.textContent = `Show all ${fit.length}`;
  };
  form.hidden = false;
  form.addEventListener("input", show);
  form.addEventListener("submit", (event) => event.preventDefault());
  more.addEventListener("click", () => {
    const first = cards.find((card) => card.hidden);
    all = true;
    show();
    if (first) first.focus();
  });
  show();
}

// Charts: the value of a mark is said under the chart, for a finger and for the arrow keys, too.
for (const chart of document.querySelectorAll(".chart")) {
  const svg = chart.querySelector("svg");
  const marks = [...svg.querySelectorAll(".mark")];
  const readout = chart.querySelector(".readout");
  let at = -1;
  const say = (place) => {
    marks[at]?.classList.remove("on");
    at = place;
    marks[at].classList.add("on");
    readout.textContent = marks[at].querySelector("title").textContent;
  };
  const point = (event) => {
    const mark = event.target.closest(".mark");
    if (mark) say(marks.indexOf(mark));
  };
  if (!marks.length) continue;
  readout.hidden = false;
  svg.setAttribute("tabindex", "0");
  svg.addEventListener("pointerover", point);
  svg.addEventListener("click", point);
  svg.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    say((at + step + marks.length) % marks.length);
  });
}
