"use strict";
// Which row or pair is best within what the sliders say: chosen as `python -m harness choose` does, along the same laws.
{
  const UNITS = ["bytes", "KiB", "MiB", "GiB", "TiB"];
  const steady = (value) => Number(value.toPrecision(10));
  const whole = (value) => steady(value).toLocaleString("en-US", { maximumFractionDigits: 0 });

  function significant(value) {
    const number = steady(value);
    if (!number) return "0";
    return number.toFixed(Math.max(0, 2 - Number(number.toExponential(2).split("e")[1])));
  }

  function shownBytes(size) {
    let place = 0;
    for (; size >= 1024 && place < UNITS.length - 1; place += 1) size /= 1024;
    return `${place ? significant(size) : steady(size).toFixed(0)} ${UNITS[place]}`;
  }

  function timeAmong({ items, ms, slope }, images) {
    // straight between what was measured, along the law beyond it, never less than the smallest
    let place = items.length - 1;
    while (place >= 0 && items[place] > images) place -= 1;
    if (place < 0) return ms[0];
    if (items[place] === images) return ms[place];
    if (place === items.length - 1) return slope === null ? null : ms[place] + slope * (images - items[place]);
    return ms[place] + ((images - items[place]) / (items[place + 1] - items[place])) * (ms[place + 1] - ms[place]);
  }

  function offers(candidates, gallery) {
    return candidates.flatMap((candidate) => {
      const alone = timeAmong(candidate, gallery);
      if (alone === null || (candidate.k !== null && candidate.k >= gallery)) return [];
      const measured = candidate.least <= gallery && gallery <= candidate.most;
      return [{ candidate, ms: alone + candidate.added, memory: candidate.bytes * gallery, measured }];
    });
  }

  const byTitle = (a, b) => (a.candidate.title < b.candidate.title ? -1 : Number(a.candidate.title > b.candidate.title));
  const byRank = (a, b) => b.candidate.rsum - a.candidate.rsum || a.ms - b.ms || a.memory - b.memory || byTitle(a, b);
  const firstOfEach = (found) => found.filter((offer, at) => found.findIndex((other) => other.candidate.name === offer.candidate.name) === at);

  function choose(candidates, gallery, ms, memory) {
    const found = offers(candidates, gallery).sort(byRank);
    const fits = (offer) => offer.ms <= ms && offer.memory <= memory;
    const excess = (offer) => Math.max(offer.ms / ms, offer.memory / memory);
    const inside = firstOfEach(found.filter(fits));
    const least = inside.length ? inside[0].candidate.rsum : -Infinity;
    const outside = found.filter((offer) => offer.candidate.rsum > least && !fits(offer)).sort((a, b) => excess(a) - excess(b) || byRank(a, b));
    const fastest = found.toSorted((a, b) => a.ms - b.ms || a.memory - b.memory || byTitle(a, b))[0];
    return { inside, outside, fastest };
  }

  function cost({ ms, memory, measured }) {
    return `${measured ? "" : "≈"}${ms >= 1000 ? whole(ms) : significant(ms)} ms a query, ${shownBytes(memory)}`;
  }

  function caveat({ images, k }, gallery) {
    if (images === gallery) return [];
    const said = `Accuracy was measured among ${whole(images)} images, not ${whole(gallery)}`;
    if (gallery < images) return [`${said}; among fewer more is found.`];
    if (k === null) return [`${said}; among more less is found, and rows may stand in another order.`];
    return [`${said}; among more less is found, and fewer right images are in a shortlist of ${whole(k)}.`];
  }

  function lines({ candidates, verdicts }, gallery, ms, memory) {
    const { inside: [best, second], outside: [beyond], fastest } = choose(candidates, gallery, ms, memory);
    const said = (offer) => `${offer.candidate.title}, ${offer.candidate.said}; ${cost(offer)}`;
    if (!fastest) return ["Nothing was timed among so many images."];
    if (!best) return ["Nothing fits.", `The fastest: ${said(fastest)}.`];
    const verdict = second && verdicts[`${best.candidate.title}\n${second.candidate.title}`];
    return [
      best.candidate.title,
      `${best.candidate.said}; ${cost(best)}.`,
      ...(second ? [`Runner-up: ${said(second)}; ${verdict}.`] : []),
      ...(beyond ? [`More accurate, but outside: ${said(beyond)}.`] : []),
      ...caveat(best.candidate, gallery),
    ];
  }

  for (const wish of document.querySelectorAll("form[data-choice]")) {
    const known = JSON.parse(document.getElementById(wish.dataset.choice).textContent);
    const answer = wish.querySelector(".taken");
    const show = () => {
      const asked = known.sliders.map(({ name, values, words }) => {
        const slider = wish.elements[name];
        slider.setAttribute("aria-valuetext", words[slider.value]);
        slider.parentElement.querySelector("output").value = words[slider.value];
        return values[slider.value];
      });
      answer.replaceChildren(...lines(known, ...asked).map((line) => Object.assign(document.createElement("p"), { textContent: line })));
    };
    wish.addEventListener("input", show);
    wish.addEventListener("submit", (event) => event.preventDefault());
    wish.classList.add("drawn"); // the first answer in words alone gives way
    show();
  }
}
