"use strict";
// The items are all in the page; without a script they are simply all shown.
(function () {
  const form = document.getElementById("item-filters");
  if (!form) return;
  form.hidden = false;
  const items = Array.from(document.querySelectorAll("#items .item"));
  const count = document.getElementById("item-count");
  const apply = () => {
    const suite = form.elements.suite.value, fate = form.elements.fate.value, text = form.elements.text.value.toLowerCase();
    let shown = 0;
    for (const item of items) {
      const keep = (!suite || item.dataset.suite === suite) && (!fate || item.dataset.fate === fate) && (!text || item.textContent.toLowerCase().includes(text));
      item.hidden = !keep;
      if (keep) shown += 1;
    }
    count.textContent = shown + " of " + items.length + " items shown";
  };
  form.addEventListener("input", apply);
  form.addEventListener("submit", (event) => event.preventDefault());
  apply();
})();
