"use strict";
// The items are all in the page; without a script they are simply all shown.
for (const form of document.querySelectorAll("form.filters")) {
  form.hidden = false;
  const items = Array.from(document.querySelectorAll(form.dataset.items));
  const folded = new Set(items.map((item) => item.parentElement.closest("details")).filter((each) => each && !each.contains(form)));
  const suites = document.querySelectorAll("#side-by-side .suite");
  const apply = () => {
    const suite = form.elements.suite.value, kind = form.elements.kind.value, text = form.elements.text.value.toLowerCase();
    let shown = 0;
    for (const item of items) {
      const keep = (!suite || item.dataset.suite === suite) && (!kind || item.dataset.kind === kind) && (!text || item.textContent.toLowerCase().includes(text));
      item.hidden = !keep;
      if (keep) shown += 1;
    }
    for (const each of folded) each.open = Boolean(suite || kind || text);
    for (const each of suites) if (items.some((item) => each.contains(item))) each.hidden = !items.some((item) => each.contains(item) && !item.hidden);
    form.querySelector(".count").textContent = shown + " of " + items.length + " items shown";
  };
  for (const event of ["input", "change"]) form.addEventListener(event, apply);
  form.addEventListener("submit", (event) => event.preventDefault());
  apply();
}
